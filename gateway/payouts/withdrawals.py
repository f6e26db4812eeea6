"""The withdrawal: its lifecycle, how one is reserved, moved and given up.

Owns the table of CONTRACT 5 and the only functions that change the state of a withdrawal: each
change is one compare-and-set with its history row (trigger) and its event, in the caller's unit of
work. It must not talk to a chain, to the signer or to HTTP, and it never commits.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from gateway import withdrawals_store as store
from gateway.errors import TooLate, Unavailable
from gateway.payouts import approvals, limits, recovery_store, refund_deposits, void_store
from gateway.payouts.evidence import Evidence, require
from gateway.payouts.withdrawal_events import event_of as event_of
from gateway.payouts.withdrawal_events import withdrawal_snapshot as withdrawal_snapshot
from gateway.withdrawals_store import WithdrawalRow
from ledger import holds, outbox
from ledger.lifecycle import Lifecycle, Move, advance, advance_many
from ledger.outbox import Event


class State(StrEnum):
    """States of CONTRACT 5."""

    RECEIVED = "received"
    """A valid request; left within its own unit of work."""
    REJECTED = "rejected"
    """A rule said no; `code` says which. End state."""
    RESERVED = "reserved"
    """Its amount is set aside from the brand's clearing."""
    SCREENING = "screening"
    """The destination is being checked."""
    ON_HOLD = "on_hold"
    """Stopped; `code` says why; people or a later fact let it go on."""
    PENDING_APPROVAL = "pending_approval"
    """Over a limit; another person than the initiator must agree."""
    QUEUED = "queued"
    """Ready for the next batch."""
    WAITING_LIQUIDITY = "waiting_liquidity"
    """Clearing, hot wallet or fee capital is short; goes on by itself."""
    PLANNED = "planned"
    """Its batch and unsigned bytes are fixed and committed."""
    SIGNED = "signed"
    """Raw bytes and txid are committed; from here it may reach the chain."""
    BROADCASTING = "broadcasting"
    """Being sent."""
    UNCERTAIN = "uncertain"
    """Nobody knows whether the send arrived; the same bytes are sent until seen."""
    SENT = "sent"
    """Seen by a node."""
    CONFIRMING = "confirming"
    """In a block."""
    COMPLETED = "completed"
    """Final on chain and settled in the books. End state."""
    CANCELLING = "cancelling"
    """A staff abort is on its way."""
    CANCELLED = "cancelled"
    """Given up before anything could move. End state."""
    FAILED = "failed"
    """Reverted on chain and final. End state."""
    DECLINED = "declined"
    """Staff said no. End state."""
    EXPIRED = "expired"
    """Its validity passed before signing. End state."""


