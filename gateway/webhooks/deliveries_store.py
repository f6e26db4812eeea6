"""SQL of the relay: which deliveries are due, who holds them, how each try ended.

A claim is `claimed_until`: a time after which the try counts as dead with its process, so that a
crash at any line means one more try with the same webhook-id. Numbering is in `store.py`. The table
is by month of its objects: who names them as one array opens their months only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One delivery that this process may try until `claimed_until`."""

    delivery_id: UUID
    endpoint_id: UUID
    object_id: UUID
    event_id: UUID
    attempts: int
    first_attempt_at: datetime | None
    claimed_until: datetime
    body: str
    url: str
    secret_sealed: bytes
    previous_secret_sealed: bytes | None
    previous_until: datetime | None
    is_endpoint_failing: bool
    """The endpoint had failures in a row, or is paused, when this was claimed."""
    is_probe: bool
    """The one try of a paused endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A failed try and when the next one is; None parks the delivery."""

    claim: Claim
    status: int | None
    reason: str
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """How often an endpoint failed in a row, and whether it is paused for that."""

    endpoint_id: UUID
    failures_in_a_row: int
    is_paused: bool
    next_probe_at: datetime | None


# What is due may lie in any month: each is asked by an index that holds pending ones only. Whoever
# has most places left comes first, so that slow endpoints with a long queue take nobody's turn; the
# order is made before the look-ups, which end with the last place.
_DUE = """
    SELECT candidate.id, candidate.object_id FROM (
        SELECT e.id, coalesce(busy.free, :fan_out) AS free FROM gateway.webhook_endpoints e
        LEFT JOIN unnest(CAST(:busy_ids AS uuid[]), CAST(:busy_free AS integer[]))
            AS busy (endpoint_id, free) ON busy.endpoint_id = e.id
        WHERE e.state = 'active'
        ORDER BY free DESC, e.id
    ) AS place
    CROSS JOIN LATERAL (
        SELECT d.id, d.object_id FROM gateway.deliveries d
        WHERE d.endpoint_id = place.id AND d.state = 'pending' AND d.is_oldest
            AND d.next_attempt_at <= :at
            AND (d.claimed_until IS NULL OR d.claimed_until <= :at)
        ORDER BY d.next_attempt_at, d.seq
        LIMIT place.free
        FOR UPDATE SKIP LOCKED
    ) AS candidate
    ORDER BY place.free DESC, place.id
    LIMIT :total
"""

# A paused endpoint gets one probe at its time: its oldest delivery, whatever that one's own is.
# The endpoint's row is locked and its probe time moved, so that no second process probes as well.
_PROBES = """
    WITH asleep AS MATERIALIZED (
        SELECT e.id FROM gateway.webhook_endpoints e
        WHERE e.state = 'paused' AND e.next_probe_at <= :at
        ORDER BY e.next_probe_at LIMIT :total
        FOR UPDATE SKIP LOCKED
    ), due AS MATERIALIZED (
        SELECT candidate.id, candidate.object_id, asleep.id AS endpoint_id FROM asleep
        CROSS JOIN LATERAL (
            SELECT d.id, d.object_id FROM gateway.deliveries d
            WHERE d.endpoint_id = asleep.id AND d.state = 'pending' AND d.is_oldest
                AND (d.claimed_until IS NULL OR d.claimed_until <= :at)
            ORDER BY d.next_attempt_at, d.seq LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS candidate
    ), moved AS (
        UPDATE gateway.webhook_endpoints e SET next_probe_at = :claimed_until
        FROM due WHERE e.id = due.endpoint_id
    )
    SELECT id, object_id FROM due
"""

# Their rows are locked by now. The objects as one array leave the other months out of the plan, and
# a body is looked up by its id, however the planner judges months that nobody has analysed.
_CLAIM = """
    WITH claimed AS (
        UPDATE gateway.deliveries d SET claimed_until = :claimed_until
        WHERE d.id = ANY(CAST(:ids AS uuid[])) AND d.object_id = ANY(CAST(:object_ids AS uuid[]))
        RETURNING d.id, d.endpoint_id, d.object_id, d.event_id, d.attempts, d.first_attempt_at,
            d.claimed_until
    )
    SELECT claimed.*, log.body, endpoint.url, endpoint.secret_sealed,
        endpoint.previous_secret_sealed, endpoint.previous_until,
        (endpoint.failures_in_a_row > 0 OR endpoint.state = 'paused') AS is_failing
    FROM claimed
    JOIN gateway.webhook_endpoints endpoint ON endpoint.id = claimed.endpoint_id
    CROSS JOIN LATERAL (
        SELECT l.body FROM gateway.event_log l WHERE l.event_id = claimed.event_id LIMIT 1
    ) AS log
"""


