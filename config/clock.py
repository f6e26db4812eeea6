"""The port of time: wall clock, monotonic clock and waiting.

Everything in the house that needs time takes a `Clock`; nothing else may import `time` or call
`datetime.now` or `asyncio.sleep` (checked by tests/architecture).
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Time as the house sees it."""

    def now(self) -> datetime:
        """Aware UTC wall time; for records, expiry of signatures and display, never for order."""
        ...

    def monotonic_seconds(self) -> float:
        """Monotonic seconds; for intervals and time-outs."""
        ...

    async def sleep(self, delay_seconds: float) -> None:
        """Wait at least `delay_seconds`; cancellable."""
        ...


class SystemClock:
    """The operating system's clock, with an optional offset for tests (CONTRACT 7).

    Wall time is read once and carried on by the monotonic clock, which is slewed with it and never
    jumps: a wall clock that is set wrong under a running process expires nothing (P11). Whoever
    knows better accepts the jump (`config/process.py` asks the database).
    """

    def __init__(
        self,
        *,
        offset_seconds: float = 0.0,
        wall_seconds: Callable[[], float] = time.time,
        monotonic_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._offset = timedelta(seconds=offset_seconds)
        self._wall_seconds = wall_seconds
        self._monotonic_seconds = monotonic_seconds
        self._epoch_seconds = wall_seconds() - monotonic_seconds()

    def now(self) -> datetime:
        seconds = self._epoch_seconds + self._monotonic_seconds()
        return datetime.fromtimestamp(seconds, UTC) + self._offset

    def wall_seconds(self) -> float:
        """The operating system's own word, in seconds since 1970."""
        return self._wall_seconds()

    def jumped_seconds(self) -> float:
        """How far the wall clock is ahead of this one, by a jump that is not accepted."""
        return self._wall_seconds() - self._monotonic_seconds() - self._epoch_seconds

    def accept_jump(self) -> None:
        """The wall clock is right: go on from it."""
        self._epoch_seconds += self.jumped_seconds()

    def monotonic_seconds(self) -> float:
        return self._monotonic_seconds()

    async def sleep(self, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)


class Waker:
    """Lets a loop wait for a hint or for its poll interval, whichever comes first.

    The hint (a NOTIFY, a scheduler tick) may be lost: every consumer also polls (HOUSE 2).
    """

    def __init__(self, *, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Ask the loop to run now; safe to call many times."""
        self._event.set()

    async def wait(self, at_most_seconds: float | None = None) -> None:
        """Return at the next hint, or after the poll interval (or `at_most_seconds`, if less)."""
        wait_seconds = self._poll_seconds
        if at_most_seconds is not None:
            wait_seconds = min(wait_seconds, at_most_seconds)
        try:
            async with asyncio.timeout(wait_seconds):
                await self._event.wait()
        except TimeoutError:
            pass  # the poll is due: not an error
        self._event.clear()
