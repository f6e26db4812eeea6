"""What a refund does to its deposit: sent back, paid, not paid, lost (CONTRACT 4, ADR 0042).

Public surface of `watchers`. Owns when a deposit can be sent back, and the states of one that is;
the payment is a withdrawal of kind `refund`, whose owner calls here in the same unit of work. The
deposit is locked before the withdrawal and its transaction are, in the order that watchers take.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from ledger import journal
from ledger.accounts import Stage, player, reorg_loss, unallocated
from ledger.holds import HoldSource
from ledger.journal import Entry, Posting, credit, debit
from watchers import deposit_postings as postings
from watchers import deposit_store as store
from watchers.deposit_due import SENT_BACK, locked
from watchers.deposits import (
    DepositRow,
    DepositState,
    DepositTrigger,
    Step,
    from_row,
    step_many,
    sweep_state_in,
)
from watchers.errors import DepositStays

_WITH_REFUND = {
    HoldSource.HELD.value: "refund_held",
    HoldSource.UNALLOCATED.value: "refund_unallocated",
}


async def lock(uow: Uow, deposit_ids: Iterable[UUID]) -> dict[UUID, DepositRow]:
    """Deposits by id as they stand, under their players' locks and their own. A role of the API
    sees only those that wait for a decision or are sent back."""
    found = [await store.get(uow, item) for item in sorted(set(deposit_ids))]
    rows = await locked(uow, [from_row(row) for row in found if row is not None])
    return {row.id: row for row in rows}


def is_final(deposit: DepositRow) -> bool:
    """Whether its block stands and is final, as far as the watcher has seen."""
    return deposit.height is not None and deposit.final_at_height is None


def is_lost(deposit: DepositRow, *, height: int) -> bool:
    """Whether it may be waited for no longer at tip `height`: a conflict is final, or absent for T.

    Its reversal is the watcher's, which asks more (the chain's own finality, every mempool).
    """
    ends = (deposit.conflict_final_at_height, deposit.absent_at_height)
    return deposit.block_hash is None and any(end is not None and end <= height for end in ends)


def source_of(deposit: DepositRow) -> HoldSource:
    """Where the books have what a refund of this deposit takes. Raises DepositStays unless it was
    rejected, is final, and something of it stands aside."""
    if deposit.state is not DepositState.REJECTED:
        raise DepositStays("not_rejected", f"The deposit is {deposit.state}: reject it first.")
    if not is_final(deposit):
        raise DepositStays("not_final", "It can be sent back once its block is final.")
    if deposit.credited_stage not in _WITH_REFUND:
        raise DepositStays("not_in_custody", "The books have nothing of it: it needs a recovery.")
    return HoldSource(deposit.credited_stage)


async def begin(uow: Uow, deposit: DepositRow, *, ids: Ids, at: datetime) -> DepositRow:
    """Rejected -> refunding: its value is with the refund, whose hold the caller places.

    Raises DepositStays. The caller locked the deposit.
    """
    stage = _WITH_REFUND[source_of(deposit).value]
    return await _step(
        uow, deposit, DepositTrigger.REFUND, {"credited_stage": stage}, ids=ids, at=at
    )


async def end(
    uow: Uow, deposit: DepositRow, *, source: HoldSource, ids: Ids, at: datetime
) -> DepositRow:
    """Refunding -> rejected: nothing was paid, and the caller gave the hold back to its source.

    Without a block it is orphaned by that, and restored or reversed as ever. One that was reversed
    by then is left as it is: what was given back is what was owed for it.
    """
    if _was_taken_back(deposit):
        await _repay(uow, deposit, source=source, ids=ids, at=at)
        return deposit
    changes = {"credited_stage": source.value}
    after = await _step(uow, deposit, DepositTrigger.REFUND_END, changes, ids=ids, at=at)
    return await _orphaned(uow, after, ids=ids, at=at)


async def complete(uow: Uow, deposit: DepositRow, *, ids: Ids, at: datetime) -> DepositRow:
    """Refunding -> refunded: the refund is final. Without a block it is orphaned by that; one that
    was reversed by then is left as it is."""
    if _was_taken_back(deposit):
        return deposit
    after = await _step(uow, deposit, DepositTrigger.REFUND_COMPLETE, {}, ids=ids, at=at)
    return await _orphaned(uow, after, ids=ids, at=at)


async def reopen(uow: Uow, deposit: DepositRow, *, ids: Ids, at: datetime) -> DepositRow:
    """Refunded -> refunding: the block of the refund left the chain, maybe with the deposit's own.

    One that was reversed by then is left as it is: it is owed, however the refund ends.
    """
    if _was_taken_back(deposit):
        return deposit
    changes: dict[str, Any] = {"prior_state": None}
    return await _step(uow, deposit, DepositTrigger.REFUND_REOPEN, changes, ids=ids, at=at)


def _was_taken_back(deposit: DepositRow) -> bool:
    """It was reversed while its refund counted as paid, and may have come again since."""
    return deposit.state is DepositState.REVERSED or deposit.substatus == SENT_BACK


async def _repay(
    uow: Uow, deposit: DepositRow, *, source: HoldSource, ids: Ids, at: datetime
) -> None:
    """The reversal took it from whoever decided to send it; nothing was sent after all."""
    amount, asset = deposit.amount_minor, deposit.asset
    back: tuple[Entry, ...]
    if source is HoldSource.HELD:
        held = player(deposit.brand, deposit.player_id, Stage.HELD, asset)
        shares = await journal.clearing_credits(
            uow, brand=deposit.brand, asset=asset, amount=amount
        )
        back = (debit(held, amount), *shares)
    else:
        back = (debit(unallocated(asset), amount), credit(reorg_loss(asset), amount))
    posting = Posting(
        reference=postings.reference(deposit, "refund_returned"),
        kind="deposit_refund_returned",
        entries=back,
    )
    await journal.post(uow, posting, posting_id=ids.new_id(), at=at)


async def _orphaned(uow: Uow, deposit: DepositRow, *, ids: Ids, at: datetime) -> DepositRow:
    """`orphaned_at_height` and what follows from it stand since its block left the chain."""
    if deposit.block_hash is not None:
        return deposit
    changes = {"prior_state": deposit.state.value, **sweep_state_in(deposit, is_final=False)}
    return await _step(uow, deposit, DepositTrigger.ORPHAN, changes, ids=ids, at=at)


async def _step(
    uow: Uow,
    deposit: DepositRow,
    trigger: DepositTrigger,
    changes: dict[str, Any],
    *,
    ids: Ids,
    at: datetime,
) -> DepositRow:
    step = Step(deposit=deposit, trigger=trigger, changes=changes)
    return (await step_many(uow, [step], ids=ids, at=at))[0]
