"""N04: another node is asked for a block again before it makes anything final."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pools import View, agreed
from tests.support.simchain import SimUtxo, sim_utxo
from tests.support.watching import Watch, watching
from watchers import switches
from watchers.agreed_chain import AgreedChain
from watchers.chain import Block
from watchers.second_pass import BLOCKS_PER_PASS, POSTPONE_SECONDS, SecondPass

pytestmark = pytest.mark.postgres

HALF = 50_000_000  # one confirmation to play, three to withdraw


def invent(block: Block, key: str) -> Block:
    """The same block with a payment to this key that nobody made."""
    (real,) = [item for item in block.transfers if item.to_key == key]
    extra = replace(real, position="out:7", amount_minor=10**9)
    return replace(block, transfers=(*block.transfers, extra))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A follower over several nodes of one simulated chain, and its second pass."""

    sim: SimUtxo
    views: list[View]
    chain: AgreedChain
    watch: Watch
    clock: ManualClock

    async def look(self) -> int:
        """One pass of a process that has just started."""
        await self.chain.pool.look_all()
        return await SecondPass(
            pool=self.chain.pool,
            network=self.watch.network,
            database=self.watch.as_watcher,
            clock=self.clock,
        ).pass_once()

    async def mine(self, count: int) -> None:
        """Mine and follow."""
        self.sim.mine(count)
        await self.watch.follow()

    async def rows(self) -> list[str]:
        """States of the blocks that wait or differ."""
        async with self.watch.as_watcher.unit_of_work() as uow:
            found = await uow.execute("SELECT state FROM chain.second_looks ORDER BY height")
            return list(found.scalars())

    async def alarms(self) -> list[str]:
        async with self.watch.as_watcher.unit_of_work() as uow:
            found = await uow.execute(
                "SELECT detail FROM gateway.alarms WHERE kind = 'node_disagreement' "
                "AND cleared_at IS NULL"
            )
            return list(found.scalars())

    async def is_stopped(self) -> bool:
        async with self.watch.as_watcher.unit_of_work() as uow:
            return await switches.is_stopped(
                uow, network="btc", asset=None, action=switches.Action.CREDIT
            )


@asynccontextmanager
async def bench(
    count: int, quorum: int, database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[Bench]:
    sim, _ = sim_utxo()
    views = [View(sim) for _ in range(count)]
    chain = agreed(sim, views, quorum=quorum, clock=clock)
    async with watching(chain, database, clock=clock, ids=ids, absence_blocks=5) as watch:
        try:
            await chain.pool.look_all()
            await watch.follow()
            yield Bench(sim=sim, views=views, chain=chain, watch=watch, clock=clock)
        finally:
            await chain.close()


async def test_n04_n05_a_deposit_that_one_node_invents_is_stopped_before_it_is_final(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    async with bench(2, 1, test_database, clock, ids) as nodes:
        anna = await nodes.watch.address("anna")
        nodes.sim.pay([(anna.address, HALF)])
        nodes.sim.mine(1)
        block = nodes.sim.tip
        nodes.views[0].forged[block.ref.hash] = invent(block.effects, anna.key)
        await nodes.watch.follow()
        assert [item.amount_minor for item in await nodes.watch.deposits()] == [HALF, 10**9]
        await nodes.mine(1)
        await nodes.look()
        assert await nodes.is_stopped()
        assert await nodes.alarms() == [
            f"block {block.ref.height} {block.ref.hash}: a:1 told 2 payments to us, b:2 tells 1, "
            "and they are not the same"
        ]
        await nodes.mine(10)
        assert {item.state for item in await nodes.watch.deposits()} <= {"pending", "provisional"}
        await nodes.look()
        assert (await nodes.rows()).count("differs") == 1


async def test_n04_a_tx_that_one_node_leaves_out_is_told_by_another(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    async with bench(2, 1, test_database, clock, ids) as nodes:
        anna = await nodes.watch.address("anna")
        nodes.sim.pay([(anna.address, HALF)])
        nodes.sim.mine(1)
        block = nodes.sim.tip
        kept = tuple(item for item in block.effects.transfers if item.to_key != anna.key)
        nodes.views[0].forged[block.ref.hash] = replace(block.effects, transfers=kept)
        await nodes.watch.follow()
        await nodes.mine(1)
        await nodes.look()
        assert await nodes.is_stopped()
        (told,) = await nodes.alarms()
        assert "a:1 told 0 payments to us, b:2 tells 1" in told


async def test_n04_honest_nodes_leave_nothing_behind(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    """Blocks are asked for two confirmations deep; what is younger still waits."""
    async with bench(2, 1, test_database, clock, ids) as nodes:
        anna = await nodes.watch.address("anna")
        nodes.sim.pay([(anna.address, HALF)])
        await nodes.mine(5)
        before = nodes.views[1].asked
        assert await nodes.look() > 0
        assert nodes.views[1].asked > before
        assert len(await nodes.rows()) < 5
        assert not await nodes.is_stopped()
        assert await nodes.alarms() == []
        assert (await nodes.watch.deposit()).state == "final"


@pytest.mark.parametrize(("count", "quorum"), [(1, 1), (2, 2)])
async def test_n04_where_nobody_else_is_left_to_ask_nothing_is_asked(
    count: int, quorum: int, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    async with bench(count, quorum, test_database, clock, ids) as nodes:
        await nodes.mine(6)
        assert await nodes.rows() == []
        assert await nodes.look() == 0


async def test_n04_a_pass_that_finds_nobody_goes_on_when_the_other_node_is_back(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    """The rows survive the process; each pass of this test is a new one."""
    async with bench(2, 1, test_database, clock, ids) as nodes:
        await nodes.mine(3)
        waiting = await nodes.rows()
        nodes.views[1].is_down = True
        assert await nodes.look() == 0
        assert await nodes.rows() == waiting
        nodes.views[1].is_down = False
        assert await nodes.look() == 0  # not yet: others may be due
        clock.advance(POSTPONE_SECONDS + 1)
        assert await nodes.look() > 0
        assert len(await nodes.rows()) < len(waiting)


async def test_a_pass_asks_for_a_bounded_number_of_blocks(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    async with bench(2, 1, test_database, clock, ids) as nodes:
        await nodes.mine(2 * BLOCKS_PER_PASS + 5)
        assert await nodes.look() == BLOCKS_PER_PASS
        assert await nodes.look() == BLOCKS_PER_PASS


async def test_a_block_that_left_the_chain_is_not_asked_for(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    async with bench(2, 1, test_database, clock, ids) as nodes:
        anna = await nodes.watch.address("anna")
        nodes.sim.pay([(anna.address, HALF)])
        nodes.sim.mine(1)
        block = nodes.sim.tip
        nodes.views[0].forged[block.ref.hash] = invent(block.effects, anna.key)
        await nodes.watch.follow()
        nodes.sim.rewind(1)
        for _ in range(4):
            nodes.sim.mine_exactly([])
        await nodes.watch.follow()
        await nodes.look()
        assert not await nodes.is_stopped()
        assert await nodes.alarms() == []
