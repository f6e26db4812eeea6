"""Do the books agree with themselves, and what do they say of the chain at a block?

`check_books` looks at the whole journal; `book_at` gives the book side of HOUSE 7's comparison:
custody by wallet and asset, counting a posting with a chain effect only when its block is an
ancestor of the block asked for. It must not read a node: the chain side belongs to watchers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from config.database import Uow
from ledger import reconcile_store as store
from ledger.store import Row


class BreakKind(StrEnum):
    """How books can be wrong."""

    UNBALANCED_POSTING = "unbalanced_posting"
    """A posting whose debits and credits differ."""
    CACHE_DRIFT = "cache_drift"
    """A cached balance that is not the sum of its entries."""
    NEGATIVE_ACCOUNT = "negative_account"
    """A checked account below zero."""
    OUT_OF_BALANCE = "out_of_balance"
    """Custody is not the sum of all other accounts of the asset."""
    UNDERCOVERED = "undercovered"
    """Custody and receivables do not cover the liabilities of the asset."""
    HOLD_DRIFT = "hold_drift"
    """What stands reserved or in flight is not the sum of the open holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One contradiction; `difference_minor` is found minus expected."""

    kind: BreakKind
    subject: str
    asset: str
    difference_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletBook:
    """What the books say one wallet holds of one asset at a block, minor units."""

    wallet: str
    asset: str
    balance_minor: int


async def check_books(uow: Uow) -> list[Break]:
    """Every contradiction inside the books; empty when they hold (L12 books side, L18)."""
    return [_break(row) for row in await store.contradictions(uow)]


async def check_totals(uow: Uow) -> list[Break]:
    """The contradictions per asset alone: without a look at any entry."""
    return [_break(row) for row in await store.totals(uow)]


async def book_at(uow: Uow, *, network: str, height: int) -> list[WalletBook]:
    """Custody of a network's wallets at the canonical block of `height`, by wallet and asset.

    A posting counts when it has no chain effect, or when its block is canonical (or below the
    retained headers) and not above `height`.
    """
    rows = await store.custody_at(uow, network=network, height=height)
    return [
        WalletBook(wallet=row["wallet"], asset=row["asset"], balance_minor=int(row["balance"]))
        for row in rows
    ]


async def fees_of_blocks(
    uow: Uow, *, network: str, asset: str, hashes: Sequence[str]
) -> dict[str, int]:
    """What the books hold as network fees of each of some blocks, minor units of `asset`."""
    rows = await store.fees_of_blocks(uow, network=network, asset=asset, hashes=hashes)
    return {row["block_hash"]: int(row["amount"]) for row in rows}


def _break(row: Row) -> Break:
    return Break(
        kind=BreakKind(row["kind"]),
        subject=row["subject"],
        asset=row["asset"],
        difference_minor=int(row["difference"]),
    )
