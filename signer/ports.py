"""The signer's only doors to time, randomness and the hardware that guards its keys.

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


class Guard(Protocol):
    """Whether the keys may be used at this moment."""

    def check(self) -> None:
        """Raises Refused (`token_unavailable`): then nothing is signed."""


class Unguarded:
    """Keys without a hardware token."""

    def check(self) -> None:
        """Always."""


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
