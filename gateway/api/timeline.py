"""The changes of one object, from the history that triggers write."""

from uuid import UUID

from gateway.api.endpoint import Call
from gateway.api.wire_base import rfc3339
from gateway.api.wire_resources import Timeline, TimelineEntry
from ledger import lifecycle


async def timeline(call: Call, kind: str, object_id: UUID) -> Timeline:
    """Oldest first. The caller has checked that the object is visible."""
    rows = await lifecycle.history(call.uow, kind, object_id)
    return Timeline(
        id=call.services.wire.id(kind, object_id),
        items=[
            TimelineEntry(
                state=row.state,
                previous_state=row.previous_state,
                version=row.version,
                at=rfc3339(row.at),
                actor=row.actor,
                reason=row.reason,
            )
            for row in rows
        ],
    )