async def claim_due(
    uow: Uow,
    *,
    at: datetime,
    claimed_until: datetime,
    fan_out: int,
    free: Mapping[UUID, int],
    total: int,
) -> list[Claim]:
    """Claim due deliveries of active endpoints, at most `total`.

    Each endpoint gets at most `fan_out`, or what `free` says it has left: a slow receiver fills its
    own places only (P34).
    """
    busy = list(free.items())
    result = await uow.execute(
        _DUE,
        {
            "at": at,
            "fan_out": fan_out,
            "total": total,
            "busy_ids": [endpoint_id for endpoint_id, _ in busy],
            "busy_free": [places for _, places in busy],
        },
    )
    return await _claimed(uow, result.all(), until=claimed_until, is_probe=False)


async def claim_probes(
    uow: Uow, *, at: datetime, claimed_until: datetime, total: int
) -> list[Claim]:
    """Claim one delivery of each paused endpoint whose probe is due, at most `total`."""
    result = await uow.execute(_PROBES, {"at": at, "claimed_until": claimed_until, "total": total})
    return await _claimed(uow, result.all(), until=claimed_until, is_probe=True)


async def _claimed(
    uow: Uow, due: Sequence[Row[Any]], *, until: datetime, is_probe: bool
) -> list[Claim]:
    if not due:
        return []
    result = await uow.execute(
        _CLAIM,
        {
            "claimed_until": until,
            "ids": [row.id for row in due],
            "object_ids": [row.object_id for row in due],
        },
    )
    return [_claim(row, is_probe=is_probe) for row in result]


def _claim(row: Row[Any], *, is_probe: bool) -> Claim:
    previous = row.previous_secret_sealed
    return Claim(
        delivery_id=row.id,
        endpoint_id=row.endpoint_id,
        object_id=row.object_id,
        event_id=row.event_id,
        attempts=row.attempts,
        first_attempt_at=row.first_attempt_at,
        claimed_until=row.claimed_until,
        body=row.body,
        url=row.url,
        secret_sealed=bytes(row.secret_sealed),
        previous_secret_sealed=None if previous is None else bytes(previous),
        previous_until=row.previous_until,
        is_endpoint_failing=row.is_failing,
        is_probe=is_probe,
    )


async def mark_delivered(uow: Uow, results: Sequence[tuple[Claim, int]], *, at: datetime) -> None:
    """Close deliveries that were answered with 2xx, whoever holds the claim by now."""
    await uow.execute(
        """
        UPDATE gateway.deliveries d SET state = 'delivered', attempts = d.attempts + 1,
            first_attempt_at = coalesce(d.first_attempt_at, :at), last_status = done.status,
            last_error = NULL, delivered_at = :at, claimed_until = NULL
        FROM unnest(CAST(:ids AS uuid[]), CAST(:object_ids AS uuid[]),
            CAST(:statuses AS integer[])) AS done (id, object_id, status)
        WHERE d.id = done.id AND d.object_id = done.object_id AND d.state = 'pending'
            AND d.object_id = ANY(CAST(:object_ids AS uuid[]))
        """,
        {
            "at": at,
            "ids": [claim.delivery_id for claim, _ in results],
            "object_ids": [claim.object_id for claim, _ in results],
            "statuses": [status for _, status in results],
        },
    )


async def mark_failed(uow: Uow, retries: Sequence[Retry], *, at: datetime) -> None:
    """Put failed tries back with their next time, or park them. Only while the claim is ours."""
    await uow.execute(
        """
        UPDATE gateway.deliveries d SET
            state = CASE WHEN failed.next_at IS NULL THEN 'parked' ELSE 'pending' END,
            attempts = d.attempts + 1, first_attempt_at = coalesce(d.first_attempt_at, :at),
            next_attempt_at = coalesce(failed.next_at, d.next_attempt_at),
            last_status = failed.status, last_error = failed.reason, claimed_until = NULL
        FROM unnest(CAST(:ids AS uuid[]), CAST(:object_ids AS uuid[]),
            CAST(:tokens AS timestamptz[]), CAST(:next_ats AS timestamptz[]),
            CAST(:statuses AS integer[]), CAST(:reasons AS text[]))
            AS failed (id, object_id, token, next_at, status, reason)
        WHERE d.id = failed.id AND d.object_id = failed.object_id AND d.state = 'pending'
            AND d.claimed_until = failed.token AND d.object_id = ANY(CAST(:object_ids AS uuid[]))
        """,
        {
            "at": at,
            "ids": [retry.claim.delivery_id for retry in retries],
            "object_ids": [retry.claim.object_id for retry in retries],
            "tokens": [retry.claim.claimed_until for retry in retries],
            "next_ats": [retry.next_attempt_at for retry in retries],
            "statuses": [retry.status for retry in retries],
            "reasons": [retry.reason for retry in retries],
        },
    )


