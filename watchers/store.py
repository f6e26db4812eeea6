"""SQL of hash chains, cursors with leases, fee samples, node health, probes and alarms."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.chain import BlockRef

_CURSOR = (
    "network, height, hash, top_height, finalised_height, lease_holder, lease_expires_at, fence, "
    "stopped_reason, degraded_at_height, updated_at"
)

_LEASE_END = "clock_timestamp() + make_interval(secs => CAST(:seconds AS double precision))"


async def cursor(uow: Uow, network: str) -> RowMapping | None:
    """Where the follower of a network stands."""
    result = await uow.execute(
        f"SELECT {_CURSOR} FROM chain.cursors WHERE network = :network", {"network": network}
    )
    return result.mappings().one_or_none()


async def take_lease(
    uow: Uow, *, network: str, holder: str, seconds: float, at: datetime
) -> RowMapping | None:
    """Take or renew the lease; the fence rises whenever the holder changes. None: another's.

    Its time is the database's: clocks of processes jump (P11). `at` is for the record.
    """
    result = await uow.execute(
        "INSERT INTO chain.cursors AS c (network, lease_holder, lease_expires_at, fence, "
        f"updated_at) VALUES (:network, :holder, {_LEASE_END}, 1, :at) "
        "ON CONFLICT (network) DO UPDATE SET lease_expires_at = excluded.lease_expires_at, "
        "fence = c.fence + CASE WHEN c.lease_holder = excluded.lease_holder THEN 0 ELSE 1 END, "
        "lease_holder = excluded.lease_holder "
        "WHERE c.lease_holder = excluded.lease_holder OR c.lease_holder IS NULL "
        "OR c.lease_expires_at < clock_timestamp() "
        # No hold reaches so far: the database's clock was set back under it.
        f"OR c.lease_expires_at > {_LEASE_END} + make_interval(secs => :seconds) "
        f"RETURNING {_CURSOR}",
        {"network": network, "holder": holder, "seconds": seconds, "at": at},
    )
    return result.mappings().one_or_none()


async def drop_lease(uow: Uow, *, network: str, holder: str) -> None:
    """Give the lease up at a clean exit."""
    await uow.execute(
        "UPDATE chain.cursors SET lease_holder = NULL, lease_expires_at = NULL "
        "WHERE network = :network AND lease_holder = :holder",
        {"network": network, "holder": holder},
    )


async def move_cursor(
    uow: Uow,
    *,
    network: str,
    expected_hash: str | None,
    fence: int,
    height: int,
    block_hash: str,
    at: datetime,
    lease_seconds: float,
) -> bool:
    """Compare-and-set of the cursor on (hash, fence); False when another moved it (P12).

    Whoever moves it is alive: the lease goes on with it.
    """
    result = await uow.execute(
        "UPDATE chain.cursors SET height = :height, hash = :hash, updated_at = :at, "
        "top_height = greatest(top_height, CAST(:height AS bigint)), "
        f"lease_expires_at = CASE WHEN lease_holder IS NOT NULL THEN {_LEASE_END} END "
        "WHERE network = :network AND hash IS NOT DISTINCT FROM CAST(:expected AS text) "
        "AND fence = :fence AND stopped_reason IS NULL",
        {
            "network": network,
            "expected": expected_hash,
            "fence": fence,
            "height": height,
            "hash": block_hash,
            "at": at,
            "seconds": lease_seconds,
        },
    )
    return result.rowcount == 1


async def lock_cursor(
    uow: Uow, *, network: str, fence: int, lease_seconds: float
) -> RowMapping | None:
    """The cursor row locked for this unit of work, or None when the fence moved on. Whoever works
    is alive: the lease goes on."""
    result = await uow.execute(
        "UPDATE chain.cursors SET lease_expires_at = "
        f"CASE WHEN lease_holder IS NOT NULL THEN {_LEASE_END} END "
        f"WHERE network = :network AND fence = :fence RETURNING {_CURSOR}",
        {"network": network, "fence": fence, "seconds": lease_seconds},
    )
    return result.mappings().one_or_none()


async def set_finalised(uow: Uow, *, network: str, height: int) -> None:
    """The chain's own finality as last read; it never goes back."""
    await uow.execute(
        "UPDATE chain.cursors SET finalised_height = :height WHERE network = :network "
        "AND coalesce(finalised_height, -1) < :height",
        {"network": network, "height": height},
    )


async def set_degraded(uow: Uow, *, network: str, fence: int) -> None:
    """The count of absence stands still from here on, if it did not already."""
    await uow.execute(
        "UPDATE chain.cursors SET degraded_at_height = height "
        "WHERE network = :network AND fence = :fence AND degraded_at_height IS NULL",
        {"network": network, "fence": fence},
    )


