"""Natural batching: what waits at the same time is done together, and nothing waits for company.

Owns the queues and who is told what. The first item of a lane starts a group at once. A group says
when what is left of it can only be done by one after the other (`Onward`); from then on one more
group may run beside it, of those that have come meanwhile, so that one computes while the other
waits for the database. Items of one name (a player) are never in two groups at once, and stay in
their order. It must not know what is done, and it keeps nothing: an item whose process dies was
either done with its whole group or not at all, as the work commits.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from gateway.errors import TooMany

T = TypeVar("T")
R = TypeVar("R")

RUNNING_MAX = 2  # groups of a lane; a third would only wait behind the second, and make it smaller

Onward = Callable[[], None]
"""Called by a group once the next may begin beside it; again is nothing."""


@dataclass(slots=True)
class _Lane(Generic[T, R]):
    waiting: deque[tuple[T, "asyncio.Future[R]"]] = field(default_factory=deque)
    runs: set["asyncio.Task[None]"] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)
    """The names of what runs: who else has one of them waits for its group to end."""
    entering: object | None = None
    """The mark of a group that has not gone on yet: whoever comes meanwhile waits for the next."""


class Gathering(Generic[T, R]):
    """Groups of at most `group_max` items; of a lane one at a time before it has gone on."""

    def __init__(
        self,
        work: Callable[[Sequence[T], Onward], Awaitable[Sequence[R]]],
        *,
        name: Callable[[T], str],
        group_max: int,
        waiting_max: int,
    ) -> None:
        """`work` answers each item in order; what it raises is told to the whole group."""
        self._work = work
        self._name = name
        self._group_max = group_max
        self._waiting_max = waiting_max
        self._lanes: dict[str, _Lane[T, R]] = {}

    async def join(self, lane: str, item: T) -> R:
        """What the item's group answers it. Raises TooMany where too many wait already."""
        found = self._lanes.setdefault(lane, _Lane())
        if len(found.waiting) >= self._waiting_max:
            raise TooMany("busy", "Too many calls of this kind wait.", retry_after_seconds=1)
        told: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        found.waiting.append((item, told))
        self._begin(lane)
        return await told

    def waiting(self, lane: str) -> int:
        """How many wait for their group to begin."""
        found = self._lanes.get(lane)
        return 0 if found is None else len(found.waiting)

    def stop(self) -> None:
        """Cancel what runs; whoever waits is cancelled with it."""
        for lane in self._lanes.values():
            for run in lane.runs:
                run.cancel()
            while lane.waiting:
                lane.waiting.popleft()[1].cancel()

    def _begin(self, key: str) -> None:
        """Start a group where one waits and may start; it takes what waits when it first runs."""
        lane = self._lanes[key]
        if lane.entering is not None or len(lane.runs) >= RUNNING_MAX:
            return
        if all(self._name(item) in lane.busy for item, _ in lane.waiting):
            return
        lane.entering = mark = object()
        run = asyncio.create_task(self._run(lane, partial(self._go_on, key, mark)))
        lane.runs.add(run)
        run.add_done_callback(partial(self._ended, key, mark))

    def _go_on(self, key: str, mark: object) -> None:
        lane = self._lanes[key]
        if lane.entering is mark:
            lane.entering = None
            self._begin(key)

    def _ended(self, key: str, mark: object, run: "asyncio.Task[None]") -> None:
        lane = self._lanes[key]
        lane.runs.discard(run)
        self._go_on(key, mark)  # where it ended before it came so far
        self._begin(key)
        if not lane.runs:
            del self._lanes[key]

    def _take(self, lane: _Lane[T, R]) -> list[tuple[T, "asyncio.Future[R]"]]:
        """The next group, in order; those whose name runs stay where they are."""
        group: list[tuple[T, asyncio.Future[R]]] = []
        left: deque[tuple[T, asyncio.Future[R]]] = deque()
        while lane.waiting and len(group) < self._group_max:
            each = lane.waiting.popleft()
            (left if self._name(each[0]) in lane.busy else group).append(each)
        lane.waiting.extendleft(reversed(left))
        return group

    async def _run(self, lane: _Lane[T, R], onward: Onward) -> None:
        """One group; who has gone away meanwhile is done with the others."""
        group = self._take(lane)
        names = {self._name(item) for item, _ in group}
        lane.busy |= names
        try:
            answers = await self._work([item for item, _ in group], onward)
            for (_, told), answer in zip(group, answers, strict=True):
                if not told.done():
                    told.set_result(answer)
        except Exception as error:  # each caller gets it; the next group is not concerned
            for _, told in group:
                if not told.done():
                    told.set_exception(error)
        finally:
            lane.busy -= names
            for _, told in group:
                told.cancel()  # of the done ones nothing changes
