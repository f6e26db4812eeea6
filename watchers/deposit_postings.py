"""The postings of deposits (CONTRACT 4): which accounts a step moves, and under which reference.

Owns no state. A posting with an `effect` belongs to a block; a reversal carries the block of the
credit that it takes back, so that both leave the books at any height together (HOUSE 7). Many
deposits are booked together, in a fixed number of statements.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from config.chains import Family
from config.database import Uow
from config.ids import Ids
from ledger import journal
from ledger.accounts import Account, Stage, player, receivable, reorg_loss, unallocated
from ledger.journal import ChainEffect, Entry, Posting, credit, debit
from watchers.addresses import AddressRole
from watchers.deposits import DepositRow
from watchers.inflows import custody_account


class Booking(StrEnum):
    """What a step books; the value ends its reference."""

    PROVISIONAL = "provisional"
    """Dr custody / Cr player provisional, with the block."""
    CLEARING = "clearing"
    """Dr custody / Cr brand clearing, with the block."""
    UNALLOCATED = "unallocated"
    """Dr custody / Cr unallocated, with the block."""
    HELD = "held"
    """Dr player provisional / Cr held; Dr custody, with the block, where nothing stands yet."""
    FINAL = "final"
    """Dr player provisional / Cr brand clearing."""
    RELEASED = "released"
    """Dr held / Cr brand clearing."""
    REVERSED = "reversed"
    """Dr what stands / Cr custody, with the block of the standing credit."""


Booked = tuple[DepositRow, Booking]

_TO_CLEARING = (Booking.CLEARING, Booking.FINAL, Booking.RELEASED)


async def book_many(
    uow: Uow, wanted: Sequence[Booked], *, family: Family, ids: Ids, at: datetime
) -> None:
    """Book each; credits first, so that a reversal finds in clearing what they bring there.

    What a brand owes is repaid before its clearing is credited; what is reversed of final money
    comes out of clearing as far as it is free, the rest becomes the receivable (CONTRACT 4).
    """
    credits = [item for item in wanted if item[1] is not Booking.REVERSED]
    reversals = [item for item in wanted if item[1] is Booking.REVERSED]
    if credits:
        await _post(uow, credits, await _credits(uow, credits, family), ids=ids, at=at)
    standing = [item for item in reversals if item[0].credited_stage is not None]
    if standing:
        await _post(uow, standing, await _debits(uow, standing, family), ids=ids, at=at)


async def _credits(uow: Uow, wanted: Sequence[Booked], family: Family) -> list[tuple[Entry, ...]]:
    shares = iter(
        await journal.clearing_credits_many(
            uow,
            [
                (deposit.brand, deposit.asset, deposit.amount_minor)
                for deposit, booking in wanted
                if booking in _TO_CLEARING
            ],
        )
    )
    lines: list[tuple[Entry, ...]] = []
    for deposit, booking in wanted:
        amount = deposit.amount_minor
        is_new = deposit.credited_stage is None
        source = _custody(deposit, family) if is_new else _standing(deposit, deposit.credited_stage)
        into: tuple[Entry, ...]
        if booking in _TO_CLEARING:
            into = next(shares)
        else:
            into = (credit(_standing(deposit, booking), amount),)
        lines.append((debit(source, amount), *into))
    return lines


async def _debits(uow: Uow, wanted: Sequence[Booked], family: Family) -> list[tuple[Entry, ...]]:
    shares = iter(
        await journal.clearing_debits_many(
            uow,
            [
                (deposit.brand, deposit.asset, deposit.amount_minor)
                for deposit, _ in wanted
                if deposit.credited_stage == "clearing"
            ],
        )
    )
    lines: list[tuple[Entry, ...]] = []
    for deposit, _ in wanted:
        amount = deposit.amount_minor
        taken: tuple[Entry, ...]
        if deposit.credited_stage == "clearing":
            taken = next(shares)
        else:
            taken = (debit(_standing(deposit, deposit.credited_stage), amount),)
        lines.append((*taken, credit(_custody(deposit, family), amount)))
    return lines


async def _post(
    uow: Uow,
    wanted: Sequence[Booked],
    lines: Sequence[tuple[Entry, ...]],
    *,
    ids: Ids,
    at: datetime,
) -> None:
    postings = [
        (
            ids.new_id(),
            Posting(
                reference=reference(deposit, booking),
                kind=f"deposit_{booking}",
                entries=entries,
                effect=_effect(deposit, booking),
            ),
        )
        for (deposit, booking), entries in zip(wanted, lines, strict=True)
    ]
    await journal.post_many(uow, postings, at=at)


def reference(deposit: DepositRow, step: str) -> str:
    """`deposit:<network>:<txid>:<position>:<cycle>:<step>` (CONTRACT 4).

    A coinbase adds its block, as its key does: two blocks may have the same one (D31).
    """
    position = deposit.position
    if deposit.is_coinbase:
        position = f"{position}@{deposit.block_hash or deposit.custody_block_hash}"
    return f"deposit:{deposit.network}:{deposit.txid}:{position}:{deposit.cycle}:{step}"


def _custody(deposit: DepositRow, family: Family) -> Account:
    return custody_account(
        family=family,
        network=deposit.network,
        role=AddressRole.DEPOSIT,
        brand=deposit.brand,
        asset=deposit.asset,
    )


def _standing(deposit: DepositRow, stage: str | None) -> Account:
    """The account of a stage that is not the brand's clearing."""
    match stage:
        case "provisional" | "held":
            return player(deposit.brand, deposit.player_id, Stage(stage), deposit.asset)
        case "unallocated":
            return unallocated(deposit.asset)
        case "refund_held":  # its brand decided to send back what never came
            return receivable(deposit.brand, deposit.asset)
        case "refund_unallocated":  # and this the operator
            return reorg_loss(deposit.asset)
        case _:
            raise ValueError(f"deposit {deposit.id}: nothing of it stands in {stage}")


def _effect(deposit: DepositRow, booking: Booking) -> ChainEffect | None:
    if booking is not Booking.REVERSED and deposit.credited_stage is not None:
        return None  # custody has it already
    is_reversal = booking is Booking.REVERSED
    block_hash = deposit.custody_block_hash if is_reversal else deposit.block_hash
    height = deposit.custody_height if is_reversal else deposit.height
    if block_hash is None or height is None:
        raise ValueError(f"deposit {deposit.id}: {booking} without the block of its custody entry")
    return ChainEffect(network=deposit.network, block_hash=block_hash, height=height)
