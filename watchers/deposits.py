"""The deposit lifecycle: its table, and one step of many deposits.

Owns the states of CONTRACT 4 and what a step does: state rows with their history and events, in
the caller's unit of work, a fixed number of statements however many deposits move. It must not
look at blocks (`deposit_blocks.py`) nor at nodes; all amounts are minor units. Every step that
changes provisional or orphaned value needs the players' locks, which the caller took (CONTRACT 1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from config.ids import Ids
from ledger import lifecycle, outbox
from ledger.lifecycle import Lifecycle, Move


class DepositState(StrEnum):
    """Where a deposit stands (CONTRACT 4)."""

    DETECTED = "detected"
    """Seen in a mempool, in no block."""
    REPLACED = "replaced"
    """An input was spent by another tx before any block."""
    DROPPED = "dropped"
    """Gone from every mempool for T."""
    PENDING = "pending"
    """In a block whose parents are verified, below its min tier."""
    BELOW_MINIMUM = "below_minimum"
    """Under the asset's minimum; unallocated at finality."""
    UNSUPPORTED = "unsupported"
    """A token that is not on the list, or a wrong network."""
    ON_HOLD = "on_hold"
    """Stopped by a rule."""
    PROVISIONAL = "provisional"
    """The player may play; not withdrawable."""
    FINAL = "final"
    """Withdrawable; still watched."""
    ORPHANED = "orphaned"
    """Its block left the chain after it counted; locked."""
    REVERSED = "reversed"
    """A conflict is final, or it was absent for T; its credit was taken back."""
    REJECTED = "rejected"
    """Refused by staff with a reason."""
    REFUNDING = "refunding"
    """On its way back."""
    REFUNDED = "refunded"
    """Paid back."""


class DepositTrigger(StrEnum):
    """What moves a deposit (CONTRACT 4). The first sight has no row here: it is an insert."""

    INCLUDE = "include"
    """In a block whose parents are verified."""
    REPLACE = "replace"
    """An input is spent by another tx."""
    DROP = "drop"
    """Gone from every mempool for T."""
    UNDERPAY = "underpay"
    """Under the minimum."""
    DISALLOW = "disallow"
    """Token not on the list, wrong network."""
    HOLD = "hold"
    """Screening hit, screening down, player blocked."""
    CREDIT = "credit"
    """Min tier reached."""
    FINALISE = "finalise"
    """Full tier, or the chain's own finality."""
    ORPHAN = "orphan"
    """Its block left the chain."""
    RESTORE_PROVISIONAL = "restore_provisional"
    """Included again, tier reached; it had been provisional."""
    RESTORE_FINAL = "restore_final"
    """Included again, tier reached; it had been final."""
    RESTORE_ON_HOLD = "restore_on_hold"
    """Included again, tier reached; it had been on hold."""
    RESTORE_BELOW_MINIMUM = "restore_below_minimum"
    """Included again, tier reached; it had been below the minimum."""
    RESTORE_UNSUPPORTED = "restore_unsupported"
    """Included again, tier reached; it had been unsupported."""
    RESTORE_REJECTED = "restore_rejected"
    """Included again, tier reached; it had been rejected."""
    RESTORE_REFUNDED = "restore_refunded"
    """Included again, tier reached; it had been refunded."""
    REVERSE = "reverse"
    """A conflict is final, or absent for T."""
    RELEASE = "release"
    """Released by staff once final."""
    REJECT = "reject"
    """Rejected by staff with a reason."""
    REFUND = "refund"
    """A refund was asked for."""
    REFUND_COMPLETE = "refund_complete"
    """The refund is final on chain."""
    REFUND_END = "refund_end"
    """The refund ended and has paid nothing."""
    REFUND_REOPEN = "refund_reopen"
    """The block of a refund that was final left the chain."""


_S, _T = DepositState, DepositTrigger

