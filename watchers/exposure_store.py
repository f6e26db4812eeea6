"""SQL of exposures and of the usage rows that bound them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

Key = tuple[str, str, str]
"""Scope, brand, subject."""

_KEYS = (
    "SELECT * FROM unnest(CAST(:scopes AS text[]), CAST(:brands AS text[]), "
    "CAST(:subjects AS text[])) AS k (scope, brand, subject)"
)


async def lock_usage(uow: Uow, keys: Sequence[Key], *, currency: str) -> Sequence[RowMapping]:
    """The usage rows of sorted keys, locked in that order; zero rows are inserted first.

    An empty row takes the currency of today; one that still counts keeps its own.
    """
    parameters = {
        "scopes": [key[0] for key in keys],
        "brands": [key[1] for key in keys],
        "subjects": [key[2] for key in keys],
    }
    await uow.execute(
        "INSERT INTO chain.exposure_usage (scope, brand, subject, currency) "
        f"SELECT k.*, :currency FROM ({_KEYS}) k ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING",
        {**parameters, "currency": currency},
    )
    result = await uow.execute(
        "SELECT scope, brand, subject, CASE WHEN deposits = 0 THEN :currency ELSE currency END "
        "AS currency, value, unvalued, deposits FROM chain.exposure_usage "
        f"WHERE (scope, brand, subject) IN ({_KEYS}) ORDER BY scope, brand, subject FOR UPDATE",
        {**parameters, "currency": currency},
    )
    return result.mappings().all()


async def counted(uow: Uow, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these deposits count already."""
    result = await uow.execute(
        "SELECT deposit_id FROM chain.exposures WHERE deposit_id = ANY(CAST(:ids AS uuid[]))",
        {"ids": list(ids)},
    )
    return set(result.scalars())


_ADD = """
WITH added AS (
    INSERT INTO chain.exposures (deposit_id, network, brand, player_id, asset, currency, value,
                                 rate_id, counted_at)
    SELECT s.*, :at FROM unnest(CAST(:ids AS uuid[]), CAST(:networks AS text[]),
        CAST(:brands AS text[]), CAST(:players AS text[]), CAST(:assets AS text[]),
        CAST(:currencies AS text[]), CAST(:values AS numeric[]), CAST(:rates AS uuid[])) AS s
    RETURNING brand, player_id, asset, currency, value
), sums AS (
    SELECT s.scope, a.brand, s.subject, min(a.currency) AS currency,
        coalesce(sum(a.value), 0) AS value,
        count(*) FILTER (WHERE a.value IS NULL) AS unvalued, count(*) AS deposits
    FROM added a CROSS JOIN LATERAL
        (VALUES ('player', a.player_id), ('asset', a.asset), ('brand', '')) AS s (scope, subject)
    GROUP BY s.scope, a.brand, s.subject
)
UPDATE chain.exposure_usage u SET value = u.value + s.value, unvalued = u.unvalued + s.unvalued,
    deposits = u.deposits + s.deposits,
    currency = CASE WHEN u.deposits = 0 THEN s.currency ELSE u.currency END
FROM sums s WHERE (u.scope, u.brand, u.subject) = (s.scope, s.brand, s.subject)
"""


async def add(uow: Uow, rows: Sequence[Mapping[str, Any]], *, at: datetime) -> None:
    """Count deposits: their rows and the sums, in one statement. The usage rows are locked."""
    names = ("id", "network", "brand", "player", "asset", "currency", "value", "rate")
    plural = ("ids", "networks", "brands", "players", "assets", "currencies", "values", "rates")
    columns = dict(zip(plural, ([row[name] for row in rows] for name in names), strict=True))
    await uow.execute(_ADD, {**columns, "at": at})


_REMOVE = """
WITH removed AS (
    DELETE FROM chain.exposures WHERE deposit_id = ANY(CAST(:ids AS uuid[]))
    RETURNING deposit_id, brand, player_id, asset, value
), sums AS (
    SELECT s.scope, r.brand, s.subject, coalesce(sum(r.value), 0) AS value,
        count(*) FILTER (WHERE r.value IS NULL) AS unvalued, count(*) AS deposits
    FROM removed r CROSS JOIN LATERAL
        (VALUES ('player', r.player_id), ('asset', r.asset), ('brand', '')) AS s (scope, subject)
    GROUP BY s.scope, r.brand, s.subject
), freed AS (
    UPDATE chain.exposure_usage u SET value = u.value - s.value,
        unvalued = u.unvalued - s.unvalued, deposits = u.deposits - s.deposits
    FROM sums s WHERE (u.scope, u.brand, u.subject) = (s.scope, s.brand, s.subject)
)
SELECT count(*) FROM removed
"""


