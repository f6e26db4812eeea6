"""`GET /v1/ledger/accounts`, `/postings/{id}` and `/entries`: the books, read back.

A brand's key sees its own accounts and its own lines: the database decides that, not this module.
"""

from datetime import UTC, datetime
from typing import Any

from gateway.api.endpoint import Call, endpoint
from gateway.api.references import decode_place, decode_text, encode_place, encode_text
from gateway.api.wire_base import WireContext, rfc3339
from gateway.api.wire_books import (
    AccountQuery,
    JournalLineOut,
    LedgerAccountOut,
    LedgerLineOut,
    PeriodQuery,
    PostingOut,
)
from gateway.api.wire_query import BrandQuery, Page, limit_of, moment_of
from gateway.errors import NotFound, invalid_field
from ledger import reading
from ledger.accounts import AccountKind
from ledger.reading import Head, Line, Place

BEGINNING = datetime(1970, 1, 2, tzinfo=UTC)  # before every posting
SCOPES = frozenset({"ledger:read"})


@endpoint(
    "GET",
    "/v1/ledger/accounts",
    "Accounts with their balances, now or as of a moment.",
    answers=Page[LedgerAccountOut],
    query=AccountQuery,
    scopes=SCOPES,
)
async def list_accounts(call: Call) -> Page[LedgerAccountOut]:
    """By code. As of a moment, an account that was opened later stands at zero."""
    query: AccountQuery = call.query
    limit = limit_of(query.limit)
    found = await reading.accounts(
        call.uow,
        kind=_kind(query.kind),
        asset=query.asset,
        brand=call.one_brand,
        player_id=query.player_id,
        at=moment_of(query.at, field="at"),
        after=decode_text(query.cursor),
        limit=limit,
    )
    wire = call.services.wire
    return Page[LedgerAccountOut](
        items=[
            LedgerAccountOut(
                account=row.code,
                kind=row.kind.value,
                asset=row.asset,
                brand=row.brand,
                player_id=row.player_id,
                wallet=row.wallet,
                side=row.normal_side.value,
                balance=wire.amount(row.balance_minor, row.asset),
                balance_minor=str(row.balance_minor),
            )
            for row in found
        ],
        next_cursor=encode_text(found[-1].code) if len(found) == limit else None,
    )


@endpoint(
    "GET",
    "/v1/ledger/postings/{id}",
    "One posting with its lines, its block, and what it reverses or is reversed by.",
    answers=PostingOut,
    query=BrandQuery,
    scopes=SCOPES,
)
async def get_posting(call: Call) -> PostingOut:
    """404 for a posting without a line that the caller may see."""
    view = await reading.posting(call.uow, call.object_id("posting"))
    if view is None:
        raise NotFound
    wire = call.services.wire
    return PostingOut(
        **head_fields(wire, view.head),
        reversed_by=None if view.reversed_by is None else wire.id("posting", view.reversed_by),
        lines=[_line(wire, line) for line in view.lines],
        lines_total=view.lines_total,
    )


@endpoint(
    "GET",
    "/v1/ledger/entries",
    "The journal of a period, line by line, in the order of booking.",
    answers=Page[JournalLineOut],
    query=PeriodQuery,
    scopes=SCOPES,
)
async def list_entries(call: Call) -> Page[JournalLineOut]:
    """A page may be short and not the last: go on until `next_cursor` is null."""
    query: PeriodQuery = call.query
    since, until, after = period_of(call, query)
    page = await reading.journal_page(
        call.uow, since=since, until=until, after=after, limit=limit_of(query.limit)
    )
    wire = call.services.wire
    return Page[JournalLineOut](
        items=[
            JournalLineOut(**head_fields(wire, head), entry=_line(wire, line))
            for head, line in page.lines
        ],
        next_cursor=None if page.following is None else encode_place(page.following, until=until),
    )


def period_of(call: Call, query: PeriodQuery) -> tuple[datetime, datetime, Place | None]:
    """The period and the place in it. Raises Invalid for a period that ends before it begins."""
    since = moment_of(query.since, field="from") or BEGINNING
    asked = moment_of(query.until, field="to")
    found = decode_place(query.cursor)
    after, kept = found or (None, call.at)
    until = asked or kept
    if until <= since:
        raise invalid_field("to", "invalid", "The period ends before it begins.")
    return since, until, after


def head_fields(wire: WireContext, head: Head) -> dict[str, Any]:
    """The fields of a posting's head."""
    return {
        "id": wire.id("posting", head.posting_id),
        "booked_at": rfc3339(head.booked_at),
        "reference": head.reference,
        "kind": head.kind,
        "reason": head.reason,
        "reverses": None if head.reverses is None else wire.id("posting", head.reverses),
        "network": head.network,
        "block_hash": head.block_hash,
        "block_height": head.block_height,
    }


def _line(wire: WireContext, line: Line) -> LedgerLineOut:
    account = line.account
    return LedgerLineOut(
        line=line.line,
        account=account.code,
        kind=account.kind.value,
        asset=account.asset,
        brand=account.brand,
        player_id=account.player_id,
        wallet=account.wallet,
        side=line.side.value,
        amount=wire.amount(line.amount_minor, account.asset),
        amount_minor=str(line.amount_minor),
        brand_tag=line.brand_tag,
    )


def _kind(text: str | None) -> AccountKind | None:
    if text is None:
        return None
    try:
        return AccountKind(text)
    except ValueError as error:
        known = ", ".join(AccountKind)
        raise invalid_field("kind", "unknown_kind", f"One of: {known}.") from error
