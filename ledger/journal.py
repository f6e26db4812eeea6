"""The journal: `post()` is the only way entries are written; balanced and idempotent by reference.

A posting is never changed; a mistake is corrected by `reverse()`. The database states every rule a
second time (0002_ledger.sql). It must not decide business: callers compose the entries.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.database import Uow
from ledger import set_store, store
from ledger.accounts import Account, AccountKind, Side, clearing, receivable
from ledger.errors import UnbalancedPosting

ENTRIES_MAX = 2_000  # a UTXO batch of 500 with its fee shares stays below


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line: an account, a side and a positive amount in minor units."""

    account: Account
    side: Side
    amount_minor: int
    brand_tag: str | None = None


def debit(account: Account, amount_minor: int, *, brand_tag: str | None = None) -> Entry:
    """A line on the left."""
    return Entry(account=account, side=Side.DEBIT, amount_minor=amount_minor, brand_tag=brand_tag)


def credit(account: Account, amount_minor: int, *, brand_tag: str | None = None) -> Entry:
    """A line on the right."""
    return Entry(account=account, side=Side.CREDIT, amount_minor=amount_minor, brand_tag=brand_tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEffect:
    """The block whose effect the custody entries of a posting book."""

    network: str
    block_hash: str
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """A set of entries that balances per asset; UnbalancedPosting otherwise."""

    reference: str
    kind: str
    entries: tuple[Entry, ...]
    effect: ChainEffect | None = None
    reason: str | None = None
    reverses: UUID | None = None

    def __post_init__(self) -> None:
        sums: dict[str, int] = defaultdict(int)
        for entry in self.entries:
            if entry.amount_minor <= 0:
                raise UnbalancedPosting(f"{self.reference}: an entry's amount is positive")
            sign = 1 if entry.side is Side.DEBIT else -1
            sums[entry.account.asset] += sign * entry.amount_minor
        wrong = sorted(asset for asset, total in sums.items() if total)
        if wrong or not self.entries or len(self.entries) > ENTRIES_MAX:
            raise UnbalancedPosting(
                f"{self.reference}: {', '.join(wrong) or 'number of entries'} out of balance"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """The result of posting: `is_new` is False when the reference had been posted before."""

    posting_id: UUID
    is_new: bool


async def post(uow: Uow, posting: Posting, *, posting_id: UUID, at: datetime) -> Posted:
    """Write one posting; the same reference and content again returns the first one.

    Raises ReferenceConflict (other content), InsufficientFunds (a checked account would go below
    zero); either way the caller's unit of work is over.
    """
    found_id, is_new = await store.post(uow, posting, posting_id=posting_id, at=at)
    return Posted(posting_id=found_id, is_new=is_new)


async def post_many(
    uow: Uow, postings: Sequence[tuple[UUID, Posting]], *, at: datetime
) -> list[Posted]:
    """Write many postings in one statement; each as `post` would, the answers in order.

    A checked account is asked for the sum of what they take from it, after all that they add.
    Raises what `post` raises; then none of them is written.
    """
    if not postings:
        return []
    return [
        Posted(posting_id=posting_id, is_new=is_new)
        for posting_id, is_new in await set_store.post_many(uow, postings, at=at)
    ]


async def reverse(
    uow: Uow,
    reference: str,
    *,
    new_reference: str,
    posting_id: UUID,
    at: datetime,
    reason: str,
    effect: ChainEffect | None = None,
) -> Posted:
    """Post the mirror image of `reference`, linked to it (L15). Raises KeyError if unknown.

    Without `effect` the mirror carries the original's block, so that a book at that block sums to
    nothing whether or not the block is still canonical.
    """
    wanted = Reversal(
        reference=reference, new_reference=new_reference, posting_id=posting_id, effect=effect
    )
    (posted,) = await reverse_many(uow, [wanted], reason=reason, at=at)
    return posted


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """One posting to reverse; the fields are those of `reverse`."""

    reference: str
    new_reference: str
    posting_id: UUID
    effect: ChainEffect | None = None


async def reverse_many(
    uow: Uow, wanted: Sequence[Reversal], *, reason: str, at: datetime
) -> list[Posted]:
    """`reverse` of many, in one read and one statement; the answers in order.

    Raises KeyError for the first reference that is unknown; then none is reversed.
    """
    if not wanted:
        return []
    found = await store.read_postings(uow, [item.reference for item in wanted])
    mirrors = [
        (item.posting_id, _mirror(item, found[item.reference], reason=reason)) for item in wanted
    ]
    return await post_many(uow, mirrors, at=at)


async def clearing_credits(uow: Uow, *, brand: str, asset: str, amount: int) -> tuple[Entry, ...]:
    """The lines that credit a brand's clearing: what the brand owes is repaid first (CONTRACT 4).

    Holds the receivable's row until the unit of work ends, if anything stands on it.
    """
    repaid = await store.repaid_first(uow, brand=brand, asset=asset, amount=amount)
    parts = ((receivable(brand, asset), repaid), (clearing(brand, asset), amount - repaid))
    return tuple(credit(account, part) for account, part in parts if part)


async def clearing_debits(uow: Uow, *, brand: str, asset: str, amount: int) -> tuple[Entry, ...]:
    """The lines that take from a brand's clearing as far as free; the rest becomes receivable.

    For the reversal of a final deposit (CONTRACT 4). Holds the clearing's row.
    """
    free = await store.lock_clearing(uow, brand=brand, asset=asset)
    taken = min(amount, free)
    parts = ((clearing(brand, asset), taken), (receivable(brand, asset), amount - taken))
    return tuple(debit(account, part) for account, part in parts if part)


async def clearing_credits_many(
    uow: Uow, wanted: Sequence[tuple[str, str, int]]
) -> list[tuple[Entry, ...]]:
    """`clearing_credits` of each (brand, asset, amount), to be posted together.

    What a brand owes is repaid by the first of its amounts on.
    """
    totals = _totals(wanted)
    if not totals:
        return []
    sums = [(brand, asset, total) for (brand, asset), total in totals.items()]
    repaid = await set_store.repaid_first_many(uow, sums)
    left = dict(zip(totals, repaid, strict=True))
    return [
        tuple(credit(account, part) for account, part in parts)
        for parts in _split(wanted, left, first=receivable, rest=clearing)
    ]


async def clearing_debits_many(
    uow: Uow, wanted: Sequence[tuple[str, str, int]]
) -> list[tuple[Entry, ...]]:
    """`clearing_debits` of each (brand, asset, amount), to be posted together: what is free is
    taken by the first amounts, the rest becomes the brand's receivable."""
    totals = _totals(wanted)
    if not totals:
        return []
    free = await set_store.lock_clearing_many(uow, list(totals))
    left = dict(zip(totals, free, strict=True))
    return [
        tuple(debit(account, part) for account, part in parts)
        for parts in _split(wanted, left, first=clearing, rest=receivable)
    ]


def _totals(wanted: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str], int]:
    totals: dict[tuple[str, str], int] = {}
    for brand, asset, amount in wanted:
        totals[brand, asset] = totals.get((brand, asset), 0) + amount
    return totals


def _split(
    wanted: Sequence[tuple[str, str, int]],
    left: dict[tuple[str, str], int],
    *,
    first: Callable[[str, str], Account],
    rest: Callable[[str, str], Account],
) -> list[list[tuple[Account, int]]]:
    """Each amount as parts: on `first` while anything is left of it, else on `rest`."""
    split = []
    for brand, asset, amount in wanted:
        part = min(amount, left[brand, asset])
        left[brand, asset] -= part
        parts = ((first(brand, asset), part), (rest(brand, asset), amount - part))
        split.append([item for item in parts if item[1]])
    return split


def _mirror(wanted: Reversal, rows: Sequence[store.Row], *, reason: str) -> Posting:
    original = rows[0]
    block = original["block_hash"] and ChainEffect(
        network=original["network"],
        block_hash=original["block_hash"],
        height=original["block_height"],
    )
    return Posting(
        reference=wanted.new_reference,
        kind=f"{original['kind']}_reversed",
        entries=tuple(_mirrored(row) for row in rows),
        effect=wanted.effect or block or None,
        reason=reason,
        reverses=original["id"],
    )


def account_of(row: store.Row) -> Account:
    """The account of an entry's row."""
    return Account(
        code=row["code"],
        kind=AccountKind(row["account_kind"]),
        asset=row["asset"],
        brand=row["brand"],
        player_id=row["player_id"],
        wallet=row["wallet"],
    )


def _mirrored(row: store.Row) -> Entry:
    return Entry(
        account=account_of(row),
        side=Side.CREDIT if row["side"] == Side.DEBIT else Side.DEBIT,
        amount_minor=int(row["amount"]),
        brand_tag=row["brand_tag"],
    )
