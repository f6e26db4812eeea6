"""Query parameters and pages: the filters and cursors of CONTRACT 3, "Lists".

Unknown and repeated parameters are refused. A cursor names the last object of a page by its id,
which is time-ordered, so that a list is stable while rows are added.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import Field, StringConstraints

from gateway.api.wire_base import Body, Wire
from gateway.errors import Invalid, invalid_field

LIMIT_DEFAULT = 100
LIMIT_MAX = 500  # CONTRACT 3; more is clamped (A40)

Text = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
ItemT = TypeVar("ItemT")


class BrandQuery(Body):
    """What every call takes: the brand, for keys that see more than one."""

    brand: Text | None = Field(default=None, description="For operator and staff keys.")


class PageQuery(BrandQuery):
    """A list in pages."""

    cursor: Text | None = None
    limit: Text | None = Field(default=None, description="100, at most 500.")


class FilterQuery(PageQuery):
    """A list of money objects, narrowed."""

    state: Text | None = None
    player_id: Text | None = None
    asset: Text | None = None
    txid: Text | None = None
    created_after: Text | None = Field(default=None, description="RFC 3339.")


class SearchQuery(PageQuery):
    """A list of searches, narrowed."""

    network: Text | None = None
    state: Literal["open", "closed"] | None = None


class WithdrawalQuery(FilterQuery):
    """A list of withdrawals; with `request_id` the one that stands for it, or 404."""

    request_id: Text | None = None


class FeedQuery(BrandQuery):
    """A piece of the feed: events with `seq` above `after`."""

    after: Text | None = Field(default=None, description="The last `seq` you have; 0 at first.")
    limit: Text | None = None


class MomentQuery(BrandQuery):
    """A report as of a moment."""

    at: Text | None = Field(default=None, description="RFC 3339; now when missing.")


class Page(Wire, Generic[ItemT]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[ItemT]
    next_cursor: str | None


def limit_of(text: str | None) -> int:
    """The page size. Raises Invalid when it is no positive number."""
    if text is None:
        return LIMIT_DEFAULT
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) == 0:
        raise invalid_field("limit", "invalid", "A positive whole number is required.")
    return min(int(text), LIMIT_MAX)


def sequence_of(text: str | None) -> int:
    """The `after` of the feed; 0 when missing."""
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise invalid_field("after", "invalid", "A whole number is required.")
    return int(text)


def moment_of(text: str | None, *, field: str) -> datetime | None:
    """An aware moment, or None when missing. Raises Invalid."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped "+" in a query
    except ValueError as error:
        raise _no_moment(field) from error
    if moment.tzinfo is None or not 1970 < moment.year < 9000:
        raise _no_moment(field)
    return moment


def _no_moment(field: str) -> Invalid:
    return invalid_field(field, "invalid", "A moment in RFC 3339 with its zone is required.")


def encode_cursor(last: UUID) -> str:
    """The cursor after `last`."""
    return base64.urlsafe_b64encode(last.bytes).decode("ascii").rstrip("=")


def decode_cursor(text: str | None) -> UUID | None:
    """The id behind a cursor. Raises Invalid for anything that this API did not hand out."""
    if text is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"==")
        return UUID(bytes=raw)
    except (ValueError, binascii.Error) as error:
        raise invalid_field("cursor", "invalid", "This is not a cursor of this list.") from error


def next_cursor(ids: Sequence[UUID], *, limit: int) -> str | None:
    """The cursor of the next page, when this one was full."""
    return encode_cursor(ids[-1]) if ids and len(ids) >= limit else None
