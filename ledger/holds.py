"""Holds: clearing -> reserved -> in flight -> out, each step at most once (two-phase).

A refund's hold is placed from held or unallocated value instead, and given back there.

Owns `ledger.holds` and the postings between those three stages, both written in one call. The
posting that consumes what is in flight is the caller's (settlement); `settle` only closes the hold
in the same unit of work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from config.database import Uow
from ledger import store

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


class HoldSource(StrEnum):
    """Where a hold was placed from, and where it is given back."""

    CLEARING = "clearing"
    """The brand's clearing: a withdrawal."""
    HELD = "held"
    """The player's held value: a refund."""
    UNALLOCATED = "unallocated"
    """Nobody's value: a refund."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRequest:
    """One reservation from a brand's clearing, minor units."""

    hold_id: UUID
    brand: str
    player_id: str
    asset: str
    amount: int
    reference: str

    def __post_init__(self) -> None:
        if self.amount <= 0:
            raise ValueError(f"{self.reference}: a reservation is more than zero")


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
    source: HoldSource = HoldSource.CLEARING


def posting_id_of(reference: str) -> UUID:
    """The posting id of a reservation: fixed by its reference, so that a replay finds it."""
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


async def place_aside(uow: Uow, request: HoldRequest, *, source: HoldSource, at: datetime) -> None:
    """Reserve for a refund, from what stands aside; the same again changes nothing.

    Raises InsufficientFunds where that much does not stand there, StaleState for a hold that is,
    ReferenceConflict for other content, ValueError for clearing, which `place` asks.
    """
    if source is HoldSource.CLEARING:
        raise ValueError(f"{request.reference}: clearing does not stand aside")
    await store.place_aside(uow, request, source=source.value, at=at)


async def capture(uow: Uow, *, hold_id: UUID, reference: str, at: datetime) -> None:
    """Reserved -> in flight, at signing. Raises StaleState unless the hold is open."""
    await _move(uow, hold_id, HoldState.CAPTURED, reference, at)


async def capture_many(uow: Uow, holds: Sequence[tuple[UUID, str]], *, at: datetime) -> None:
    """`capture` of many holds, (hold, reference) each, in one statement; all or none."""
    if holds:
        await store.move_holds(uow, holds, to=HoldState.CAPTURED.value, at=at)


async def release(uow: Uow, *, hold_id: UUID, reference: str, at: datetime) -> None:
    """Reserved -> where it was placed from, before signing. Raises StaleState unless the hold is
    open."""
    await _move(uow, hold_id, HoldState.RELEASED, reference, at)


async def return_in_flight(uow: Uow, *, hold_id: UUID, reference: str, at: datetime) -> None:
    """In flight -> where it was placed from, failed on chain and final. Raises StaleState unless
    captured."""
    await _move(uow, hold_id, HoldState.RETURNED, reference, at)


async def reissue(uow: Uow, *, hold_id: UUID, reference: str, at: datetime) -> None:
    """In flight -> reserved, in the hold's next cycle: everything signed for it is dead, and two
    people signed that it is paid anew. Raises StaleState unless captured."""
    await _move(uow, hold_id, HoldState.OPEN, reference, at)


async def settle(uow: Uow, *, hold_id: UUID, at: datetime | None = None) -> None:
    """Paid: the caller's posting consumes what is in flight. Raises StaleState unless captured."""
    await store.move_hold(uow, hold_id, to=HoldState.SETTLED.value, at=at)


async def reopen(uow: Uow, *, hold_id: UUID) -> None:
    """A completed block was orphaned: settled -> captured; the caller reverses its posting."""
    await store.move_hold(uow, hold_id, to=HoldState.CAPTURED.value, reopens=True, at=None)


async def get(uow: Uow, hold_id: UUID) -> Hold | None:
    """The hold, or None."""
    row = await store.read_hold(uow, hold_id)
    return None if row is None else _from_row(row)


async def reserved(uow: Uow) -> dict[str, int]:
    """What stands reserved for withdrawals that nothing was signed for, by asset, minor units."""
    return {row["asset"]: int(row["amount"]) for row in await store.open_holds(uow)}


async def _move(uow: Uow, hold_id: UUID, to: HoldState, reference: str, at: datetime) -> None:
    """One call: the compare-and-set and the posting. A credit to clearing repays first."""
    await store.move_hold(
        uow,
        hold_id,
        to=to.value,
        reference=reference,
        at=at,
    )


def _from_row(row: store.Row) -> Hold:
    return Hold(
        id=row["id"],
        brand=row["brand"],
        player_id=row["player_id"],
        asset=row["asset"],
        amount=int(row["amount"]),
        state=HoldState(row["state"]),
        cycle=row["cycle"],
        source=HoldSource(row["source"]),
    )
