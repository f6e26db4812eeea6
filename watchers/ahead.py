"""Blocks fetched ahead of the one that is being committed, for a follower that catches up.

Owns a bounded queue and the task that fills it; nothing durable and no decision about money. Each
block is the child of the one before it, or there is no next one: what was fetched of a branch that
was left is dropped with the queue, and the follower walks the fork from what it has stored.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

from watchers.chain import Block, BlockRef, ChainReader
from watchers.errors import NodeUnavailable

BLOCKS_MAX = 4  # waiting; one more is being fetched
TXS_MAX = 4_000  # of all that wait, so that full blocks do not fill the memory


async def fetch(reader: ChainReader, ref: BlockRef) -> Block:
    """The block of a header. NodeUnavailable when the node answers with another one."""
    block = await reader.block(ref.hash)
    told = block.ref
    if (told.height, told.hash, told.parent_hash) != (ref.height, ref.hash, ref.parent_hash):
        raise NodeUnavailable(f"block {ref.hash}: the node answered with another one")
    return block


class Ahead:
    """At most `count` blocks on top of (`height`, `block_hash`), in order.

    Fetching starts with the context and ends with it, whatever is still under way.
    """

    def __init__(
        self, reader: ChainReader, *, height: int | None, block_hash: str | None, count: int
    ) -> None:
        self._reader = reader
        self._height = height
        self._hash = block_hash
        self._count = count
        self._waiting: deque[Block] = deque()
        self._txs = 0
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

    async def next(self) -> Block | None:
        """The next block; None at the node's tip, after `count`, or where the chain has changed.

        Raises what the node's answer to it was: NodeUnavailable and its like.
        """
        task = self._task
        if task is None:
            raise RuntimeError("blocks are only fetched inside the context")
        while not self._waiting:
            if task.done():
                task.result()  # what it failed with, once all before it was taken
                return None
            self._has_come.clear()
            has_come = asyncio.ensure_future(self._has_come.wait())
            try:
                await asyncio.wait((task, has_come), return_when=asyncio.FIRST_COMPLETED)
            finally:
                has_come.cancel()
        block = self._waiting.popleft()
        self._txs -= len(block.txids)
        self._has_left.set()
        return block

    async def _fetch_all(self) -> None:
        height, parent_hash = self._height, self._hash
        if height is None:
            return
        for _ in range(self._count):
            height += 1
            ref = await self._reader.ref_at(height)
            if ref is None or ref.parent_hash != parent_hash:
                return
            block = await fetch(self._reader, ref)
            while self._is_full():
                self._has_left.clear()
                await self._has_left.wait()
            self._waiting.append(block)
            self._txs += len(block.txids)
            self._has_come.set()
            parent_hash = ref.hash

    def _is_full(self) -> bool:
        return len(self._waiting) >= BLOCKS_MAX or (bool(self._waiting) and self._txs >= TXS_MAX)