class Trigger(StrEnum):
    """What moves a withdrawal."""

    REFUSE = "refuse"
    """A rule says no."""
    RESERVE = "reserve"
    """Rules pass and the hold was placed."""
    CLEARING_SHORT = "clearing_short"
    """Rules pass, the brand's clearing does not cover it yet."""
    ENQUEUE = "enqueue"
    """Nothing to check, or every check is clear."""
    SCREEN = "screen"
    """A check has begun."""
    HOLD = "hold"
    """A check stopped it."""
    ASK_APPROVAL = "ask_approval"
    """Over a limit."""
    APPROVE = "approve"
    """Approved by another person, or let go from a hold by staff."""
    LIQUIDITY_SHORT = "liquidity_short"
    """Hot wallet or fee capital does not cover it now."""
    LIQUIDITY_BACK = "liquidity_back"
    """It does again."""
    DEPOSIT_ORPHANED = "deposit_orphaned"
    """A deposit of the player left the chain."""
    RESUME_QUEUED = "resume_queued"
    """The deposit is back; it had been ready."""
    RESUME_WAITING = "resume_waiting"
    """The deposit is back; it had no reservation yet."""
    RESUME_APPROVAL = "resume_approval"
    """The deposit is back; a person still has to agree."""
    DECLINE = "decline"
    """Staff say no."""
    EXPIRE = "expire"
    """`valid_until` or the approval's time limit passed."""
    CANCEL = "cancel"
    """The client gave it up."""
    PLAN = "plan"
    """Batch fixed; coins or nonce reserved; unsigned bytes committed."""
    UNPLAN = "unplan"
    """Left its batch before signing was asked for."""
    SIGNER_REFUSED = "signer_refused"
    """The signer said no."""
    SIGN = "sign"
    """Raw bytes and txid committed."""
    BROADCAST = "broadcast"
    """Before the first send."""
    ACCEPT = "accept"
    """A node took it and shows it."""
    LOSE_SIGHT = "lose_sight"
    """Time-out, crash or unclear answer."""
    FIND = "find"
    """Found in a mempool."""
    MINE = "mine"
    """Found in a block."""
    UNMINE = "unmine"
    """Its block was orphaned."""
    REPLACE = "replace"
    """Another attempt of its family is signed: `attempt_id` and `txid` are of that one now."""
    ADOPT = "adopt"
    """Another attempt of its family counts now: it is in a block, or the newer one is dead."""
    CONFLICT_FINAL = "conflict_final"
    """A tx that excludes ours is final (`anchor_dead`)."""
    COMPLETE = "complete"
    """Final and paid as planned."""
    FAIL = "fail"
    """Reverted and final."""
    REOPEN = "reopen"
    """The block of a completed one was orphaned."""
    REISSUE = "reissue"
    """Two staff signatures over every dead txid: to be paid again."""
    ABORT = "abort"
    """Two staff signatures; one member; the network replaces."""
    ABORT_REFUSED = "abort_refused"
    """The signer refused the abort, or it cannot be built: the payment goes on."""
    ABORT_FINAL = "abort_final"
    """The replacement without payments is final, or the payment is and has paid nothing."""


_BEFORE_SIGNING: Final = (
    State.RESERVED,
    State.SCREENING,
    State.ON_HOLD,
    State.PENDING_APPROVAL,
    State.QUEUED,
    State.WAITING_LIQUIDITY,
    State.PLANNED,
)
"""States in which signing was not asked for; of `planned` only while `sign_requested_at` is null,
of `on_hold` only while nothing was signed."""

ON_CHAIN: Final = (State.SIGNED, State.BROADCASTING, State.UNCERTAIN, State.SENT)
"""States of one whose tx is in no block, as far as the books know: two people may abort it."""

