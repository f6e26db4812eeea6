"""Where the log stood, kept outside the store's folder: shows that a store is older, or a copy.

It owns the file's form: two places of one disk block each, written in turn and over themselves. A
write that a power cut tears leaves the other place, which says the record before: the store may be
ahead of its anchor by what was never released. Writing over a block that is there costs one flush
of data and none of the file system's own books. It must decide nothing.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from signer.errors import StoreError
from signer.files import replace_atomically

PLACE_BYTES = 4_096  # a block of every usual disk
_PLACES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The one living store and its newest record. `inode` is the store file's."""

    store_id: str
    inode: int
    sequence: int
    entry_hash: str


class AnchorFile:
    """One anchor's file. The store's lock is held, so that nobody else writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0  # the next one to write: never that of the newest anchor

    def create(self, anchor: Anchor) -> None:
        """Make the file, or make it anew in one step; raises StoreError."""
        try:
            replace_atomically(self._path, _encode(anchor) * _PLACES)
        except OSError as error:
            raise self._unwritable(error) from error

    def read(self) -> Anchor:
        """The newest anchor; raises StoreError where the file is missing or damaged."""
        data = _read(self._path)
        found = _places(data)
        anchor = _newest(self._path, data, found)
        self._place = 1 if found[0] == anchor else 0
        return anchor

    def write(self, anchor: Anchor) -> None:
        """On disk when this returns; raises StoreError, and then a second call writes it again."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                is_whole = os.fstat(descriptor).st_size == PLACE_BYTES * _PLACES
                if is_whole:
                    written = os.pwrite(descriptor, _encode(anchor), self._place * PLACE_BYTES)
                    os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._unwritable(error) from error
        if not is_whole:  # of an older version
            self.create(anchor)
        elif written != PLACE_BYTES:
            raise StoreError("the anchor cannot be written: cut short")
        self._place = (self._place + 1) % _PLACES

    def exists(self) -> bool:
        """Whether the file is still there."""
        return self._path.exists()

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"{self._path}: the anchor cannot be written: {error.strerror}")


def read_anchor(path: Path) -> Anchor:
    """The newest anchor, also of a running signer; raises StoreError if missing or damaged."""
    data = _read(path)
    return _newest(path, data, _places(data))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: the anchor cannot be read: {error.strerror}") from error


def _places(data: bytes) -> list[Anchor | None]:
    """What stands at each place; None where a write was torn."""
    if len(data) != PLACE_BYTES * _PLACES:
        return [None] * _PLACES
    return [_decode(data[:PLACE_BYTES]), _decode(data[PLACE_BYTES:])]


def _newest(path: Path, data: bytes, found: list[Anchor | None]) -> Anchor:
    known = [item for item in found if item is not None]
    if known:
        return max(known, key=lambda item: item.sequence)
    try:
        return _anchor(json.loads(data))  # older versions wrote one, without a check
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: the anchor is damaged") from error


def _encode(anchor: Anchor) -> bytes:
    """One place: JSON with the check of what it says, filled up with spaces."""
    text = json.dumps({**asdict(anchor), "check": _check(anchor)}, sort_keys=True)
    return text.encode("ascii").ljust(PLACE_BYTES - 1) + b"\n"


def _decode(data: bytes) -> Anchor | None:
    try:
        raw = json.loads(data)
        anchor = _anchor(raw)
        return anchor if raw["check"] == _check(anchor) else None
    except (ValueError, KeyError, TypeError):
        return None


def _anchor(raw: dict[str, object]) -> Anchor:
    return Anchor(
        store_id=str(raw["store_id"]),
        inode=int(str(raw["inode"])),
        sequence=int(str(raw["sequence"])),
        entry_hash=str(raw["entry_hash"]),
    )


def _check(anchor: Anchor) -> str:
    return hashlib.sha256(json.dumps(asdict(anchor), sort_keys=True).encode()).hexdigest()
