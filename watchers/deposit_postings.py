"""The postings of deposits (CONTRACT 4): which accounts a step moves, and under which reference.

Owns no state. A posting with an `effect` belongs to a block; a reversal carries the block of the
credit that it takes back, so that both leave the books at any height together (HOUSE 7).
"""

from datetime import datetime

from config.chains import Family
from config.database import Uow
from config.ids import Ids
from ledger import journal
from ledger.accounts import Account, Stage, player, unallocated
from ledger.journal import ChainEffect, Entry, Posting, credit, debit
from watchers.addresses import AddressRole
from watchers.deposits import DepositRow
from watchers.inflows import custody_account


async def book(
    uow: Uow, deposit: DepositRow, *, stage: str, family: Family, ids: Ids, at: datetime
) -> None:
    """Dr custody / Cr player provisional, brand clearing or unallocated; the block's effect."""
    entries = (
        debit(_custody(deposit, family), deposit.amount_minor),
        *await _credits(uow, deposit, stage),
    )
    await _post(uow, deposit, stage, entries, ids=ids, at=at, effect=_block(deposit))


async def finalise(uow: Uow, deposit: DepositRow, *, ids: Ids, at: datetime) -> None:
    """Dr player provisional / Cr brand clearing; a receivable of the brand is repaid first."""
    entries = (
        debit(_provisional(deposit), deposit.amount_minor),
        *await _credits(uow, deposit, "clearing"),
    )
    await _post(uow, deposit, "final", entries, ids=ids, at=at, effect=None)


async def reverse(uow: Uow, deposit: DepositRow, *, family: Family, ids: Ids, at: datetime) -> None:
    """Take back what stands: whole from provisional or unallocated; of clearing as far as it is
    free, the rest becomes the brand's receivable (CONTRACT 4)."""
    if deposit.credited_stage is None:
        return
    entries = (
        *await _debits(uow, deposit),
        credit(_custody(deposit, family), deposit.amount_minor),
    )
    if deposit.custody_block_hash is None or deposit.custody_height is None:
        raise ValueError(f"deposit {deposit.id}: credited without the block of its custody entry")
    effect = ChainEffect(
        network=deposit.network,
        block_hash=deposit.custody_block_hash,
        height=deposit.custody_height,
    )
    await _post(uow, deposit, "reversed", entries, ids=ids, at=at, effect=effect)


async def _credits(uow: Uow, deposit: DepositRow, stage: str) -> tuple[Entry, ...]:
    amount = deposit.amount_minor
    if stage == "provisional":
        return (credit(_provisional(deposit), amount),)
    if stage == "unallocated":
        return (credit(unallocated(deposit.asset), amount),)
    return await journal.clearing_credits(
        uow, brand=deposit.brand, asset=deposit.asset, amount=amount
    )


async def _debits(uow: Uow, deposit: DepositRow) -> tuple[Entry, ...]:
    amount = deposit.amount_minor
    if deposit.credited_stage == "provisional":
        return (debit(_provisional(deposit), amount),)
    if deposit.credited_stage == "unallocated":
        return (debit(unallocated(deposit.asset), amount),)
    return await journal.clearing_debits(
        uow, brand=deposit.brand, asset=deposit.asset, amount=amount
    )


async def _post(
    uow: Uow,
    deposit: DepositRow,
    step: str,
    entries: tuple[Entry, ...],
    *,
    ids: Ids,
    at: datetime,
    effect: ChainEffect | None,
) -> None:
    posting = Posting(
        reference=reference(deposit, step),
        kind=f"deposit_{step}",
        entries=entries,
        effect=effect,
    )
    await journal.post(uow, posting, posting_id=ids.new_id(), at=at)


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


def _provisional(deposit: DepositRow) -> Account:
    return player(deposit.brand, deposit.player_id, Stage.PROVISIONAL, deposit.asset)


def _block(deposit: DepositRow) -> ChainEffect:
    if deposit.block_hash is None or deposit.height is None:
        raise ValueError(f"deposit {deposit.id}: a credit needs the block of its tx")
    return ChainEffect(
        network=deposit.network, block_hash=deposit.block_hash, height=deposit.height
    )
