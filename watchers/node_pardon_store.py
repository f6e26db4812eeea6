"""SQL of the pardons of nodes (chain.node_pardons)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from config.database import Uow


async def hold(uow: Uow, *, network: str, label: str) -> None:
    """One decision about a node at a time, until the commit; its row is the watcher's to lock."""
    await uow.execute(
        "SELECT pg_advisory_xact_lock("
        "hashtextextended('pardon of ' || :network || ' ' || :label, 0))",
        {"network": network, "label": label},
    )


async def barred_node(uow: Uow, *, network: str, label: str, at: datetime) -> RowMapping | None:
    """The node while it is barred and nobody ended that since its last lie."""
    result = await uow.execute(
        "SELECT cause, barred_at, barred_until FROM chain.nodes n "
        "WHERE network = :network AND label = :label AND barred_until > :at "
        "AND NOT EXISTS (SELECT 1 FROM chain.node_pardons p WHERE p.network = n.network "
        "AND p.label = n.label AND p.granted_at >= n.barred_at)",
        {"network": network, "label": label, "at": at},
    )
    return result.mappings().one_or_none()


async def insert(uow: Uow, values: Mapping[str, Any]) -> None:
    """What two people decided."""
    await uow.execute(
        "INSERT INTO chain.node_pardons (id, network, label, reason, proposed_by, approved_by, "
        "granted_at) VALUES (:id, :network, :label, :reason, :proposed_by, :approved_by, :at)",
        dict(values),
    )


async def newest(uow: Uow, *, network: str, labels: Sequence[str]) -> dict[str, datetime]:
    """When the time of each of some nodes was last ended; none that never was."""
    result = await uow.execute(
        "SELECT label, max(granted_at) AS granted_at FROM chain.node_pardons "
        "WHERE network = :network AND label = ANY(CAST(:labels AS text[])) GROUP BY label",
        {"network": network, "labels": list(labels)},
    )
    return {row.label: row.granted_at for row in result}
