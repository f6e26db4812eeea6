"""SQL of the sequencer: gateway.event_queue, event_counters, event_log, and new deliveries.

Each statement is set-wise over one bounded batch. It must not touch delivery attempts
(`deliveries_store.py`).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from config.database import Uow

FEED_CHANNEL = "cage_feed"  # told when numbered rows are committed
EVENTS_CHANNEL = "cage_events"  # told by ledger.outbox when events are committed
OPERATOR = "operator"  # the name of the operator's stream


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One committed event without a number. `brand` is `operator` for the operator's stream."""

    id: UUID
    brand: str
    type: str
    object_kind: str
    object_id: UUID
    object_version: int
    previous_state: str | None
    snapshot: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedEvent:
    """An event with its number and the exact text that every channel sends."""

    event: EventRow
    seq: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """An endpoint as the sequencer sees it. `types` empty = all; `deposit.*` is a pattern."""

    endpoint_id: UUID
    brand: str
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """One event for one endpoint, due at once unless an older one of its object is pending."""

    id: UUID
    endpoint_id: UUID
    numbered: NumberedEvent

    @property
    def pair(self) -> tuple[UUID, UUID]:
        """(endpoint, object): within it the order of events is kept."""
        return self.endpoint_id, self.numbered.event.object_id


async def mark_stuck(uow: Uow, event_id: UUID) -> None:
    """An event that cannot be rendered: its object waits, everything else goes on."""
    await uow.execute(
        "UPDATE gateway.event_queue SET is_stuck = true WHERE event_id = :id", {"id": event_id}
    )


async def unstick(uow: Uow) -> None:
    """Try what was stuck again: a new process may render it."""
    await uow.execute("UPDATE gateway.event_queue SET is_stuck = false WHERE is_stuck")


async def take_unnumbered(uow: Uow, *, limit: int) -> list[EventRow]:
    """Take up to `limit` events off the queue, oldest position first.

    Earlier versions of the same objects come along even when they stand behind the limit, so that
    a batch never numbers version 3 before version 2. An object with a stuck event waits whole.
    Rolled back together with the caller's work.
    """
    result = await uow.execute(
        """
        WITH head AS (
            SELECT event_id, object_id, object_version
            FROM gateway.event_queue queued
            WHERE NOT EXISTS (SELECT 1 FROM gateway.event_queue stuck
                              WHERE stuck.object_id = queued.object_id AND stuck.is_stuck)
            ORDER BY position LIMIT :limit
        ), batch AS (
            SELECT event_id FROM head
            UNION
            SELECT earlier.event_id FROM gateway.event_queue earlier
            JOIN head ON earlier.object_id = head.object_id
                AND earlier.object_version < head.object_version
        ), taken AS (
            DELETE FROM gateway.event_queue queued USING batch
            WHERE queued.event_id = batch.event_id
            RETURNING queued.event_id
        )
        SELECT e.id, coalesce(e.brand, :operator) AS brand, e.type, e.object_kind, e.object_id,
            e.object_version, e.previous_state, e.snapshot::text AS snapshot, e.created_at
        FROM taken CROSS JOIN LATERAL (
            SELECT * FROM ledger.events WHERE id = taken.event_id LIMIT 1  -- opens one month
        ) AS e
        ORDER BY e.position
        """,
        {"limit": limit, "operator": OPERATOR},
    )
    return [
        EventRow(
            id=row.id,
            brand=row.brand,
            type=row.type,
            object_kind=row.object_kind,
            object_id=row.object_id,
            object_version=row.object_version,
            previous_state=row.previous_state,
            snapshot=json.loads(row.snapshot),
            created_at=row.created_at,
        )
        for row in result
    ]


async def advance_counters(uow: Uow, counts: Mapping[str, int]) -> dict[str, int]:
    """Add `counts` to the brands' counters; returns the last number of each before it.

    Locks the counter rows until the commit: numbers are given to one batch at a time.
    """
    brands = sorted(counts)
    result = await uow.execute(
        """
        INSERT INTO gateway.event_counters AS counter (brand, last_seq)
        SELECT brand, count FROM unnest(CAST(:brands AS text[]), CAST(:counts AS bigint[]))
            AS batch (brand, count)
        ON CONFLICT (brand) DO UPDATE SET last_seq = counter.last_seq + excluded.last_seq
        RETURNING brand, last_seq
        """,
        {"brands": brands, "counts": [counts[brand] for brand in brands]},
    )
    return {row.brand: int(row.last_seq) - counts[row.brand] for row in result}


