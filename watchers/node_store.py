"""SQL of the nodes of each network and of the alarms about them."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

_NODE = (
    "network, label, preference, state, reason, since, height, hash, top_height, anchor_height, "
    "anchor_hash, cause, version, observed_at, barred_at, barred_until"
)


async def holds_fence(uow: Uow, *, network: str, fence: int) -> bool:
    """Whether this watcher still holds the lease; the row is held until the commit."""
    result = await uow.execute(
        "SELECT 1 FROM chain.cursors WHERE network = :network AND fence = :fence FOR SHARE",
        {"network": network, "fence": fence},
    )
    return result.scalar_one_or_none() is not None


async def rows(uow: Uow, *, network: str | None = None) -> Sequence[RowMapping]:
    """The nodes of one network, or of all, in order of preference."""
    result = await uow.execute(
        f"SELECT {_NODE} FROM chain.nodes WHERE CAST(:network AS text) IS NULL "
        "OR network = :network ORDER BY network, preference, label",
        {"network": network},
    )
    return result.mappings().all()


async def put(uow: Uow, values: Sequence[Mapping[str, Any]]) -> None:
    """Write down what the nodes are now."""
    await uow.execute(
        f"INSERT INTO chain.nodes ({_NODE}) VALUES (:network, :label, :preference, :state, "
        ":reason, :since, :height, :hash, :top_height, :anchor_height, :anchor_hash, :cause, "
        ":version, :observed_at, :barred_at, :barred_until) "
        "ON CONFLICT (network, label) DO UPDATE SET "
        "preference = excluded.preference, state = excluded.state, reason = excluded.reason, "
        "since = excluded.since, height = excluded.height, hash = excluded.hash, "
        "top_height = excluded.top_height, anchor_height = excluded.anchor_height, "
        "anchor_hash = excluded.anchor_hash, cause = excluded.cause, "
        "version = excluded.version, observed_at = excluded.observed_at, "
        "barred_at = excluded.barred_at, barred_until = excluded.barred_until",
        list(values),
    )


async def forget_others(uow: Uow, *, network: str, labels: Sequence[str]) -> None:
    """Nodes that left the configuration."""
    await uow.execute(
        "DELETE FROM chain.nodes WHERE network = :network AND NOT label = ANY(:labels)",
        {"network": network, "labels": list(labels)},
    )


async def alarms_raised(uow: Uow, *, network: str, kind: str) -> dict[UUID, int]:
    """How many alarms of a kind each node ever had."""
    result = await uow.execute(
        "SELECT object_id, count(*) AS raised FROM gateway.alarms WHERE network = :network "
        "AND kind = :kind AND object_id IS NOT NULL GROUP BY object_id",
        {"network": network, "kind": kind},
    )
    return {row.object_id: row.raised for row in result}
