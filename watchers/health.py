"""Health of each network: height, lag, agreement of nodes, the last error.

Owns `chain.node_health`, `chain.nodes`, the alarms about nodes, and the events `network.degraded`
and `network.recovered`. It decides nothing about money; others pause by what it says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from config import alarm_store
from config.database import Uow
from config.ids import Ids
from config.logs import redact_text
from ledger import outbox
from watchers import node_store, store
from watchers.judge import Anchor, NodeRecord, NodeState

ERROR_LENGTH_MAX = 300  # characters; a node's page of HTML is no news
NODE_ALARMS = tuple(f"node_{state}" for state in NodeState if state is not NodeState.HEALTHY)
LYING_ALARM = f"node_{NodeState.LYING}"
DISAGREEMENT, HALT = "node_disagreement", "chain_halted"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One node as the house sees it; `label` is its host and port."""

    network: str
    label: str
    state: NodeState
    reason: str
    since: datetime
    height: int | None
    hash: str | None
    version: str
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesSeen:
    """What is to be written down of a network's nodes after a round.

    `disagreement` names nodes that contradict each other; `is_halted`: no node sees new blocks.
    """

    network: str
    records: Sequence[NodeRecord]
    disagreement: str | None
    is_halted: bool


async def node_status(uow: Uow) -> list[NodeStatus]:
    """Every node of every network in order of preference."""
    return [
        NodeStatus(
            network=row["network"],
            label=row["label"],
            state=NodeState(row["state"]),
            reason=row["reason"],
            since=row["since"],
            height=row["height"],
            hash=row["hash"],
            version=row["version"],
            observed_at=row["observed_at"],
        )
        for row in await node_store.rows(uow)
    ]


async def lies(uow: Uow, *, network: str, label: str) -> int:
    """How often a node was caught lying."""
    found = await node_store.alarms_raised(uow, network=network, kind=LYING_ALARM)
    return found.get(_node_id(network, label), 0)


async def stored_nodes(uow: Uow, network: str) -> list[NodeRecord]:
    """What the last holder of the lease knew: serious states and anchors outlive a process."""
    counts = await node_store.alarms_raised(uow, network=network, kind=LYING_ALARM)
    return [
        NodeRecord(
            lies=counts.get(_node_id(network, row["label"]), 0),
            label=row["label"],
            state=NodeState(row["state"]),
            reason=row["reason"],
            since=row["since"],
            height=row["height"],
            hash=row["hash"],
            top_height=row["top_height"],
            anchor=None
            if row["anchor_height"] is None
            else Anchor(height=row["anchor_height"], hash=row["anchor_hash"]),
            cause=row["cause"],
            version=row["version"],
            barred_at=row["barred_at"],
            barred_until=row["barred_until"],
        )
        for row in await node_store.rows(uow, network=network)
    ]


async def keep_nodes(uow: Uow, seen: NodesSeen, *, fence: int, ids: Ids, at: datetime) -> bool:
    """Write nodes and their alarms down; False: the lease is another's, nothing was written."""
    if not await node_store.holds_fence(uow, network=seen.network, fence=fence):
        return False
    before = {row["label"]: row for row in await node_store.rows(uow, network=seen.network)}
    known = [record for record in seen.records if record.is_known]
    for record in known:
        row = before.get(record.label)
        if row is None or row["state"] != record.state:
            await _tell_node(uow, seen.network, record, ids=ids, at=at)
    order = [record.label for record in seen.records]
    if known:
        await node_store.put(uow, [_row(seen.network, item, order, at=at) for item in known])
    await node_store.forget_others(uow, network=seen.network, labels=order)
    halt = "no node sees a new block" if seen.is_halted else None
    for kind, detail in ((DISAGREEMENT, seen.disagreement), (HALT, halt)):
        if detail is None:
            await alarm_store.clear(uow, kinds=[kind], network=seen.network, at=at)
        else:
            await alarm_store.raise_alarm(
                uow,
                alarm_id=ids.new_id(),
                kind=kind,
                network=seen.network,
                object_id=None,
                detail=redact_text(detail)[:ERROR_LENGTH_MAX],
                at=at,
            )
    return True


async def _tell_node(uow: Uow, network: str, record: NodeRecord, *, ids: Ids, at: datetime) -> None:
    """One alarm per node: that of its state; none once it is healthy."""
    node = _node_id(network, record.label)
    kind = f"node_{record.state}"
    others = [item for item in NODE_ALARMS if item != kind]
    await alarm_store.clear(uow, kinds=others, network=network, objects=[node], at=at)
    if not record.is_healthy:
        await alarm_store.raise_alarm(
            uow,
            alarm_id=ids.new_id(),
            kind=kind,
            network=network,
            object_id=node,
            detail=redact_text(f"node {record.label}: {record.reason}")[:ERROR_LENGTH_MAX],
            at=at,
        )


def _node_id(network: str, label: str) -> UUID:
    """A node as the object of alarms."""
    return uuid5(NAMESPACE_URL, f"{network}/{label}")


def _row(
    network: str, record: NodeRecord, order: Sequence[str], *, at: datetime
) -> dict[str, object]:
    return {
        "network": network,
        "label": record.label,
        "preference": order.index(record.label),
        "state": record.state.value,
        "reason": redact_text(record.reason)[:ERROR_LENGTH_MAX],
        "since": record.since or at,
        "height": record.height,
        "hash": record.hash,
        "top_height": record.top_height,
        "anchor_height": None if record.anchor is None else record.anchor.height,
        "anchor_hash": None if record.anchor is None else record.anchor.hash,
        "cause": redact_text(record.cause)[:ERROR_LENGTH_MAX],
        "version": redact_text(record.version),
        "observed_at": at,
        "barred_at": record.barred_at,
        "barred_until": record.barred_until,
    }


async def followed_height(uow: Uow, network: str) -> int | None:
    """Where the follower of a network stands; None before its first block."""
    row = await store.cursor(uow, network)
    return None if row is None or row["height"] is None else int(row["height"])


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
    """A stable id for a network as the object of events: its name, padded, or one made of it."""
    name = network.encode("ascii")
    return UUID(bytes=name.ljust(16, b"\0")) if len(name) <= 16 else uuid5(NAMESPACE_URL, network)
