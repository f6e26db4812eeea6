"""SQL that raises an alarm for people: the one statement of all roles."""

from datetime import datetime
from uuid import UUID

from config.database import Uow

DETAIL_CHARS_MAX = 500


async def raise_alarm(
    uow: Uow,
    *,
    alarm_id: UUID,
    kind: str,
    detail: str,
    at: datetime,
    network: str | None = None,
    object_id: UUID | None = None,
) -> None:
    """One open alarm per kind, network and object; an open one keeps the detail it began with."""
    await uow.execute(
        "INSERT INTO gateway.alarms (id, kind, network, object_id, detail, raised_at) "
        "VALUES (:id, :kind, :network, :object_id, :detail, :at) ON CONFLICT DO NOTHING",
        {
            "id": alarm_id,
            "kind": kind,
            "network": network,
            "object_id": object_id,
            "detail": detail[:DETAIL_CHARS_MAX],
            "at": at,
        },
    )
