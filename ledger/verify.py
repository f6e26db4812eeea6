"""Replay from zero: every balance from its entries, every posting by itself, page by page.

What is asked of each part is in `verify_store.py`. A page is one statement, so it judges one moment
and may run beside a busy house; what it has judged is append-only, or is judged whole with its
account. It repeats what the database enforces at writing, against rows that were changed past it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from config.database import Uow
from ledger import reconcile, seals
from ledger import verify_store as store
from ledger.store import Row

PAGE_ROWS = 1_000
PAGE_SEALS = 5  # each is up to SEAL_POSTINGS postings
ACCOUNTS_ROWS = 200  # each is summed from its first entry
PAGE_KIND = "page"


class Part(StrEnum):
    """What is replayed, in this order."""

    POSTINGS = "postings"
    """Balanced per asset, with entries; a reversal mirrors one posting, once."""
    ENTRIES = "entries"
    """Each belongs to a posting."""
    ACCOUNTS = "accounts"
    """What is cached is the sum of the entries; none below zero; stages agree with holds."""
    TOTALS = "totals"
    """Custody equals all other accounts, and covers the liabilities, per asset."""
    SEALS = "seals"
    """Each follows the one before, and its postings are what was sealed (L19)."""
    UNSEALED = "unsealed"
    """No posting came in behind the seals; the newest wait for theirs and count as well."""


_FIRST = {
    Part.POSTINGS: ("-infinity", "00000000-0000-0000-0000-000000000000"),
    Part.ENTRIES: ("00000000-0000-0000-0000-000000000000", "0"),
    Part.ACCOUNTS: ("0",),
    Part.SEALS: ("0",),
    Part.UNSEALED: ("-infinity", "00000000-0000-0000-0000-000000000000"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One contradiction; `difference_minor` is found minus expected, where amounts differ."""

    kind: str
    subject: str
    asset: str
    difference_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One page. `place` None: the part is done."""

    checked: int
    findings: tuple[Finding, ...]
    place: str | None


async def replay(uow: Uow, part: Part, *, place: str | None) -> Replayed:
    """One page of a part, after a place that an earlier page gave; the unit of work sees all
    brands and may not write from here on. Raises ValueError for no place of this part."""
    await read_only(uow)
    if part is Part.TOTALS:
        lost = [_finding(row) for row in await store.lost_pending(uow)]
        breaks = await reconcile.check_totals(uow)
        found = [
            Finding(
                kind=item.kind.value,
                subject=item.subject,
                asset=item.asset,
                difference_minor=item.difference_minor,
            )
            for item in breaks
        ]
        return Replayed(checked=1, findings=(*lost, *found), place=None)
    limit = ACCOUNTS_ROWS if part is Part.ACCOUNTS else PAGE_ROWS
    first = _FIRST[part]
    at = first if place is None else tuple(place.split("|", len(first) - 1))
    if len(at) != len(first):
        raise ValueError(f"{place!r} is no place of {part}")
    if part is Part.SEALS:
        return await _seals(uow, after=int(at[0]))
    return paged(await store.page(uow, part.value, place=at, limit=limit), limit=limit)


async def _seals(uow: Uow, *, after: int) -> Replayed:
    """A page of seals after a sequence."""
    findings: list[Finding] = []
    for checked in range(PAGE_SEALS):
        looked = await seals.flaws(uow, after=after)
        if looked is None:
            return Replayed(checked=checked, findings=tuple(findings), place=None)
        after, found = looked
        findings += [
            Finding(kind=flaw.kind, subject=flaw.subject, asset="", difference_minor=0)
            for flaw in found
        ]
    return Replayed(checked=PAGE_SEALS, findings=tuple(findings), place=str(after))


async def read_only(uow: Uow) -> None:
    """Whatever is called in this unit of work from here on writes nothing."""
    await store.read_only(uow)


def paged(rows: Sequence[Row], *, limit: int) -> Replayed:
    """The rows of a page: its findings, and where it came to when there may be more."""
    pages = [row for row in rows if row["kind"] == PAGE_KIND]
    checked = sum(int(row["difference"]) for row in pages)
    return Replayed(
        checked=checked,
        findings=tuple(_finding(row) for row in rows if row["kind"] != PAGE_KIND),
        place=str(pages[0]["subject"]) if checked == limit else None,
    )


def _finding(row: Row) -> Finding:
    return Finding(
        kind=row["kind"],
        subject=row["subject"],
        asset=row["asset"],
        difference_minor=int(row["difference"]),
    )
