"""How many signatures may be asked for in a minute (S24).

The caps bound what a thief of the gateway takes; this bounds how fast the vault works for one, and
tells a person at once. It lives in memory: a restart gives one more minute's worth, no cap more.
"""

from signer.ports import Clock

MINUTE_SECONDS = 60


class RateLimit:
    """A bucket of one minute's worth of requests that fills evenly."""

    def __init__(self, *, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._full = per_minute * MINUTE_SECONDS  # in sixtieths of a request, so that all is whole
        self._left = self._full
        self._at_seconds = clock.now_seconds()

    def take(self) -> bool:
        """Whether one more request may be served now. A clock that is set back fills nothing."""
        now = self._clock.now_seconds()
        gained = max(0, now - self._at_seconds) * self._per_minute
        self._left, self._at_seconds = min(self._full, self._left + gained), now
        if self._left < MINUTE_SECONDS:
            return False
        self._left -= MINUTE_SECONDS
        return True
