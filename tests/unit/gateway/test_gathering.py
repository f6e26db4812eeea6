"""Natural batching: who comes while a group runs is in the next one; nobody is forgotten. A group
that has gone on lets one more run beside it."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.errors import TooMany
from gateway.gathering import Gathering, Onward
from tests.support.waiting import until


class Work:
    """Doubles numbers when it is let; keeps the groups that it was given, and how they go on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.onward: list[Onward] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.failure: Exception | None = None
        self.failing: int | None = None  # the group that begins with it; None: all

    async def __call__(self, items: Sequence[int], onward: Onward) -> list[int]:
        self.groups.append(list(items))
        self.onward.append(onward)
        self.begun.set()
        await self.gate.wait()
        if self.failure is not None and self.failing in (None, items[0]):
            raise self.failure
        return [item * 2 for item in items]


@pytest.fixture
def work() -> Work:
    return Work()


def gathering(work: Work, *, group_max: int = 10, waiting_max: int = 10) -> Gathering[int, int]:
    """The tens of a number are its name."""
    return Gathering(
        work,
        name=lambda item: str(item // 10 or item),
        group_max=group_max,
        waiting_max=waiting_max,
    )


async def started(
    gate: Gathering[int, int], *items: int, lane: str = "a"
) -> list[asyncio.Task[int]]:
    """Tasks that have joined the queue, in this order."""
    tasks = []
    for item in items:
        tasks.append(asyncio.create_task(gate.join(lane, item)))
        await until(lambda: gate.waiting(lane) == len(tasks))
    return tasks


async def first(
    gate: Gathering[int, int], work: Work, item: int = 1, *, lane: str = "a"
) -> asyncio.Task[int]:
    """One that is being worked on."""
    work.begun.clear()
    task = asyncio.create_task(gate.join(lane, item))
    await work.begun.wait()
    return task


async def test_the_first_goes_at_once_and_those_that_come_meanwhile_go_together(
    work: Work,
) -> None:
    gate = gathering(work)
    tasks = [await first(gate, work), *await started(gate, 2, 3, 4)]
    assert work.groups == [[1]]
    work.gate.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert work.groups == [[1], [2, 3, 4]]
    assert gate.waiting("a") == 0


async def test_a_group_is_bounded_and_the_order_is_kept(work: Work) -> None:
    gate = gathering(work, group_max=2)
    tasks = [await first(gate, work), *await started(gate, 2, 3, 4)]
    work.gate.set()
    await asyncio.gather(*tasks)
    assert work.groups == [[1], [2, 3], [4]]


async def test_one_too_many_is_told_to_come_again(work: Work) -> None:
    gate = gathering(work, waiting_max=2)
    tasks = [await first(gate, work), *await started(gate, 2, 3)]
    with pytest.raises(TooMany):
        await gate.join("a", 4)
    work.gate.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]


async def test_lanes_do_not_wait_for_each_other(work: Work) -> None:
    gate = gathering(work)
    one = await first(gate, work)
    other = await first(gate, work, lane="b")
    assert work.groups == [[1], [1]]
    work.gate.set()
    assert [await one, await other] == [2, 2]


async def test_who_came_meanwhile_begins_once_the_group_has_gone_on(work: Work) -> None:
    gate = gathering(work)
    tasks = [await first(gate, work), *await started(gate, 2, 3)]
    work.onward[0]()
    await until(lambda: work.groups == [[1], [2, 3]])
    assert not tasks[0].done()  # they run beside it
    work.gate.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]


async def test_no_third_group_begins_beside_two(work: Work) -> None:
    gate = gathering(work)
    tasks = [await first(gate, work)]
    work.onward[0]()
    tasks += [await first(gate, work, 2), *await started(gate, 3, 4)]
    work.onward[0]()  # again is nothing
    work.onward[1]()
    assert gate.waiting("a") == 2
    work.gate.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert work.groups == [[1], [2], [3, 4]]
    assert gate.waiting("a") == 0


async def test_one_that_comes_after_a_group_went_on_does_not_wait_for_it(work: Work) -> None:
    gate = gathering(work)
    one = await first(gate, work)
    work.onward[0]()
    two = await first(gate, work, 2)
    assert work.groups == [[1], [2]]
    work.gate.set()
    assert [await one, await two] == [2, 4]


async def test_who_has_a_name_that_runs_waits_for_its_group_to_end(work: Work) -> None:
    gate = gathering(work)
    tasks = [await first(gate, work, 10), *await started(gate, 11, 20, 12, 21)]
    work.onward[0]()
    await until(lambda: work.groups == [[10], [20, 21]])
    work.onward[1]()
    assert gate.waiting("a") == 2
    work.gate.set()
    assert await asyncio.gather(*tasks) == [20, 22, 40, 24, 42]
    assert work.groups == [[10], [20, 21], [11, 12]]


async def test_where_every_name_runs_no_group_begins(work: Work) -> None:
    gate = gathering(work)
    tasks = [await first(gate, work, 10), *await started(gate, 11, 12)]
    work.onward[0]()
    assert gate.waiting("a") == 2
    assert work.groups == [[10]]
    work.gate.set()
    assert await asyncio.gather(*tasks) == [20, 22, 24]
    assert work.groups == [[10], [11, 12]]


async def test_a_group_that_fails_beside_another_fails_alone(work: Work) -> None:
    gate = gathering(work)
    one = await first(gate, work)
    work.onward[0]()
    two = await first(gate, work, 2)
    three = (await started(gate, 3))[0]
    work.failure, work.failing = RuntimeError("away"), 2  # before it has gone on
    work.gate.set()
    found = await asyncio.gather(one, two, three, return_exceptions=True)
    assert [str(each) for each in found] == ["2", "away", "6"]
    assert work.groups == [[1], [2], [3]]


async def test_a_failure_is_told_to_its_group_and_the_next_one_runs(work: Work) -> None:
    gate = gathering(work)
    one = await first(gate, work)
    rest = await started(gate, 2, 3)
    work.failure = RuntimeError("away")
    work.gate.set()
    found = await asyncio.gather(one, *rest, return_exceptions=True)
    assert [str(error) for error in found] == ["away"] * 3
    work.failure = None
    assert await gate.join("a", 5) == 10


async def test_who_goes_away_is_done_with_the_others(work: Work) -> None:
    gate = gathering(work)
    one = await first(gate, work)
    two, three = await started(gate, 2, 3)
    two.cancel()
    work.gate.set()
    assert [await one, await three] == [2, 6]
    assert work.groups == [[1], [2, 3]]


async def test_a_stop_leaves_nobody_waiting(work: Work) -> None:
    gate = gathering(work)
    tasks = [await first(gate, work)]
    work.onward[0]()
    tasks += [await first(gate, work, 2), *await started(gate, 3)]
    gate.stop()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in found] == [asyncio.CancelledError] * 3
