"""SQL of wallets: bands, and what came and went by the hour."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

_BAND = "id, network, role, asset, state, amount, version, state_at"


async def bands(uow: Uow, *, network: str | None = None) -> list[dict[str, Any]]:
    """Where wallets stand, of one network or all."""
    return await uow.rows(
        f"SELECT {_BAND} FROM gateway.wallet_bands "
        "WHERE CAST(:network AS text) IS NULL OR network = :network ORDER BY asset, role",
        {"network": network},
    )


async def open_band(uow: Uow, row: Mapping[str, Any]) -> None:
    """A wallet that is looked at for the first time is inside; again it changes nothing."""
    await uow.execute(
        "INSERT INTO gateway.wallet_bands (id, network, role, asset, state, amount, created_at, "
        "state_at) VALUES (:id, :network, :role, :asset, 'inside', :amount, :at, :at) "
        "ON CONFLICT (asset, role) DO NOTHING",
        dict(row),
    )


async def mark(uow: Uow, *, network: str) -> RowMapping | None:
    """Which hours of a network are summed."""
    result = await uow.execute(
        "SELECT first_hour, next_hour FROM gateway.flow_marks WHERE network = :network",
        {"network": network},
    )
    return result.mappings().one_or_none()


async def set_mark(uow: Uow, *, network: str, first_hour: int, next_hour: int) -> None:
    """The hours that are summed now."""
    await uow.execute(
        "INSERT INTO gateway.flow_marks (network, first_hour, next_hour) "
        "VALUES (:network, :first_hour, :next_hour) "
        "ON CONFLICT (network) DO UPDATE SET next_hour = EXCLUDED.next_hour",
        {"network": network, "first_hour": first_hour, "next_hour": next_hour},
    )


async def first_moment(uow: Uow, *, network: str) -> datetime | None:
    """When the first deposit or withdrawal of a network came; None before any."""
    result = await uow.execute(
        "SELECT least("
        "(SELECT min(first_seen_at) FROM chain.deposits WHERE network = :network), "
        "(SELECT min(accepted_at) FROM gateway.withdrawals WHERE network = :network)) AS at",
        {"network": network},
    )
    found: datetime | None = result.scalar_one()
    return found


# Ids are UUIDv7, so that a span of time is a span of the primary key; the moment itself decides.
_HOUR = "floor(extract(epoch FROM {moment}) / 3600)::bigint"
_SUMS = f"""
WITH inflow AS (
    SELECT asset, {_HOUR.format(moment="first_seen_at")} AS hour, sum(amount) AS amount
    FROM chain.deposits
    WHERE network = :network AND id >= :low AND id < :high
        AND first_seen_at >= :since AND first_seen_at < :until AND NOT is_internal
        AND state IN ('pending', 'provisional', 'on_hold', 'below_minimum', 'final')
    GROUP BY 1, 2
), demand AS (
    SELECT asset, {_HOUR.format(moment="accepted_at")} AS hour,
        sum(amount - coalesce(fee_charged, 0)) AS amount
    FROM gateway.withdrawals
    WHERE network = :network AND id >= :low AND id < :high
        AND accepted_at >= :since AND accepted_at < :until
        AND state NOT IN ('rejected', 'declined', 'cancelled', 'expired', 'failed')
    GROUP BY 1, 2
), outflow AS (
    SELECT p.asset, {_HOUR.format(moment="o.signed_at")} AS hour, sum(p.amount_minor) AS amount
    FROM chain.outgoing o,
        jsonb_to_recordset(o.payments) AS p (asset text, amount_minor numeric)
    WHERE o.network = :network AND o.id >= :low AND o.id < :high
        AND o.signed_at >= :since AND o.signed_at < :until
        AND o.replaces_id IS NULL AND o.purpose = ANY(:purposes)
    GROUP BY 1, 2
)
INSERT INTO gateway.flow_hours (network, asset, hour, inflow, demand, outflow)
SELECT :network, asset, hour, coalesce(i.amount, 0), coalesce(d.amount, 0), coalesce(o.amount, 0)
FROM inflow i FULL JOIN demand d USING (asset, hour) FULL JOIN outflow o USING (asset, hour)
WHERE asset = ANY(:assets)
"""


async def sum_hours(
    uow: Uow,
    *,
    network: str,
    assets: Sequence[str],
    purposes: Sequence[str],
    hours: tuple[int, int],
    moments: tuple[datetime, datetime],
    ids: tuple[UUID, UUID],
) -> None:
    """Write the hours [first, end) anew."""
    await uow.execute(
        "DELETE FROM gateway.flow_hours WHERE network = :network AND hour >= :first "
        "AND hour < :until",
        {"network": network, "first": hours[0], "until": hours[1]},
    )
    await uow.execute(
        _SUMS,
        {
            "network": network,
            "assets": list(assets),
            "purposes": list(purposes),
            "since": moments[0],
            "until": moments[1],
            "low": ids[0],
            "high": ids[1],
        },
    )


async def first_flow(uow: Uow, *, asset: str) -> int | None:
    """The first hour that an asset had anything in."""
    result = await uow.execute(
        "SELECT min(hour) FROM gateway.flow_hours WHERE asset = :asset", {"asset": asset}
    )
    found: int | None = result.scalar_one()
    return found


async def flows(uow: Uow, *, asset: str, first_hour: int) -> list[dict[str, Any]]:
    """The hours of an asset that had anything, oldest first."""
    return await uow.rows(
        "SELECT hour, inflow, demand, outflow FROM gateway.flow_hours "
        "WHERE asset = :asset AND hour >= :first_hour ORDER BY hour",
        {"asset": asset, "first_hour": first_hour},
    )


async def outflow_since(
    uow: Uow,
    *,
    network: str,
    purposes: Sequence[str],
    since: datetime,
    low: UUID,
    built_since: datetime | None,
) -> dict[str, int]:
    """What payouts signed since a moment, or built and not signed yet, pay; by asset. Left out is
    what was built before `built_since`, whenever it is signed."""
    result = await uow.execute(
        "SELECT p.asset, sum(p.amount_minor) AS amount FROM chain.outgoing o, "
        "jsonb_to_recordset(o.payments) AS p (asset text, amount_minor numeric) "
        "WHERE o.network = :network AND o.replaces_id IS NULL AND o.purpose = ANY(:purposes) "
        "AND (o.state = 'built' OR (o.id >= :low AND o.signed_at >= :since)) "
        "AND o.created_at >= coalesce(CAST(:built_since AS timestamptz), '-infinity') "
        "GROUP BY p.asset",
        {
            "network": network,
            "low": low,
            "since": since,
            "purposes": list(purposes),
            "built_since": built_since,
        },
    )
    return {row.asset: int(row.amount) for row in result}
