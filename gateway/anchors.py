"""The heads of both chains, told outside the database: one line of JSON each, appended to a file.

Who rules the database can write its whole history anew, seals included; not this file, nor copies
of it elsewhere (docs/adr: sealed logs). The newest line alone says all that older ones say, since a
head commits to everything before it. Owns the form of the file; it decides nothing.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAIL_BYTES = 4_096  # the last line is far shorter


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a chain ends; sequence 0 before its first record."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Both heads at a moment (RFC 3339)."""

    at: str
    audit: Head
    journal: Head


def append(path: Path, anchor: Anchor) -> None:
    """On disk when this returns. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    line = json.dumps(
        {"at": anchor.at, "audit": _plain(anchor.audit), "journal": _plain(anchor.journal)},
        separators=(",", ":"),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # A line that a power cut tore ends here, and is no anchor.
        os.write(descriptor, (("\n" if _is_torn(path) else "") + line + "\n").encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def newest(path: Path) -> Anchor | None:
    """The last whole line; None for no file and an empty one. Raises OSError, ValueError."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            data = file.read()
    except FileNotFoundError:
        return None
    lines = [line for line in data.decode("utf-8", errors="replace").split("\n") if line]
    for line in reversed(lines):
        try:
            raw = json.loads(line)
            return Anchor(
                at=str(raw["at"]), audit=_head(raw["audit"]), journal=_head(raw["journal"])
            )
        except (ValueError, KeyError, TypeError):
            continue  # torn
    if lines:
        raise ValueError(f"{path} holds no anchor")
    return None


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _plain(head: Head) -> dict[str, Any]:
    return {"sequence": head.sequence, "hash": head.hash}


def _head(raw: Mapping[str, Any]) -> Head:
    return Head(sequence=int(raw["sequence"]), hash=str(raw["hash"]))
