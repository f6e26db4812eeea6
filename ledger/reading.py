"""Reading the books back: accounts as of a moment, postings, the journal by time, statements.

All from the entries, which nothing changes: asked again later, an answer about a moment that has
passed is the same (L17). Periods are half-open, `since` <= booked < `until`. It must not write;
what a brand's unit of work may see is decided by the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.database import Uow
from ledger import reading_store as store
from ledger.accounts import Account, AccountKind, Side
from ledger.balances import AccountBalance, account_balance
from ledger.journal import account_of
from ledger.store import Row

FIRST_ID = UUID(int=0)
LINE_MAX = 32_767  # of a posting: the column's type; after it comes the next posting


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the journal: after this line."""

    booked_at: datetime
    posting_id: UUID
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a posting is, without its lines. `reason` is the operator's: None for a brand."""

    posting_id: UUID
    booked_at: datetime
    reference: str
    kind: str
    reason: str | None
    reverses: UUID | None
    network: str | None
    block_hash: str | None
    block_height: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry with its account; minor units."""

    line: int
    account: Account
    side: Side
    amount_minor: int
    brand_tag: str | None

    @property
    def change_minor(self) -> int:
        """What it adds to the account's balance."""
        return self.amount_minor if self.side is self.account.normal_side else -self.amount_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingView:
    """A posting with the lines that the reader may see; `lines_total` counts all of them."""

    head: Head
    lines: tuple[Line, ...]
    lines_total: int
    reversed_by: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalPage:
    """Lines in order, each with its posting; `following` None: the period ends here."""

    lines: tuple[tuple[Head, Line], ...]
    following: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBalance:
    """A player's account at both ends of a period, minor units."""

    code: str
    kind: AccountKind
    asset: str
    opening_minor: int
    closing_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One change of one stage, with the posting that it belongs to; minor units."""

    place: Place
    code: str
    kind: AccountKind
    asset: str
    side: Side
    amount_minor: int
    change_minor: int
    reference: str
    posting_kind: str
    reverses: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A player's stages over a period: for each, opening + its lines = closing."""

    balances: tuple[StageBalance, ...]
    lines: tuple[StatementLine, ...]
    following: Place | None


async def accounts(
    uow: Uow,
    *,
    kind: AccountKind | None = None,
    asset: str | None = None,
    brand: str | None = None,
    player_id: str | None = None,
    at: datetime | None = None,
    after: str | None = None,
    limit: int,
) -> list[AccountBalance]:
    """A page of accounts after a code, with what stands on them now, or stood there at `at`."""
    rows = await store.accounts(
        uow,
        kind=kind.value if kind else None,
        asset=asset,
        brand=brand,
        player_id=player_id,
        at=at,
        after=after,
        limit=limit,
    )
    return [account_balance(row) for row in rows]


async def balance_at(uow: Uow, account: Account, at: datetime) -> int:
    """What stood on an account at a moment, its postings included; 0 before its first one."""
    return await store.balance_at(uow, account.code, at)


async def posting(uow: Uow, posting_id: UUID) -> PostingView | None:
    """One posting; None when it does not exist or the reader may see no line of it."""
    rows = await store.posting(uow, posting_id)
    if not rows:
        return None
    return PostingView(
        head=_head(rows[0]),
        lines=tuple(_line(row) for row in rows),
        lines_total=int(rows[0]["lines_total"]),
        reversed_by=rows[0]["reversed_by"],
    )


async def journal_page(
    uow: Uow, *, since: datetime, until: datetime, after: Place | None, limit: int
) -> JournalPage:
    """A page of the journal. It may be short, even empty, and not be the last: a brand's lines
    stand among others'."""
    place = after or Place(booked_at=since, posting_id=FIRST_ID, line=0)
    rows = await store.journal_page(
        uow,
        since=since,
        until=until,
        at=place.booked_at,
        posting_id=place.posting_id,
        line=place.line,
        limit=limit,
    )
    shown = [row for row in rows if row["line"] is not None]
    following = None
    if rows and (rows[-1]["line"] is None or len(shown) == limit):
        last = rows[-1]
        following = Place(
            booked_at=last["booked_at"],
            posting_id=last["posting_id"],
            line=LINE_MAX if last["line"] is None else last["line"],
        )
    return JournalPage(lines=tuple((_head(row), _line(row)) for row in shown), following=following)


async def statement(
    uow: Uow,
    *,
    brand: str,
    player_id: str,
    asset: str | None,
    since: datetime,
    until: datetime,
    after: Place | None,
    limit: int,
) -> Statement:
    """A page of a player's statement; every page tells the balances of the whole period."""
    place = after or Place(booked_at=since, posting_id=FIRST_ID, line=0)
    rows = await store.statement(
        uow,
        brand=brand,
        player_id=player_id,
        asset=asset,
        since=since,
        until=until,
        at=place.booked_at,
        posting_id=place.posting_id,
        line=place.line,
        limit=limit,
    )
    found = [row for row in rows if row["is_line"]]
    heads = {
        head["posting_id"]: head
        for head in await store.heads(uow, [(row["posting_id"], row["booked_at"]) for row in found])
    }
    lines = tuple(_statement_line(row, heads[row["posting_id"]]) for row in found)
    return Statement(
        balances=tuple(_stage(row) for row in rows if not row["is_line"]),
        lines=lines,
        following=lines[-1].place if len(lines) == limit else None,
    )


def changes(lines: Sequence[StatementLine]) -> dict[str, int]:
    """The sum of the changes of each account among these lines."""
    sums: dict[str, int] = {}
    for line in lines:
        sums[line.code] = sums.get(line.code, 0) + line.change_minor
    return sums


def _head(row: Row) -> Head:
    return Head(
        posting_id=row["posting_id"],
        booked_at=row["booked_at"],
        reference=row["reference"],
        kind=row["kind"],
        reason=row["reason"],
        reverses=row["reverses"],
        network=row["network"],
        block_hash=row["block_hash"],
        block_height=row["block_height"],
    )


def _line(row: Row) -> Line:
    return Line(
        line=row["line"],
        account=account_of(row),
        side=Side(row["side"]),
        amount_minor=int(row["amount"]),
        brand_tag=row["brand_tag"],
    )


def _stage(row: Row) -> StageBalance:
    return StageBalance(
        code=row["code"],
        kind=AccountKind(row["kind"]),
        asset=row["asset"],
        opening_minor=int(row["opening"]),
        closing_minor=int(row["closing"]),
    )


def _statement_line(row: Row, head: Row) -> StatementLine:
    amount = int(row["amount"])
    return StatementLine(
        place=Place(booked_at=row["booked_at"], posting_id=row["posting_id"], line=row["line"]),
        code=row["code"],
        kind=AccountKind(row["kind"]),
        asset=row["asset"],
        side=Side(row["side"]),
        amount_minor=amount,
        change_minor=amount if row["side"] == row["normal_side"] else -amount,
        reference=head["reference"],
        posting_kind=head["kind"],
        reverses=head["reverses"],
    )
