"""Traced deposits whose tx is mined again in a block that no node traces (D45, D47, N14)."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

import pytest

from config.ids import Ids
from tests.support.clock import ManualClock
from tests.support.databases import TestDatabase
from tests.support.simchain import SimAccount, SimAccountReader, account_chain, sim_account
from tests.support.watching import Watch, watching
from watchers import inflows, reconcile_chain, searches
from watchers.chain import Block, BlockRef
from watchers.errors import StateUnavailable
from watchers.retrace import RETRY_SECONDS

pytestmark = pytest.mark.postgres

HALF = 5 * 10**17
CUSTODY, CLEARING = "custody:eth/deposit/acme:eth:ETH", "brand:acme:clearing:eth:ETH"
ONCE = {CUSTODY: HALF, CLEARING: HALF}
"""Both sides of one deposit."""


class Traced(SimAccountReader):
    """Every native payment is a call's; blocks of `blind` are traced by nobody."""

    def __init__(self, world: SimAccount) -> None:
        super().__init__(world)
        self.blind: set[str] = set()
        self.emptied: set[str] = set()  # traced, and their calls moved nothing
        self.has_state = True

    async def block(self, block_hash: str) -> Block:
        block = await super().block(block_hash)
        coins = [item for item in block.transfers if item.asset == "eth:ETH"]
        rest = tuple(item for item in block.transfers if item not in coins)
        if block_hash in self.blind:
            return replace(block, transfers=rest, traces_incomplete=True)
        if block_hash in self.emptied:
            return replace(block, transfers=rest)
        calls = (replace(item, position="trace:0") for item in coins)
        return replace(block, transfers=(*rest, *calls))

    async def holdings(
        self, keys: Sequence[str], asset: str, *, block_hash: str
    ) -> Mapping[str, int]:
        height = self.world.blocks[block_hash].ref.height
        if not self.has_state and height < self.world.tip.ref.height - 20:
            raise StateUnavailable("missing trie node")
        return await super().holdings(keys, asset, block_hash=block_hash)


class Bench:
    """A deposit by call, and what people see of it."""

    def __init__(self, sim: SimAccount, reader: Traced, watch: Watch, clock: ManualClock) -> None:
        self.sim, self.reader, self.watch, self.clock = sim, reader, watch, clock

    async def mined_again(self, *, first_blocks: int = 40) -> BlockRef:
        """A deposit in a traced block, then mined again where nobody traces."""
        anna = await self.watch.address("anna")
        self.sim.mine(2)
        self.sim.pay("eth:ETH", anna.address, HALF)
        self.sim.mine(first_blocks)
        await self.watch.follow()
        self.sim.rewind(first_blocks)
        self.sim.mine(1)
        again = self.sim.tip.ref
        self.reader.blind.add(again.hash)
        self.sim.mine(first_blocks + 60)
        await self.watch.follow()
        if first_blocks >= self.watch.network.finality_blocks:
            await self.watch.start_again()  # what was final left the chain: two people looked
        return again

    async def reconcile(self) -> int:
        held = await reconcile_chain.holdings_at(
            self.watch.as_watcher, self.watch.chain, self.watch.network
        )
        return await searches.book(
            self.watch.as_watcher, self.watch.network, held, at=self.clock.now()
        )

    async def go_on(self, blocks: int = 100) -> None:
        self.clock.advance(RETRY_SECONDS)
        self.sim.mine(blocks)
        await self.watch.follow()
        await self.watch.follow()

    async def inflows(self) -> list[int]:
        async with self.watch.as_api.unit_of_work() as uow:
            return [item.amount_minor for item in await inflows.find(uow)]

    async def alarms(self) -> set[str]:
        async with self.watch.as_owner.unit_of_work() as uow:
            result = await uow.execute("SELECT kind FROM gateway.alarms")
            return set(result.scalars())


@pytest.fixture
async def bench(test_database: TestDatabase, clock: ManualClock, ids: Ids) -> AsyncIterator[Bench]:
    sim, _ = sim_account()
    reader = Traced(sim)
    chain = account_chain(sim, reader=reader)
    async with watching(chain, test_database, clock=clock, ids=ids, absence_blocks=20) as watch:
        yield Bench(sim, reader, watch, clock)


async def test_d45_the_balance_tells_what_no_node_traces(bench: Bench) -> None:
    await bench.mined_again()
    await bench.reconcile()
    await bench.go_on()
    assert await bench.reconcile() == 0
    assert (await bench.watch.deposit()).state.value == "final"
    assert (await bench.watch.books(), await bench.inflows()) == (ONCE, [])


async def test_d47_what_an_untraced_deposit_explains_is_never_booked(bench: Bench) -> None:
    bench.reader.has_state = False
    await bench.mined_again()
    for _ in range(3):
        assert await bench.reconcile() == 0
        await bench.go_on(5)
    assert (await bench.watch.deposit()).state.value == "orphaned"
    assert (await bench.watch.books(), await bench.inflows()) == (ONCE, [])
    assert "deposit_untraced" in await bench.alarms()


@pytest.mark.parametrize("first_blocks", [2, 40], ids=["pending", "final"])
async def test_n14_a_trace_that_comes_late_restores_the_deposit_once(
    bench: Bench, first_blocks: int
) -> None:
    bench.reader.has_state = False
    again = await bench.mined_again(first_blocks=first_blocks)
    assert await bench.reconcile() == 0
    await bench.go_on()
    assert (await bench.watch.deposit()).height is None
    bench.reader.blind.clear()
    for _ in range(2):
        await bench.go_on()
    deposit = await bench.watch.deposit()
    assert (deposit.state.value, deposit.block_hash) == ("final", again.hash)
    assert await bench.reconcile() == 0
    assert (await bench.watch.books(), await bench.inflows()) == (ONCE, [])


async def test_d47_beside_an_untraced_deposit_only_the_rest_is_suspense(bench: Bench) -> None:
    bench.reader.has_state = False
    await bench.mined_again()
    anna = await bench.watch.address("anna")
    bench.sim.pay("eth:ETH", anna.address, 7)
    bench.sim.mine(1)
    bench.reader.blind.add(bench.sim.tip.ref.hash)
    await bench.watch.follow()
    assert await bench.reconcile() == 1
    assert await bench.inflows() == [7]


async def test_d50_a_late_trace_that_shows_nothing_reverses_the_deposit(bench: Bench) -> None:
    bench.reader.has_state = False
    again = await bench.mined_again()
    bench.reader.blind.clear()
    bench.reader.emptied.add(again.hash)
    await bench.go_on()
    await bench.go_on()
    assert (await bench.watch.deposit()).state.value == "reversed"
    assert await bench.reconcile() == 1  # the coins are there: suspense, not two deposits
    await bench.go_on()
    books = await bench.watch.books()
    assert books == {CUSTODY: HALF, "suspense:eth:ETH": HALF}
    assert await bench.inflows() == [HALF]
