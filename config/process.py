"""How a role's process lives: checked at its start, watched while it works, ended by SIGTERM.

Owns the refusals at start, the watch over the event loop and the schema, and the signals; what a
role does is its own. Whatever ends a role, its rows say where the next process goes on.
"""

import asyncio
import faulthandler
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sqlalchemy.ext.asyncio import AsyncConnection

from config.clock import Clock, SystemClock
from config.database import AWAY, Database, is_away
from config.logs import get_logger
from config.selfcheck import check_start, require_schema, server_seconds

BEAT_SECONDS = 0.25
STALL_SECONDS = 1.0  # a loop that does not turn for so long is told, with where it stands
HANG_SECONDS = 120.0  # one that does not turn for so long never will: the process ends
LOOK_SECONDS = 15.0  # between two questions to the database about schema and time
JUMP_SECONDS = 2.0  # less is no jump of the wall clock
AGREES_SECONDS = 30.0  # clocks of hosts that agree are closer
FRAMES_TOLD = 6

log = get_logger("config.process")


def _end_later(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True)


class LoopWatch:
    """Tells of an event loop that does not turn, and ends a process whose loop hangs (P38, P39).

    Its thread looks from outside; the end is the C timer of `faulthandler`, which needs no
    interpreter lock and prints every thread's stack first. A process that was stopped as a whole
    (SIGSTOP, a sleeping machine) is not a stalled loop.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        beat_seconds: float = BEAT_SECONDS,
        stall_seconds: float = STALL_SECONDS,
        hang_seconds: float = HANG_SECONDS,
        arm: Callable[[float], None] = _end_later,
        disarm: Callable[[], None] = faulthandler.cancel_dump_traceback_later,
    ) -> None:
        self._arm, self._disarm = arm, disarm
        self._clock = clock
        self._beat_seconds = beat_seconds
        self._stall_seconds = stall_seconds
        self._hang_seconds = hang_seconds
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)
        self._beaten_seconds = clock.monotonic_seconds()

    def __enter__(self) -> "LoopWatch":
        self._arm(self._hang_seconds)  # a loop that never turns once hangs, too
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._disarm()

    def _beat(self) -> None:
        """Runs in the loop: it turns. One that was asked for before the end arms nothing after."""
        if self._stop.is_set():
            return
        self._beaten_seconds = self._clock.monotonic_seconds()
        self._arm(self._hang_seconds)

    def _watch(self) -> None:
        seen_seconds = self._clock.monotonic_seconds()
        stalled_since: float | None = None
        while not self._stop.wait(self._beat_seconds):
            now_seconds = self._clock.monotonic_seconds()
            if now_seconds - seen_seconds > self._stall_seconds:
                self._beaten_seconds = now_seconds  # this thread did not run either
            seen_seconds = now_seconds
            beaten_seconds = self._beaten_seconds
            late_seconds = now_seconds - beaten_seconds
            if late_seconds < self._stall_seconds and stalled_since is not None:
                stalled_seconds = round(beaten_seconds - stalled_since, 1)
                log.warning("loop.turns_again", stalled_seconds=stalled_seconds)
                stalled_since = None
            elif late_seconds >= self._stall_seconds and stalled_since is None:
                stalled_since = beaten_seconds
                log.error("loop.stalled", seconds=round(late_seconds, 1), where=self._where())
            with suppress(RuntimeError):  # the loop was closed in this moment
                self._loop.call_soon_threadsafe(self._beat)

    def _where(self) -> list[str]:
        """The innermost frames of the loop's thread, innermost first."""
        frame = sys._current_frames().get(self._loop_thread)
        stack = traceback.extract_stack(frame)[-FRAMES_TOLD:] if frame is not None else []
        return [f"{row.name} {row.filename}:{row.lineno}" for row in reversed(stack)]


async def run_until_stopped(
    work: Callable[[], Awaitable[None]], *, database: Database, clock: Clock
) -> None:
    """Check the environment, then work until SIGTERM or SIGINT; both end `work` by cancelling it.

    Raises UnsafeEnvironment before any work, and when the schema changes while the process runs:
    a program of another version must not go on writing (P36). What `work` raises goes on up.
    """
    async with database.engine.connect() as connection:
        await check_start(connection)
    working = asyncio.ensure_future(work())
    watching = asyncio.create_task(_watch_server(database, clock), name="server")
    stop = asyncio.Event()
    stopping = asyncio.create_task(stop.wait(), name="signals")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = (working, watching, stopping)
    try:
        with LoopWatch(clock=clock):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
    for task in (watching, working):
        if not task.cancelled():
            task.result()


async def _watch_server(database: Database, clock: Clock) -> None:
    """What the database says of the schema and of the time."""
    while True:
        await clock.sleep(LOOK_SECONDS)
        try:
            async with database.engine.connect() as connection:
                await require_schema(connection)
                if isinstance(clock, SystemClock):
                    await judge_jump(connection, clock)
        except AWAY as error:
            if not is_away(error):
                raise
            log.warning("server.not_asked", error=type(error).__name__)


async def judge_jump(connection: AsyncConnection, clock: SystemClock) -> None:
    """A jump of this host's wall clock counts once the database's clock is there, too (P11)."""
    jumped_seconds = clock.jumped_seconds()
    if abs(jumped_seconds) < JUMP_SECONDS:
        return
    ahead_seconds = clock.wall_seconds() - await server_seconds(connection)
    if abs(ahead_seconds) <= AGREES_SECONDS:
        clock.accept_jump()
        log.warning("clock.jump_accepted", seconds=round(jumped_seconds, 1))
    else:
        log.error("clock.jumped", seconds=round(jumped_seconds, 1), ahead=round(ahead_seconds, 1))
