"""Blocks fetched ahead come in order, one chain only, bounded, and stop with their context."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.support.simchain import SimUtxo, SimUtxoReader, sim_utxo
from tests.support.waiting import until
from watchers.ahead import (
    BLOCKS_MAX,
    FETCHES_MAX,
    HEADERS_MAX,
    RUN_BLOCKS_FIRST,
    RUN_BLOCKS_MAX,
    TXS_MAX,
    Ahead,
)
from watchers.chain import Block, BlockRef
from watchers.errors import NodeUnavailable


class Watched(SimUtxoReader):
    """Answers at once, remembers what it was asked for, and fails the test that asks too early."""

    def __init__(self, world: SimUtxo, *, ahead_max: int = 1_000) -> None:
        super().__init__(world)
        self.asked: list[str] = []
        self.taken = 0
        self.ahead_max = ahead_max

    @property
    def ahead(self) -> int:
        """How many were asked for that nobody has taken."""
        return len(self.asked) - self.taken

    async def block(self, block_hash: str) -> Block:
        self.asked.append(block_hash)
        assert self.ahead <= self.ahead_max or len(self.asked) <= FETCHES_MAX
        return await super().block(block_hash)


class FailsAt(SimUtxoReader):
    """Has no block at one height."""

    failing_height = 3

    async def block(self, block_hash: str) -> Block:
        if self.world.blocks[block_hash].ref.height == self.failing_height:
            raise NodeUnavailable("getblock answered null")
        return await super().block(block_hash)


class OtherBranch(SimUtxoReader):
    """From one height on shows headers of a chain that is not the one below."""

    async def ref_at(self, height: int) -> BlockRef | None:
        ref = await super().ref_at(height)
        if ref is None or height < 3:
            return ref
        return BlockRef(
            height=height,
            hash=ref.hash,
            parent_hash="ee" * 32,
            time_seconds=ref.time_seconds,
        )


class OtherBlock(SimUtxoReader):
    """Answers with the genesis block, whatever is asked for."""

    async def block(self, block_hash: str) -> Block:
        return await super().block(self.world.active[0])


class Hanging(SimUtxoReader):
    """Never answers, and says when it was left alone."""

    def __init__(self, world: SimUtxo) -> None:
        super().__init__(world)
        self.is_asked = asyncio.Event()
        self.is_cancelled = False

    async def block(self, block_hash: str) -> Block:
        self.is_asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        raise AssertionError("an event that nobody sets")


def world(blocks: int) -> SimUtxo:
    sim, _ = sim_utxo()
    sim.mine(blocks)
    return sim


def on_genesis(
    reader: SimUtxoReader, *, count: int = 1_000, most: int = 1, tip_height: int = 0
) -> Ahead:
    return Ahead(
        reader,
        height=0,
        block_hash=reader.world.active[0],
        count=count,
        tip_height=tip_height,
        run_blocks_max=most,
    )


async def following(ahead: Ahead) -> Block | None:
    """The next block of runs of one."""
    run = await ahead.run()
    assert len(run) <= 1
    return run[0] if run else None


async def taken(ahead: Ahead) -> list[int]:
    """Heights until there is no next block; each is worked on while more are fetched."""
    heights: list[int] = []
    while (block := await following(ahead)) is not None:
        heights.append(block.ref.height)
        for _ in range(20):
            await asyncio.sleep(0)
    return heights


async def test_blocks_come_in_order_up_to_the_tip_however_fast_the_node_is() -> None:
    sim = world(3 * BLOCKS_MAX)
    async with asyncio.timeout(10), on_genesis(SimUtxoReader(sim)) as ahead:
        assert await taken(ahead) == list(range(1, 3 * BLOCKS_MAX + 1))
        assert await following(ahead) is None


async def test_no_more_than_the_asked_count_is_fetched() -> None:
    reader = Watched(world(9))
    async with on_genesis(reader, count=5) as ahead:
        assert await taken(ahead) == [1, 2, 3, 4, 5]
    assert reader.asked == reader.world.active[1:6]


async def test_what_waits_is_bounded_in_blocks() -> None:
    await _assert_bounded(Watched(world(BLOCKS_MAX + 40), ahead_max=BLOCKS_MAX + 1))


async def test_what_waits_is_bounded_in_txs() -> None:
    await _assert_bounded(Full(world(9), ahead_max=2))


async def _assert_bounded(reader: Watched) -> None:
    """What may wait does, and one is in hand beside it: never one more, whenever one is taken."""
    blocks = len(reader.world.active) - 1
    async with on_genesis(reader) as ahead:
        for number in range(blocks):
            if number:  # so many begin before the first has come
                await until(lambda: reader.ahead == min(reader.ahead_max, blocks - reader.taken))
            assert await following(ahead) is not None
            reader.taken += 1
        assert await following(ahead) is None


class Full(Watched):
    """Every block has as many txs as may wait."""

    async def block(self, block_hash: str) -> Block:
        block = await super().block(block_hash)
        return Block(
            ref=block.ref,
            transfers=(),
            spends=(),
            sends=(),
            txids=tuple(f"{number:064x}" for number in range(TXS_MAX)),
            raw_txs={},
        )


async def test_n11_blocks_before_a_failure_count_and_the_failure_is_raised_after_them() -> None:
    async with on_genesis(FailsAt(world(5))) as ahead:
        first, second = await following(ahead), await following(ahead)
        assert first is not None
        assert second is not None
        assert (first.ref.height, second.ref.height) == (1, 2)
        for _ in range(2):
            with pytest.raises(NodeUnavailable, match="null"):
                await following(ahead)


async def test_d07_a_header_on_another_parent_ends_what_is_fetched() -> None:
    async with on_genesis(OtherBranch(world(5))) as ahead:
        assert await taken(ahead) == [1, 2]


async def test_n18_another_block_than_the_header_says_is_refused() -> None:
    async with on_genesis(OtherBlock(world(2))) as ahead:
        with pytest.raises(NodeUnavailable, match="another one"):
            await following(ahead)


async def test_a_call_under_way_ends_with_the_context() -> None:
    reader = Hanging(world(2))
    async with on_genesis(reader):
        await reader.is_asked.wait()
    assert reader.is_cancelled


async def runs(ahead: Ahead) -> list[list[int]]:
    """Heights of every run until there is none."""
    found: list[list[int]] = []
    while run := await ahead.run():
        found.append([block.ref.height for block in run])
    return found


async def test_behind_the_tip_blocks_come_in_full_runs_after_shorter_first_ones() -> None:
    tip_height = 3 * RUN_BLOCKS_MAX
    reader = SimUtxoReader(world(tip_height))
    async with on_genesis(reader, most=RUN_BLOCKS_MAX, tip_height=tip_height) as ahead:
        found = await runs(ahead)
    sizes = [len(run) for run in found]
    assert [height for run in found for height in run] == list(range(1, tip_height + 1))
    assert RUN_BLOCKS_FIRST <= sizes[0] < sizes[1] < RUN_BLOCKS_MAX
    assert RUN_BLOCKS_MAX in sizes[2:]
    assert max(sizes) == RUN_BLOCKS_MAX


async def test_headers_below_the_tip_are_asked_for_many_at_once() -> None:
    reader = CountsHeaders(world(HEADERS_MAX + 2))
    async with on_genesis(reader, most=9, tip_height=HEADERS_MAX) as ahead:
        found = await runs(ahead)
    assert [height for run in found for height in run] == list(range(1, HEADERS_MAX + 3))
    assert reader.calls == ["many", "one", "one", "one"]  # above the tip that was known


class CountsHeaders(SimUtxoReader):
    """Remembers how it was asked for headers."""

    def __init__(self, world: SimUtxo) -> None:
        super().__init__(world)
        self.calls: list[str] = []

    async def refs(self, height: int, count: int) -> Sequence[BlockRef]:
        self.calls.append("many")
        found = await super().refs(height, count)
        del self.calls[-len(found) :]
        return found

    async def ref_at(self, height: int) -> BlockRef | None:
        self.calls.append("one")
        return await super().ref_at(height)


async def test_n11_where_many_headers_fail_they_are_asked_for_one_by_one() -> None:
    reader = NoBatches(world(3))
    async with on_genesis(reader, most=9, tip_height=3) as ahead:
        assert [height for run in await runs(ahead) for height in run] == [1, 2, 3]
    assert reader.refused == 1


class NoBatches(SimUtxoReader):
    """A node that takes one call at a time."""

    refused = 0

    async def refs(self, height: int, count: int) -> Sequence[BlockRef]:
        self.refused += 1
        raise NodeUnavailable("batch: refused")


async def test_a_run_does_not_wait_for_what_is_above_the_known_tip() -> None:
    """Two blocks are known of, the third never comes: the two are handed out, at once."""
    reader = HangsAt(world(5), height=3)
    async with asyncio.timeout(10), on_genesis(reader, most=9, tip_height=2) as ahead:
        assert [block.ref.height for block in await ahead.run()] == [1, 2]


async def test_a_run_waits_a_while_for_a_slow_block_and_not_for_ever() -> None:
    reader = HangsAt(world(5), height=3)
    async with asyncio.timeout(10), on_genesis(reader, most=9, tip_height=5) as ahead:
        assert [block.ref.height for block in await ahead.run()] == [1, 2]


class HangsAt(SimUtxoReader):
    """Never gives the block at one height."""

    def __init__(self, world: SimUtxo, *, height: int) -> None:
        super().__init__(world)
        self.height = height

    async def block(self, block_hash: str) -> Block:
        if self.world.blocks[block_hash].ref.height == self.height:
            await asyncio.Event().wait()
        return await super().block(block_hash)


async def test_d31_a_txid_that_a_run_has_already_begins_the_next_one() -> None:
    async with on_genesis(SameCoinbase(world(4)), most=9, tip_height=4) as ahead:
        assert await runs(ahead) == [[1, 2], [3], [4]]


class SameCoinbase(SimUtxoReader):
    """From height 2 on every block has the same coinbase."""

    async def block(self, block_hash: str) -> Block:
        block = await super().block(block_hash)
        return replace(block, txids=("cb" * 32,)) if block.ref.height > 1 else block


async def test_n11_a_failed_header_is_raised_after_the_blocks_below_it() -> None:
    async with on_genesis(NoHeaderAt(world(5)), most=9, tip_height=5) as ahead:
        assert [block.ref.height for block in await ahead.run()] == [1, 2]
        with pytest.raises(NodeUnavailable, match="no header"):
            await ahead.run()


class NoHeaderAt(SimUtxoReader):
    """Fails for the header at one height."""

    async def ref_at(self, height: int) -> BlockRef | None:
        if height == 3:
            raise NodeUnavailable("no header")
        return await super().ref_at(height)
