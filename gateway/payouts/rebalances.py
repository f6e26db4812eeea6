"""Moves between wallets: what people or the system ask for, who agrees, where each stands.

Owns the lifecycle and events of every direction and the rules of people: a person and not a
machine, as many of them as policy says, each over the very same words, which are kept because the
signer believes only them. It moves nothing: cold to hot is signed outside, the others are made by
`rebalance_step`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from config.database import Uow
from config.ids import Ids
from config.rebalance_policy import RebalancePolicy
from gateway.payouts import approvals
from gateway.payouts import rebalances_store as store
from gateway.payouts.approvals import Staff
from gateway.payouts.errors import DecisionRefused
from gateway.payouts.rebalances_store import RebalanceRow
from ledger import lifecycle, outbox
from ledger.lifecycle import Lifecycle
from watchers.addresses import AddressRole
from watchers.outgoing import PlannedPayment

EXPIRED: Final = "expired"
NOT_NEEDED: Final = "not_needed"


class Direction(StrEnum):
    """Which way value goes."""

    HOT_TO_COLD = "hot_to_cold"
    """Signed by the signer, to a pinned address."""
    COLD_TO_HOT = "cold_to_hot"
    """Signed outside, by whoever holds the cold keys."""
    HOT_TO_WARM = "hot_to_warm"
    """Signed by the signer, which two people ask for it."""
    WARM_TO_HOT = "warm_to_hot"
    """The same, from the warm wallet's own key."""


class State(StrEnum):
    """Where a rebalance stands."""

    PROPOSED = "proposed"
    """Somebody, or the system, asks for it; people must sign."""
    APPROVED = "approved"
    """As many as it takes have signed."""
    PLANNED = "planned"
    """To be signed by the signer: unsigned bytes and coins or nonce are stored."""
    UNSIGNED_READY = "unsigned_ready"
    """Cold to hot: unsigned bytes are stored, to be signed outside."""
    SIGNED = "signed"
    """Signed bytes are stored; it may be sent at any time."""
    SENT = "sent"
    """Nodes have it, or a block that is not final."""
    DONE = "done"
    """Final, and the chain shows what was planned."""
    FAILED = "failed"
    """Nothing was signed, or the chain shows something else; `code` says which."""
    DECLINED = "declined"
    """A person said no to the proposal."""
    CANCELLED = "cancelled"
    """Taken back before anything was signed: by a person, or as it expired or is not needed."""


class Trigger(StrEnum):
    """What moves a rebalance."""

    AGREE = "agree"
    """As many people as it takes signed the same."""
    DECLINE = "decline"
    """A person said no."""
    CANCEL = "cancel"
    """It is no longer wanted."""
    PLAN = "plan"
    """To be signed by the signer: bytes are stored, with coins or a nonce."""
    UNPLAN = "unplan"
    """They were dropped unsigned; it is planned anew."""
    REFUSE = "refuse"
    """It cannot be built, or the signer refused."""
    BUILD = "build"
    """Cold to hot: unsigned bytes are stored."""
    UNBUILD = "unbuild"
    """They were dropped; it is built anew."""
    SIGN = "sign"
    """Signed bytes are stored."""
    SEND = "send"
    """It was handed to a node."""
    EXECUTE = "execute"
    """Cold to hot, owners of a Safe have signed: the call that executes it was built, signed, or
    dropped to be built anew."""
    REPLACE = "replace"
    """Another attempt of its family is the live one: it pays more for the same."""
    CONFIRM = "confirm"
    """Final, as planned."""
    FAIL = "fail"
    """Final, and not as planned; or something else took its coins or its nonce; or the signer
    refused the call of a Safe."""
    REOPEN = "reopen"
    """Its final block left the chain."""


SIGNED_HERE: Final = (Direction.HOT_TO_COLD, Direction.HOT_TO_WARM, Direction.WARM_TO_HOT)
"""What the signer signs."""
OF_WARM: Final = (Direction.HOT_TO_WARM, Direction.WARM_TO_HOT)
"""What takes two people, whatever its size."""
TARGETS: Final[Mapping[Direction, AddressRole]] = {
    Direction.HOT_TO_COLD: AddressRole.COLD,
    Direction.COLD_TO_HOT: AddressRole.HOT,
    Direction.HOT_TO_WARM: AddressRole.WARM,
    Direction.WARM_TO_HOT: AddressRole.HOT,
}
"""The role of the address that a direction pays."""

_S, _T = State, Trigger