async def subscriptions(uow: Uow, brands: Sequence[str]) -> list[Subscription]:
    """The endpoints of these brands that are not deleted; paused ones go on collecting."""
    result = await uow.execute(
        """
        SELECT id, brand, types FROM gateway.webhook_endpoints
        WHERE brand = ANY(CAST(:brands AS text[])) AND state <> 'deleted'
        ORDER BY id
        """,
        {"brands": list(brands)},
    )
    return [
        Subscription(endpoint_id=row.id, brand=row.brand, types=tuple(row.types)) for row in result
    ]


async def insert_numbered(uow: Uow, rows: Sequence[NumberedEvent]) -> None:
    """Write the feed rows and tell the listeners at the commit."""
    await uow.execute(
        """
        WITH written AS (
            INSERT INTO gateway.event_log (brand, seq, event_id, type, object_kind, object_id,
                object_version, body, created_at)
            SELECT * FROM unnest(CAST(:brands AS text[]), CAST(:seqs AS bigint[]),
                CAST(:event_ids AS uuid[]), CAST(:types AS text[]), CAST(:kinds AS text[]),
                CAST(:object_ids AS uuid[]), CAST(:versions AS integer[]),
                CAST(:bodies AS text[]), CAST(:created AS timestamptz[]))
            RETURNING 1
        )
        SELECT pg_notify(:channel, '') FROM (SELECT count(*) FROM written) AS done
        """,
        {
            "channel": FEED_CHANNEL,
            "brands": [row.event.brand for row in rows],
            "seqs": [row.seq for row in rows],
            "event_ids": [row.event.id for row in rows],
            "types": [row.event.type for row in rows],
            "kinds": [row.event.object_kind for row in rows],
            "object_ids": [row.event.object_id for row in rows],
            "versions": [row.event.object_version for row in rows],
            "bodies": [row.body for row in rows],
            "created": [row.event.created_at for row in rows],
        },
    )


async def lock_pending(uow: Uow, pairs: Collection[tuple[UUID, UUID]]) -> set[tuple[UUID, UUID]]:
    """Which (endpoint, object) pairs have something pending, which stays so until the commit.

    A try that ends meanwhile waits for us, and then finds what we added behind it.
    """
    ordered = sorted(pairs)
    result = await uow.execute(
        """
        SELECT d.endpoint_id, d.object_id FROM gateway.deliveries d
        JOIN unnest(CAST(:endpoint_ids AS uuid[]), CAST(:object_ids AS uuid[]))
            AS wanted (endpoint_id, object_id)
            ON d.endpoint_id = wanted.endpoint_id AND d.object_id = wanted.object_id
        WHERE d.state = 'pending' AND d.object_id = ANY(CAST(:object_ids AS uuid[]))
        ORDER BY d.id FOR SHARE OF d
        """,
        {
            "endpoint_ids": [endpoint_id for endpoint_id, _ in ordered],
            "object_ids": [object_id for _, object_id in ordered],
        },
    )
    return {(row.endpoint_id, row.object_id) for row in result}


async def insert_deliveries(uow: Uow, rows: Sequence[NewDelivery], *, at: datetime) -> None:
    """Write one delivery per (endpoint, event), in the order of their numbers."""
    taken = await lock_pending(uow, {row.pair for row in rows})
    are_oldest = []
    for row in rows:
        are_oldest.append(row.pair not in taken)
        taken.add(row.pair)
    await uow.execute(
        """
        INSERT INTO gateway.deliveries (id, endpoint_id, brand, seq, event_id, object_id,
            object_version, is_oldest, state, next_attempt_at, created_at)
        SELECT batch.*, 'pending', :at, :at
        FROM unnest(CAST(:ids AS uuid[]), CAST(:endpoint_ids AS uuid[]),
            CAST(:brands AS text[]), CAST(:seqs AS bigint[]), CAST(:event_ids AS uuid[]),
            CAST(:object_ids AS uuid[]), CAST(:versions AS integer[]),
            CAST(:are_oldest AS boolean[])) AS batch
        """,
        {
            "at": at,
            "ids": [row.id for row in rows],
            "endpoint_ids": [row.endpoint_id for row in rows],
            "brands": [row.numbered.event.brand for row in rows],
            "seqs": [row.numbered.seq for row in rows],
            "event_ids": [row.numbered.event.id for row in rows],
            "object_ids": [row.numbered.event.object_id for row in rows],
            "versions": [row.numbered.event.object_version for row in rows],
            "are_oldest": are_oldest,
        },
    )
