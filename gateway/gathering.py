"""Natural batching: what waits at the same time is done together, and nothing waits for company.

Owns the queues and who is told what. The first item of a lane starts a group at once; those that
come while it runs are the next group. It must not know what is done, and it keeps nothing: an item
whose process dies was either done with its whole group or not at all, as the work commits.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from gateway.errors import TooMany

T = TypeVar("T")
R = TypeVar("R")


class Gathering(Generic[T, R]):
    """Groups of at most `group_max` items, one group at a time per lane."""

    def __init__(
        self,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        group_max: int,
        waiting_max: int,
    ) -> None:
        """`work` answers each item in order; what it raises is told to the whole group."""
        self._work = work
        self._group_max = group_max
        self._waiting_max = waiting_max
        self._waiting: dict[str, deque[tuple[T, asyncio.Future[R]]]] = {}
        self._runs: set[asyncio.Task[None]] = set()

    async def join(self, lane: str, item: T) -> R:
        """What the item's group answers it. Raises TooMany where too many wait already."""
        waiting = self._waiting.get(lane)
        if waiting is None:
            waiting = self._waiting[lane] = deque()
            run = asyncio.create_task(self._run(lane))
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)
        if len(waiting) >= self._waiting_max:
            raise TooMany("busy", "Too many calls of this kind wait.", retry_after_seconds=1)
        told: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        waiting.append((item, told))
        return await told

    def waiting(self, lane: str) -> int:
        """How many wait for their group to begin."""
        return len(self._waiting.get(lane, ()))

    def stop(self) -> None:
        """Cancel what runs; whoever waits is cancelled with it."""
        for run in self._runs:
            run.cancel()

    async def _run(self, lane: str) -> None:
        """Groups until nobody waits. What is left when this is cancelled is cancelled, too."""
        waiting = self._waiting[lane]
        try:
            while waiting:
                count = min(len(waiting), self._group_max)
                await self._run_group([waiting.popleft() for _ in range(count)])
        finally:
            del self._waiting[lane]
            for _, told in waiting:
                told.cancel()

    async def _run_group(self, group: Sequence[tuple[T, "asyncio.Future[R]"]]) -> None:
        """One group; who has gone away meanwhile was done with the others."""
        try:
            answers = await self._work([item for item, _ in group])
            for (_, told), answer in zip(group, answers, strict=True):
                if not told.done():
                    told.set_result(answer)
        except Exception as error:  # each caller gets it; the next group is not concerned
            for _, told in group:
                if not told.done():
                    told.set_exception(error)
        finally:
            for _, told in group:
                told.cancel()  # of the done ones nothing changes
