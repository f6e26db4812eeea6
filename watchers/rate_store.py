"""SQL of reference rates: append, newest, the extremes of a window."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

_COLUMNS = "id, asset, currency, rate, source, as_of, entered_by, approved_by, entered_at"


async def lock(uow: Uow, *, asset: str, currency: str) -> None:
    """One writer per asset and currency, until the commit: each judges the last one's rate."""
    await uow.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('reference rate ' || :name, 0))",
        {"name": f"{asset} {currency}"},
    )


async def insert(
    uow: Uow,
    *,
    rate_id: UUID,
    asset: str,
    currency: str,
    rate: Decimal,
    source: str,
    as_of: datetime,
    entered_by: str,
    approved_by: str | None,
    at: datetime,
) -> RowMapping:
    """Append a rate."""
    result = await uow.execute(
        "INSERT INTO chain.reference_rates (id, asset, currency, rate, source, as_of, entered_by, "
        "approved_by, entered_at) VALUES (:id, :asset, :currency, :rate, :source, :as_of, "
        f":entered_by, :approved_by, :at) RETURNING {_COLUMNS}",
        {
            "id": rate_id,
            "asset": asset,
            "currency": currency,
            "rate": rate,
            "source": source,
            "as_of": as_of,
            "entered_by": entered_by,
            "approved_by": approved_by,
            "at": at,
        },
    )
    return result.mappings().one()


async def newest(uow: Uow, *, assets: Sequence[str], currency: str) -> Sequence[Mapping[str, Any]]:
    """The newest rate of each asset that has one."""
    return await uow.rows(
        f"SELECT r.* FROM unnest(CAST(:assets AS text[])) AS a (asset) CROSS JOIN LATERAL "
        f"(SELECT {_COLUMNS} FROM chain.reference_rates WHERE asset = a.asset "
        "AND currency = :currency ORDER BY as_of DESC LIMIT 1) r",
        {"assets": list(assets), "currency": currency},
    )


async def extremes(
    uow: Uow, *, asset: str, currency: str, since: datetime
) -> tuple[Decimal, Decimal] | None:
    """Lowest and highest rate in force since a moment, the one that it found included."""
    result = await uow.execute(
        "SELECT min(rate) AS low, max(rate) AS high FROM chain.reference_rates "
        "WHERE asset = :asset AND currency = :currency AND (entered_at >= :since OR id = "
        "(SELECT id FROM chain.reference_rates WHERE asset = :asset AND currency = :currency "
        "AND entered_at < :since ORDER BY as_of DESC LIMIT 1))",
        {"asset": asset, "currency": currency, "since": since},
    )
    row = result.mappings().one()
    return None if row["low"] is None else (row["low"], row["high"])


async def history(
    uow: Uow, *, asset: str, currency: str, before: datetime | None, limit: int
) -> Sequence[RowMapping]:
    """Rates of an asset, newest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.reference_rates WHERE asset = :asset "
        "AND currency = :currency AND (CAST(:before AS timestamptz) IS NULL OR as_of < :before) "
        "ORDER BY as_of DESC LIMIT :limit",
        {"asset": asset, "currency": currency, "before": before, "limit": limit},
    )
    return result.mappings().all()
