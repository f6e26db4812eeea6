"""The outbox: an event row in the unit of work of the state change (CONTRACT 6).

Rows carry no number; the gateway's sequencer numbers committed rows per brand. The snapshot holds
neutral row fields: amounts as strings of minor units, ids as UUID text, times as RFC 3339.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from config.database import Uow
from ledger import set_store, store

CHANNEL = "cage_events"


async def append(
    uow: Uow,
    *,
    event_id: UUID,
    brand: str | None,
    type: str,  # the field's name on the wire
    object_kind: str,
    object_id: UUID,
    object_version: int,
    previous_state: str | None,
    snapshot: Mapping[str, Any],
    at: datetime,
) -> None:
    """Append one event and hint at it; `brand` None means the operator's stream.

    Raises TypeError for a snapshot that is not plain JSON (a float or a bare Decimal is not).
    """
    await store.append_event(
        uow,
        {
            "id": event_id,
            "brand": brand,
            "type": type,
            "object_kind": object_kind,
            "object_id": object_id,
            "object_version": object_version,
            "previous_state": previous_state,
            "snapshot": json.dumps(snapshot, separators=(",", ":"), default=_plain),
            "created_at": at,
        },
        channel=CHANNEL,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event to append; the fields are those of `append`."""

    event_id: UUID
    brand: str | None
    type: str
    object_kind: str
    object_id: UUID
    object_version: int
    previous_state: str | None
    snapshot: Mapping[str, Any]


async def append_many(uow: Uow, events: Sequence[Event], *, at: datetime) -> None:
    """`append` of many events, in their order, in one statement with one hint."""
    if not events:
        return
    rows = [
        {
            "id": event.event_id,
            "brand": event.brand,
            "type": event.type,
            "object_kind": event.object_kind,
            "object_id": event.object_id,
            "object_version": event.object_version,
            "previous_state": event.previous_state,
            "snapshot": json.dumps(event.snapshot, separators=(",", ":"), default=_plain),
            "created_at": at,
        }
        for event in events
    ]
    await set_store.append_events(uow, rows, channel=CHANNEL)


def _plain(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"snapshot: {type(value).__name__} has no neutral form")
