"""SQL of limits: how each withdrawal was judged, and what counts against the limits."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow


async def lock_brand(uow: Uow, brand: str, *, is_shared: bool) -> None:
    """Whoever counts is alone with a brand's usage until its commit; who only adds shares it."""
    function = "pg_advisory_xact_lock_shared" if is_shared else "pg_advisory_xact_lock"
    await uow.rows(
        f"SELECT {function}(hashtextextended('withdrawal limits ' || :brand, 0))", {"brand": brand}
    )


# Whole hours from the sums, the hour that the window's start cuts from the rows themselves.
_USAGE = """
WITH w AS (
    SELECT * FROM unnest(CAST(:names AS text[]), CAST(:sinces AS timestamptz[]),
        CAST(:hours AS bigint[])) AS w (name, since, hour)
), parts AS (
    SELECT w.name, u.player_id, u.asset, u.currency, u.value, u.unvalued
    FROM w JOIN gateway.limit_usage u ON u.brand = :brand
        AND u.player_id = ANY(CAST(:players AS text[]))
        AND u.hour > w.hour
    UNION ALL
    SELECT w.name, p.player_id, l.asset, l.currency, coalesce(l.value, 0),
        CASE WHEN l.value IS NULL THEN l.amount ELSE 0 END
    FROM w JOIN gateway.withdrawal_limits l ON l.brand = :brand AND l.counts
        AND l.hour = w.hour AND l.at > w.since
    CROSS JOIN LATERAL (VALUES (''), (l.player_id)) AS p (player_id)
    WHERE p.player_id = ANY(CAST(:players AS text[]))
)
SELECT name, player_id, asset, currency, sum(value) AS value, sum(unvalued) AS unvalued
FROM parts GROUP BY name, player_id, asset, currency
"""


async def usage(
    uow: Uow, *, brand: str, players: Sequence[str], windows: Sequence[tuple[str, datetime, int]]
) -> Sequence[RowMapping]:
    """What counts in each window (name, since, hour of `since`), by player ('' all) and asset.

    `players`: whose sums are asked for, '' among them.
    """
    result = await uow.execute(
        _USAGE,
        {
            "brand": brand,
            "players": list(players),
            "names": [name for name, _, _ in windows],
            "sinces": [since for _, since, _ in windows],
            "hours": [hour for _, _, hour in windows],
        },
    )
    return result.mappings().all()


_COLUMNS = """
    withdrawal_id, brand, player_id, asset, amount, currency, value, rate_id, policy_version,
    approvals, code, counts, hour, at
"""


_INSERT = f"""
WITH judged AS (
    INSERT INTO gateway.withdrawal_limits ({_COLUMNS}) SELECT {_COLUMNS}
    FROM jsonb_populate_recordset(CAST(NULL AS gateway.withdrawal_limits), CAST(:rows AS jsonb))
    RETURNING brand, player_id, hour, asset, currency, value, amount, counts
)
INSERT INTO gateway.limit_usage AS u (brand, player_id, hour, asset, currency, value, unvalued)
SELECT r.brand, p.player_id, r.hour, r.asset, r.currency, coalesce(sum(r.value), 0),
    coalesce(sum(r.amount) FILTER (WHERE r.value IS NULL), 0)
FROM judged AS r CROSS JOIN LATERAL (VALUES (''), (r.player_id)) AS p (player_id)
WHERE r.counts GROUP BY r.brand, p.player_id, r.hour, r.asset, r.currency
ORDER BY r.brand, p.player_id, r.hour, r.asset, r.currency
ON CONFLICT (brand, player_id, hour, asset, currency) DO UPDATE
SET value = u.value + excluded.value, unvalued = u.unvalued + excluded.unvalued
"""


async def insert_many(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """How withdrawals were judged; those that count, into the sums, the brand's rows first."""
    await uow.rows(_INSERT, {"rows": _json(rows)})


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps([dict(row) for row in rows], default=str)


async def give_back(uow: Uow, withdrawal_id: UUID) -> bool:
    """It counts no longer; False when it did not. Locks as `insert` does: the brand's sum first."""
    result = await uow.execute(
        "UPDATE gateway.withdrawal_limits SET counts = false "
        "WHERE withdrawal_id = :id AND counts "
        "RETURNING brand, player_id, hour, asset, currency, value, amount",
        {"id": withdrawal_id},
    )
    row = result.mappings().one_or_none()
    if row is None:
        return False
    for player_id in ("", row["player_id"]):
        await uow.execute(
            "UPDATE gateway.limit_usage SET "
            "value = value - coalesce(CAST(:value AS numeric), 0), unvalued = unvalued - "
            "CASE WHEN CAST(:value AS numeric) IS NULL THEN CAST(:amount AS numeric) ELSE 0 END "
            "WHERE brand = :brand AND player_id = :player_id AND hour = :hour "
            "AND asset = :asset AND currency = :currency",
            {**row, "player_id": player_id},
        )
    return True


async def judgement(uow: Uow, withdrawal_id: UUID) -> RowMapping | None:
    """How a withdrawal was judged."""
    result = await uow.execute(
        "SELECT policy_version, approvals, code, currency, value, counts "
        "FROM gateway.withdrawal_limits WHERE withdrawal_id = :id",
        {"id": withdrawal_id},
    )
    return result.mappings().one_or_none()


_DIFFERENCES = """
WITH sums AS (
    SELECT l.brand, p.player_id, l.hour, l.asset, l.currency, coalesce(sum(l.value), 0) AS value,
        coalesce(sum(l.amount) FILTER (WHERE l.value IS NULL), 0) AS unvalued
    FROM gateway.withdrawal_limits l
        CROSS JOIN LATERAL (VALUES (''), (l.player_id)) AS p (player_id)
    WHERE l.counts AND l.hour >= :since_hour GROUP BY 1, 2, 3, 4, 5
)
SELECT 'sum ' || concat_ws(' ', brand, player_id, hour, asset, currency) AS difference
FROM (SELECT * FROM gateway.limit_usage WHERE hour >= :since_hour) u
    FULL JOIN sums s USING (brand, player_id, hour, asset, currency)
WHERE (coalesce(u.value, 0), coalesce(u.unvalued, 0))
    <> (coalesce(s.value, 0), coalesce(s.unvalued, 0))
UNION ALL
SELECT 'counts ' || l.withdrawal_id FROM gateway.withdrawal_limits l
    JOIN gateway.withdrawals w ON w.id = l.withdrawal_id
WHERE l.counts <> (w.state NOT IN ('rejected', 'cancelled', 'expired', 'declined', 'failed'))
ORDER BY 1
"""


async def differences(uow: Uow, *, since_hour: int) -> list[str]:
    """Where the sums from an hour on differ from the rows, and the rows from the states; empty when
    all is well."""
    result = await uow.execute(_DIFFERENCES, {"since_hour": since_hour})
    return list(result.scalars())
