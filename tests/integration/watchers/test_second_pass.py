"""N04: another node is asked for a block again before it makes anything final."""

from dataclasses import replace

import pytest

from tests.support.pool_bench import PoolBench, Pooled
from watchers import switches
from watchers.chain import Block
from watchers.second_pass import BLOCKS_PER_PASS, POSTPONE_SECONDS, SecondPass

pytestmark = pytest.mark.postgres

HALF = 50_000_000  # one confirmation to play, three to withdraw


def invent(block: Block, key: str) -> Block:
    """The same block with a payment to this key that nobody made."""
    (real,) = [item for item in block.transfers if item.to_key == key]
    extra = replace(real, position="out:7", amount_minor=10**9)
    return replace(block, transfers=(*block.transfers, extra))


async def look(nodes: PoolBench) -> int:
    """One pass of a process that has just started."""
    await nodes.chain.pool.look_all()
    return await SecondPass(
        pool=nodes.chain.pool,
        network=nodes.watch.network,
        database=nodes.watch.as_watcher,
        clock=nodes.clock,
    ).pass_once()


async def mine(nodes: PoolBench, count: int) -> None:
    """Mine and follow."""
    nodes.sim.mine(count)
    await nodes.watch.follow()


async def rows(nodes: PoolBench) -> list[str]:
    """States of the blocks that wait or differ."""
    async with nodes.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute("SELECT state FROM chain.second_looks ORDER BY height")
        return list(found.scalars())


async def alarms(nodes: PoolBench) -> list[str]:
    """Open disagreements."""
    return [detail for kind, detail in await nodes.alarms() if kind == "node_disagreement"]


async def is_stopped(nodes: PoolBench) -> bool:
    async with nodes.watch.as_watcher.unit_of_work() as uow:
        return await switches.is_stopped(
            uow, network="btc", asset=None, action=switches.Action.CREDIT
        )


@pytest.fixture
def followed(pooled: Pooled) -> Pooled:
    """Opens a bench that has followed to the tip."""

    async def opened(count: int, quorum: int) -> PoolBench:
        nodes = await pooled(count, quorum)
        await nodes.chain.pool.look_all()
        await nodes.watch.follow()
        return nodes

    return opened


async def test_n04_n05_a_deposit_that_one_node_invents_is_stopped_before_it_is_final(
    followed: Pooled,
) -> None:
    nodes = await followed(2, 1)
    anna = await nodes.watch.address("anna")
    nodes.sim.pay([(anna.address, HALF)])
    nodes.sim.mine(1)
    block = nodes.sim.tip
    nodes.views[0].forged[block.ref.hash] = invent(block.effects, anna.key)
    await nodes.watch.follow()
    assert [item.amount_minor for item in await nodes.watch.deposits()] == [HALF, 10**9]
    await mine(nodes, 1)
    await look(nodes)
    assert await is_stopped(nodes)
    assert await alarms(nodes) == [
        f"block {block.ref.height} {block.ref.hash}: a:1 told 2 payments to us, b:2 tells 1, "
        "and they are not the same"
    ]
    await mine(nodes, 10)
    assert await nodes.watch.deposit_states() <= {"pending", "provisional"}
    await look(nodes)
    assert (await rows(nodes)).count("differs") == 1


async def test_n04_a_tx_that_one_node_leaves_out_is_told_by_another(followed: Pooled) -> None:
    nodes = await followed(2, 1)
    anna = await nodes.watch.address("anna")
    nodes.sim.pay([(anna.address, HALF)])
    nodes.sim.mine(1)
    block = nodes.sim.tip
    kept = tuple(item for item in block.effects.transfers if item.to_key != anna.key)
    nodes.views[0].forged[block.ref.hash] = replace(block.effects, transfers=kept)
    await nodes.watch.follow()
    await mine(nodes, 1)
    await look(nodes)
    assert await is_stopped(nodes)
    (told,) = await alarms(nodes)
    assert "a:1 told 0 payments to us, b:2 tells 1" in told


async def test_n04_honest_nodes_leave_nothing_behind(followed: Pooled) -> None:
    """Blocks are asked for two confirmations deep; what is younger still waits."""
    nodes = await followed(2, 1)
    anna = await nodes.watch.address("anna")
    nodes.sim.pay([(anna.address, HALF)])
    await mine(nodes, 5)
    before = nodes.views[1].asked
    assert await look(nodes) > 0
    assert nodes.views[1].asked > before
    assert len(await rows(nodes)) < 5
    assert not await is_stopped(nodes)
    assert await alarms(nodes) == []
    assert (await nodes.watch.deposit()).state == "final"


@pytest.mark.parametrize(("count", "quorum"), [(1, 1), (2, 2)])
async def test_n04_where_nobody_else_is_left_to_ask_nothing_is_asked(
    count: int, quorum: int, followed: Pooled
) -> None:
    nodes = await followed(count, quorum)
    await mine(nodes, 6)
    assert await rows(nodes) == []
    assert await look(nodes) == 0


async def test_n04_a_pass_that_finds_nobody_goes_on_when_the_other_node_is_back(
    followed: Pooled,
) -> None:
    """The rows survive the process; each pass of this test is a new one."""
    nodes = await followed(2, 1)
    await mine(nodes, 3)
    waiting = await rows(nodes)
    nodes.views[1].is_down = True
    assert await look(nodes) == 0
    assert await rows(nodes) == waiting
    nodes.views[1].is_down = False
    assert await look(nodes) == 0  # not yet: others may be due
    nodes.clock.advance(POSTPONE_SECONDS + 1)
    assert await look(nodes) > 0
    assert len(await rows(nodes)) < len(waiting)


async def test_a_pass_asks_for_a_bounded_number_of_blocks(followed: Pooled) -> None:
    nodes = await followed(2, 1)
    await mine(nodes, 2 * BLOCKS_PER_PASS + 5)
    assert await look(nodes) == BLOCKS_PER_PASS
    assert await look(nodes) == BLOCKS_PER_PASS


async def test_a_block_that_left_the_chain_is_not_asked_for(followed: Pooled) -> None:
    nodes = await followed(2, 1)
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
    await look(nodes)
    assert not await is_stopped(nodes)
    assert await alarms(nodes) == []
