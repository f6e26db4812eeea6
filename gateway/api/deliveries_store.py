"""SQL of gateway.deliveries as the API reads them and queues them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One event for one endpoint, and how its tries went. `is_oldest` False of a pending one: an
    older event of the same object goes first."""

    id: UUID
    endpoint_id: UUID
    brand: str
    seq: int
    event_id: UUID
    type: str
    object_version: int
    state: str
    attempts: int
    is_oldest: bool
    first_attempt_at: datetime | None
    next_attempt_at: datetime
    last_status: int | None
    last_error: str | None
    delivered_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedEvent:
    """An event that an endpoint asked for and does not have. `delivery_id` None: there is no
    delivery of it; else it is parked."""

    event_id: UUID
    delivery_id: UUID | None
    created_at: datetime


_COLUMNS = (
    "d.id, d.endpoint_id, d.brand, d.seq, d.event_id, log.type, d.object_version, d.state,"
    " d.attempts, d.is_oldest, d.first_attempt_at, d.next_attempt_at, d.last_status, d.last_error,"
    " d.delivered_at, d.created_at"
)
_FROM = "FROM gateway.deliveries d JOIN gateway.event_log log ON log.event_id = d.event_id"


def _row(row: RowMapping) -> DeliveryRow:
    return DeliveryRow(**row)


async def find(
    uow: Uow,
    *,
    brand: str | None,
    endpoint_id: UUID | None,
    event_id: UUID | None,
    state: str | None,
    before: UUID | None,
    limit: int,
) -> list[DeliveryRow]:
    """Deliveries, newest first, older than `before`."""
    values = {
        "brand": brand,
        "endpoint_id": endpoint_id,
        "event_id": event_id,
        "state": state,
        "before": before,
    }
    given = {name: value for name, value in values.items() if value is not None}
    conditions = ["d.id < :before" if name == "before" else f"d.{name} = :{name}" for name in given]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    result = await uow.execute(
        f"SELECT {_COLUMNS} {_FROM} {where} ORDER BY d.id DESC LIMIT :limit",
        {**given, "limit": limit},
    )
    return [_row(row) for row in result.mappings()]


async def get(uow: Uow, delivery_id: UUID) -> DeliveryRow | None:
    """One delivery that the unit of work may see."""
    result = await uow.execute(f"SELECT {_COLUMNS} {_FROM} WHERE d.id = :id", {"id": delivery_id})
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def missed(
    uow: Uow,
    *,
    endpoint_id: UUID,
    brand: str,
    types: Sequence[str],
    since: datetime,
    until: datetime,
    limit: int,
) -> list[MissedEvent]:
    """Events of the endpoint's brand and types, from `since` to before `until`, that it parked or
    never had, oldest first."""
    result = await uow.execute(
        """
        SELECT log.event_id, d.id AS delivery_id, log.created_at FROM gateway.event_log log
        LEFT JOIN gateway.deliveries d
            ON d.endpoint_id = :endpoint_id AND d.event_id = log.event_id
            AND d.object_id = log.object_id
        WHERE log.brand = :brand AND log.created_at >= :since AND log.created_at < :until
            AND (d.id IS NULL OR d.state = 'parked') AND log.object_kind <> 'webhook_endpoint'
            AND (cardinality(CAST(:types AS text[])) = 0 OR log.type = ANY(CAST(:types AS text[]))
                OR split_part(log.type, '.', 1) || '.*' = ANY(CAST(:types AS text[])))
        ORDER BY log.created_at, log.seq LIMIT :limit
        """,
        {
            "endpoint_id": endpoint_id,
            "brand": brand,
            "types": list(types),
            "since": since,
            "until": until,
            "limit": limit,
        },
    )
    return [MissedEvent(**row) for row in result.mappings()]


async def send_again(
    uow: Uow,
    *,
    endpoint_id: UUID,
    delivery_ids: Sequence[UUID],
    event_ids: Sequence[UUID],
    at: datetime,
) -> int:
    """Queue these events for an endpoint; returns how many were not pending before."""
    result = await uow.execute(
        "SELECT gateway.send_again(:endpoint_id, CAST(:ids AS uuid[]), CAST(:events AS uuid[]),"
        " :at)",
        {
            "endpoint_id": endpoint_id,
            "ids": list(delivery_ids),
            "events": list(event_ids),
            "at": at,
        },
    )
    return int(result.scalar_one())


async def clear_alarms(uow: Uow, *, kind: str, delivery_ids: Sequence[UUID], at: datetime) -> None:
    """Close the alarms of deliveries that are tried again."""
    await uow.execute(
        "UPDATE gateway.alarms SET cleared_at = :at WHERE kind = :kind"
        " AND object_id = ANY(CAST(:ids AS uuid[])) AND cleared_at IS NULL",
        {"kind": kind, "ids": list(delivery_ids), "at": at},
    )
