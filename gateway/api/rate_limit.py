"""Rate limit per key: GCRA, one number per key (A27); and slots for calls that take long.

Each process counts for itself. It must not look at anything but the key and the clock.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from config.clock import Clock
from gateway.errors import TooMany

KEYS_MAX = 10_000


class RateLimiter:
    """At most `per_second` calls on average and `burst` at once, per key."""

    def __init__(self, clock: Clock, *, per_second: int, burst: int) -> None:
        self._clock = clock
        self._interval_seconds = 1.0 / per_second
        self._tolerance_seconds = (burst - 1) / per_second
        self._due_seconds: dict[str, float] = {}

    def wait_seconds(self, key: str) -> int:
        """0 when the call may go on (and is counted), else whole seconds to wait, rounded up."""
        now_seconds = self._clock.monotonic_seconds()
        due_seconds = max(self._due_seconds.get(key, now_seconds), now_seconds)
        early_seconds = due_seconds - self._tolerance_seconds - now_seconds
        if early_seconds > 0:
            return math.ceil(early_seconds)
        if len(self._due_seconds) >= KEYS_MAX:
            self._forget(now_seconds)
        self._due_seconds[key] = due_seconds + self._interval_seconds
        return 0

    def _forget(self, now_seconds: float) -> None:
        """Drop the keys that have their whole burst back."""
        self._due_seconds = {k: due for k, due in self._due_seconds.items() if due > now_seconds}


class Slots:
    """At most `size` calls of a kind at once in this process; one more is told to come again."""

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a slot; raises TooMany at once when there is none."""
        if self._free == 0:
            raise TooMany("busy", "Too many calls of this kind run.", retry_after_seconds=1)
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
