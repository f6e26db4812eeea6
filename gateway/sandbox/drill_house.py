"""The deployment that the drill kills in: every role a process, doors before what it talks to.

Owns the processes (each ended by its pid, also when the drill is interrupted) and their coming
back. Two copies of the payouts role run and one of them has the lease; two of the API serve. All
four stand behind doors, and so does the signer. What is paid, and what must be true of it then, is
`drill_scenes`'.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import aiohttp
from sqlalchemy.exc import DBAPIError

from config.clock import Clock, SystemClock
from config.database import Database, async_url
from config.ids import SystemIds
from gateway.client import ApiClient
from gateway.sandbox import drill_store
from gateway.sandbox.boundary import Boundary
from gateway.sandbox.demo_config import DemoPorts, Pace
from gateway.sandbox.deployment import Deployment, DeploymentFailed
from gateway.sandbox.doors import http_door, postgres_door, signer_door
from gateway.sandbox.narration import Narration
from gateway.sandbox.nodes import free_port
from gateway.sandbox.provision import Provisioned
from gateway.sandbox.stage import open_clients, until_ready
from gateway.sandbox.story import Story
from gateway.sandbox.world import World, start_world

T = TypeVar("T")

BRAND = "acme"
PAYOUTS = ("payouts-a", "payouts-b")
API = ("api-a", "api-b")
SIGNER, WEBHOOKS = "signer", "webhooks"
POOL = (10, 40)  # few addresses: the signer derives each a second time
PACE = Pace(poll_seconds=0.1, urgent_seconds=0, normal_seconds=1, economy_seconds=1)
STEP_SECONDS = 180.0  # a process that was killed starts anew within it on a very busy machine
LOOK_SECONDS = 0.03
KILLED = -signal.SIGKILL
SENDS = frozenset({"sendrawtransaction", "eth_sendRawTransaction"})


@dataclass(slots=True, kw_only=True)
class House:
    """The processes, the world around them, and clients of the API."""

    deployment: Deployment
    world: World
    story: Story
    books: Database
    boundary: Boundary
    clock: Clock
    commands: dict[str, tuple[str, ...]]
    processes: dict[str, Process] = field(default_factory=dict)
    fronts: list[ApiClient] = field(default_factory=list)
    """The client of each copy of the API, of the brand whose withdrawals these are."""
    fell: list[str] = field(default_factory=list)
    """Processes that ended by themselves: a death that nobody planned."""
    rounds: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    """The numbers of what is played: a request id is never used twice."""
    keeper: asyncio.Task[None] | None = None
    is_taken_over: bool = True
    """Whether the other copy gets the lease of one that died or stands still at once."""
    _have_leases_to_end: bool = False

    def check(self) -> None:
        """Raise what ended the keeper, if it has ended."""
        if self.keeper is not None and self.keeper.done():
            self.keeper.result()

    async def ask(self, call: Callable[[ApiClient], Awaitable[T]]) -> T:
        """Ask one copy of the API; where it does not answer, the other, as a balancer does."""
        for front in list(self.fronts[:-1]):
            try:
                return await call(front)
            except (aiohttp.ClientError, TimeoutError):
                self.fronts.remove(front)
                self.fronts.append(front)
        return await call(self.fronts[-1])

    async def start(self, slot: str) -> None:
        """One process."""
        self.processes[slot] = await self.deployment.spawn(slot, *self.commands[slot])

    def kill(self, slot: str) -> None:
        """SIGKILL, now."""
        with suppress(ProcessLookupError):
            self.processes[slot].kill()
        self._have_leases_to_end |= slot in PAYOUTS

    def halt(self, slot: str) -> None:
        """SIGSTOP, now: to others it is as if it were dead."""
        with suppress(ProcessLookupError):
            os.kill(self.processes[slot].pid, signal.SIGSTOP)
        self._have_leases_to_end |= slot in PAYOUTS

    def wake(self) -> None:
        """Let the process that stands still go on; its last message leaves."""
        slot = self.boundary.wake()
        if slot is not None:
            with suppress(ProcessLookupError):
                os.kill(self.processes[slot].pid, signal.SIGCONT)

    async def keep(self) -> None:
        """Start again what died. The leases of a dead or sleeping holder are brought to their end;
        that they end by themselves other tests show."""
        while True:
            if self._have_leases_to_end and self.is_taken_over:
                self._have_leases_to_end = False
                try:
                    await drill_store.end_leases(self.books)
                except DBAPIError:  # it was stopped with a lock in its hand
                    self.wake()
            for slot, process in list(self.processes.items()):
                if process.returncode is not None:
                    if process.returncode != KILLED:
                        self.fell.append(f"{slot} ended by itself ({process.returncode})")
                    await self.start(slot)
            await self.clock.sleep(LOOK_SECONDS)

    async def stop(self) -> None:
        """End every process by its pid."""
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def drill_house(
    folder: Path,
    programs: Provisioned,
    told: Narration,
) -> AsyncIterator[House]:
    """A deployment with its world, all roles running."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        told.say("starting nodes")
        world = await start_world(stack, programs, folder / "nodes", ids=SystemIds(clock))
        deployment = Deployment(folder / "cage", clock=clock)
        stack.push_async_callback(deployment.stop)
        told.say("making keys, database and principals")
        await deployment.configure(
            nodes=world.node_lists(),
            usdt_contract=world.usdt,
            ports=DemoPorts(api=free_port(), pam=free_port()),
            pool=POOL,
            pace=PACE,
        )
        books = Database(async_url(deployment.settings.owner_url()), pool_size=2)
        stack.push_async_callback(books.close)
        house = House(
            deployment=deployment,
            world=world,
            story=Story(
                world=world,
                clock=clock,
                narration=told,
                role_pids=dict,
                brands={},
                staff={},
                step_seconds=STEP_SECONDS,
            ),
            books=books,
            boundary=Boundary(
                kill=lambda slot: house.kill(slot), stop=lambda slot: house.halt(slot)
            ),
            clock=clock,
            commands={},
        )
        stack.push_async_callback(house.stop)
        told.say("starting every role as its own process, behind doors")
        await _open_doors(stack, house)
        for slot in house.commands:
            await house.start(slot)
        await _trusted(stack, house)
        house.keeper = asyncio.create_task(house.keep(), name="keeper")
        stack.push_async_callback(_ended, house.keeper)
        yield house


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _open_doors(stack: AsyncExitStack, house: House) -> None:
    """What each process is started with."""
    deployment, python = house.deployment, sys.executable
    plain = ("--config", str(deployment.config_file))
    commands = house.commands
    commands[SIGNER] = (python, "-m", "signer", "run", "--dir", str(deployment.vault_folder))
    nodes = house.world.node_lists()
    for network in nodes:
        commands[f"watch-{network}"] = (python, "-m", "watchers", network, *plain)
    commands[WEBHOOKS] = (python, "-m", "gateway", "webhooks", *plain)
    for slot in PAYOUTS:
        file = await _behind_doors(stack, house, slot, "gateway_payouts")
        commands[slot] = (python, "-m", "gateway", "payouts", "--config", str(file))
    for slot in API:
        port = deployment.api_port if slot == API[0] else free_port()
        file = await _behind_doors(stack, house, slot, "gateway_api", api_port=port)
        commands[slot] = (python, "-m", "gateway", "api", "--config", str(file))
        client = await open_clients(
            stack, deployment, house.clock, {slot: deployment.clients[BRAND]}, port=port
        )
        house.fronts += client.values()


