"""The tests' own clock and ids keep their word."""

import asyncio

from tests.support.clock import START, ManualClock, SequentialIds


async def test_a_sleeper_wakes_when_its_moment_has_passed_and_not_before() -> None:
    clock = ManualClock()
    woken: list[str] = []

    async def sleep(name: str, delay_seconds: float) -> None:
        await clock.sleep(delay_seconds)
        woken.append(name)

    async with asyncio.TaskGroup() as group:
        late = group.create_task(sleep("late", 10))
        early = group.create_task(sleep("early", 5))
        while clock.sleeping < 2:
            await asyncio.wait([late, early], timeout=0)
        clock.advance(4)
        assert woken == []
        clock.advance(1)
        await early
        assert woken == ["early"]
        clock.advance(60)
    assert woken == ["early", "late"]


def test_time_moves_only_when_a_test_moves_it() -> None:
    clock = ManualClock()
    assert (clock.now(), clock.monotonic_seconds()) == (START, 0.0)
    clock.advance(1.5)
    assert (clock.now() - START).total_seconds() == clock.monotonic_seconds() == 1.5


def test_ids_are_version_7_different_and_the_same_in_every_run() -> None:
    first, again = SequentialIds(seed=1), SequentialIds(seed=1)
    ids = [first.new_id() for _ in range(100)]
    assert ids == [again.new_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert {value.version for value in ids} == {7}
    assert SequentialIds(seed=2).new_id() not in ids
