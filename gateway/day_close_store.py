"""SQL of gateway.day_closes."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from sqlalchemy import RowMapping

from config.database import Uow

if TYPE_CHECKING:
    from gateway.day_closes import DayClose

_COLUMNS = "day, report, sha256, previous_sha256, closed_by, closed_at"


async def lock(uow: Uow) -> None:
    """One close at a time, until the commit."""
    await uow.execute("SELECT pg_advisory_xact_lock(hashtextextended('gateway.day_closes', 0))")


async def get(uow: Uow, day: date) -> RowMapping | None:
    """One closed day."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.day_closes WHERE day = :day", {"day": day}
    )
    return result.mappings().one_or_none()


async def find(uow: Uow, *, before: date | None, limit: int) -> Sequence[RowMapping]:
    """Closed days, newest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.day_closes "
        "WHERE CAST(:before AS date) IS NULL OR day < :before ORDER BY day DESC LIMIT :limit",
        {"before": before, "limit": limit},
    )
    return result.mappings().all()


async def insert(uow: Uow, made: "DayClose") -> None:
    """Keep a closed day."""
    await uow.execute(
        f"INSERT INTO gateway.day_closes ({_COLUMNS}) VALUES (:day, :report, :sha256, "
        ":previous_sha256, :closed_by, :closed_at)",
        {name: getattr(made, name) for name in _COLUMNS.split(", ")},
    )