RESTORES: Mapping[DepositState, DepositTrigger] = {
    _S.PROVISIONAL: _T.RESTORE_PROVISIONAL,
    _S.FINAL: _T.RESTORE_FINAL,
    _S.ON_HOLD: _T.RESTORE_ON_HOLD,
    _S.BELOW_MINIMUM: _T.RESTORE_BELOW_MINIMUM,
    _S.UNSUPPORTED: _T.RESTORE_UNSUPPORTED,
    _S.REJECTED: _T.RESTORE_REJECTED,
    _S.REFUNDED: _T.RESTORE_REFUNDED,
}
"""What an orphaned deposit had been -> the trigger that returns it there."""

DEPOSITS = Lifecycle(
    kind="deposit",
    table="chain.deposits",
    transitions={
        **{
            (state, _T.INCLUDE): _S.PENDING
            for state in (_S.DETECTED, _S.DROPPED, _S.REPLACED, _S.REVERSED)
        },
        (_S.DETECTED, _T.REPLACE): _S.REPLACED,
        (_S.DETECTED, _T.DROP): _S.DROPPED,
        (_S.PENDING, _T.UNDERPAY): _S.BELOW_MINIMUM,
        (_S.PENDING, _T.DISALLOW): _S.UNSUPPORTED,
        (_S.PENDING, _T.HOLD): _S.ON_HOLD,
        (_S.PROVISIONAL, _T.HOLD): _S.ON_HOLD,
        (_S.PENDING, _T.CREDIT): _S.PROVISIONAL,
        (_S.PROVISIONAL, _T.FINALISE): _S.FINAL,
        (_S.PENDING, _T.FINALISE): _S.FINAL,
        (_S.PENDING, _T.ORPHAN): _S.DETECTED,
        **{(state, _T.ORPHAN): _S.ORPHANED for state in RESTORES},
        **{(_S.ORPHANED, trigger): state for state, trigger in RESTORES.items()},
        (_S.ORPHANED, _T.REVERSE): _S.REVERSED,
        (_S.ON_HOLD, _T.RELEASE): _S.FINAL,
        **{
            (state, _T.REJECT): _S.REJECTED
            for state in (_S.ON_HOLD, _S.BELOW_MINIMUM, _S.UNSUPPORTED)
        },
        (_S.REJECTED, _T.REFUND): _S.REFUNDING,
        (_S.REFUNDING, _T.REFUND_COMPLETE): _S.REFUNDED,
        (_S.REFUNDING, _T.REFUND_END): _S.REJECTED,
        (_S.REFUNDED, _T.REFUND_REOPEN): _S.REFUNDING,
        (_S.ORPHANED, _T.REFUND_REOPEN): _S.REFUNDING,
    },
)

_EVENT_TYPES: Mapping[DepositTrigger, str] = {
    _T.ORPHAN: "deposit.orphaned",
    _T.RELEASE: "deposit.released",
    **{trigger: "deposit.restored" for trigger in RESTORES.values()},
}
"""Events that are not named after the state they reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositRow:
    """A deposit. Heights are thresholds: the tip at or above which the step is due.

    `credited_stage` says which account its standing credit is in: `provisional`, `clearing`,
    `unallocated`, `held`, or None; `refund_held` and `refund_unallocated`: its refund has taken it
    from there. `custody_block_hash` is the block of that custody entry.
    `is_late`: its address had been rotated away when it was first seen (D22). What stands aside
    with a block and no `final_at_height` is final.
    """

    id: UUID
    brand: str
    player_id: str
    network: str
    txid: str
    position: str
    cycle: int
    asset: str
    amount_minor: int
    address_id: UUID
    address: str
    state: DepositState
    prior_state: DepositState | None
    substatus: str | None
    sweep_state: str
    is_internal: bool
    is_coinbase: bool
    block_hash: str | None
    height: int | None
    min_depth: int
    full_depth: int
    provisional_at_height: int | None
    final_at_height: int | None
    orphaned_at_height: int | None
    absent_at_height: int | None
    conflict_txid: str | None
    conflict_final_at_height: int | None
    credited_stage: str | None
    custody_block_hash: str | None
    custody_height: int | None
    version: int
    first_seen_at: datetime
    state_at: datetime
    policy_version: int = 0
    is_late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One deposit's step: by `trigger`, with the columns that change with it."""

    deposit: DepositRow
    trigger: DepositTrigger
    changes: Mapping[str, Any]