async def _behind_doors(
    stack: AsyncExitStack, house: House, slot: str, role: str, *, api_port: int | None = None
) -> Path:
    """The configuration of a process that reaches PostgreSQL, nodes and signer by doors."""
    deployment, nodes = house.deployment, house.world.node_lists()
    door = deployment.folder / slot
    await asyncio.to_thread(door.mkdir)
    url = deployment.role_url(role)
    label = "api " if slot in API else ""
    host = await stack.enter_async_context(
        postgres_door(house.boundary, slot, url=url, folder=door, label=label)
    )
    socket = deployment.settings.path(deployment.settings.signer.socket)
    own_socket = door / "signer.sock"
    await stack.enter_async_context(
        signer_door(house.boundary, slot, signer_slot=SIGNER, socket=socket, path=own_socket)
    )
    return deployment.variant(
        slot,
        nodes={name: await _node_doors(stack, house, slot, nodes[name]) for name in nodes},
        url_of=(role, f"{url.partition('?')[0]}?host={host}"),
        socket=own_socket,
        api_port=api_port,
    )


async def _node_doors(
    stack: AsyncExitStack, house: House, slot: str, urls: Sequence[str]
) -> list[str]:
    """Doors before the nodes of a network; a broadcast counts, a look does not."""
    return [
        await stack.enter_async_context(
            http_door(house.boundary, slot, "broadcast", url, counts=is_broadcast)
        )
        for url in urls
    ]


def is_broadcast(body: bytes) -> bool:
    """Whether a JSON-RPC call, or one of a batch, hands in a transaction."""
    asked = json.loads(body)
    calls: Sequence[Mapping[str, object]] = asked if isinstance(asked, list) else [asked]
    return any(call.get("method") in SENDS for call in calls)


async def _trusted(stack: AsyncExitStack, house: House) -> None:
    """Wait for the roles, tell the signer whom to trust, open the clients."""
    deployment = house.deployment
    try:
        await until_ready(deployment, house.clock, within_seconds=STEP_SECONDS)
    except DeploymentFailed as error:
        ended = [f"{slot}: {p.returncode}" for slot, p in house.processes.items() if p.returncode]
        raise DeploymentFailed(f"the roles did not start; ended: {ended}") from error
    await deployment.trust()
    house.story.brands = await open_clients(stack, deployment, house.clock, deployment.clients)
    house.story.staff = await open_clients(stack, deployment, house.clock, deployment.staff)
