"""R7: whatever branches n nodes are on, the tip is the highest block that k of them share."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from config.clock import SystemClock
from tests.support.pools import View, agreed
from tests.support.simchain import SimUtxo, sim_utxo
from watchers.chain import BlockRef
from watchers.judge import Rules

NO_LAG = Rules(lag_blocks=10**6, stall_seconds=0.0, lying_seconds=0.0, min_version=None)
Branches = list[tuple[int, int]]


def tree(branches: Branches) -> tuple[SimUtxo, list[str]]:
    """A block tree of these (depth, blocks) branches, each off the one before; all its blocks."""
    sim, _ = sim_utxo()
    sim.mine(2)
    for depth, blocks in branches:
        sim.rewind(min(depth, len(sim.active) - 1))
        for _ in range(blocks):
            sim.mine_exactly([])
    return sim, list(sim.blocks)


def chain_of(sim: SimUtxo, tip: str) -> list[BlockRef]:
    """The blocks from genesis to a tip."""
    found = []
    block = sim.blocks.get(tip)
    while block is not None:
        found.append(block.ref)
        block = sim.blocks.get(block.ref.parent_hash)
    return found[::-1]


def highest_shared(sim: SimUtxo, tips: list[str], quorum: int) -> BlockRef:
    """The law itself, by counting."""
    chains = [chain_of(sim, tip) for tip in tips]
    shared = [
        block.ref
        for block in sim.blocks.values()
        if sum(1 for chain in chains if block.ref in chain) >= quorum
    ]
    return max(shared, key=lambda ref: ref.height)


@settings(max_examples=120, deadline=None)
@given(
    branches=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=5),
    picks=st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
    extra=st.integers(0, 4),
)
def test_r7_the_tip_is_the_highest_block_that_a_majority_shares(
    branches: Branches, picks: list[int], extra: int
) -> None:
    sim, blocks = tree(branches)
    tips = [blocks[pick % len(blocks)] for pick in picks]
    quorum = min(len(tips), len(tips) // 2 + 1 + extra)

    async def ask() -> BlockRef:
        views = [View(sim) for _ in tips]
        for view, tip in zip(views, tips, strict=True):
            view.pinned = tip
        chain = agreed(sim, views, quorum=quorum, clock=SystemClock(), rules=NO_LAG)
        try:
            await chain.pool.look_all()
            return await chain.reader.tip()
        finally:
            await chain.close()

    assert asyncio.run(ask()) == highest_shared(sim, tips, quorum)