async def step_many(uow: Uow, steps: Sequence[Step], *, ids: Ids, at: datetime) -> list[DepositRow]:
    """Compare-and-set each to its next state, history rows by trigger, events in the outbox.

    Raises IllegalTransition for a pair that is not in the table, StaleState when one moved.
    """
    if not steps:
        return []
    rows = await lifecycle.advance_many(
        uow,
        DEPOSITS,
        [
            Move(
                object_id=step.deposit.id,
                current=step.deposit.state,
                event=step.trigger,
                set=step.changes,
            )
            for step in steps
        ],
        at=at,
    )
    after = [from_row(row) for row in rows]
    await outbox.append_many(
        uow,
        [
            _event(now, trigger=step.trigger, previous=step.deposit.state, ids=ids)
            for step, now in zip(steps, after, strict=True)
        ],
        at=at,
    )
    return after


async def tell_new(uow: Uow, deposits: Sequence[DepositRow], *, ids: Ids, at: datetime) -> None:
    """Append the events of the first sight of deposits."""
    events = [_event(item, trigger=None, previous=None, ids=ids) for item in deposits]
    await outbox.append_many(uow, events, at=at)


def _event(
    deposit: DepositRow,
    *,
    trigger: DepositTrigger | None,
    previous: DepositState | None,
    ids: Ids,
) -> outbox.Event:
    default = f"deposit.{deposit.state.value}"
    return outbox.Event(
        event_id=ids.new_id(),
        brand=deposit.brand,
        type=default if trigger is None else _EVENT_TYPES.get(trigger, default),
        object_kind="deposit",
        object_id=deposit.id,
        object_version=deposit.version,
        previous_state=None if previous is None else previous.value,
        snapshot=snapshot(deposit),
    )


def sweep_state_in(deposit: DepositRow, *, is_final: bool) -> dict[str, Any]:
    """What `sweep_state` becomes with a step: a coin of a UTXO network lies in the wallet that
    pays, so it is swept while it is final; on account chains sweeps say so, and nothing changes."""
    if not deposit.position.startswith("out:"):
        return {}
    return {"sweep_state": "swept" if is_final else "none"}


def snapshot(deposit: DepositRow) -> dict[str, Any]:
    """The deposit as neutral fields: amounts as integer text, ids as UUID text."""
    return {
        "id": str(deposit.id),
        "brand": deposit.brand,
        "player_id": deposit.player_id,
        "network": deposit.network,
        "txid": deposit.txid,
        "position": deposit.position,
        "cycle": deposit.cycle,
        "asset": deposit.asset,
        "amount": str(deposit.amount_minor),
        "address_id": str(deposit.address_id),
        "address": deposit.address,
        "state": deposit.state.value,
        "prior_state": None if deposit.prior_state is None else deposit.prior_state.value,
        "substatus": deposit.substatus,
        "sweep_state": deposit.sweep_state,
        "is_internal": deposit.is_internal,
        "is_late": deposit.is_late,
        "block_hash": deposit.block_hash,
        "height": deposit.height,
        "min_depth": deposit.min_depth,
        "full_depth": deposit.full_depth,
        "provisional_at_height": deposit.provisional_at_height,
        "final_at_height": deposit.final_at_height,
        "version": deposit.version,
        "first_seen_at": deposit.first_seen_at.isoformat(),
        "state_at": deposit.state_at.isoformat(),
    }


_FIELDS = tuple(name for name in DepositRow.__dataclass_fields__ if name != "amount_minor")


def from_row(row: RowMapping | Mapping[str, Any]) -> DepositRow:
    """A database row as a value; columns that are no field of it are left out."""
    values = {name: row[name] for name in _FIELDS}
    prior = values["prior_state"]
    values["amount_minor"] = int(row["amount"])
    values["state"] = DepositState(values["state"])
    values["prior_state"] = None if prior is None else DepositState(prior)
    return DepositRow(**values)
