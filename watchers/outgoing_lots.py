"""Many own transactions in one step, for lots of attempts without coins (account chains).

Owns the set-wise forms of `outgoing`: the same lifecycle, columns and rules, a bounded number of
statements however many attempts a lot has. One attempt that does not fit fails the whole step; the
caller tries again with fewer.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from ledger.errors import StaleState
from ledger.lifecycle import Move, advance_many
from watchers import outgoing_store as store
from watchers.errors import AttemptConflict, UnknownAttempt
from watchers.outgoing import (
    OUTGOING,
    OutgoingDraft,
    OutgoingEvent,
    OutgoingRow,
    OutgoingState,
    inserted,
    with_inputs,
)


async def record(uow: Uow, drafts: Sequence[OutgoingDraft], *, at: datetime) -> None:
    """`outgoing.record` of attempts of account chains. Raises ValueError for one with coins."""
    if any(draft.inputs or draft.change for draft in drafts):
        raise ValueError("an attempt with coins is recorded alone")
    if drafts:
        await store.insert(uow, [inserted(draft, at=at) for draft in drafts])


async def get(uow: Uow, ids: Sequence[UUID], *, is_locked: bool = False) -> dict[UUID, OutgoingRow]:
    """Attempts by id, inputs included; locked in the order of their ids when asked."""
    rows = await store.get_many(uow, ids, is_locked=is_locked) if ids else []
    return {row.id: row for row in await with_inputs(uow, rows)}


async def mark_signed(uow: Uow, signed: Mapping[UUID, tuple[bytes, str]], *, at: datetime) -> None:
    """`outgoing.mark_signed` of attempts without change: id -> (raw tx, txid).

    Raises AttemptConflict for other bytes than an attempt has, UnknownAttempt.
    """
    rows = await _locked(uow, list(signed))
    for row in rows:
        if row["raw"] is not None and (bytes(row["raw"]), row["txid"]) != signed[row["id"]]:
            raise AttemptConflict("the attempt has other signed bytes already")
    fresh = [row for row in rows if row["raw"] is None]
    changes = {
        row["id"]: {
            "raw": "\\x" + signed[row["id"]][0].hex(),  # bytea as JSON carries it
            "txid": signed[row["id"]][1],
            "signed_at": at.isoformat(),
        }
        for row in fresh
    }
    await _advance(uow, fresh, OutgoingEvent.SIGN, changes, at=at)


async def mark_broadcast(uow: Uow, ids: Sequence[UUID], *, at: datetime) -> None:
    """`outgoing.mark_broadcast` of each. Raises AttemptConflict without signed bytes."""
    rows = _moving(await _locked(uow, ids), OutgoingEvent.BROADCAST)
    heights = {
        network: await store.followed_height(uow, network=network)
        for network in sorted({row["network"] for row in rows})
    }
    changes = {
        row["id"]: {
            "broadcast_at": at.isoformat(),
            "broadcast_height": heights[row["network"]]
            if row["broadcast_height"] is None
            else row["broadcast_height"],
        }
        for row in rows
    }
    await _advance(uow, rows, OutgoingEvent.BROADCAST, changes, at=at)


async def mark_seen(uow: Uow, ids: Sequence[UUID], *, at: datetime) -> None:
    """`outgoing.mark_seen` of each. Raises AttemptConflict without signed bytes."""
    rows = _moving(await _locked(uow, ids), OutgoingEvent.SEE)
    await _advance(uow, rows, OutgoingEvent.SEE, {row["id"]: {} for row in rows}, at=at)


async def mark_settled(uow: Uow, settled: Sequence[tuple[UUID, str, str]], *, network: str) -> None:
    """`outgoing.mark_settled` of (attempt, block hash, reference). Raises StaleState when one is
    not at rest in that block (any more)."""
    count = await store.set_settled_many(uow, settled)
    if count != len(settled):
        raise StaleState(f"{len(settled) - count} own txs of {network} left their blocks")


def _moving(rows: Sequence[RowMapping], event: OutgoingEvent) -> list[RowMapping]:
    """Those that the event moves; further states stay as they are."""
    if any(row["raw"] is None for row in rows):
        raise AttemptConflict("an attempt without signed bytes is not sent or seen")
    return [row for row in rows if OUTGOING.allows(OutgoingState(row["state"]), event)]


async def _locked(uow: Uow, ids: Sequence[UUID]) -> Sequence[RowMapping]:
    rows = await store.get_many(uow, ids, is_locked=True)
    if len(rows) != len(set(ids)):
        raise UnknownAttempt(str(sorted(set(ids) - {row["id"] for row in rows})[0]))
    return rows


async def _advance(
    uow: Uow,
    rows: Sequence[RowMapping],
    event: OutgoingEvent,
    changes: Mapping[UUID, Mapping[str, Any]],
    *,
    at: datetime,
) -> None:
    if not rows:
        return
    moves = [
        Move(
            object_id=row["id"],
            current=OutgoingState(row["state"]),
            event=event,
            set=changes[row["id"]],
        )
        for row in rows
    ]
    await advance_many(uow, OUTGOING, moves, at=at)
    for network in sorted({row["network"] for row in rows}):
        await store.notify(uow, network=network)
