"""A clock that moves only when a test moves it, and ids that are the same in every run."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

from config.clock import Clock
from config.ids import uuid7

START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Implements `config.clock.Clock`. `sleep` ends when `advance` has passed its moment."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed = timedelta()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + self._elapsed

    def monotonic_seconds(self) -> float:
        return self._elapsed.total_seconds()

    async def sleep(self, delay_seconds: float) -> None:
        if delay_seconds <= 0:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.monotonic_seconds() + delay_seconds, waiter))
        await waiter

    def advance(self, delay_seconds: float) -> None:
        """Move time forward and wake everybody whose moment has come, earliest first."""
        self._elapsed += timedelta(seconds=delay_seconds)
        due = [s for s in self._sleepers if s[0] <= self.monotonic_seconds()]
        self._sleepers = [s for s in self._sleepers if s[0] > self.monotonic_seconds()]
        for _, waiter in sorted(due, key=lambda sleeper: sleeper[0]):
            if not waiter.done():
                waiter.set_result(None)

    @property
    def sleeping(self) -> int:
        """How many coroutines wait."""
        return len(self._sleepers)


class SequentialIds:
    """Implements `config.ids.Ids` without randomness: a counter and the seed decide all bytes."""

    def __init__(self, clock: Clock | None = None, *, seed: int = 0) -> None:
        self._clock = clock or ManualClock()
        self._seed = seed
        self._count = 0

    def new_id(self) -> UUID:
        return uuid7(at=self._clock.now(), entropy=self.token_bytes(10))

    def token_bytes(self, count: int) -> bytes:
        self._count += 1
        name = f"{self._seed}:{self._count}".encode()
        return hashlib.shake_256(name).digest(count)
