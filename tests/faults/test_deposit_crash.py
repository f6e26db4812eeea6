"""The watcher dies between any two steps; whoever continues ends with the same books.

One named kill per state of a deposit, before and after the commit that reaches it, and one run in
which it dies at every point there is.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.simchain import SimUtxo, SimUtxoReader, sim_utxo, utxo_chain
from tests.support.watching import Watch, watching
from watchers.follower import Crash

pytestmark = pytest.mark.postgres

DEADLINE_SECONDS = 30.0
TWO_COINS = 200_000_000  # satoshi: min 2, full 6 confirmations


class Died(Exception):
    """The process is gone."""


class DieAt:
    """Dies at the n-th visit of a point, once."""

    def __init__(self, point: str, *, visit: int = 1) -> None:
        self._point, self._left = point, visit

    def __call__(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                raise Died(point)


class DieEverywhere:
    """Dies at every second visit of every point, so that work goes on."""

    def __init__(self) -> None:
        self.visits: Counter[str] = Counter()

    def __call__(self, point: str) -> None:
        self.visits[point] += 1
        if self.visits[point] % 2:
            raise Died(point)


class Bench:
    """The watcher, the world, and a restart that forgets everything in memory."""

    def __init__(self, sim: SimUtxo, watch: Watch) -> None:
        self.sim, self.watch = sim, watch
        self.address = ""

    def restarted(self, crash: Crash) -> None:
        """A new process: same holder name, fresh reader, nothing remembered."""
        chain = utxo_chain(self.sim, reader=SimUtxoReader(self.sim))
        self.watch.follower = self.watch.new_follower("first", chain=chain, crash=crash)

    async def follow_through(self, crash: Crash) -> None:
        """Follow, restarted after each death, until it comes to rest."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                self.restarted(crash)
                try:
                    await self.watch.follow()
                    return
                except Died:
                    continue


@pytest.fixture
async def bench(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[Bench]:
    """anna has an address; absence is told after 5 blocks."""
    sim, chain = sim_utxo()
    async with watching(chain, test_database, clock=clock, ids=ids, absence_blocks=5) as watch:
        opened = Bench(sim, watch)
        opened.address = (await watch.address("anna")).address
        await watch.follow()
        yield opened


def survive(point: str) -> None:
    """No crash."""


async def paid(bench: Bench) -> None:
    bench.sim.pay([(bench.address, TWO_COINS)])


async def in_a_block(bench: Bench) -> None:
    await paid(bench)
    bench.sim.mine()


async def at_min_tier(bench: Bench) -> None:
    await in_a_block(bench)
    await bench.watch.follow()
    bench.sim.mine()


async def at_full_tier(bench: Bench) -> None:
    await at_min_tier(bench)
    await bench.watch.follow()
    bench.sim.mine(4)


async def lost(bench: Bench) -> None:
    await at_min_tier(bench)
    await bench.watch.follow()
    bench.sim.rewind(2)
    for _ in range(2):
        bench.sim.mine_exactly([])


async def absent(bench: Bench) -> None:
    await lost(bench)
    (txid,) = bench.sim.pool
    bench.sim.drop(txid)
    bench.sim.mine(5)


async def back_again(bench: Bench) -> None:
    await lost(bench)
    await bench.watch.follow()
    bench.sim.mine(2)


async def tiny(bench: Bench) -> None:
    bench.sim.pay([(bench.address, 1_000)])
    bench.sim.mine()


STORIES: dict[str, tuple[Callable[[Bench], Awaitable[None]], str, int]] = {
    "detected": (paid, "mempool", 1),
    "pending": (in_a_block, "block", 1),
    "provisional": (at_min_tier, "block", 1),
    "final": (at_full_tier, "block", 1),
    "orphaned": (lost, "reorg", 2),
    "reversed": (absent, "absence", 1),
    "restored": (back_again, "block", 1),
    "below_minimum": (tiny, "block", 1),
}


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
@pytest.mark.parametrize("state", STORIES)
async def test_killed_while_a_deposit_becomes(bench: Bench, state: str, moment: str) -> None:
    story, loop, visit = STORIES[state]
    await story(bench)
    bench.restarted(DieAt(f"{loop}.{moment}", visit=visit))
    with pytest.raises(Died):
        await bench.watch.follow()
    bench.restarted(survive)
    await bench.watch.follow()

    deposit = await bench.watch.deposit()
    reached = "provisional" if state == "restored" else state
    assert deposit.state == reached
    states = await bench.watch.states(deposit.id)
    assert states.count(reached) == (2 if state == "restored" else 1)
    await one_event_per_version(bench.watch, deposit.version)
    await bench.watch.audit()


async def test_a_watcher_that_dies_everywhere_ends_with_the_books_of_a_straight_run(
    bench: Bench,
) -> None:
    crash = DieEverywhere()
    for story in (at_full_tier, back_again, lost):
        bench.restarted(survive)
        await story(bench)
        await bench.follow_through(crash)
    assert set(crash.visits) == {
        f"{loop}.{moment}"
        for loop in ("block", "reorg", "settle", "mempool")
        for moment in ("before_commit", "after_commit")
    }
    states = Counter(item.state.value for item in await bench.watch.deposits())
    assert states == {"final": 1, "provisional": 1, "orphaned": 1}
    await bench.watch.audit()


async def one_event_per_version(watch: Watch, version: int) -> None:
    """Each state change has one event and one history row."""
    async with watch.as_watcher.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT object_version FROM ledger.events WHERE object_kind = 'deposit' "
            "ORDER BY object_version"
        )
        versions = [row[0] for row in result.all()]
    assert versions == list(range(1, version + 1))
