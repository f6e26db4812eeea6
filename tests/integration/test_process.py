"""A role's process: its loop is watched, its schema is watched, SIGTERM ends it (P35, P36, P38)."""

import asyncio
import os
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from structlog.testing import capture_logs
from structlog.typing import EventDict

from config.clock import SystemClock
from config.database import AWAY, Database, async_url, is_away
from config.errors import UnsafeEnvironment
from config.migrate import head_revision, migrate
from config.process import JUMP_SECONDS, LOOK_SECONDS, LoopWatch, judge_jump, run_until_stopped
from tests.support.clock import ManualClock
from tests.support.databases import TestDatabase

ROOT = Path(__file__).resolve().parents[2]

HANGS = """
import asyncio, threading
from config.clock import SystemClock
from config.process import LoopWatch

def hang_in_this_function():
    threading.Event().wait()

async def main():
    with LoopWatch(clock=SystemClock(), beat_seconds=0.02, stall_seconds=0.2, hang_seconds=0.5):
        hang_in_this_function()

asyncio.run(main())
"""


async def test_p38_a_loop_that_stands_still_is_told_with_the_place_and_goes_on() -> None:
    """P38: told while it stands, from a thread beside it, and told again once it turns."""
    told, turns_again = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def stand_still_here(until: threading.Event) -> bool:
        return until.wait(timeout=30)

    def hear(_: object, __: str, entry: EventDict) -> EventDict:
        if entry["event"] == "loop.stalled":
            told.set()
        if entry["event"] == "loop.turns_again":
            loop.call_soon_threadsafe(turns_again.set)
        return entry

    with capture_logs(processors=[hear]) as entries:
        with LoopWatch(clock=SystemClock(), beat_seconds=0.01, stall_seconds=0.1):
            assert stand_still_here(told)
            async with asyncio.timeout(30):
                await turns_again.wait()
    told_first = entries[: [row["event"] for row in entries].index("loop.turns_again")]
    (stalled,) = [row for row in told_first if row["event"] == "loop.stalled"]
    assert any("stand_still_here" in frame for frame in stalled["where"])


async def test_p39_a_loop_that_hangs_ends_the_process_and_says_where() -> None:
    """P39: exit 1 with every thread's stack, so that whoever supervises it starts it again."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HANGS, cwd=ROOT, stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"Timeout" in said
    assert b"hang_in_this_function" in said


class TickingClock(SystemClock):
    """Tells when the watch's thread has gone round twice: it has asked the loop for a beat."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = threading.Semaphore(0)

    def monotonic_seconds(self) -> float:
        if threading.current_thread().name == "loop watch":
            self.rounds.release()
        return super().monotonic_seconds()


async def test_a_watch_that_has_ended_arms_nothing_later() -> None:
    """A beat that was asked for before the end runs after it, in the loop's next turn."""
    clock, done = TickingClock(), []
    watch = LoopWatch(
        clock=clock,
        beat_seconds=0.001,
        arm=lambda seconds: done.append("arm"),
        disarm=lambda: done.append("disarm"),
    )
    with watch:
        for _ in range(3):  # at its start, and at the beginning of two rounds
            assert clock.rounds.acquire(timeout=30)
    asked = asyncio.Event()
    asyncio.get_running_loop().call_soon(asked.set)  # behind every beat that was asked for
    await asked.wait()
    assert done == ["arm", "disarm"]


