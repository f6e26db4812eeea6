"""The crash sweep of the deposit road from outside (CASES c.8, P01, P07).

Two watchers and the webhooks role as OS processes, with doors before PostgreSQL, the node and the
PAM. A deposit is seen, mined, credited and told once for each boundary message and side, and the
process that sends the message is killed there with SIGKILL. Only that process starts again.
"""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from config.clock import SystemClock
from config.database import Database
from config.ids import SystemIds
from gateway.sandbox.boundary import Boundary, Point, Side
from gateway.sandbox.doors import http_door, postgres_door
from gateway.sandbox.nodes import Bitcoind
from gateway.webhooks.secrets import load_key
from tests.conformance.conftest import chain_of
from tests.integration.webhooks.desk import Desk
from tests.support.auditor import audit
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.receiver import Receiver, receiving
from tests.support.watching import BRANDS, watching

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.node,
    pytest.mark.slow,
    pytest.mark.campaign("sweep"),
]

ROOT = Path(__file__).resolve().parents[2]
WATCHERS = ("watch-a", "watch-b")
WEBHOOKS = "webhooks"
AMOUNT, AMOUNT_MINOR = "0.01", 1_000_000
DEADLINE_SECONDS = 120.0  # a process starts within it on a very busy machine
LOOK_SECONDS = 0.02
SOME_OF_EACH = 6
DEATHS_MIN_SOME, DEATHS_MIN_ALL = 20, 80

LEASES_END = (
    ("UPDATE chain.cursors SET lease_expires_at = now() - interval '1 hour'",),
    (
        "UPDATE gateway.leases SET expires_at = now() - interval '1 hour'",
        "UPDATE gateway.deliveries SET claimed_until = NULL WHERE claimed_until IS NOT NULL",
    ),
)
"""Of the watchers; of the webhooks role."""

CONFIG = """
state_dir = "{folder}"
[database]
url = "{owner}"
[database.urls]
watchers = "postgresql://watchers@/{database}?host={door}"
gateway_webhooks = "postgresql://gateway_webhooks@/{database}?host={door}"
[networks.btc]
chain = "regtest"
poll_seconds = 0.15
nodes = ["{node}"]
[brands.acme]
account_index = 1
[brands.zest]
account_index = 2
[webhooks]
allow_hosts = ["127.0.0.1"]
timeout_seconds = 1
retry_seconds = [1, 1, 1]
"""


