"""What one node of several can do to the others: claim to be ahead, be of last choice, hang."""

import pytest

from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pools import View, agreed, states
from tests.support.simchain import SimUtxo, sim_utxo
from tests.support.watching import watching
from watchers.judge import NodeState

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