TRANSITIONS: Final[Mapping[tuple[State, Trigger], State]] = {
    (State.RECEIVED, Trigger.REFUSE): State.REJECTED,
    (State.RECEIVED, Trigger.RESERVE): State.RESERVED,
    (State.RECEIVED, Trigger.CLEARING_SHORT): State.WAITING_LIQUIDITY,
    (State.WAITING_LIQUIDITY, Trigger.RESERVE): State.RESERVED,
    (State.RESERVED, Trigger.SCREEN): State.SCREENING,
    (State.RESERVED, Trigger.HOLD): State.ON_HOLD,
    (State.RESERVED, Trigger.ASK_APPROVAL): State.PENDING_APPROVAL,
    (State.RESERVED, Trigger.ENQUEUE): State.QUEUED,
    (State.SCREENING, Trigger.ENQUEUE): State.QUEUED,
    (State.SCREENING, Trigger.HOLD): State.ON_HOLD,
    (State.SCREENING, Trigger.ASK_APPROVAL): State.PENDING_APPROVAL,
    (State.ON_HOLD, Trigger.APPROVE): State.QUEUED,
    (State.PENDING_APPROVAL, Trigger.APPROVE): State.QUEUED,
    (State.QUEUED, Trigger.HOLD): State.ON_HOLD,
    (State.PLANNED, Trigger.HOLD): State.ON_HOLD,
    (State.QUEUED, Trigger.LIQUIDITY_SHORT): State.WAITING_LIQUIDITY,
    (State.WAITING_LIQUIDITY, Trigger.LIQUIDITY_BACK): State.QUEUED,
    **{
        (state, Trigger.DEPOSIT_ORPHANED): State.ON_HOLD
        for state in _BEFORE_SIGNING
        if state is not State.ON_HOLD
    },
    (State.ON_HOLD, Trigger.RESUME_QUEUED): State.QUEUED,
    (State.ON_HOLD, Trigger.RESUME_WAITING): State.WAITING_LIQUIDITY,
    (State.ON_HOLD, Trigger.RESUME_APPROVAL): State.PENDING_APPROVAL,
    **{(state, Trigger.DECLINE): State.DECLINED for state in _BEFORE_SIGNING},
    **{(state, Trigger.EXPIRE): State.EXPIRED for state in _BEFORE_SIGNING},
    **{(state, Trigger.CANCEL): State.CANCELLED for state in _BEFORE_SIGNING},
    (State.QUEUED, Trigger.PLAN): State.PLANNED,
    (State.PLANNED, Trigger.UNPLAN): State.QUEUED,
    (State.PLANNED, Trigger.SIGNER_REFUSED): State.ON_HOLD,
    (State.PLANNED, Trigger.SIGN): State.SIGNED,
    (State.SIGNED, Trigger.BROADCAST): State.BROADCASTING,
    (State.BROADCASTING, Trigger.ACCEPT): State.SENT,
    (State.BROADCASTING, Trigger.LOSE_SIGHT): State.UNCERTAIN,
    (State.UNCERTAIN, Trigger.FIND): State.SENT,
    (State.UNCERTAIN, Trigger.MINE): State.CONFIRMING,
    (State.UNCERTAIN, Trigger.CONFLICT_FINAL): State.ON_HOLD,
    (State.SENT, Trigger.CONFLICT_FINAL): State.ON_HOLD,
    (State.CANCELLING, Trigger.CONFLICT_FINAL): State.ON_HOLD,
    (State.SENT, Trigger.MINE): State.CONFIRMING,
    **{(state, Trigger.REPLACE): state for state in (*ON_CHAIN, State.CANCELLING)},
    **{(state, Trigger.ADOPT): state for state in (*ON_CHAIN, State.CONFIRMING, State.CANCELLING)},
    (State.CONFIRMING, Trigger.UNMINE): State.SENT,
    (State.CONFIRMING, Trigger.COMPLETE): State.COMPLETED,
    (State.CONFIRMING, Trigger.FAIL): State.FAILED,
    (State.COMPLETED, Trigger.REOPEN): State.SENT,
    (State.ON_HOLD, Trigger.REISSUE): State.QUEUED,
    **{(state, Trigger.ABORT): State.CANCELLING for state in ON_CHAIN},
    (State.CANCELLING, Trigger.ABORT_REFUSED): State.UNCERTAIN,
    (State.CANCELLING, Trigger.ABORT_FINAL): State.CANCELLED,
    (State.CANCELLING, Trigger.COMPLETE): State.COMPLETED,
}

WITHDRAWALS: Final = Lifecycle(
    kind="withdrawal", table="gateway.withdrawals", transitions=TRANSITIONS
)

END_STATES: Final = frozenset(
    {
        State.REJECTED,
        State.COMPLETED,
        State.CANCELLED,
        State.FAILED,
        State.DECLINED,
        State.EXPIRED,
    }
)

UNPAID_ENDS: Final = END_STATES - {State.COMPLETED}
"""What ended so counts against no limit any more."""

CLEARING: Final = "clearing"
"""Code of one that waits: the brand's clearing is short, nothing is reserved yet."""
COMPARED_IN_SECONDS: Final = 5  # a lane compares within a cycle or two of its start
_VOIDING: Final = (Trigger.REFUSE, Trigger.CANCEL, Trigger.DECLINE, Trigger.EXPIRE)
_EVENT_TYPES: Final[Mapping[Trigger, str]] = {Trigger.REOPEN: "withdrawal.reopened"}
"""Events that are not named after the state they reach (CONTRACT 5, last row of its table)."""


_OF_ACCEPTANCE: Final = frozenset(
    {Trigger.RESERVE, Trigger.CLEARING_SHORT, Trigger.ENQUEUE, Trigger.ASK_APPROVAL}
)

