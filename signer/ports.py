"""The signer's only doors to time and randomness.

Everything else in the package takes a `Clock` and a `Randomness`; it must not read them itself.
"""

import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time in whole UTC seconds since 1970."""

    def now_seconds(self) -> int:
        """Seconds since the epoch."""


class Randomness(Protocol):
    """A source of secret, unpredictable bytes."""

    def token(self, size: int) -> bytes:
        """`size` bytes that nobody can predict."""


class SystemClock:
    """The clock of the operating system."""

    def now_seconds(self) -> int:
        """Seconds since the epoch."""
        return int(time.time())


class SystemRandomness:
    """The generator of the operating system."""

    def token(self, size: int) -> bytes:
        """`size` bytes from the operating system."""
        return secrets.token_bytes(size)