@dataclass(slots=True, kw_only=True)
class Rig:
    """The processes, and everything that is seen of them from outside."""

    owner: Database
    node: Bitcoind
    receiver: Receiver
    configs: dict[str, Path]
    address: str
    boundary: Boundary
    processes: dict[str, Process] = field(default_factory=dict)
    txids: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    async def start(self, slot: str) -> None:
        """One process; its log is beside its configuration."""
        config = self.configs[slot]
        role = ("gateway", "webhooks") if slot == WEBHOOKS else ("watchers", "btc")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("CAGE_")}
        with config.with_suffix(".log").open("ab") as log:
            self.processes[slot] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *role, "--config", str(config)),
                cwd=ROOT, env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, slot: str) -> None:
        """SIGKILL, now."""
        self.processes[slot].kill()

    async def stop(self) -> None:
        """End every process by its pid."""
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def revive(self) -> None:
        """Start again what died. Its leases and claims are brought to their end; that they end by
        themselves, and that a holder who wakes late is refused, other tests show."""
        for slot, process in list(self.processes.items()):
            if process.returncode is None:
                continue
            for statement in LEASES_END[slot == WEBHOOKS]:
                await self._execute(statement)
            await self.start(slot)

    async def leader(self) -> str | None:
        """The watcher that holds the lease."""
        rows = await self._rows("SELECT lease_holder AS holder FROM chain.cursors")
        held = None if not rows else str(rows[0]["holder"])
        for slot in WATCHERS:
            if held is not None and held.startswith(f"{self.processes[slot].pid}-"):
                return slot
        return None

    async def until(self, what: str, claim: Callable[[], Awaitable[bool]]) -> None:
        """Wait for what must come, with the dead started again meanwhile."""
        clock = SystemClock()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not await claim():
                    await self.revive()
                    await clock.sleep(LOOK_SECONDS)
        except TimeoutError:
            logs = {slot: await asyncio.to_thread(_tail, path) for slot, path in self.logs()}
            pytest.fail(f"{what} did not come; last death: {self.boundary.killed[-1:]}; {logs}")

    def logs(self) -> list[tuple[str, Path]]:
        """Where each process writes its log."""
        return [(slot, path.with_suffix(".log")) for slot, path in self.configs.items()]

    async def deposit(self, point: Point | None) -> None:
        """One deposit from its payment to its last webhook, with a death on the way."""

        async def is_led() -> bool:
            return await self.leader() is not None

        await self.until("a leading watcher", is_led)
        self.boundary.counted = frozenset({await self.leader() or "", WEBHOOKS})
        self.boundary.arm(point)
        txid = await self.node.send(self.address, AMOUNT)
        self.txids.append(txid)
        for state, blocks in (("detected", 0), ("provisional", 1), ("final", 1)):
            if blocks:
                await self.node.mine(blocks)
            await self._until_state(txid, state)
        await self._until_told(txid)
        self.boundary.counted = frozenset()

    async def _until_state(self, txid: str, state: str) -> None:
        async def has_been() -> bool:
            rows = await self._rows(
                "SELECT h.to_state AS state FROM chain.deposits d "
                "JOIN ledger.state_history h ON h.object_id = d.id WHERE d.txid = :txid",
                txid=txid,
            )
            return state in [row["state"] for row in rows]

        await self.until(f"{txid} {state}", has_been)

    async def _until_told(self, txid: str) -> None:
        """Until the PAM heard each state, the last one too."""

        async def is_told() -> bool:
            wanted = await self._events(txid)
            told = {(r.event["object"]["id"], r.event["object_version"]) for r in self._told(txid)}
            return len(told) >= len(wanted)

        await self.until(f"webhooks of {txid}", is_told)

    def _told(self, txid: str) -> list[Any]:
        return [r for r in self.receiver.received if r.event["object"].get("txid") == txid]

    async def _events(self, txid: str) -> list[Any]:
        return await self._rows(
            "SELECT e.id, e.object_version AS version, e.type FROM ledger.events e "
            "JOIN chain.deposits d ON d.id = e.object_id WHERE d.txid = :txid "
            "ORDER BY e.object_version",
            txid=txid,
        )

    async def judge(self, point: str) -> None:
        """What one deposit left behind: one credit, each event told, always under one id."""
        txid = self.txids[-1]
        deposits = await self._rows(
            "SELECT state, amount FROM chain.deposits WHERE txid = :txid", txid=txid
        )
        if [(row["state"], int(row["amount"])) for row in deposits] != [("final", AMOUNT_MINOR)]:
            self.violations.append(f"{point}: deposits {deposits}")
        credited = await self._rows(
            "SELECT coalesce(sum(CASE e.side WHEN 'credit' THEN e.amount ELSE -e.amount END), 0) "
            "AS amount FROM ledger.entries e JOIN ledger.postings p ON p.id = e.posting_id "
            "JOIN ledger.accounts a ON a.id = e.account_id AND a.kind = 'clearing' "
            "WHERE p.reference LIKE :reference",
            reference=f"deposit:btc:{txid}:%",
        )
        if int(credited[0]["amount"]) != AMOUNT_MINOR:
            self.violations.append(f"{point}: credited {credited[0]['amount']}")
        wanted = [(row["version"], row["type"]) for row in await self._events(txid)]
        said: dict[int, set[tuple[str, str, str]]] = {}
        for received in self._told(txid):
            event = received.event
            fact = (received.webhook_id, event["type"], received.body)
            said.setdefault(event["object_version"], set()).add(fact)
        if any(len(facts) != 1 for facts in said.values()):
            self.violations.append(f"{point}: one version under several ids or bodies: {said}")
        if sorted((v, fact[1]) for v, facts in said.items() for fact in facts) != wanted:
            self.violations.append(f"{point}: events {wanted}, told {sorted(said)}")

    async def is_at_rest(self) -> bool:
        """Also what was told to the PAM and not noted before a death was told again."""
        waiting = await self._rows(
            "SELECT 1 FROM gateway.deliveries WHERE state = 'pending' LIMIT 1"
        )
        return not waiting

    async def _rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.owner.unit_of_work() as uow:
            return list((await uow.execute(statement, values)).mappings())

    async def _execute(self, statement: str) -> None:
        async with self.owner.unit_of_work() as uow:
            await uow.execute(statement)