_ONWARD: Final = {Trigger.PLAN, Trigger.SIGN, Trigger.BROADCAST, Trigger.ACCEPT, Trigger.FIND}
"""What goes on with a payment: nothing is given back, and no evidence is asked for."""

Told = dict[UUID, list[Event]]
"""Events by withdrawal, each one's in order, for the caller to append."""
Ask = Callable[[WithdrawalRow], Awaitable[str | None]]
"""The limit that wants people to agree to a reserved withdrawal; None: nobody needs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A transition to make, with the further columns that change."""

    row: WithdrawalRow
    trigger: Trigger
    changes: Mapping[str, Any]


async def reserve(uow: Uow, row: WithdrawalRow, *, ids: Ids, at: datetime) -> WithdrawalRow:
    """`reserve_many` of one; people are asked where its limits still miss some."""

    async def ask(reserved: WithdrawalRow) -> str | None:
        missing, code = await approvals.missing(uow, reserved)
        return code if missing else None

    told: Told = {}
    [row] = await reserve_many(uow, [row], ask=ask, ids=ids, at=at, told=told)
    await outbox.append_many(uow, told.get(row.id, []), at=at)
    return row


async def reserve_many(
    uow: Uow,
    rows: Sequence[WithdrawalRow],
    *,
    ask: Ask,
    ids: Ids,
    at: datetime,
    told: Told,
) -> list[WithdrawalRow]:
    """Set the amounts aside in this order and queue them, or ask people where a limit wants them;
    one that clearing does not cover waits (`clearing`), a later, smaller one may still fit.

    For `received` rows, or such as wait for clearing: those are returned as they were while
    clearing is still short. At most `holds.PLACE_MANY_MAX`. `told` as of `move_many`.
    """
    placed = await holds.place_many(uow, [hold_request(row) for row in rows], at=at)
    first = [
        Step(row=row, trigger=Trigger.RESERVE, changes={"is_reserved": True, "code": None})
        if is_placed
        else Step(
            row=row,
            trigger=Trigger.CLEARING_SHORT,
            changes={"is_reserved": False, "code": CLEARING},
        )
        for row, is_placed in zip(rows, placed, strict=True)
        if is_placed or row.state != State.WAITING_LIQUIDITY
    ]
    found = {row.id: row for row in rows}
    found |= {row.id: row for row in await move_many(uow, first, ids=ids, at=at, told=told)}
    second = []
    for row in [row for row in found.values() if row.state == State.RESERVED]:
        code = await ask(row)
        trigger = Trigger.ENQUEUE if code is None else Trigger.ASK_APPROVAL
        second.append(Step(row=row, trigger=trigger, changes={"code": code}))
    found |= {row.id: row for row in await move_many(uow, second, ids=ids, at=at, told=told)}
    return [found[row.id] for row in rows]


def hold_request(row: WithdrawalRow) -> holds.HoldRequest:
    """What sets the amount of a withdrawal aside from its brand's clearing."""
    return holds.HoldRequest(
        hold_id=row.id,
        brand=row.brand,
        player_id=row.player_id,
        asset=row.asset,
        amount=row.amount_minor,
        reference=f"withdrawal:{row.id}:reserve",
    )


async def cancel(uow: Uow, withdrawal_id: UUID, *, ids: Ids, at: datetime) -> WithdrawalRow | None:
    """The client gives a withdrawal up; None when there is none. Twice is once.

    Legal until `sign_requested_at` is committed (CONTRACT 5): the row lock makes one of the two
    win. Raises TooLate afterwards and in every other end state.
    """
    row = await store.get(uow, withdrawal_id, lock=True)
    if row is None or row.state == State.CANCELLED:
        return row
    if row.deposit_id is not None:
        raise TooLate("a refund, which only people give up")
    return await give_up(uow, row, Trigger.CANCEL, ids=ids, at=at)


