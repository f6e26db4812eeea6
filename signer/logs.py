"""One JSON line per event on a stream. It must never be given a secret or a request body."""

import contextlib
import json
from typing import TextIO

from signer.ports import Clock


class Log:
    """Fixed event names plus fields; `alarm` means that a person should look."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    def info(self, event: str, **fields: object) -> None:
        """Something happened as it should."""
        self._write("info", event, fields)

    def alarm(self, event: str, **fields: object) -> None:
        """Something was refused or cannot go on."""
        self._write("warning", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        line = {"at": self._clock.now_seconds(), "level": level, "event": event, **fields}
        with contextlib.suppress(OSError, ValueError):  # a reader that left must not stop the vault
            self._stream.write(json.dumps(line, sort_keys=True) + "\n")
            self._stream.flush()
