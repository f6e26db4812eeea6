"""The second process: it computes, holds nothing, and may be lost at any time (ADR 0021)."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from tests.support.clock import ManualClock
from tests.support.waiting import until
from watchers.chains import verifier
from watchers.chains.verifier import ROOT, Verifier
from watchers.errors import NodeLied

PATIENCE_SECONDS = 60.0


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _lie() -> None:
    raise NodeLied("a root does not fit")


def _hang_elsewhere(pid: int) -> int:
    if os.getpid() != pid:
        signal.pause()
    return pid


def _die_elsewhere(pid: int) -> int:
    if os.getpid() != pid:
        os.kill(os.getpid(), signal.SIGKILL)
    return pid


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def behind(clock: ManualClock) -> AsyncIterator[Verifier]:
    """A verifier whose process works."""
    environ = {**os.environ, "CAGE_SECRET": "x", "DATABASE_URL": "postgresql://cage:x@host/cage"}
    found = Verifier(clock=clock, environ=environ)
    await _started(found)
    yield found
    await found.close()


async def _started(found: Verifier) -> int:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await found(os.getpid, is_behind=True) == os.getpid():
            pass
    pid = found.pid
    assert pid is not None
    return pid


async def _gone(pid: int) -> None:
    """Until a process has ended, whoever its parent is."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(watch, ended.set)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ended.wait()
    finally:
        loop.remove_reader(watch)
        os.close(watch)


async def test_at_the_tip_nothing_is_started(clock: ManualClock) -> None:
    found = Verifier(clock=clock)
    assert await found(os.getpid, is_behind=False) == os.getpid()
    assert found.pid is None


async def test_behind_another_process_works_and_the_first_answers_do_not_wait_for_it(
    clock: ManualClock,
) -> None:
    found = Verifier(clock=clock)
    assert await found(os.getpid, is_behind=True) == os.getpid()
    pid = await _started(found)
    assert await found(os.getpid, is_behind=True) == pid
    assert await asyncio.gather(*(found(abs, -n, is_behind=True) for n in range(9))) == [*range(9)]
    await found.close()
    await _gone(pid)
    assert await found(os.getpid, is_behind=True) == os.getpid()
    assert found.pid is None


async def test_the_process_sees_no_secret_of_ours(behind: Verifier) -> None:
    seen = await behind(_environment, is_behind=True)
    assert "CAGE_SECRET" not in seen
    assert "DATABASE_URL" not in seen
    assert set(seen) <= {*verifier.ENVIRONMENT, "LC_CTYPE"}  # which the interpreter may set


async def test_what_a_function_raises_reaches_the_caller(behind: Verifier) -> None:
    with pytest.raises(NodeLied, match="root"):
        await behind(_lie, is_behind=True)
    assert await behind(os.getpid, is_behind=True) == behind.pid


async def test_a_process_that_was_killed_costs_time_only_and_is_replaced(
    behind: Verifier, clock: ManualClock
) -> None:
    first = behind.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert await behind(os.getpid, is_behind=True) == os.getpid()
    assert behind.pid is None
    assert await behind(os.getpid, is_behind=True) == os.getpid()  # it rests first
    clock.advance(verifier.REST_SECONDS)
    assert await _started(behind) != first


async def test_a_process_that_dies_at_its_work_costs_time_only(behind: Verifier) -> None:
    assert await behind(_die_elsewhere, os.getpid(), is_behind=True) == os.getpid()
    assert behind.pid is None


async def test_a_process_that_hangs_is_ended(clock: ManualClock) -> None:
    found = Verifier(clock=clock, ask_seconds=3.0)
    pid = await _started(found)
    assert await found(_hang_elsewhere, os.getpid(), is_behind=True) == os.getpid()
    await _gone(pid)
    await found.close()


async def test_calls_that_were_given_up_leave_the_answers_of_others_alone(
    behind: Verifier,
) -> None:
    given_up = [asyncio.create_task(behind(abs, -n, is_behind=True)) for n in range(20)]
    await until(behind._in_hand.locked)  # the first ones are under way, the others wait
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    assert await asyncio.gather(*(behind(abs, -n, is_behind=True) for n in range(9))) == [*range(9)]


async def test_an_idle_process_is_ended_at_the_tip(behind: Verifier, clock: ManualClock) -> None:
    pid = behind.pid
    assert pid is not None
    clock.advance(verifier.IDLE_SECONDS + 1)
    await behind(abs, -1, is_behind=False)
    assert behind.pid is None
    await _gone(pid)


PARENT = """
import asyncio, os, sys
from config.clock import SystemClock
from watchers.chains.verifier import Verifier

async def main():
    found = Verifier(clock=SystemClock())
    while await found(os.getpid, is_behind=True) == os.getpid():
        pass
    sys.stderr.write(f"{found.pid}\\n")
    sys.stdin.read()

asyncio.run(main())
"""


async def test_the_process_ends_with_its_parent_however_that_one_ends() -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert parent.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        pid = int(await parent.stderr.readline())
    os.kill(pid, 0)  # it is there
    parent.kill()
    await parent.wait()
    await _gone(pid)