async def remove(uow: Uow, ids: Sequence[UUID]) -> int:
    """Count deposits no longer; how many did. The usage rows are locked."""
    result = await uow.execute(_REMOVE, {"ids": list(ids)})
    return int(result.scalar_one())


async def waiting(uow: Uow, *, network: str, limit: int) -> Sequence[RowMapping]:
    """Deposits that a full cap keeps pending, oldest first."""
    result = await uow.execute(
        "SELECT id, brand, player_id, asset, amount, first_seen_at FROM chain.deposits "
        "WHERE network = :network AND state = 'pending' AND substatus = 'exposure_cap' "
        "ORDER BY first_seen_at, id LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return result.mappings().all()


async def set_capped(uow: Uow, *, refused: Sequence[UUID], admitted: Sequence[UUID]) -> None:
    """`exposure_cap` on who is refused, nothing on who is admitted; only where it differs."""
    for ids, before, after in ((refused, None, "exposure_cap"), (admitted, "exposure_cap", None)):
        if ids:
            await uow.execute(
                "UPDATE chain.deposits SET substatus = :after "
                "WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'pending' "
                "AND substatus IS NOT DISTINCT FROM CAST(:before AS text)",
                {"ids": list(ids), "before": before, "after": after},
            )


async def usage(uow: Uow, *, brand: str, subjects: Sequence[str]) -> Sequence[RowMapping]:
    """Usage rows of a brand by scope: itself, its assets, and the players that are named."""
    result = await uow.execute(
        "SELECT scope, brand, subject, currency, value, unvalued, deposits "
        "FROM chain.exposure_usage WHERE brand = :brand "
        "AND (scope <> 'player' OR subject = ANY(CAST(:subjects AS text[]))) "
        "ORDER BY scope, subject",
        {"brand": brand, "subjects": list(subjects)},
    )
    return result.mappings().all()


_DIFFERENCES = """
WITH counts AS (
    SELECT id, brand, player_id, asset FROM chain.deposits
    WHERE state = 'provisional'
        OR (state = 'orphaned' AND prior_state IN ('provisional', 'final'))
), sums AS (
    SELECT s.scope, e.brand, s.subject, coalesce(sum(e.value), 0) AS value,
        count(*) FILTER (WHERE e.value IS NULL) AS unvalued, count(*) AS deposits
    FROM chain.exposures e CROSS JOIN LATERAL
        (VALUES ('player', e.player_id), ('asset', e.asset), ('brand', '')) AS s (scope, subject)
    GROUP BY s.scope, e.brand, s.subject
)
SELECT 'not counted' AS kind, c.id::text AS subject FROM counts c
    WHERE NOT EXISTS (SELECT 1 FROM chain.exposures e WHERE e.deposit_id = c.id
        AND (e.brand, e.player_id, e.asset) = (c.brand, c.player_id, c.asset))
UNION ALL
SELECT 'counts no longer', e.deposit_id::text FROM chain.exposures e
    WHERE NOT EXISTS (SELECT 1 FROM counts c WHERE c.id = e.deposit_id)
UNION ALL
SELECT 'sum', concat_ws(' ', coalesce(u.scope, s.scope), coalesce(u.brand, s.brand),
        coalesce(u.subject, s.subject))
    FROM chain.exposure_usage u FULL JOIN sums s
        ON (u.scope, u.brand, u.subject) = (s.scope, s.brand, s.subject)
    WHERE (coalesce(u.value, 0), coalesce(u.unvalued, 0), coalesce(u.deposits, 0))
        <> (coalesce(s.value, 0), coalesce(s.unvalued, 0), coalesce(s.deposits, 0))
ORDER BY 1, 2
"""


async def differences(uow: Uow) -> Sequence[RowMapping]:
    """Where the usage rows and the deposits tell different sums."""
    result = await uow.execute(_DIFFERENCES)
    return result.mappings().all()
