"""Holds: clearing -> reserved -> in flight -> out, each step at most once (two-phase).

Owns `ledger.holds` and the postings between those three stages. The posting that consumes what is
in flight is the caller's (settlement); `settle` only closes the hold in the same unit of work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from config.database import Uow
from ledger import store
from ledger.accounts import Stage, clearing, player
from ledger.errors import StaleState
from ledger.journal import Posting, credit, debit, post

PLACE_MANY_MAX = 200
_NAMESPACE = UUID("6361676c-6564-5765-8000-686f6c647300")


class HoldState(StrEnum):
    """Where a hold stands."""

    OPEN = "open"
    """Reserved."""
    CAPTURED = "captured"
    """In flight."""
    RELEASED = "released"
    """Given back before signing."""
    SETTLED = "settled"
    """Paid and final."""
    RETURNED = "returned"
    """Signed, failed on chain, given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRequest:
    """One reservation from a brand's clearing, minor units."""

    hold_id: UUID
    brand: str
    player_id: str
    asset: str
    amount: int
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A hold as stored."""

    id: UUID
    brand: str
    player_id: str
    asset: str
    amount: int
    state: HoldState
    cycle: int


def posting_id_of(reference: str) -> UUID:
    """The posting id of a hold step: fixed by its reference, so that a replay finds it."""
    return uuid5(_NAMESPACE, reference)


async def place(
    uow: Uow,
    *,
    hold_id: UUID,
    brand: str,
    player_id: str,
    asset: str,
    amount: int,
    reference: str,
    at: datetime,
) -> bool:
    """Reserve `amount` from the brand's clearing. False: clearing is short, nothing was written."""
    request = HoldRequest(
        hold_id=hold_id,
        brand=brand,
        player_id=player_id,
        asset=asset,
        amount=amount,
        reference=reference,
    )
    return (await place_many(uow, [request], at=at))[0]


async def place_many(uow: Uow, requests: Sequence[HoldRequest], *, at: datetime) -> list[bool]:
    """Reserve set-wise: one statement, one answer each, in order (HOUSE 7). At most 200.

    One that does not fit answers False; a later, smaller one may still fit.
    """
    if len(requests) > PLACE_MANY_MAX:
        raise ValueError(f"place_many: at most {PLACE_MANY_MAX} requests")
    posting_ids = [posting_id_of(request.reference) for request in requests]
    return await store.place_many(uow, requests, posting_ids=posting_ids, at=at)


async def capture(uow: Uow, *, hold_id: UUID, reference: str, at: datetime) -> None:
    """Reserved -> in flight, at signing. Raises StaleState unless the hold is open."""
    hold = await _move(uow, hold_id, (HoldState.OPEN,), HoldState.CAPTURED, at)
    await _shift(uow, hold, Stage.RESERVED, Stage.IN_FLIGHT, "hold_captured", reference, at)


async def release(uow: Uow, *, hold_id: UUID, reference: str, at: datetime) -> None:
    """Reserved -> clearing, before signing. Raises StaleState unless the hold is open."""
    hold = await _move(uow, hold_id, (HoldState.OPEN,), HoldState.RELEASED, at)
    await _shift(uow, hold, Stage.RESERVED, None, "hold_released", reference, at)


async def return_in_flight(uow: Uow, *, hold_id: UUID, reference: str, at: datetime) -> None:
    """In flight -> clearing, failed on chain and final. Raises StaleState unless captured."""
    hold = await _move(uow, hold_id, (HoldState.CAPTURED,), HoldState.RETURNED, at)
    await _shift(uow, hold, Stage.IN_FLIGHT, None, "hold_returned", reference, at)


async def settle(uow: Uow, *, hold_id: UUID, at: datetime | None = None) -> None:
    """Paid: the caller's posting consumes what is in flight. Raises StaleState unless captured."""
    await _move(uow, hold_id, (HoldState.CAPTURED,), HoldState.SETTLED, at)


async def reopen(uow: Uow, *, hold_id: UUID) -> None:
    """A completed block was orphaned: settled -> captured; the caller reverses its posting."""
    await _move(uow, hold_id, (HoldState.SETTLED,), HoldState.CAPTURED, None)


async def get(uow: Uow, hold_id: UUID) -> Hold | None:
    """The hold, or None."""
    row = await store.read_hold(uow, hold_id)
    return None if row is None else _from_row(row)


async def _move(
    uow: Uow,
    hold_id: UUID,
    allowed: tuple[HoldState, ...],
    to: HoldState,
    at: datetime | None,
) -> Hold:
    row = await store.move_hold(
        uow, hold_id, allowed=[state.value for state in allowed], to=to.value, at=at
    )
    if row is None:
        raise StaleState(f"hold {hold_id} is not {' or '.join(allowed)}")
    return _from_row(row)


async def _shift(
    uow: Uow,
    hold: Hold,
    source: Stage,
    target: Stage | None,
    kind: str,
    reference: str,
    at: datetime,
) -> None:
    into = (
        clearing(hold.brand, hold.asset)
        if target is None
        else player(hold.brand, hold.player_id, target, hold.asset)
    )
    numbered = reference if hold.cycle == 1 else f"{reference}:{hold.cycle}"
    posting = Posting(
        reference=numbered,
        kind=kind,
        entries=(
            debit(
                player(hold.brand, hold.player_id, source, hold.asset),
                hold.amount,
                brand_tag=hold.brand,
            ),
            credit(into, hold.amount, brand_tag=hold.brand),
        ),
    )
    await post(uow, posting, posting_id=posting_id_of(numbered), at=at)


def _from_row(row: store.Row) -> Hold:
    return Hold(
        id=row["id"],
        brand=row["brand"],
        player_id=row["player_id"],
        asset=row["asset"],
        amount=int(row["amount"]),
        state=HoldState(row["state"]),
        cycle=row["cycle"],
    )
