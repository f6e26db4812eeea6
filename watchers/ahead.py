"""Blocks fetched ahead of those that are being committed, handed out in runs.

Owns a bounded queue and the task that fills it; nothing durable and no decision about money. Each
block is the child of the one before it, or there is no next one: what was fetched of a branch that
was left is dropped with the queue, and the follower walks the fork from what it has stored.
A follower that is behind gets many blocks at once, one at the tip gets its one block (ADR 0017).
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from watchers.chain import Block, BlockRef, ChainReader
from watchers.errors import NodeError, NodeUnavailable

RUN_BLOCKS_MAX = 128  # in one run; beyond it a unit of work grows and little is saved
RUN_BLOCKS_FIRST = 8  # of the first one, each further one twice that: connecting begins early
BLOCKS_MAX = RUN_BLOCKS_MAX  # waiting; one more is in hand
TXS_MAX = 4_000  # of all that wait, so that full blocks do not fill the memory
RAW_BYTES_MAX = 8 << 20  # of all that wait, where the family keeps raw bytes
HEADERS_MAX = 32  # asked for at once while the tip is further
FETCHES_MAX = 3  # under way at once: the node works on one while another is verified
BEGIN_SECONDS = 10.0  # after which no further block is begun: others want their turn
RUN_WAIT_SECONDS = 0.5  # for more blocks of a run, while the tip is further


async def fetch(reader: ChainReader, ref: BlockRef) -> Block:
    """The block of a header. NodeUnavailable when the node answers with another one."""
    block = await reader.block(ref.hash)
    told = block.ref
    if (told.height, told.hash, told.parent_hash) != (ref.height, ref.hash, ref.parent_hash):
        raise NodeUnavailable(f"block {ref.hash}: the node answered with another one")
    return block


@dataclass(slots=True)
class _Size:
    """What some blocks hold."""

    blocks: int = 0
    txs: int = 0
    raw_bytes: int = 0

    def add(self, block: Block, sign: int = 1) -> None:
        self.blocks += sign
        self.txs += sign * len(block.txids)
        self.raw_bytes += sign * sum(map(len, block.raw_txs.values()))

    @property
    def is_full(self) -> bool:
        """Whether no further block should come; one alone may be larger than that."""
        return self.blocks >= BLOCKS_MAX or (
            self.blocks > 0 and (self.txs >= TXS_MAX or self.raw_bytes >= RAW_BYTES_MAX)
        )


class Ahead:
    """At most `count` blocks on top of (`height`, `block_hash`), in order.

    `tip_height` is where the node's chain ends for all we know: up to there a run waits for more
    blocks. Fetching starts with the context and ends with it, whatever is still under way.
    """

    def __init__(
        self,
        reader: ChainReader,
        *,
        height: int | None,
        block_hash: str | None,
        count: int,
        tip_height: int = 0,
        run_blocks_max: int = RUN_BLOCKS_MAX,
    ) -> None:
        self._reader = reader
        self._height = height
        self._hash = block_hash
        self._count = count
        self._tip_height = tip_height
        self._run_blocks_max = run_blocks_max
        self._run_blocks = min(RUN_BLOCKS_FIRST, run_blocks_max)
        self._headers: deque[BlockRef] = deque()
        self._headers_at_once = HEADERS_MAX
        self._waiting: deque[Block] = deque()
        self._size = _Size()
        self._has_come = asyncio.Event()  # each is cleared by the one that waits for it
        self._has_left = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._fetch_all())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run(self) -> list[Block]:
        """The next blocks; none at the node's tip, after `count`, or where the chain has changed.

        Raises what the node's answer to the first of them was: NodeUnavailable and its like.
        """
        task = self._task
        if task is None:
            raise RuntimeError("blocks are only fetched inside the context")
        await self._wait(task)
        if not self._waiting:
            task.result()  # what it failed with, once all before it was taken
            return []
        run = list(self._next_run())
        self._run_blocks = min(2 * self._run_blocks, self._run_blocks_max)
        for block in run:
            self._waiting.popleft()
            self._size.add(block, -1)
        self._has_left.set()
        return run

    async def _wait(self, task: "asyncio.Task[None]") -> None:
        """Until there is a run: a first block, then more for a while when more are near."""
        loop = asyncio.get_running_loop()
        ends_seconds = loop.time() + RUN_WAIT_SECONDS
        while not task.done() and not self._is_run():
            left_seconds = ends_seconds - loop.time() if self._waiting else None
            if left_seconds is not None and left_seconds <= 0:
                return
            self._has_come.clear()
            has_come = asyncio.ensure_future(self._has_come.wait())
            try:
                await asyncio.wait(
                    (task, has_come),
                    timeout=left_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                has_come.cancel()

    def _is_run(self) -> bool:
        """Whether nothing is gained by waiting for the next block."""
        if not self._waiting:
            return False
        is_at_tip = self._waiting[-1].ref.height >= self._tip_height
        return is_at_tip or self._size.is_full or len(self._waiting) >= self._run_blocks

    def _next_run(self) -> Iterator[Block]:
        """Those of the first that fit together, and that have each txid once (D31)."""
        taken = _Size()
        seen: set[str] = set()
        for block in self._waiting:
            if taken.blocks >= self._run_blocks_max or taken.is_full:
                return
            txids = {*block.txids, *(item.txid for item in block.transfers)}
            if not seen.isdisjoint(txids):
                return
            seen |= txids
            taken.add(block)
            yield block

    async def _fetch_all(self) -> None:
        """Headers one after the other, their blocks a few at a time; what is given is in order."""
        under_way: deque[asyncio.Task[None]] = deque()
        try:
            failure = await self._begin_all(under_way)
            for task in under_way:  # what is below a failed header counts, or fails first
                await task
            if failure is not None:
                raise failure
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _begin_all(self, under_way: "deque[asyncio.Task[None]]") -> NodeError | None:
        """Begin every block's fetch; what a header failed with, if one did."""
        height, parent_hash = self._height, self._hash
        if height is None:
            return None
        loop = asyncio.get_running_loop()
        ends_seconds = loop.time() + BEGIN_SECONDS
        for _ in range(self._count):
            while self._is_enough(len(under_way)):
                await under_way[0]
                under_way.popleft()
            if loop.time() > ends_seconds:
                return None
            height += 1
            try:
                ref = await self._header(height)
            except NodeError as error:
                return error
            if ref is None or ref.parent_hash != parent_hash:
                return None
            before = under_way[-1] if under_way else None
            under_way.append(asyncio.create_task(self._fetch_one(ref, before)))
            parent_hash = ref.hash
        return None

    async def _header(self, height: int) -> BlockRef | None:
        """The next header. Below the tip many are asked for at once; where that fails, one by one
        from then on, so that each failure is that of its own header."""
        count = min(self._headers_at_once, self._tip_height - height + 1)
        if not self._headers and count > 1:
            try:
                self._headers.extend(await self._reader.refs(height, count))
            except NodeError:
                self._headers_at_once = 1
        if self._headers:
            return self._headers.popleft()
        return await self._reader.ref_at(height)

    def _is_enough(self, under_way: int) -> bool:
        """Whether no further fetch may begin: one is in hand at most beside what may wait."""
        if under_way >= FETCHES_MAX:
            return True
        return under_way > 0 and (self._size.is_full or self._size.blocks + under_way > BLOCKS_MAX)

    async def _fetch_one(self, ref: BlockRef, before: "asyncio.Task[None] | None") -> None:
        """One block to the end of those that wait: after the one below it, once there is room."""
        block = await fetch(self._reader, ref)
        if before is not None:
            await before
        while self._size.is_full:
            self._has_left.clear()
            await self._has_left.wait()
        self._waiting.append(block)
        self._size.add(block)
        self._has_come.set()
