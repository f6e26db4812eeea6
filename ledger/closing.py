"""What a period did to the books: opening, movements by kind of posting, closing.

Reads the journal only. Player accounts are told together per brand, stage and asset, so that a
report stays small; every other account stands by itself. Balances are on the account's normal side.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from config.database import Uow
from ledger import closing_store as store


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """What postings of one kind moved on one account in the period, minor units."""

    account: str
    asset: str
    side: str
    kind: str
    debits_minor: int
    credits_minor: int
    entries: int

    @property
    def change_minor(self) -> int:
        """By how much the account's balance grew."""
        change = self.debits_minor - self.credits_minor
        return change if self.side == "debit" else -change


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountClose:
    """One account over the period: opening + movements = closing."""

    account: str
    asset: str
    side: str
    opening_minor: int
    debits_minor: int
    credits_minor: int
    closing_minor: int


async def movements(uow: Uow, *, since: datetime, until: datetime) -> list[Movement]:
    """Movements of `since` <= booked < `until`, by account and kind."""
    rows = await store.movements(uow, since=since, until=until)
    return [
        Movement(
            account=row["account"],
            asset=row["asset"],
            side=row["side"],
            kind=row["kind"],
            debits_minor=int(row["debits"]),
            credits_minor=int(row["credits"]),
            entries=int(row["entries"]),
        )
        for row in rows
    ]


async def balances_before(uow: Uow, *, until: datetime) -> dict[tuple[str, str, str], int]:
    """What stood before a moment, by (account, asset, side)."""
    rows = await store.balances_before(uow, until=until)
    return {(row["account"], row["asset"], row["side"]): int(row["balance"]) for row in rows}


def closes(
    opening: Mapping[tuple[str, str, str], int], moved: list[Movement]
) -> list[AccountClose]:
    """Each account that held something or moved. Pure."""
    debits: Counter[tuple[str, str, str]] = Counter()
    credits: Counter[tuple[str, str, str]] = Counter()
    for item in moved:
        debits[item.account, item.asset, item.side] += item.debits_minor
        credits[item.account, item.asset, item.side] += item.credits_minor
    found = []
    for place in sorted({*opening, *debits, *credits}):
        account, asset, side = place
        change = debits[place] - credits[place]
        before = opening.get(place, 0)
        if not before and not debits[place] and not credits[place]:
            continue  # it stood at zero and nothing moved
        found.append(
            AccountClose(
                account=account,
                asset=asset,
                side=side,
                opening_minor=before,
                debits_minor=debits[place],
                credits_minor=credits[place],
                closing_minor=before + (change if side == "debit" else -change),
            )
        )
    return found
