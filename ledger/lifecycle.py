"""State machines of money objects: a frozen table, and the compare-and-set that moves a row.

The tables themselves belong to the packages that own the objects (deposits to watchers,
withdrawals to the gateway). A database trigger writes the history row of each change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Generic, TypeVar
from uuid import UUID

from config.database import Uow
from ledger import set_store, store
from ledger.errors import IllegalTransition, StaleState

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle(Generic[S, E]):
    """A frozen table `(state, event) -> state` for the rows of one database table."""

    kind: str
    table: str
    transitions: Mapping[tuple[S, E], S]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transitions", MappingProxyType(dict(self.transitions)))

    def next(self, state: S, event: E) -> S:
        """The state after `event`; raises IllegalTransition for a pair not in the table."""
        try:
            return self.transitions[(state, event)]
        except KeyError:
            raise IllegalTransition(f"{self.kind}: {event} is not legal in {state}") from None

    def allows(self, state: S, event: E) -> bool:
        """Whether the pair is in the table."""
        return (state, event) in self.transitions


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One state change, as the trigger wrote it."""

    version: int
    previous_state: str | None
    state: str
    at: datetime
    actor: str | None
    reason: str | None


async def advance(
    uow: Uow,
    lifecycle: Lifecycle[S, E],
    *,
    object_id: UUID,
    current: S,
    event: E,
    set: Mapping[str, Any],  # the SQL word; callers read it as one
    at: datetime,
) -> store.Row:
    """Move a row from `current` by `event`; version + 1. Returns the whole new row.

    Raises IllegalTransition, or StaleState when the row is no longer in `current`.
    """
    target = lifecycle.next(current, event)
    row = await store.advance(
        uow,
        lifecycle.table,
        object_id=object_id,
        current=current.value,
        target=target.value,
        changes=set,
        at=at,
    )
    if row is None:
        raise StaleState(f"{lifecycle.kind} {object_id} is no longer {current}")
    return row


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Generic[S, E]):
    """One row's step: from `current` by `event`, with the columns that change with it."""

    object_id: UUID
    current: S
    event: E
    set: Mapping[str, Any]


async def advance_many(
    uow: Uow, lifecycle: Lifecycle[S, E], moves: Sequence[Move[S, E]], *, at: datetime
) -> list[Mapping[str, Any]]:
    """`advance` of many distinct rows; the new rows in the order of the moves.

    One statement per set of changed columns. Raises IllegalTransition, StaleState, ValueError
    for a row that is named twice; then nothing of the caller's unit of work may be committed.
    """
    groups: dict[frozenset[str], list[Move[S, E]]] = {}
    for move in moves:
        groups.setdefault(frozenset(move.set), []).append(move)
    if len({move.object_id for move in moves}) != len(moves):
        raise ValueError(f"{lifecycle.kind}: one row is moved twice in one step")
    found: dict[UUID, Mapping[str, Any]] = {}
    for group in groups.values():
        rows = await set_store.advance_many(
            uow,
            lifecycle.table,
            [
                (
                    move.object_id,
                    move.current.value,
                    lifecycle.next(move.current, move.event).value,
                    move.set,
                )
                for move in group
            ],
            at=at,
        )
        found |= {row["id"]: row for row in rows}
    stale = [move for move in moves if move.object_id not in found]
    if stale:
        raise StaleState(f"{lifecycle.kind} {stale[0].object_id} is no longer {stale[0].current}")
    return [found[move.object_id] for move in moves]


def acting(actor: str, *, reason: str | None = None) -> Mapping[str, str]:
    """`set_actor` for a unit of work that is about to begin: what its session says."""
    return store.acting(actor=actor, reason=reason or "")


async def set_actor(uow: Uow, actor: str, *, reason: str | None = None) -> None:
    """Who and why, for the history rows of this unit of work."""
    await store.set_actor(uow, actor=actor, reason=reason or "")


async def history(uow: Uow, kind: str, object_id: UUID) -> list[HistoryRow]:
    """Every state of an object, oldest first."""
    return [
        HistoryRow(
            version=row["version"],
            previous_state=row["from_state"],
            state=row["to_state"],
            at=row["at"],
            actor=row["actor"],
            reason=row["reason"],
        )
        for row in await store.history(uow, kind, object_id)
    ]
