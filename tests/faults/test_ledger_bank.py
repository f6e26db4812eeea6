"""L04: a bank under a nemesis that kills, stops and cuts connections.

Eight clients move money in every way that the ledger knows, each operation under references of its
own, and try an operation whose outcome is unknown again until they know it. The nemesis acts by
the count of operations, from the seed. Whoever looks, at any moment: the same total, nobody below
zero; at the end each operation is in the books once, or not at all if it was refused.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from config.database import AWAY, Database, Uow, async_url, is_away, is_lock_timeout
from ledger import balances, holds, journal, reading, reconcile, verify
from ledger.accounts import Account, Stage, clearing, custody, player, suspense
from ledger.errors import InsufficientFunds, StaleState
from ledger.holds import HoldState
from ledger.journal import Posting, credit, debit
from ledger.verify import Part
from tests.support.auditor import audit
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pgproxy import CommitCutter, commit_cutter

pytestmark = pytest.mark.postgres

CLIENTS = 8
OPERATIONS = 2_000
NEMESIS_EACH = 20  # operations
PAUSE_OPERATIONS = 12
PAUSE_SECONDS_MAX = 0.3  # of real time: when all others wait for what the stopped one holds
TRIES_MAX = 50
BTC = "btc:BTC"
HOT = custody("btc", "hot", BTC)
CLEARING = clearing("acme", BTC)
PLAYERS = [player("acme", f"p{number}", Stage.PROVISIONAL, BTC) for number in range(5)]
OPENING = 1_000
TOTAL = OPENING * (len(PLAYERS) + 1)
APPLICATION = "bank"
Work = Callable[[Uow], Awaitable[None]]


@dataclass(slots=True)
class Bank:
    """What clients and nemesis share."""

    ids: SequentialIds
    clock: ManualClock
    done: int = 0
    started: int = 0
    again: int = 0
    references: set[str] = field(default_factory=set)
    """Of postings that a client was told are in the books."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def finish(self) -> None:
        """One operation more."""
        self.clock.advance(0.001)
        async with self.changed:
            self.done += 1
            self.changed.notify_all()

    async def reach(self, count: int) -> None:
        """Wait until so many operations are done, or all."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.done >= min(count, OPERATIONS))


class Client:
    """One process: a connection of its own, and the holds that it has placed."""

    def __init__(self, bank: Bank, database: Database, choice: random.Random) -> None:
        self._bank = bank
        self._database = database
        self._choice = choice
        self._open: list[tuple[UUID, int]] = []
        self._captured: list[tuple[UUID, int]] = []

    async def run(self) -> None:
        """Operations until the bank has had all of them."""
        while self._bank.started < OPERATIONS:
            self._bank.started += 1
            await self._one()
            await self._bank.finish()

    async def _one(self) -> None:
        match self._choice.randrange(7):
            case 0 | 1:
                await self._transfer()
            case 2:
                await self._place()
            case 3 if self._open:
                await self._move(self._open, HoldState.CAPTURED)
            case 4 if self._open:
                await self._move(self._open, HoldState.RELEASED)
            case 5 if self._captured:
                await self._move(
                    self._captured, self._choice.choice([HoldState.SETTLED, HoldState.RETURNED])
                )
            case 6:
                await self._until_known(_fold)
            case _:
                await self._look()

    async def _transfer(self) -> None:
        source, target = self._choice.sample([*PLAYERS, CLEARING], 2)
        posting = _posting(
            f"move:{self._bank.ids.new_id()}", source, target, self._choice.randint(1, 400)
        )

        async def work(uow: Uow) -> None:
            await journal.post(
                uow, posting, posting_id=self._bank.ids.new_id(), at=self._bank.clock.now()
            )

        try:
            await self._until_known(work)
        except InsufficientFunds:
            return
        self._bank.references.add(posting.reference)

    async def _place(self) -> None:
        hold_id, amount = self._bank.ids.new_id(), self._choice.randint(1, 300)
        placed: list[bool] = []

        async def work(uow: Uow) -> None:
            answer = await holds.place(
                uow,
                hold_id=hold_id,
                brand="acme",
                player_id="p",
                asset=BTC,
                amount=amount,
                reference=f"place:{hold_id}",
                at=self._bank.clock.now(),
            )
            placed.append(answer)

        await self._until_known(work)
        if placed[-1]:
            self._bank.references.add(f"place:{hold_id}")
            self._open.append((hold_id, amount))

    async def _move(self, pool: list[tuple[UUID, int]], to: HoldState) -> None:
        """Post, void, settle or give back one of our holds, once."""
        hold_id, amount = pool.pop(self._choice.randrange(len(pool)))
        at, reference = self._bank.clock.now(), f"{to}:{hold_id}"
        in_flight = player("acme", "p", Stage.IN_FLIGHT, BTC)

        async def work(uow: Uow) -> None:
            match to:
                case HoldState.CAPTURED:
                    await holds.capture(uow, hold_id=hold_id, reference=reference, at=at)
                case HoldState.RELEASED:
                    await holds.release(uow, hold_id=hold_id, reference=reference, at=at)
                case HoldState.RETURNED:
                    await holds.return_in_flight(uow, hold_id=hold_id, reference=reference, at=at)
                case _:
                    await holds.settle(uow, hold_id=hold_id, at=at)
                    posting = _posting(reference, in_flight, suspense(BTC), amount)
                    await journal.post(uow, posting, posting_id=self._bank.ids.new_id(), at=at)

        try:
            await self._until_known(work)
        except StaleState:  # the try whose answer was lost had done it
            async with self._database.unit_of_work() as uow:
                stored = await holds.get(uow, hold_id)
            assert stored is not None
            assert stored.state is to
        self._bank.references.add(reference)
        if to is HoldState.CAPTURED:
            self._captured.append((hold_id, amount))

    async def _look(self) -> None:
        await self._until_known(_look)

    async def _until_known(self, work: Work) -> None:
        """Run it, and again while nobody can say whether it was done."""
        for _ in range(TRIES_MAX):
            try:
                await self._database.run(work)
            except StaleState:
                raise
            except AWAY as error:
                if not _is_unknown(error):
                    raise
                self._bank.again += 1
                continue
            return
        raise AssertionError("no try was answered")


def _posting(reference: str, source: Account, target: Account, amount: int) -> Posting:
    return Posting(
        reference=reference, kind="test", entries=(debit(source, amount), credit(target, amount))
    )


def _is_unknown(error: Exception) -> bool:
    """The connection was lost, or a lock was waited for too long: nobody knows, or nothing is."""
    return is_away(error) or is_lock_timeout(error)


async def _fold(uow: Uow) -> None:
    await uow.execute("SELECT ledger.fold(3)")


async def _look(uow: Uow) -> None:
    """One statement is one moment: the same total, nobody below zero, both columns equal."""
    report = await balances.trial_balance(uow)
    assert report.is_balanced
    assert all(row.balance_minor >= 0 for row in report.accounts)
    assert sum(row.balance_minor for row in report.accounts if row.code != HOT.code) == TOTAL


class Nemesis:
    """Kills backends, stops processes and cuts commits, in an order that only the seed decides."""

    def __init__(
        self, bank: Bank, owner: Database, cutter: CommitCutter, choice: random.Random
    ) -> None:
        self._bank = bank
        self._owner = owner
        self._cutter = cutter
        self._choice = choice
        self.kills = 0
        self.pauses = 0

    async def run(self) -> None:
        """One act every few operations, until the bank is done."""
        for count in range(NEMESIS_EACH, OPERATIONS, NEMESIS_EACH):
            await self._bank.reach(count)
            match self._choice.randrange(3):
                case 0:
                    await self._kill()
                case 1:
                    await self._pause()
                case _:
                    self._cutter.cut_next(
                        self._choice.randint(1, 6), reaches_server=self._choice.random() < 0.5
                    )
        self._cutter.disarm()

    async def _kill(self) -> None:
        async with self._owner.unit_of_work() as uow:
            pids = await uow.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = :name "
                "AND datname = current_database() ORDER BY pid",
                {"name": APPLICATION},
            )
            running = list(pids.scalars())
            if running:
                victim = self._choice.choice(running)
                await uow.execute("SELECT pg_terminate_backend(:pid)", {"pid": victim})
                self.kills += 1

    async def _pause(self) -> None:
        """As SIGSTOP does: it holds what it holds, and is late when it goes on."""
        if not self._cutter.gates:
            return
        gate = self._choice.choice(self._cutter.gates)
        gate.clear()
        try:
            async with asyncio.timeout(PAUSE_SECONDS_MAX):
                await self._bank.reach(self._bank.done + PAUSE_OPERATIONS)
        except TimeoutError:
            pass  # all others wait for it
        finally:
            gate.set()
        self.pauses += 1


async def test_l04_a_bank_under_kill_and_pause_sums_to_the_same_in_every_snapshot(
    test_database: TestDatabase,
    database: Database,
    session_folder: Path,
    clock: ManualClock,
    ids: SequentialIds,
    seed: int,
) -> None:
    bank = Bank(ids=ids, clock=clock)
    async with database.unit_of_work() as uow:
        for account in (*PLAYERS, CLEARING):
            opening = _posting(f"open:{account.code}", HOT, account, OPENING)
            await journal.post(uow, opening, posting_id=ids.new_id(), at=clock.now())
    folder = session_folder / "bank"
    folder.mkdir()
    async with commit_cutter(test_database.role_url("gateway_payouts"), folder) as (cutter, url):
        doors = [
            Database(async_url(url), pool_size=1, application_name=APPLICATION)
            for _ in range(CLIENTS)
        ]
        nemesis = Nemesis(bank, database, cutter, random.Random(seed))
        async with asyncio.TaskGroup() as group:
            group.create_task(nemesis.run())
            for number, door in enumerate(doors):
                choice = random.Random(seed * 100 + number)
                group.create_task(Client(bank, door, choice).run())
        for door in doors:
            await door.close()

    assert bank.done == OPERATIONS
    assert min(nemesis.kills, nemesis.pauses, cutter.cuts) > 0
    assert bank.again > 0  # or nothing was ever disturbed
    async with database.unit_of_work() as uow:
        await _look(uow)
        assert await reconcile.check_books(uow) == []
        keys = await uow.execute("SELECT reference FROM ledger.postings")
        told = {key for key in keys.scalars() if not key.startswith("open:")}
        later = await reading.accounts(uow, at=clock.now(), limit=100)
        now = await reading.accounts(uow, limit=100)
    assert told == bank.references
    assert later == now
    for part in Part:
        place: str | None = None
        while True:
            async with database.unit_of_work() as uow:
                page = await verify.replay(uow, part, place=place)
            assert page.findings == ()
            place = page.place
            if place is None:
                break
    found = await audit(database.engine, at_rest=False)
    # Its points on books alone: there are no deposits behind this bank's money.
    assert [sentence for sentence in found if sentence[0] in "123"] == []
