"""Health of each network: height, lag, agreement of nodes, the last error.

Owns `chain.node_health` and the events `network.degraded` and `network.recovered`. It decides
nothing about money; others pause by what it says.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from config.logs import redact_text
from ledger import outbox
from watchers import store

ERROR_LENGTH_MAX = 300  # characters; a node's page of HTML is no news


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one look at the nodes of a network gave. `error` None: the look succeeded."""

    network: str
    tip_height: int | None
    tip_hash: str | None
    height: int | None
    nodes_total: int
    nodes_agreeing: int
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStatus:
    """A network as the house sees it. `height`, `hash` are the follower's; lag is in blocks."""

    network: str
    height: int | None
    hash: str | None
    tip_height: int | None
    tip_hash: str | None
    finalised_height: int | None
    lag_blocks: int | None
    nodes_total: int
    nodes_agreeing: int
    is_healthy: bool
    last_error: str | None
    stopped_reason: str | None
    advanced_at: datetime | None
    observed_at: datetime


async def network_status(uow: Uow) -> list[NetworkStatus]:
    """Every network that a watcher has looked at, by name."""
    return [NetworkStatus(**row) for row in await store.health_rows(uow)]


async def observe(uow: Uow, seen: Observation, *, ids: Ids, at: datetime) -> bool:
    """Write what was seen, and an event when health changed; returns whether it is healthy."""
    is_healthy = seen.error is None
    lag = None
    if seen.tip_height is not None and seen.height is not None:
        lag = max(0, seen.tip_height - seen.height)
    error = None if seen.error is None else redact_text(seen.error)[:ERROR_LENGTH_MAX]
    was_healthy = await store.upsert_health(
        uow,
        {
            "network": seen.network,
            "tip_height": seen.tip_height,
            "tip_hash": seen.tip_hash,
            "height": seen.height,
            "lag_blocks": lag,
            "nodes_total": seen.nodes_total,
            "nodes_agreeing": seen.nodes_agreeing,
            "is_healthy": is_healthy,
            "last_error": error,
            "at": at,
        },
    )
    has_changed = was_healthy is not None and was_healthy != is_healthy
    if has_changed or (was_healthy is None and not is_healthy):
        await append_network_event(
            uow,
            event_id=ids.new_id(),
            network=seen.network,
            type="network.recovered" if is_healthy else "network.degraded",
            detail={"height": seen.height, "error": error},
            at=at,
        )
    return is_healthy


async def append_network_event(
    uow: Uow,
    *,
    event_id: UUID,
    network: str,
    type: str,
    detail: dict[str, str | int | None],
    at: datetime,
) -> None:
    """An event of the operator's stream about a network."""
    version = await store.next_event_version(uow, network=network, at=at)
    await outbox.append(
        uow,
        event_id=event_id,
        brand=None,
        type=type,
        object_kind="network",
        object_id=network_object_id(network),
        object_version=version,
        previous_state=None,
        snapshot={
            "id": network,
            "version": version,
            "brand": "operator",
            "network": network,
            **detail,
        },
        at=at,
    )


def network_object_id(network: str) -> UUID:
    """A stable id for a network as the object of events (its name, padded; no meaning)."""
    return UUID(bytes=network.encode("ascii")[:16].ljust(16, b"\0"))
