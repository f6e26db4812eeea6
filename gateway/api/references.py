"""What a posting's reference says of its origin, and cursors that name a place in the journal.

Pure. References are `deposit:<network>:<txid>:<position>:<cycle>:<step>` and
`withdrawal:<id>:<step>...` (docs/LEDGER.md); any other names neither.
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from gateway.errors import Invalid, invalid_field
from ledger.reading import LINE_MAX, Place

_MARK = "|"


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositKey:
    """A deposit as its postings name it; `coinbase_hash` is empty for what is no coinbase."""

    network: str
    txid: str
    position: str
    coinbase_hash: str


def deposit_of(reference: str) -> DepositKey | None:
    """The deposit that a posting belongs to. A position may itself contain colons."""
    parts = reference.split(":")
    if parts[0] != "deposit" or len(parts) < 6:
        return None
    position, _, coinbase_hash = ":".join(parts[3:-2]).partition("@")
    return DepositKey(
        network=parts[1], txid=parts[2], position=position, coinbase_hash=coinbase_hash
    )


def withdrawal_of(reference: str) -> UUID | None:
    """The withdrawal that a posting belongs to."""
    parts = reference.split(":")
    if parts[0] != "withdrawal" or len(parts) < 3:
        return None
    try:
        return UUID(parts[1])
    except ValueError:
        return None


def encode_text(text: str) -> str:
    """A cursor after a text."""
    return base64.urlsafe_b64encode(text.encode("utf-8")).decode("ascii").rstrip("=")


def decode_text(cursor: str | None) -> str | None:
    """The text behind a cursor. Raises Invalid for anything that this API did not hand out."""
    if cursor is None:
        return None
    try:
        raw = cursor.encode("ascii")
        text = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
        found = text.decode("utf-8")
    except (ValueError, binascii.Error) as error:
        raise _no_cursor() from error
    if "\x00" in found:
        raise _no_cursor()
    return found


def encode_place(place: Place, *, until: datetime) -> str:
    """A cursor after a line; it keeps the period's end, which "now" alone would not."""
    at = place.booked_at.astimezone(UTC).isoformat()
    parts = (at, place.posting_id.hex, str(place.line), until.astimezone(UTC).isoformat())
    return encode_text(_MARK.join(parts))


def decode_place(cursor: str | None) -> tuple[Place, datetime] | None:
    """The place and the period's end behind a cursor. Raises Invalid."""
    text = decode_text(cursor)
    if text is None:
        return None
    parts = text.split(_MARK)
    try:
        at, until = datetime.fromisoformat(parts[0]), datetime.fromisoformat(parts[3])
        posting_id, line = UUID(hex=parts[1]), int(parts[2])
    except (ValueError, IndexError) as error:
        raise _no_cursor() from error
    moments = all(item.tzinfo is not None and 1970 <= item.year < 9000 for item in (at, until))
    if len(parts) != 4 or not moments or not 0 <= line <= LINE_MAX:
        raise _no_cursor()
    return Place(booked_at=at, posting_id=posting_id, line=line), until


def _no_cursor() -> Invalid:
    return invalid_field("cursor", "invalid", "This is not a cursor of this list.")
