"""What one node of several can do to the others: claim to be ahead, be of last choice, hang."""

import asyncio
from contextlib import suppress

import pytest

from config.clock import SystemClock, Waker
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pools import ANCHOR_DEPTH, View, agreed, record, states
from tests.support.simchain import SimUtxo, sim_utxo
from tests.support.watching import watching
from watchers.agreed_chain import AgreedChain
from watchers.chain import TxStatus
from watchers.errors import NodeUnavailable, ReorgTooDeep
from watchers.judge import NodeState
from watchers.loops import FollowLoop
from watchers.metrics import Metrics
from watchers.tx_looks import AT_ONCE

pytestmark = pytest.mark.postgres

HALF = 50_000_000
HEALTHY = NodeState.HEALTHY


def private_branch(world: SimUtxo, address: str) -> str:
    """A branch of four blocks with a payment that the chain never has; its tip."""
    real = world.active[-1]
    world.pay([(address, HALF)])
    world.mine(4)
    private = world.active[-1]
    world.activate(real)
    world.pool.clear()
    return private


@pytest.mark.parametrize("quorum", [1, 2])
async def test_n01_n05_a_last_choice_node_far_ahead_puts_nobody_out_and_is_not_believed(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds, quorum: int
) -> None:
    world, single = sim_utxo()
    async with watching(single, test_database, clock=clock, ids=ids) as watch:
        views = [View(world) for _ in range(3)]
        chain = agreed(world, views, quorum=quorum, clock=clock)
        follower = watch.new_follower("pool", chain=chain)
        world.mine(20)
        anna = await watch.address("anna")
        await chain.pool.look_all()
        await watch.follow(follower)
        views[2].pinned = private_branch(world, anna.address)
        for _ in range(4):
            await chain.pool.look_all()
        assert states(chain)[:2] == [HEALTHY, HEALTHY]
        await watch.follow(follower)
        assert await watch.deposits() == []
        assert await watch.books() == {}
        assert (await watch.position(follower)).hash == world.active[-1]
        await chain.close()


def mine_again(world: SimUtxo, depth: int) -> None:
    """A reorg: the last `depth` blocks, and one more, are others now."""
    world.rewind(depth)
    for _ in range(depth + 1):
        world.mine_exactly([])


async def looks(chain: AgreedChain, clock: ManualClock) -> None:
    """As many looks as any probation takes."""
    for _ in range(4):
        clock.advance(30)
        await chain.pool.look_all()


@pytest.mark.parametrize(("count", "quorum"), [(3, 2), (1, 1)])
async def test_d05_n03_a_reorg_below_every_anchor_stops_for_people_and_a_grant_walks_it(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds, count: int, quorum: int
) -> None:
    """All nodes lost their anchor to the same branch: nobody came back with other data."""
    world, single = sim_utxo()
    async with watching(single, test_database, clock=clock, ids=ids) as watch:
        limit = watch.network.spec.reorg_limit_blocks
        chain = agreed(world, [View(world) for _ in range(count)], quorum=quorum, clock=clock)
        follower = watch.new_follower("pool", chain=chain)
        loop = FollowLoop(
            follower=follower, chain=chain, network=watch.network, database=watch.as_watcher,
            clock=clock, waker=Waker(poll_seconds=0.1), metrics=Metrics("btc"), pool=chain.pool,
        )  # fmt: skip
        world.mine(limit + 30)
        await watch.follow(follower)
        await looks(chain, clock)
        lost = record(chain, 0).anchor
        assert lost is not None
        depth = limit + 10
        assert lost.height > world.tip.ref.height - depth
        mine_again(world, depth)
        await looks(chain, clock)
        assert states(chain) == [HEALTHY] * count
        with pytest.raises(ReorgTooDeep) as caught:
            await watch.follow(follower)
        await follower.stop(str(caught.value))
        await looks(chain, clock)
        assert record(chain, 0).anchor == lost
        await watch.start_again(depth=depth)
        while await loop.look() == 0.0:
            pass
        assert (await watch.position(follower)).hash == world.active[-1]
        await looks(chain, clock)
        assert states(chain) == [HEALTHY] * count
        fresh = record(chain, 0).anchor
        assert fresh is not None
        assert fresh.hash == world.active[fresh.height]
        assert fresh.height == world.tip.ref.height - ANCHOR_DEPTH
        await chain.close()


async def test_n03_one_of_three_that_alone_lost_its_anchor_stays_out(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    world, single = sim_utxo()
    async with watching(single, test_database, clock=clock, ids=ids):
        views = [View(world) for _ in range(3)]
        chain = agreed(world, views, quorum=2, clock=clock)
        world.mine(3 * ANCHOR_DEPTH)
        await looks(chain, clock)
        real = world.active[-1]
        mine_again(world, 3 * ANCHOR_DEPTH - 1)
        views[0].pinned = world.active[-1]
        world.activate(real)
        await looks(chain, clock)
        assert states(chain) == [NodeState.QUARANTINED, HEALTHY, HEALTHY]
        await chain.close()


class Hanging(View):
    """Answers everything but where a tx is."""

    hung = 0

    async def tx_status(self, txid: str) -> TxStatus:
        self.hung += 1
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")


async def test_n16_a_node_that_hangs_on_txs_costs_one_budget_and_is_left_out(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    """60 unconfirmed deposits, one node of three silent: far from the end of a lease."""
    world, single = sim_utxo()
    async with watching(single, test_database, clock=clock, ids=ids) as watch:
        silent = Hanging(world)
        views = [View(world), View(world), silent]
        chain = agreed(world, views, quorum=2, clock=SystemClock())
        follower = watch.new_follower("pool", chain=chain)
        anna = await watch.address("anna")
        await watch.follow(follower)
        for number in range(60):
            world.pay([(anna.address, 1_000_000 + number)])
        await watch.follow(follower)
        for _ in range(12):
            world.mine_exactly([])
        while await follower.follow(await watch.position(follower)):
            pass
        for _ in range(3):
            position = await watch.position(follower)
            with suppress(NodeUnavailable):  # as its loop does: the next look asks again
                await follower.reverse_absent(position)
        assert AT_ONCE <= silent.hung <= 2 * AT_ONCE
        assert states(chain)[:2] == [HEALTHY, HEALTHY]
        assert states(chain)[2] is NodeState.UNREACHABLE
        async with watch.as_watcher.unit_of_work() as uow:
            left = await uow.execute(
                "SELECT count(*) FROM chain.deposits WHERE check_at_height <= :height",
                {"height": position.height},
            )
            assert left.scalar_one() == 0
        await chain.close()