async def end_degraded(uow: Uow, *, network: str) -> None:
    """The count goes on; the caller has shifted what it counts."""
    await uow.execute(
        "UPDATE chain.cursors SET degraded_at_height = NULL WHERE network = :network",
        {"network": network},
    )


async def next_event_version(uow: Uow, *, network: str, at: datetime) -> int:
    """The next version of the network as the object of events."""
    result = await uow.execute(
        "INSERT INTO chain.cursors AS c (network, event_version, updated_at) VALUES "
        "(:network, 1, :at) ON CONFLICT (network) DO UPDATE "
        "SET event_version = c.event_version + 1 RETURNING event_version",
        {"network": network, "at": at},
    )
    return int(result.scalar_one())


async def stop(uow: Uow, *, network: str, reason: str, at: datetime) -> bool:
    """Stop following until a person clears the reason (D09); False when it was stopped before."""
    result = await uow.execute(
        "UPDATE chain.cursors SET stopped_reason = :reason, updated_at = :at "
        "WHERE network = :network AND stopped_reason IS NULL",
        {"network": network, "reason": reason, "at": at},
    )
    return result.rowcount == 1


async def connect_blocks(uow: Uow, *, network: str, refs: Sequence[BlockRef]) -> None:
    """These blocks are on our canonical chain."""
    await uow.execute(
        "INSERT INTO chain.blocks (network, hash, height, parent_hash, time_seconds, "
        "is_canonical) SELECT CAST(:network AS text), r.*, true FROM unnest("
        "CAST(:hashes AS text[]), CAST(:heights AS bigint[]), CAST(:parents AS text[]), "
        "CAST(:times AS bigint[])) AS r "
        "ON CONFLICT (network, hash) DO UPDATE SET is_canonical = true",
        {
            "network": network,
            "hashes": [ref.hash for ref in refs],
            "heights": [ref.height for ref in refs],
            "parents": [ref.parent_hash for ref in refs],
            "times": [ref.time_seconds for ref in refs],
        },
    )


async def disconnect_block(uow: Uow, *, network: str, block_hash: str) -> None:
    """The block left our canonical chain."""
    await uow.execute(
        "UPDATE chain.blocks SET is_canonical = false WHERE network = :network AND hash = :hash",
        {"network": network, "hash": block_hash},
    )


async def is_canonical(uow: Uow, *, network: str, block_hash: str) -> bool:
    """Whether the chain that we follow has this block, as far as headers are kept."""
    result = await uow.execute(
        "SELECT EXISTS (SELECT 1 FROM chain.blocks "
        "WHERE network = :network AND hash = :hash AND is_canonical)",
        {"network": network, "hash": block_hash},
    )
    return bool(result.scalar_one())


async def canonical_from(uow: Uow, *, network: str, low: int, high: int) -> Sequence[RowMapping]:
    """Canonical headers of a height range, highest first."""
    result = await uow.execute(
        "SELECT height, hash, parent_hash, time_seconds FROM chain.blocks WHERE network = "
        ":network AND is_canonical AND height BETWEEN :low AND :high ORDER BY height DESC",
        {"network": network, "low": low, "high": high},
    )
    return result.mappings().all()


async def insert_fee_sample(
    uow: Uow,
    *,
    network: str,
    at: datetime,
    rates: Mapping[int, int],
    floor: int,
    base_fee: int,
) -> None:
    """One fee quote."""
    await uow.execute(
        "INSERT INTO chain.fee_samples (network, sampled_at, rates, floor, base_fee) VALUES "
        "(:network, :at, CAST(:rates AS jsonb), :floor, :base_fee) ON CONFLICT DO NOTHING",
        {
            "network": network,
            "at": at,
            "rates": json.dumps({str(target): str(rate) for target, rate in rates.items()}),
            "floor": floor,
            "base_fee": base_fee,
        },
    )


async def prune_fee_samples(
    uow: Uow, *, network: str, thin_before: datetime, before: datetime
) -> None:
    """Forget quotes before a moment; before a later one all but the first of each hour."""
    await uow.execute(
        "DELETE FROM chain.fee_samples f WHERE f.network = :network AND (f.sampled_at < :before "
        "OR (f.sampled_at < :thin_before AND f.sampled_at >= date_trunc('hour', "
        "CAST(:thin_before AS timestamptz), 'UTC') - interval '1 hour' "
        "AND EXISTS (SELECT 1 FROM chain.fee_samples e WHERE e.network = f.network "
        "AND e.sampled_at < f.sampled_at "
        "AND e.sampled_at >= date_trunc('hour', f.sampled_at, 'UTC'))))",
        {"network": network, "thin_before": thin_before, "before": before},
    )


