"""SQL of gateway.alarms for the people who look at them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRow:
    """One alarm."""

    id: UUID
    kind: str
    network: str | None
    object_id: UUID | None
    detail: str
    raised_at: datetime
    cleared_at: datetime | None


_COLUMNS = "id, kind, network, object_id, detail, raised_at, cleared_at"


async def find(
    uow: Uow, *, is_open: bool | None, before: UUID | None, limit: int
) -> list[AlarmRow]:
    """Alarms, newest first; only open or only cleared ones when asked."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.alarms WHERE "
        "(CAST(:is_open AS boolean) IS NULL OR (cleared_at IS NULL) = :is_open) "
        "AND (CAST(:before AS uuid) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit",
        {"is_open": is_open, "before": before, "limit": limit},
    )
    return [AlarmRow(**row) for row in result.mappings()]


async def lock(uow: Uow, alarm_id: UUID) -> AlarmRow | None:
    """One alarm, locked until the commit."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.alarms WHERE id = :id FOR UPDATE", {"id": alarm_id}
    )
    row = result.mappings().one_or_none()
    return None if row is None else AlarmRow(**row)


async def clear(uow: Uow, alarm_id: UUID, *, person: str, at: datetime) -> AlarmRow:
    """Cleared by a person; the first one counts."""
    result = await uow.execute(
        "UPDATE gateway.alarms SET cleared_at = coalesce(cleared_at, :at), "
        "cleared_by = coalesce(cleared_by, :person) "
        f"WHERE id = :id RETURNING {_COLUMNS}",
        {"id": alarm_id, "person": person, "at": at},
    )
    return AlarmRow(**result.mappings().one())