REBALANCES: Final = Lifecycle(
    kind="rebalance",
    table="gateway.rebalances",
    transitions={
        (_S.PROPOSED, _T.AGREE): _S.APPROVED,
        (_S.PROPOSED, _T.DECLINE): _S.DECLINED,
        (_S.PROPOSED, _T.CANCEL): _S.CANCELLED,
        (_S.APPROVED, _T.CANCEL): _S.CANCELLED,
        (_S.APPROVED, _T.PLAN): _S.PLANNED,
        (_S.APPROVED, _T.BUILD): _S.UNSIGNED_READY,
        (_S.APPROVED, _T.REFUSE): _S.FAILED,
        (_S.PLANNED, _T.UNPLAN): _S.APPROVED,
        (_S.PLANNED, _T.REFUSE): _S.FAILED,
        (_S.PLANNED, _T.SIGN): _S.SIGNED,
        (_S.UNSIGNED_READY, _T.UNBUILD): _S.APPROVED,
        (_S.UNSIGNED_READY, _T.CANCEL): _S.CANCELLED,
        (_S.UNSIGNED_READY, _T.SIGN): _S.SIGNED,
        (_S.SIGNED, _T.SEND): _S.SENT,
        (_S.SIGNED, _T.EXECUTE): _S.SIGNED,
        (_S.SIGNED, _T.FAIL): _S.FAILED,
        (_S.SIGNED, _T.REPLACE): _S.SIGNED,
        (_S.SENT, _T.REPLACE): _S.SENT,
        (_S.SENT, _T.CONFIRM): _S.DONE,
        (_S.SENT, _T.FAIL): _S.FAILED,
        (_S.DONE, _T.REOPEN): _S.SENT,
        (_S.FAILED, _T.REOPEN): _S.SENT,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for. `amount_minor` in minor units; `requested_by` None: the system."""

    network: str
    asset: str
    direction: Direction
    amount_minor: int
    address: str
    address_key: str
    reason: str
    forecast: str | None
    requested_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a person signed about a rebalance, understood."""

    direction: Direction
    network: str
    asset: str
    address: str
    amount_minor: int
    valid_until: datetime


async def propose(
    uow: Uow, wish: Wish, *, policy: RebalancePolicy, ids: Ids, at: datetime
) -> RebalanceRow | None:
    """Ask for a move; None when the system has one open for this asset and direction (P26).

    What policy lets the system do by itself is approved at once.
    """
    whole = at.astimezone(UTC).replace(microsecond=0)
    valid_until = whole + timedelta(seconds=policy.valid_seconds)
    people = _people(policy, wish)
    row = _proposed(wish, people_needed=people, valid_until=valid_until, ids=ids, at=at)
    if not await store.insert(uow, row):
        return None
    await _tell(uow, row, previous=None, ids=ids, at=at)
    if row.people_needed == 0:
        await lifecycle.set_actor(uow, "system", reason="within what policy lets go by itself")
        row = await move(uow, row, Trigger.AGREE, {}, ids=ids, at=at)
    return row


async def remake(uow: Uow, wish: Wish, *, ids: Ids, at: datetime) -> RebalanceRow | None:
    """A move that was signed, and that lost books do not know: `approved`, since the signer asked
    for what it takes. None when the system has one open for this asset and direction."""
    row = _proposed(wish, people_needed=0, valid_until=at, ids=ids, at=at)
    if not await store.insert(uow, row):
        return None
    await _tell(uow, row, previous=None, ids=ids, at=at)
    return await move(uow, row, Trigger.AGREE, {}, ids=ids, at=at)


def _proposed(
    wish: Wish, *, people_needed: int, valid_until: datetime, ids: Ids, at: datetime
) -> RebalanceRow:
    return RebalanceRow(
        id=ids.new_id(),
        network=wish.network,
        asset=wish.asset,
        direction=wish.direction.value,
        amount_minor=wish.amount_minor,
        address=wish.address,
        address_key=wish.address_key,
        reason=wish.reason,
        forecast=wish.forecast,
        state=State.PROPOSED.value,
        code=None,
        people_needed=people_needed,
        version=1,
        attempt_id=None,
        sign_requested_at=None,
        txid=None,
        requested_by=wish.requested_by,
        valid_until=valid_until,
        created_at=at,
        state_at=at,
    )


async def approve(
    uow: Uow,
    row: RebalanceRow,
    words: Words,
    staff: Staff,
    *,
    policy: RebalancePolicy,
    ids: Ids,
    at: datetime,
) -> RebalanceRow:
    """A person's signature about a locked rebalance; `approved` with the last one it takes.

    The same person again changes nothing. Policy of this moment may ask for more people than that
    of the proposal, never for fewer. Raises DecisionRefused.
    """
    if words != words_of(row):
        raise DecisionRefused("other_content", "What was signed is not this rebalance.")
    signed = await store.requests(uow, row.id)
    if not approvals.is_further(
        signed,
        staff,
        state=row.state,
        is_open=row.state == State.PROPOSED,
        expired=None if row.valid_until > at else "Decline it, and propose it again.",
    ):
        return row
    await store.add_request(
        uow, row.id, person=staff.person, key_id=staff.key_id, signed=staff.signed, at=at
    )
    needed = max(row.people_needed, policy.people_for(row.amount_minor, is_system=False))
    if len(signed) + 1 < needed:
        return row
    await lifecycle.set_actor(uow, staff.person)
    return await move(uow, row, Trigger.AGREE, {"people_needed": needed}, ids=ids, at=at)


async def decline(
    uow: Uow, row: RebalanceRow, *, person: str, reason: str, ids: Ids, at: datetime
) -> RebalanceRow:
    """Say no to a locked rebalance before anything is built: one person; twice is once.

    What was approved is cancelled. Raises DecisionRefused (`too_late`).
    """
    if not is_declinable(row):
        return row
    trigger = Trigger.DECLINE if row.state == State.PROPOSED else Trigger.CANCEL
    await lifecycle.set_actor(uow, person, reason=reason)
    return await move(uow, row, trigger, {"code": "declined_by_staff"}, ids=ids, at=at)


def is_declinable(row: RebalanceRow) -> bool:
    """False where somebody was quicker. Raises DecisionRefused (`too_late`). Pure."""
    if row.state in (State.DECLINED, State.CANCELLED):
        return False
    if row.state not in (State.PROPOSED, State.APPROVED):
        raise DecisionRefused("too_late", f"It is {row.state}.")
    return True


async def cancel(uow: Uow, row: RebalanceRow, *, code: str, ids: Ids, at: datetime) -> RebalanceRow:
    """The system takes a locked one back (`expired`, `not_needed`). Raises IllegalTransition."""
    await lifecycle.set_actor(uow, "system", reason=code)
    return await move(uow, row, Trigger.CANCEL, {"code": code}, ids=ids, at=at)


async def move(
    uow: Uow,
    row: RebalanceRow,
    trigger: Trigger,
    changes: dict[str, Any],
    *,
    ids: Ids,
    at: datetime,
) -> RebalanceRow:
    """One transition with its event. Raises StaleState, IllegalTransition."""
    moved = store.from_row(
        await lifecycle.advance(
            uow,
            REBALANCES,
            object_id=row.id,
            current=State(row.state),
            event=trigger,
            set=changes,
            at=at,
        )
    )
    await _tell(uow, moved, previous=row.state, ids=ids, at=at)
    return moved


async def people_flaw(uow: Uow, row: RebalanceRow, *, policy: RebalancePolicy) -> str | None:
    """Why too few people stand behind a move to carry it out, by code: one of them left, or policy
    of this moment asks for more than the process that took their words said."""
    signed = await store.requests(uow, row.id)
    people = len({item.person for item in signed if item.is_valid})
    if people < row.people_needed:
        return "person_left"
    is_own = row.requested_by is None and row.direction == Direction.HOT_TO_COLD
    needed = policy.people_for(row.amount_minor, is_system=is_own)
    return "too_few_people" if people < needed else None


def words_of(row: RebalanceRow) -> Words:
    """What people sign about it."""
    return Words(
        direction=Direction(row.direction),
        network=row.network,
        asset=row.asset,
        address=row.address,
        amount_minor=row.amount_minor,
        valid_until=row.valid_until,
    )


def payment_of(row: RebalanceRow) -> PlannedPayment:
    """The one payment of its tx."""
    return PlannedPayment(
        asset=row.asset, address=row.address, key=row.address_key, amount_minor=row.amount_minor
    )


def snapshot(row: RebalanceRow) -> Mapping[str, Any]:
    """The rebalance as neutral fields for an event."""
    return {
        "id": str(row.id),
        "network": row.network,
        "asset": row.asset,
        "direction": row.direction,
        "amount": str(row.amount_minor),
        "address": row.address,
        "reason": row.reason,
        "forecast": row.forecast,
        "state": row.state,
        "code": row.code,
        "people_needed": row.people_needed,
        "requested_by": row.requested_by,
        "txid": row.txid,
        "valid_until": row.valid_until.isoformat(),
        "version": row.version,
        "created_at": row.created_at.isoformat(),
        "state_at": row.state_at.isoformat(),
    }


def _people(policy: RebalancePolicy, wish: Wish) -> int:
    if wish.direction in OF_WARM:
        return 2
    is_own = wish.requested_by is None and wish.direction is Direction.HOT_TO_COLD
    return policy.people_for(wish.amount_minor, is_system=is_own)


async def _tell(
    uow: Uow, row: RebalanceRow, *, previous: str | None, ids: Ids, at: datetime
) -> None:
    await outbox.append(
        uow,
        event_id=ids.new_id(),
        brand=None,
        type=f"rebalance.{row.state}",
        object_kind="rebalance",
        object_id=row.id,
        object_version=row.version,
        previous_state=previous,
        snapshot=snapshot(row),
        at=at,
    )
