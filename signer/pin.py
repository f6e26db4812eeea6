"""The PIN of a token: where it comes from, and that a refused one is never tried twice.

A token locks itself after some wrong PINs, and a supervisor starts a role that ended again and
again. So a PIN file that the token refused is remembered beside it, by its inode and time of
change; once the file is written again, it is tried again, once.
"""

import json
import os
from pathlib import Path
from typing import Protocol

from signer.errors import PinRefused, TokenError
from signer.files import read_private, replace_atomically

PIN_BYTES_MIN = 4
PIN_BYTES_MAX = 255
MARK_SUFFIX = ".refused"


class Pin(Protocol):
    """One source of a PIN."""

    def read(self) -> str:
        """The PIN; raises PinRefused for one that was refused, KeyringError, TokenError."""

    def refused(self) -> None:
        """The token said no: not again."""


class PinFile:
    """A file of mode 0600; one trailing newline is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_name(path.name + MARK_SUFFIX)

    def read(self) -> str:
        """The PIN, unless the token refused this very file; raises PinRefused, KeyringError."""
        data = read_private(self._path)
        if self._mark.exists() and self._mark.read_bytes() == self._identity():
            raise PinRefused(
                f"{self._path}: the token refused this PIN before; write the right one there"
            )
        return _checked(data)

    def refused(self) -> None:
        """Remember the file as it is; raises OSError when that cannot be written."""
        replace_atomically(self._mark, self._identity())

    def _identity(self) -> bytes:
        status = self._path.stat()
        return json.dumps([status.st_ino, status.st_mtime_ns]).encode()


class PinGiven:
    """From an open file descriptor, kept for the life of the process."""

    def __init__(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as stream:
            self._pin = _checked(stream.read(PIN_BYTES_MAX + 2))
        self._is_refused = False

    def __repr__(self) -> str:
        return "PinGiven()"

    def read(self) -> str:
        """The PIN; raises PinRefused once the token said no."""
        if self._is_refused:
            raise PinRefused("the token refused the PIN that was given; start again")
        return self._pin

    def refused(self) -> None:
        """Not again in this process."""
        self._is_refused = True


def _checked(data: bytes) -> str:
    pin = data.removesuffix(b"\n")
    if not PIN_BYTES_MIN <= len(pin) <= PIN_BYTES_MAX:
        raise TokenError(f"the PIN has {PIN_BYTES_MIN} to {PIN_BYTES_MAX} bytes")
    try:
        return pin.decode("utf-8")
    except UnicodeDecodeError:
        raise TokenError("the PIN is not UTF-8 text") from None