async def give_up(
    uow: Uow,
    row: WithdrawalRow,
    trigger: Trigger,
    *,
    ids: Ids,
    at: datetime,
    code: str | None = None,
) -> WithdrawalRow:
    """End a locked row before signing (`CANCEL`, `EXPIRE`, `DECLINE`); its hold is released. Of a
    refund the caller has locked the deposit before (`refund_deposits.lock`).

    Raises TooLate once signing was asked for, and while the network is in recovery; Unavailable
    until payouts has held the books of a (re)started database against the signer's log. A `planned`
    one leaves its batch when payouts next looks: the batch's gate finds that a member has ended
    and builds anew without it.
    """
    if await recovery_store.current(uow, row.network) is not None:
        raise TooLate("recovery")  # these books may not know that it was paid (P09)
    if not await recovery_store.are_compared(uow, [row.network]):
        raise Unavailable(
            "not_compared",
            "The books are being compared with the signer's log: ask again in a moment.",
            retry_after_seconds=COMPARED_IN_SECONDS,
        )
    is_signing = row.sign_requested_at is not None or row.txid is not None
    if is_signing or row.state not in _BEFORE_SIGNING:
        raise TooLate(row.state)
    changes = {"is_reserved": False, "code": code}
    moved = await move(uow, row, trigger, ids=ids, at=at, changes=changes)
    if row.is_reserved:  # after the limits' rows, as an acceptance locks them
        await holds.release(uow, hold_id=row.id, reference=f"withdrawal:{row.id}:release", at=at)
        await refund_deposits.ended(uow, moved, ids=ids, at=at)
    return moved


async def move_many(
    uow: Uow, steps: Sequence[Step], *, ids: Ids, at: datetime, told: Told
) -> list[WithdrawalRow]:
    """One transition of each of many distinct rows: those of a reservation, where none was ever
    asked for a signature, and those that go on.

    The events are put into `told`; the caller appends them in this unit of work. Raises as `move`.
    """
    if not steps:
        return []
    for step in steps:
        if step.trigger not in _OF_ACCEPTANCE | _ONWARD:
            raise ValueError(f"{step.row.id}: {step.trigger} goes one by one")
        require(step.row, step.trigger, None)
    moves = [
        Move(
            object_id=step.row.id,
            current=State(step.row.state),
            event=step.trigger,
            set=step.changes,
        )
        for step in steps
    ]
    moved = [store.from_mapping(row) for row in await advance_many(uow, WITHDRAWALS, moves, at=at)]
    for step, row in zip(steps, moved, strict=True):
        told.setdefault(row.id, []).append(_event(row, step.row.state, step.trigger, ids))
    return moved


async def move(
    uow: Uow,
    row: WithdrawalRow,
    trigger: Trigger,
    *,
    ids: Ids,
    at: datetime,
    changes: Mapping[str, Any] | None = None,
    evidence: Evidence | None = None,
) -> WithdrawalRow:
    """One transition: compare-and-set on `row.state`, history (trigger) and event.

    `changes` are further columns of gateway.withdrawals. Raises IllegalTransition, StaleState, and
    MaybeSigned when the signer was asked and `evidence` does not rule a payment out.
    """
    require(row, trigger, evidence)
    moved = store.from_mapping(
        await advance(
            uow,
            WITHDRAWALS,
            object_id=row.id,
            current=State(row.state),
            event=trigger,
            set=dict(changes or {}),
            at=at,
        )
    )
    if "sign_requested_at" not in (changes or {}):
        require(moved, trigger, evidence)  # the row as it was may have been read before the gate
    if trigger in _VOIDING and moved.txid is None and moved.deposit_id is None:
        await void_store.add(uow, moved, at=at)  # the signer must never pay it (S25)
    if moved.state in UNPAID_ENDS:
        await limits.give_back(uow, moved.id)
    await outbox.append_many(uow, [_event(moved, row.state, trigger, ids)], at=at)
    return moved


def _event(row: WithdrawalRow, previous: str, trigger: Trigger, ids: Ids) -> Event:
    event_type = _EVENT_TYPES.get(trigger, f"withdrawal.{row.state}")
    return event_of(row, previous=previous, event_type=event_type, ids=ids)
