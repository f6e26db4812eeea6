"""`cage demo`: the whole road on real parts, told with progress, checked at its end.

Owns the order of the acts and the summary of CONTRACT 2. Exit 0 only if every check held.
"""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from config.clock import Clock, SystemClock
from config.database import Database, async_url
from config.ids import SystemIds
from gateway.sandbox import doubts, rebalancing, spikes, story
from gateway.sandbox.demo_store import forge_address
from gateway.sandbox.deployment import Deployment, DeploymentFailed
from gateway.sandbox.narration import Narration, print_summary
from gateway.sandbox.nodes import NodeFailed
from gateway.sandbox.provision import provision
from gateway.sandbox.stage import Stage, open_story, quiet_webhooks, reconcile, set_up
from gateway.sandbox.story import Payment, Story, StoryFailed
from gateway.sandbox.world import start_world

CRASH_POINT = "payout.signed"

PAYMENTS = [
    Payment(brand="acme", player="ann", asset="btc:BTC", amount="0.5"),
    Payment(brand="bravo", player="cleo", asset="ltc:LTC", amount="12"),
    Payment(brand="acme", player="dan", asset="eth:ETH", amount="2"),
    Payment(brand="bravo", player="eve", asset="eth:USDT", amount="500"),
]
HOT_FUNDS = {"btc:BTC": "2", "ltc:LTC": "20", "eth:ETH": "10", "eth:USDT": "5000"}


def run_demo(*, keep: bool, as_json: bool) -> int:
    """Play the demo; 0 when all held, 1 otherwise."""
    clock = SystemClock()
    console = Console(stderr=True, highlight=False)
    told = Narration(clock=clock, console=console, started_seconds=clock.monotonic_seconds())
    try:
        return asyncio.run(_play(told, clock, keep=keep, as_json=as_json))
    except (StoryFailed, DeploymentFailed, NodeFailed) as error:
        console.print(f"[red bold]cage demo: {error}[/]")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0 if told.is_ok else 130


async def _play(told: Narration, clock: Clock, *, keep: bool, as_json: bool) -> int:
    _end_on_sigterm()
    programs = await asyncio.to_thread(provision, progress=told.say)
    for missing in programs.missing.values():
        told.say(f"[yellow]left out: {missing}[/]")
    folder = Path(tempfile.mkdtemp(prefix="cage-demo-"))
    async with AsyncExitStack() as stack:
        stack.callback(_tidy, folder, told)
        ids = SystemIds(clock)
        told.say("starting nodes")
        world = await start_world(stack, programs, folder / "nodes", ids=ids)
        stage = await set_up(stack, told, clock, folder, world)
        summary = await _tell(stack, stage)
        if not as_json:
            print_summary(told.console, summary)
        for claim in told.failed():
            told.console.print(f"[red]did not hold: {claim}[/]")
        told.console.print(
            f"[bold]{'all held' if summary['ok'] else 'FAILED'}[/] "
            f"in {summary['seconds']} s, {len(told.checks)} checks"
        )
        if keep:
            summary |= _open_doors(stage)
        if as_json:
            sys.stdout.write(json.dumps(summary) + "\n")
            sys.stdout.flush()
        if keep:
            await _wait_for_interrupt(stage)
        return 0 if summary["ok"] else 1


def _end_on_sigterm() -> None:
    """SIGTERM ends the demo as Ctrl-C does: every child process is stopped first."""
    playing = asyncio.current_task()
    if playing is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)


def _tidy(folder: Path, told: Narration) -> None:
    """Remove everything, unless something did not hold: then the logs tell why."""
    if told.is_ok:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        told.console.print(f"logs and database are kept in {folder}")


async def _tell(stack: AsyncExitStack, stage: Stage) -> dict[str, Any]:
    tale = await open_story(stack, stage)
    deployment = stage.deployment
    served = set(stage.world.urls())
    funds = {a: amount for a, amount in HOT_FUNDS.items() if a.partition(":")[0] in served}
    await story.fund_hot_wallets(tale, funds)
    await story.plain_deposits(tale, [p for p in PAYMENTS if p.network in served])
    await story.two_players_one_tx(tale)
    await story.reorged_out_and_back(tale)
    await story.double_spent_away(tale)
    doubted = await doubts.lying_node_caught(tale)
    await doubts.proof_convinces(tale, doubted, stage.folder / "stranger")
    await story.batched_withdrawals(tale)
    await story.repeated_request(tale)
    await story.native_withdrawal(tale)
    await spikes.stuck_payout_is_bumped(tale)
    await story.refused_requests(tale)
    await story.killed_payouts(tale, _crash_armer(deployment))
    await story.forged_row(tale, _forger(deployment))
    moves = await rebalancing.round_trip(tale)
    return {**await _summary(tale, stage), "rebalances": moves}


