"""Hot wallets outside their bands are brought back by the commands of README, on every chain.

BTC and ETH are over their maximum and go to cold; LTC is under its minimum and is refilled by a
PSBT that a litecoind without peers signs. The system has asked for each move by then, or the
command does.
"""

import base64
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from rich.console import Console

from config.clock import SystemClock
from config.ids import SystemIds
from gateway.sandbox import story, stranger
from gateway.sandbox.cold_desk import ColdWallet
from gateway.sandbox.narration import Narration
from gateway.sandbox.nodes import Litecoind
from gateway.sandbox.provision import Provisioned
from gateway.sandbox.stage import Stage, open_story, reconcile, set_up
from gateway.sandbox.story import Story
from gateway.sandbox.world import start_world
from tests.support.cold import ALONE, Device

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.node,
    pytest.mark.postgres,
    pytest.mark.slow,
]

FUNDS = {"btc:BTC": "12", "ltc:LTC": "4", "eth:ETH": "60"}
IN_COLD = "100"
WAYS = {"btc:BTC": "hot_to_cold", "ltc:LTC": "cold_to_hot", "eth:ETH": "hot_to_cold"}
REASON = ("--reason", "outside its band")


@dataclass(slots=True, kw_only=True)
class TreasuryHouse:
    """A running deployment, its people's commands, and the device that signs for LTC."""

    tale: Story
    stage: Stage
    device: Device

    async def runs(self, person: str, *arguments: str) -> dict[str, Any]:
        """One command of a person, as a program reads it; it must end well."""
        principal = self.stage.deployment.staff[person]
        options = (
            "--api", self.stage.deployment.api_url,
            "--key-id", principal.key_id, "--key", str(principal.key_file),
        )  # fmt: skip
        code, answer = await stranger.asks(
            self.stage.folder / person, "treasury", *arguments, *options
        )
        assert code == 0, (arguments, answer)
        return answer

    async def state(self, move: str) -> str:
        """Where a move stands."""
        found = await self.tale.staff["alice"].get(f"/v1/rebalances/{move}")
        return str(found["state"])

    async def until(self, move: str, state: str, network: str) -> None:
        """Blocks come until the move stands there."""

        async def probe() -> bool | None:
            return True if await self.state(move) == state else None

        await self.tale.until(f"{move} {state}", probe, mine=network)

    async def statuses(self) -> dict[str, str]:
        """Asset -> where its hot wallet stands in its band."""
        page = await self.runs("alice", "balances")
        return {
            row["asset"]: row["band"]["status"]
            for row in page["items"]
            if row["wallet"].endswith("/hot") and row["asset"] in FUNDS
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(
    node_programs: dict[str, Path], request: pytest.FixtureRequest
) -> AsyncIterator[TreasuryHouse]:
    """Funded so that no hot wallet is inside its band."""
    failed_before = request.session.testsfailed
    folder = Path(tempfile.mkdtemp(prefix="cage-e2e-"))
    clock = SystemClock()
    ids = SystemIds(clock)
    told = Narration(clock=clock, console=Console(quiet=True), started_seconds=0.0)
    programs = Provisioned(programs=node_programs, missing={})
    async with AsyncExitStack() as stack:
        world = await start_world(stack, programs, folder / "nodes", ids=ids)
        alone = Litecoind(node_programs["litecoind"], folder / "ltc-cold", ids=ids)
        device = await ALONE.device(await stack.enter_async_context(alone), 0)
        [ltc] = await alone.rpc("deriveaddresses", ALONE.text(suffix="/0/*"), [0, 0])
        cold = [
            ColdWallet(network="ltc", address=ltc, descriptor=ALONE.text()),
            ColdWallet(network="eth", address="0x" + ids.token_bytes(20).hex()),
        ]
        stage = await set_up(stack, told, clock, folder, world, cold=cold)
        tale = await open_story(stack, stage)
        await story.fund_hot_wallets(tale, FUNDS)
        txid = await world.pay("ltc:LTC", ltc, IN_COLD)
        await story.to_capital(tale, "ltc:LTC", txid, IN_COLD)
        for person in ("alice", "bob"):
            (folder / person).mkdir()
        yield TreasuryHouse(tale=tale, stage=stage, device=device)
    if request.session.testsfailed == failed_before:
        shutil.rmtree(folder, ignore_errors=True)


async def test_commands_bring_every_hot_wallet_into_its_band(desk: TreasuryHouse) -> None:
    assert await desk.statuses() == {"btc:BTC": "high", "ltc:LTC": "low", "eth:ETH": "high"}
    plan = await desk.runs("alice", "plan", "--propose", *REASON)
    moves = {row["asset"]: row for row in plan["moves"] if row["asset"] in FUNDS}
    assert {asset: row["direction"] for asset, row in moves.items()} == WAYS
    for asset, move in moves.items():
        for person in ("alice", "bob"):
            await desk.runs(person, "apply", move["id"], "--confirm-amount", move["amount"])
        if move["direction"] == "hot_to_cold":
            await desk.until(move["id"], "done", asset.partition(":")[0])

    refill, folder = moves["ltc:LTC"]["id"], desk.stage.folder
    await desk.until(refill, "unsigned_ready", "ltc")
    signed = folder / "signed.psbt"
    exported = await desk.runs("alice", "refill", "export", refill)
    signed.write_bytes(await desk.device.sign(base64.b64decode(exported["psbt"])))
    amount = ("--confirm-amount", moves["ltc:LTC"]["amount"])
    await desk.runs("bob", "refill", "import", refill, str(signed), *amount)
    await desk.until(refill, "done", "ltc")

    assert await desk.statuses() == dict.fromkeys(FUNDS, "ok")
    assert await reconcile(desk.tale, desk.tale.staff["alice"], key="at-rest") == []


async def test_t8_a_command_splits_a_coin_on_a_node_and_only_its_fee_leaves(
    desk: TreasuryHouse,
) -> None:
    told = await desk.runs("alice", "consolidate", "btc", "--split", "--dry-run")
    assert (told["state"], told["coins"], told["txid"]) == ("quoted", 1, None)
    fee = ("--max-fee", "0.001", "--confirm-amount", "0.001")
    made = await desk.runs("alice", "consolidate", "btc", "--split", *fee)
    assert (made["state"], made["requested_by"], made["coins"]) == ("planned", "alice", 1)

    async def is_final() -> bool | None:
        found = await desk.tale.staff["bob"].get(f"/v1/consolidations/{made['id']}")
        return True if found["tx_state"] == "final" else None

    await desk.tale.until("the split is final", is_final, mine="btc")
    assert await reconcile(desk.tale, desk.tale.staff["alice"], key="split") == []