@asynccontextmanager
async def rig(
    test_database: TestDatabase, node: Bitcoind, owner: Database, folder: Path
) -> AsyncIterator[Rig]:
    """anna has an address, acme has an endpoint; two watchers and the webhooks role run."""
    clock = ManualClock(start=SystemClock().now())
    ids = SequentialIds(clock)
    key = load_key(folder / "secrets" / "sealed.key", SystemIds(SystemClock()))
    desk = Desk(owner=owner, role=owner, clock=clock, ids=ids, key=key)
    await desk.add_brands(*BRANDS)
    chain = chain_of("btc", node.url)
    async with watching(chain, test_database, clock=clock, ids=ids) as watch:
        address = (await watch.address("anna")).address
        watch.start_height = None
        await watch.follow(watch.new_follower("set-up"))
        await watch.follower.drop_lease()
    boundary = Boundary(kill=lambda slot: built.kill(slot))
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        sink = await stack.enter_async_context(http_door(boundary, WEBHOOKS, "pam", receiver.url))
        await desk.add_endpoint(f"{sink}/hook")
        configs = {}
        for slot in (*WATCHERS, WEBHOOKS):
            door = folder / slot
            await asyncio.to_thread(door.mkdir)
            host = await stack.enter_async_context(
                postgres_door(boundary, slot, url=owner_url(test_database), folder=door)
            )
            rpc = await stack.enter_async_context(http_door(boundary, slot, "node", node.url))
            configs[slot] = folder / f"{slot}.toml"
            configs[slot].write_text(
                CONFIG.format(
                    folder=folder, owner=test_database.owner_url, door=host, node=rpc,
                    database=test_database.name,
                ),
                encoding="utf-8",
            )  # fmt: skip
        built = Rig(
            owner=owner,
            node=node,
            receiver=receiver,
            configs=configs,
            address=address,
            boundary=boundary,
        )
        try:
            for slot in configs:
                await built.start(slot)
            yield built
        finally:
            await built.stop()
            await chain.close()


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-1500:]


def owner_url(database: TestDatabase) -> str:
    """Where the real server listens."""
    return database.owner_url


def points(messages: Mapping[str, int], *, is_all: bool) -> list[Point]:
    """Every message on both sides, or some of each kind over the whole length."""
    chosen = []
    for kind, count in sorted(messages.items()):
        every = [
            Point(kind=kind, number=number, side=side)
            for number in range(1, count + 1)
            for side in (Side.BEFORE, Side.AFTER)
        ]
        step = 1 if is_all else max(1, len(every) // SOME_OF_EACH)
        # An odd step meets both sides.
        chosen += every[:: step + (step % 2 == 0)]
    return chosen


async def test_p01_p07_killed_at_any_message_a_deposit_is_credited_and_told_once(
    pytestconfig: pytest.Config,
    bitcoind: Bitcoind,
    test_database: TestDatabase,
    database: Database,
    session_folder: Path,
) -> None:
    """Goal: no message of the road is a place where a death loses or doubles anything."""
    folder = session_folder / "sweep"
    await asyncio.to_thread(folder.mkdir)
    is_all = pytestconfig.getoption("--sweep") == "all"
    clock = SystemClock()
    async with rig(test_database, bitcoind, database, folder) as road:
        messages: dict[str, int] = {}
        for _ in range(3):  # without a death; the first one also waits for the processes
            await road.deposit(None)
            await road.judge("no death")
            messages = dict(road.boundary.by_kind)
        began_seconds = clock.monotonic_seconds()
        chosen = points(messages, is_all=is_all)
        for point in chosen:
            await road.deposit(point)
            await road.judge(f"{point.side} {point.kind} {point.number}")
        took_seconds = clock.monotonic_seconds() - began_seconds
        await road.deposit(None)
        await road.judge("after all deaths")
        deaths = Counter(road.boundary.killed)
        sys.stdout.write(
            f"\nmessages {messages}, {deaths.total()} deaths at {len(chosen)} points in "
            f"{took_seconds:.0f} s, {len(road.violations)} violations; {dict(deaths)}\n"
        )
        assert road.violations == []
        assert deaths.total() >= (DEATHS_MIN_ALL if is_all else DEATHS_MIN_SOME)
        assert {name.partition("/")[0] for name in deaths} == {"commit", "node", "pam", "write"}
        await road.until("at rest", road.is_at_rest)
        assert await audit(database.engine, at_rest=True) == []