async def cheap_fee_rate(uow: Uow, *, network: str, share: float) -> tuple[int, int]:
    """(hours with a quote, the rate that `share` of them do not exceed), lowest rate of each."""
    row = (
        await uow.execute(
            """
            SELECT count(*) AS hours,
                coalesce(percentile_disc(CAST(:share AS double precision))
                    WITHIN GROUP (ORDER BY h.rate), 0) AS rate
            FROM (SELECT min(CAST(r.rate AS numeric) + f.base_fee) AS rate
                  FROM chain.fee_samples f, jsonb_each_text(f.rates) AS r (target, rate)
                  WHERE f.network = :network
                  GROUP BY date_trunc('hour', f.sampled_at, 'UTC')) AS h
            """,
            {"network": network, "share": share},
        )
    ).one()
    return int(row.hours), int(row.rate)


async def latest_fee_sample(uow: Uow, *, network: str) -> RowMapping | None:
    """The newest quote of a network."""
    result = await uow.execute(
        "SELECT sampled_at, rates, floor, base_fee FROM chain.fee_samples "
        "WHERE network = :network ORDER BY sampled_at DESC LIMIT 1",
        {"network": network},
    )
    return result.mappings().one_or_none()


async def upsert_health(uow: Uow, values: Mapping[str, Any]) -> bool | None:
    """Write the health of a network; returns whether it was healthy before, None: unknown."""
    before = await uow.execute(
        "SELECT is_healthy FROM chain.node_health WHERE network = :network FOR UPDATE",
        {"network": values["network"]},
    )
    was_healthy: bool | None = before.scalar_one_or_none()
    await uow.execute(
        "INSERT INTO chain.node_health AS h (network, tip_height, tip_hash, height, lag_blocks, "
        "nodes_total, nodes_agreeing, is_healthy, last_error, advanced_at, observed_at) VALUES "
        "(:network, :tip_height, :tip_hash, :height, :lag_blocks, :nodes_total, "
        ":nodes_agreeing, :is_healthy, :last_error, :at, :at) "
        "ON CONFLICT (network) DO UPDATE SET "
        "tip_height = coalesce(excluded.tip_height, h.tip_height), "
        "tip_hash = coalesce(excluded.tip_hash, h.tip_hash), "
        "height = coalesce(excluded.height, h.height), "
        "lag_blocks = coalesce(excluded.lag_blocks, h.lag_blocks), "
        "nodes_total = excluded.nodes_total, nodes_agreeing = excluded.nodes_agreeing, "
        "is_healthy = excluded.is_healthy, last_error = excluded.last_error, "
        "advanced_at = CASE WHEN excluded.tip_hash IS NULL OR excluded.tip_hash = h.tip_hash "
        "THEN h.advanced_at ELSE excluded.advanced_at END, observed_at = excluded.observed_at",
        values,
    )
    return was_healthy


async def health_rows(uow: Uow) -> Sequence[RowMapping]:
    """Health of every network with its cursor."""
    result = await uow.execute(
        "SELECT h.network, h.tip_height, h.tip_hash, c.height, c.hash, c.finalised_height, "
        "c.stopped_reason, h.lag_blocks, h.nodes_total, h.nodes_agreeing, h.is_healthy, "
        "h.last_error, h.advanced_at, h.observed_at FROM chain.node_health h "
        "LEFT JOIN chain.cursors c ON c.network = h.network ORDER BY h.network"
    )
    return result.mappings().all()


async def ask_probe(uow: Uow, *, probe_id: UUID, network: str, kind: str, at: datetime) -> None:
    """A question for the watcher of a network."""
    await uow.execute(
        "INSERT INTO chain.probes (id, network, kind, state, asked_at) VALUES "
        "(:id, :network, :kind, 'asked', :at)",
        {"id": probe_id, "network": network, "kind": kind, "at": at},
    )
    await uow.execute("SELECT pg_notify('cage_probes', :network)", {"network": network})


async def probe(uow: Uow, probe_id: UUID) -> RowMapping | None:
    """A question and its answer."""
    result = await uow.execute(
        "SELECT id, network, kind, state, answer, asked_at, answered_at FROM chain.probes "
        "WHERE id = :id",
        {"id": probe_id},
    )
    return result.mappings().one_or_none()


async def open_probes(uow: Uow, *, network: str, limit: int) -> Sequence[RowMapping]:
    """Questions about what is held, without an answer, oldest first."""
    result = await uow.execute(
        "SELECT id, kind FROM chain.probes WHERE network = :network AND state = 'asked' "
        "AND kind IN ('holdings', 'reserves') ORDER BY asked_at LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return result.mappings().all()


async def answer_probe(
    uow: Uow, *, probe_id: UUID, state: str, answer: Mapping[str, Any], at: datetime
) -> None:
    """Answer a question once."""
    await uow.execute(
        "UPDATE chain.probes SET state = :state, answer = CAST(:answer AS jsonb), "
        "answered_at = :at WHERE id = :id AND state = 'asked'",
        {"id": probe_id, "state": state, "answer": json.dumps(answer), "at": at},
    )
