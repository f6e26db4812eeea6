"""SQL of alarms for people, as the roles raise and end them."""

from collections.abc import Sequence
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


async def retell(
    uow: Uow,
    *,
    alarm_id: UUID,
    kind: str,
    detail: str,
    at: datetime,
    network: str,
    object_id: UUID,
) -> None:
    """`raise_alarm`, and an open one tells what is now."""
    await raise_alarm(
        uow,
        alarm_id=alarm_id,
        kind=kind,
        detail=detail,
        at=at,
        network=network,
        object_id=object_id,
    )
    await uow.execute(
        "UPDATE gateway.alarms SET detail = :detail WHERE kind = :kind AND network = :network "
        "AND object_id = :object_id AND cleared_at IS NULL AND detail <> :detail",
        {
            "kind": kind,
            "network": network,
            "object_id": object_id,
            "detail": detail[:DETAIL_CHARS_MAX],
        },
    )


async def clear_all_but(uow: Uow, *, kind: str, objects: Sequence[UUID], at: datetime) -> None:
    """Close the open alarms of a kind about any other object, on every network."""
    await uow.execute(
        "UPDATE gateway.alarms SET cleared_at = :at WHERE kind = :kind AND cleared_at IS NULL "
        "AND object_id IS NOT NULL AND NOT object_id = ANY(CAST(:objects AS uuid[]))",
        {"kind": kind, "objects": list(objects), "at": at},
    )


async def clear(
    uow: Uow,
    *,
    kinds: Sequence[str],
    network: str,
    at: datetime,
    objects: Sequence[UUID] | None = None,
) -> None:
    """Close the open alarms of these kinds about these objects, or without `objects` about the
    network itself: their cause is gone."""
    await uow.execute(
        "UPDATE gateway.alarms SET cleared_at = :at WHERE kind = ANY(:kinds) "
        "AND network = :network AND cleared_at IS NULL AND CASE "
        "WHEN CAST(:objects AS uuid[]) IS NULL THEN object_id IS NULL "
        "ELSE object_id = ANY(CAST(:objects AS uuid[])) END",
        {
            "kinds": list(kinds),
            "network": network,
            "objects": None if objects is None else list(objects),
            "at": at,
        },
    )


async def open_objects(uow: Uow, *, kinds: Sequence[str], network: str) -> set[UUID]:
    """The objects of the open alarms of these kinds."""
    result = await uow.execute(
        "SELECT DISTINCT object_id FROM gateway.alarms WHERE kind = ANY(:kinds) "
        "AND network = :network AND cleared_at IS NULL AND object_id IS NOT NULL",
        {"kinds": list(kinds), "network": network},
    )
    return set(result.scalars())


async def is_open(uow: Uow, *, kind: str, network: str) -> bool:
    """Whether an alarm of this kind is open for a network."""
    result = await uow.execute(
        "SELECT EXISTS (SELECT 1 FROM gateway.alarms "
        "WHERE kind = :kind AND network = :network AND cleared_at IS NULL)",
        {"kind": kind, "network": network},
    )
    return bool(result.scalar_one())