def _crash_armer(deployment: Deployment) -> Callable[[], None]:
    def arm() -> None:
        file = deployment.settings.state_dir / "crash-at"
        file.write_text(CRASH_POINT, encoding="ascii")

    return arm


def _forger(deployment: Deployment) -> Callable[[str, str], Any]:
    async def forge(withdrawal_id: str, address: str) -> None:
        database = Database(async_url(deployment.settings.owner_url()), pool_size=1)
        try:
            await forge_address(database, withdrawal_id, address)
        finally:
            await database.close()

    return forge


async def _summary(tale: Story, stage: Stage) -> dict[str, Any]:
    alice = tale.staff["alice"]
    stage.told.say("the books")
    hooks = await quiet_webhooks(tale, stage)
    trial = await alice.get("/v1/ledger/trial_balance")
    stage.told.check("trial balance: debits equal credits in every asset", trial["balanced"])
    breaks = await reconcile(tale, alice, key="demo-reconcile")
    stage.told.check("reconciliation against the nodes: no break", not breaks)
    reserves = await rebalancing.reserves_proven(tale, stage.folder / "stranger")
    stage.told.check("every webhook signature verified", hooks["bad_signatures"] == 0)
    stage.told.check("every event was delivered", hooks["delivered"] > 0 and hooks["pending"] == 0)
    deposits = [await _deposit_row(tale, key, b) for key, b in tale.deposit_ids.items()]
    withdrawals = [await _withdrawal_row(tale, k, b) for k, b in tale.withdrawal_ids.items()]
    for row in withdrawals:
        row["batch_size"] = sum(
            bool(row["txids"]) and other["txids"] == row["txids"] for other in withdrawals
        )
    versions = await stage.world.versions()
    stage.told.has_ended = True
    return {
        "ok": stage.told.is_ok,
        "seconds": round(stage.told.elapsed_seconds(), 1),
        "roles": stage.deployment.role_pids(),
        "networks": {
            name: {
                "node": version,
                "height": await stage.world.height(name),
                "reorgs": stage.told.reorgs.get(name, 0),
            }
            for name, version in versions.items()
        },
        "deposits": deposits,
        "withdrawals": withdrawals,
        "webhooks": hooks,
        "trial_balance": {"balanced": trial["balanced"]},
        "reconciliation": {"breaks": breaks},
        "reserves": reserves,
        "api": {
            "url": stage.deployment.api_url,
            "key_id": stage.deployment.clients["acme"].key_id,
            "key_file": str(stage.deployment.clients["acme"].key_file),
        },
    }


async def _deposit_row(tale: Story, deposit_id: str, brand: str) -> dict[str, Any]:
    found = await tale.brands[brand].get(f"/v1/deposits/{deposit_id}")
    timeline = await tale.brands[brand].get(f"/v1/deposits/{deposit_id}/timeline")
    return {
        "id": deposit_id,
        "asset": found["asset"],
        "amount": found["amount"],
        "txid": found["txid"],
        "states": [item["state"] for item in timeline["items"]],
    }


async def _withdrawal_row(tale: Story, withdrawal_id: str, brand: str) -> dict[str, Any]:
    found = await tale.brands[brand].get(f"/v1/withdrawals/{withdrawal_id}")
    timeline = await tale.brands[brand].get(f"/v1/withdrawals/{withdrawal_id}/timeline")
    return {
        "id": withdrawal_id,
        "request_id": found["request_id"],
        "asset": found["asset"],
        "amount": found["amount"],
        "txids": [found["txid"]] if found["txid"] else [],
        "batch_size": 0,
        "states": [item["state"] for item in timeline["items"]],
    }


def _open_doors(stage: Stage) -> dict[str, Any]:
    """What a program needs to go on from here (`--keep`)."""
    deployment = stage.deployment
    nodes = stage.world.urls()
    doors = {"nodes": nodes, "console": deployment.api_url + "/docs"}
    for name, url in nodes.items():
        stage.told.console.print(f"node {name}: {url}")
    stage.told.console.print(f"API: {deployment.api_url} (configuration {deployment.config_file})")
    for name, principal in {**deployment.clients, **deployment.staff}.items():
        stage.told.console.print(f"key of {name}: {principal.key_id} in {principal.key_file}")
    for name, file in deployment.staff_files().items():
        stage.told.console.print(f"to act as {name}: . {file}")
    stage.told.console.print("running until Ctrl-C")
    return doors


async def _wait_for_interrupt(stage: Stage) -> None:
    """Keep everything up; mines nothing by itself. Ends when the supervisor does."""
    while not stage.deployment.has_died():
        await stage.clock.sleep(1.0)