async def release_next(uow: Uow, claims: Sequence[Claim]) -> None:
    """Let the next event of each claim's object go, now that these are delivered or parked.

    Call it in a statement after they were marked: the sequencer locks what is pending before it
    adds to it, so whatever it added meanwhile is seen here (READ COMMITTED, fresh snapshot).
    """
    await uow.execute(
        """
        UPDATE gateway.deliveries released SET is_oldest = true
        FROM (
            SELECT DISTINCT ON (d.endpoint_id, d.object_id) d.id, d.object_id
            FROM gateway.deliveries d
            JOIN unnest(CAST(:endpoint_ids AS uuid[]), CAST(:object_ids AS uuid[]))
                AS gone (endpoint_id, object_id)
                ON d.endpoint_id = gone.endpoint_id AND d.object_id = gone.object_id
            WHERE d.state = 'pending' AND d.object_id = ANY(CAST(:object_ids AS uuid[]))
            ORDER BY d.endpoint_id, d.object_id, d.seq
        ) AS oldest
        WHERE released.id = oldest.id AND released.object_id = oldest.object_id
            AND NOT released.is_oldest
            AND released.object_id = ANY(CAST(:object_ids AS uuid[]))
        """,
        {
            "endpoint_ids": [claim.endpoint_id for claim in claims],
            "object_ids": [claim.object_id for claim in claims],
        },
    )


async def lock_endpoints(uow: Uow, endpoint_ids: Sequence[UUID]) -> list[EndpointHealth]:
    """The health of these endpoints, locked in the order of their ids; deleted ones left out."""
    result = await uow.execute(
        """
        SELECT id, failures_in_a_row, state, next_probe_at FROM gateway.webhook_endpoints
        WHERE id = ANY(CAST(:ids AS uuid[])) AND state <> 'deleted'
        ORDER BY id FOR UPDATE
        """,
        {"ids": list(endpoint_ids)},
    )
    return [
        EndpointHealth(
            endpoint_id=row.id,
            failures_in_a_row=row.failures_in_a_row,
            is_paused=row.state == "paused",
            next_probe_at=row.next_probe_at,
        )
        for row in result
    ]


async def set_health(uow: Uow, health: EndpointHealth) -> None:
    """Write what `lock_endpoints` read and the relay decided."""
    await uow.execute(
        """
        UPDATE gateway.webhook_endpoints SET failures_in_a_row = :failures,
            state = :state, next_probe_at = :next_probe_at,
            version = version + CASE WHEN state = :state THEN 0 ELSE 1 END
        WHERE id = :id AND state <> 'deleted'
        """,
        {
            "id": health.endpoint_id,
            "failures": health.failures_in_a_row,
            "state": "paused" if health.is_paused else "active",
            "next_probe_at": health.next_probe_at,
        },
    )


async def clear_resumed(uow: Uow, *, kind: str, at: datetime) -> int:
    """Close the alarms of endpoints that are not paused any more (a person resumed them)."""
    result = await uow.execute(
        """
        UPDATE gateway.alarms SET cleared_at = :at
        WHERE kind = :kind AND cleared_at IS NULL AND NOT EXISTS (
            SELECT 1 FROM gateway.webhook_endpoints e
            WHERE e.id = object_id AND e.state = 'paused')
        """,
        {"kind": kind, "at": at},
    )
    return result.rowcount


async def clear_alarm(uow: Uow, *, kind: str, object_id: UUID, at: datetime) -> None:
    """Close the open alarm of this kind and object, if there is one."""
    await uow.execute(
        """
        UPDATE gateway.alarms SET cleared_at = :at
        WHERE kind = :kind AND object_id = :object_id AND cleared_at IS NULL
        """,
        {"kind": kind, "object_id": object_id, "at": at},
    )
