"""What people may book by hand, and the posting of each category (FEATURES L7, docs/LEDGER.md).

Every category takes from the operator's own money, so none of them can make capital, and each is
refused while that money does not cover it: custody and receivables always cover what is owed. A
correction is a linked reversal of an earlier adjustment; other postings are corrected by the
roads that made them. Two people decide before this is called.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from config.database import Uow
from gateway.errors import Conflict
from ledger import balances, journal, reading
from ledger.accounts import Account, AccountKind, capital, receivable, write_off
from ledger.journal import Entry, Posting, credit, debit

KIND_PREFIX = "adjustment_"


class Category(StrEnum):
    """Why something is booked by hand."""

    ALLOCATE = "allocate"
    """Capital becomes a brand's clearing; what the brand owes is repaid first."""
    WRITE_OFF_RECEIVABLE = "write_off_receivable"
    """The operator gives up what a brand owes."""
    WRITE_OFF_COINS = "write_off_coins"
    """Coins of a wallet are gone, and no transaction of ours took them."""
    REVERSAL = "reversal"
    """An earlier adjustment was wrong: its mirror, linked to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """What two people agreed to. `id` makes its posting unique for ever."""

    id: UUID
    category: Category
    asset: str
    amount_minor: int
    brand: str | None
    wallet: str | None
    reason: str


async def book(uow: Uow, adjustment: Adjustment, *, posting_id: UUID, at: datetime) -> UUID:
    """Post it; the posting's id. Raises Conflict, and InsufficientFunds of an account."""
    asset, amount = adjustment.asset, adjustment.amount_minor
    await balances.lock_capital(uow, asset)
    if await balances.fee_capital(uow, asset) < amount:
        raise Conflict(
            "capital_short", f"The operator's own {asset} does not cover it; top up capital first."
        )
    posting = Posting(
        reference=f"adjustment:{adjustment.id}",
        kind=KIND_PREFIX + adjustment.category,
        entries=await _entries(uow, adjustment),
        reason=adjustment.reason,
    )
    posted = await journal.post(uow, posting, posting_id=posting_id, at=at)
    return posted.posting_id


async def reversible(uow: Uow, posting: UUID) -> reading.PostingView:
    """The adjustment behind a posting. Raises Conflict for what may not be reversed."""
    view = await reading.posting(uow, posting)
    if view is None:
        raise Conflict("unknown_posting", "There is no such posting.")
    if not view.head.kind.startswith(KIND_PREFIX) or view.head.reverses is not None:
        raise Conflict(
            "not_an_adjustment", "Only an adjustment is reversed by hand, and only once."
        )
    if view.reversed_by is not None:
        raise Conflict("reversed", "This adjustment has been reversed.")
    return view


async def reverse(uow: Uow, posting: UUID, *, posting_id: UUID, reason: str, at: datetime) -> UUID:
    """Post the mirror, linked to the original (L15). Raises as `reversible` and `book`."""
    view = await reversible(uow, posting)
    reference = view.head.reference
    posted = await journal.reverse(
        uow,
        reference,
        new_reference=f"{reference}:reversed",
        posting_id=posting_id,
        at=at,
        reason=reason,
    )
    if not posted.is_new:
        raise Conflict("reversed", "This adjustment has been reversed.")
    return posted.posting_id


async def _entries(uow: Uow, adjustment: Adjustment) -> tuple[Entry, ...]:
    asset, amount = adjustment.asset, adjustment.amount_minor
    match adjustment.category:
        case Category.ALLOCATE:
            brand = _named(adjustment.brand)
            credits = await journal.clearing_credits(uow, brand=brand, asset=asset, amount=amount)
            return (debit(capital(asset), amount), *credits)
        case Category.WRITE_OFF_RECEIVABLE:
            brand = _named(adjustment.brand)
            return (
                debit(write_off(asset), amount, brand_tag=brand),
                credit(receivable(brand, asset), amount),
            )
        case Category.WRITE_OFF_COINS:
            account = await _wallet(uow, adjustment)
            return (debit(write_off(asset), amount), credit(account, amount))
        case Category.REVERSAL:
            raise ValueError("a reversal has no lines of its own")


async def _wallet(uow: Uow, adjustment: Adjustment) -> Account:
    """The custody account; it is not checked by the database, so its balance is asked here."""
    rows = await balances.balances(uow, kind=AccountKind.CUSTODY)
    for row in rows:
        if (row.wallet, row.asset) == (adjustment.wallet, adjustment.asset):
            break
    else:
        raise Conflict("unknown_wallet", "No coins of this asset stand on such a wallet.")
    if row.balance_minor < adjustment.amount_minor:
        raise Conflict("wallet_short", "The books have less than that on this wallet.")
    return Account(
        code=row.code, kind=row.kind, asset=row.asset, brand=row.brand, wallet=row.wallet
    )


def _named(brand: str | None) -> str:
    if brand is None:
        raise ValueError("this category names a brand")
    return brand