@pytest.mark.parametrize(
    "error",
    [
        PoolTimeout("QueuePool limit"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.TooManyConnectionsError("sorry, too many clients"),
        asyncpg.ConnectionDoesNotExistError("connection was closed"),
        ConnectionRefusedError("refused"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_p08_whatever_says_that_the_database_is_away_is_caught_where_it_is_asked(
    error: Exception,
) -> None:
    """What a role survives must not depend on which layer said it."""
    assert isinstance(error, AWAY)
    assert is_away(error)


@pytest.mark.postgres
async def test_p08_a_starved_pool_is_waited_out_and_ends_no_role(
    test_database: TestDatabase,
) -> None:
    """The look at the server gets no connection in its time: the role goes on, and looks again."""
    clock = ManualClock()
    database = Database(async_url(test_database.role_url("watchers")), pool_size=1)

    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    running = asyncio.create_task(run_until_stopped(work, database=database, clock=clock))
    try:
        while not clock.sleeping:
            await asyncio.wait({running}, timeout=0.01)
        async with database.engine.connect():
            with capture_logs() as entries:
                clock.advance(LOOK_SECONDS)
                while not clock.sleeping and not running.done():
                    await asyncio.wait({running}, timeout=0.05)
        assert not running.done()
        told = [row for row in entries if row["event"] == "server.not_asked"]
        assert [row["error"] for row in told] == ["TimeoutError"]
    finally:
        running.cancel()
        await asyncio.wait({running})
        await database.close()


@pytest.mark.postgres
async def test_p35_sigterm_lets_work_end_and_closes(database: Database) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    running = asyncio.create_task(run_until_stopped(work, database=database, clock=SystemClock()))
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(30):
        await running
    assert ended.is_set()


@pytest.mark.postgres
async def test_what_work_raises_goes_on_up(database: Database) -> None:
    async def work() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await run_until_stopped(work, database=database, clock=SystemClock())


class Jumping:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_seconds


@pytest.mark.postgres
@pytest.mark.parametrize("ahead_seconds", [86_400.0, -86_400.0, -600.0])
async def test_p11_a_wall_clock_that_jumps_expires_nothing(
    database: Database, ahead_seconds: float
) -> None:
    """P11: time goes on as before; what the database does not confirm is only told."""
    wall = Jumping()
    clock = SystemClock(wall_seconds=wall)
    wall.ahead_seconds = ahead_seconds
    before = clock.now()
    with capture_logs() as entries:
        async with database.engine.connect() as connection:
            await judge_jump(connection, clock)
    assert timedelta(0) <= clock.now() - before < timedelta(minutes=5)
    assert [row["event"] for row in entries] == ["clock.jumped"]


@pytest.mark.postgres
async def test_p11_a_clock_that_was_wrong_at_the_start_is_mended_once_the_database_agrees(
    database: Database,
) -> None:
    wall = Jumping()
    wall.ahead_seconds = -86_400.0
    clock = SystemClock(wall_seconds=wall)
    wall.ahead_seconds = 0.0
    async with database.engine.connect() as connection:
        await judge_jump(connection, clock)
    assert abs(clock.now() - SystemClock().now()) < timedelta(seconds=1)
    assert abs(clock.jumped_seconds()) < JUMP_SECONDS


@pytest.mark.postgres
async def test_p36_a_process_whose_schema_changes_ends_before_it_writes_on(
    database: Database,
) -> None:
    """P36: old program, new schema. The other way round it does not start (X03)."""
    clock = ManualClock()
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    running = asyncio.create_task(run_until_stopped(work, database=database, clock=clock))
    while not clock.sleeping:
        await asyncio.wait({running}, timeout=0.01)
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE config.schema_version SET version_num = '9999'"))
    clock.advance(LOOK_SECONDS)
    with pytest.raises(UnsafeEnvironment, match="9999"):
        await running
    assert cancelled.is_set()


@pytest.mark.postgres
async def test_p36_a_schema_is_not_changed_below_a_role_that_works(
    test_database: TestDatabase,
) -> None:
    """P36: the migration names who still works, and changes nothing."""
    owner = Database(async_url(test_database.owner_url))
    watcher = Database(async_url(test_database.role_url("watchers")))
    try:
        async with owner.engine.begin() as connection:
            await connection.execute(text("UPDATE config.schema_version SET version_num = '0024'"))
        async with watcher.engine.connect():
            with pytest.raises(UnsafeEnvironment, match="watchers"):
                await migrate(test_database.owner_url)
        async with owner.engine.begin() as connection:
            found = await connection.scalar(text("SELECT version_num FROM config.schema_version"))
            assert found == "0024"
            await connection.execute(
                text("UPDATE config.schema_version SET version_num = :head"),
                {"head": head_revision()},
            )
        async with watcher.engine.connect():
            assert await migrate(test_database.owner_url) == head_revision()
    finally:
        await owner.close()
        await watcher.close()
