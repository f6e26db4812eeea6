"""A deployment with its outside world, ready for a story: shared by demo and end-to-end tests.

Owns the order of setting up, and how to see from outside that everything was told and booked. What
happens on the stage is `story`'s.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from config.clock import Clock
from config.ids import SystemIds
from gateway.cli.client import load_key
from gateway.client import ApiClient, ClientProblem
from gateway.sandbox import pam_process, story
from gateway.sandbox.cold_desk import ColdWallet
from gateway.sandbox.demo_config import BRANDS, DemoPorts
from gateway.sandbox.deployment import Deployment, DeploymentFailed, Principal
from gateway.sandbox.http import is_up
from gateway.sandbox.narration import Narration
from gateway.sandbox.nodes import free_port
from gateway.sandbox.story import Story, StoryFailed
from gateway.sandbox.world import World

POOL = (10, 40)
"""Few addresses: the signer derives each a second time, some 500 a second."""


DEPLOYED_BLOCKS = 4  # anvil's `finalized` is two blocks behind its head


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything that is up while a story runs."""

    folder: Path
    world: World
    deployment: Deployment
    pam: pam_process.PamProcess
    told: Narration
    clock: Clock


async def set_up(
    stack: AsyncExitStack,
    told: Narration,
    clock: Clock,
    folder: Path,
    world: World,
    *,
    hot_lanes: int = 1,
    pool: tuple[int, int] = POOL,
    cold: Sequence[ColdWallet] = (),
    has_collector: bool = False,
) -> Stage:
    """Configure and start a deployment for this world, and the sample PAM beside it. `pool`: at how
    many free addresses of a branch it is filled, and up to how many. `cold`: cold wallets beside
    those that the world keeps. `has_collector`: tokens are collected by delegation
    (docs/adr/0035)."""
    ports = DemoPorts(api=free_port(), pam=free_port())
    deployment = Deployment(folder / "cage", clock=clock)
    stack.push_async_callback(deployment.stop)
    told.say("making keys, database and principals")
    await deployment.configure(
        nodes=world.node_lists(),
        usdt_contract=world.usdt,
        ports=ports,
        pool=pool,
        hot_lanes=hot_lanes,
        cold=[*await world.cold_wallets(), *cold],
        deploy=partial(_deploy, world) if has_collector else None,
    )
    told.say("starting every role as its own process")
    await deployment.start()
    await until_ready(deployment, clock)
    await deployment.trust()
    pam = await pam_process.start(stack, folder / "pam", port=ports.pam)
    stage = Stage(
        folder=folder, world=world, deployment=deployment, pam=pam, told=told, clock=clock
    )
    return stage


async def _deploy(world: World, to: str, data: str) -> None:
    """Anybody may create it; it stands once its block is final."""
    await world.evm().transact(to=to, data=data)
    await world.mine("eth", DEPLOYED_BLOCKS)


async def until_ready(
    deployment: Deployment, clock: Clock, *, within_seconds: float = story.STEP_TIMEOUT_SECONDS
) -> None:
    """Until the API answers and the signer listens; raises DeploymentFailed."""
    deadline = clock.monotonic_seconds() + within_seconds
    while clock.monotonic_seconds() < deadline:
        if deployment.has_died():
            break
        if (
            await is_up(f"{deployment.api_url}/health/live")
            and (deployment.vault_folder / "admin.sock").exists()
        ):
            return
        await clock.sleep(story.POLL_SECONDS)
    raise DeploymentFailed(f"the roles did not start:\n{deployment.log_tail()}")


async def open_clients(
    stack: AsyncExitStack,
    deployment: Deployment,
    clock: Clock,
    principals: Mapping[str, Principal],
    *,
    port: int | None = None,
) -> dict[str, ApiClient]:
    """A client of the API under each key; `port` is that of a further copy of the API."""
    url = deployment.api_url
    return {
        name: await stack.enter_async_context(
            ApiClient(
                url=url if port is None else f"http://127.0.0.1:{port}",
                authority=urlsplit(url).netloc,
                key_id=principal.key_id,
                key=load_key(principal.key_file),
                clock=clock,
                ids=SystemIds(clock),
            )
        )
        for name, principal in principals.items()
    }


async def open_story(stack: AsyncExitStack, stage: Stage) -> Story:
    """Clients of every brand and person, one webhook endpoint per brand."""
    deployment = stage.deployment
    brands = await open_clients(stack, deployment, stage.clock, deployment.clients)
    staff = await open_clients(stack, deployment, stage.clock, deployment.staff)
    for name, client in brands.items():
        secret = await client.post(
            "/v1/webhook_endpoints",
            {"url": stage.pam.hook_url, "types": []},
            idempotency_key=f"endpoint-{name}",
        )
        stage.pam.learn(str(secret["secret"]))
    return Story(
        world=stage.world,
        clock=stage.clock,
        narration=stage.told,
        brands=brands,
        staff=staff,
        role_pids=deployment.role_pids,
    )


async def quiet_webhooks(tale: Story, stage: Stage) -> dict[str, int]:
    """Wait until the PAM has every numbered event of both brands; then the figures."""

    async def behind() -> int:
        told = 0
        for name in BRANDS:
            told += await last_seq(tale.brands[name])
        return told - int((await stage.pam.stats())["delivered"])

    async def probe() -> bool | None:
        return True if await behind() <= 0 else None

    try:
        await tale.until("every event at the PAM", probe)
    except StoryFailed as late:
        stage.told.say(str(late))
    stats = await stage.pam.stats()
    return {
        "delivered": stats["delivered"],
        "bad_signatures": stats["bad_signatures"],
        "pending": max(0, await behind()),
    }


async def last_seq(client: ApiClient) -> int:
    """The number of the last event of the client's brand."""
    after = 0
    while True:
        page = await client.get("/v1/events", {"after": str(after), "limit": "500"})
        if not page["items"]:
            return after
        after = int(page["items"][-1]["seq"])


async def reconcile(tale: Story, alice: ApiClient, *, key: str) -> list[dict[str, Any]]:
    """Ask for a run of every network and wait for its breaks."""
    run = await alice.post("/v1/reconciliations", {}, idempotency_key=key)
    path = f"/v1/reconciliations/{run['id']}/breaks"

    async def probe() -> list[dict[str, Any]] | None:
        try:
            items: list[dict[str, Any]] = (await alice.get(path))["items"]
        except ClientProblem as answer:
            if answer.status == 409:
                return None
            raise
        return items

    return await tale.until("the reconciliation", probe)
