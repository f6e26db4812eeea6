"""SQL of gateway.event_numbers and event_log as the feed reads them."""

from collections.abc import Sequence
from dataclasses import dataclass

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """One event of the feed. `body` None: the month of the event was put away."""

    seq: int
    body: str | None


async def after(uow: Uow, *, brand: str, after: int, limit: int) -> Sequence[Numbered]:
    """Events of a brand with `seq` above `after`, in order.

    By their numbers, and each from the month that its id names: a LATERAL whose limit keeps it a
    look-up by id, whatever the planner thinks of tables that nobody has analysed yet.
    """
    result = await uow.execute(
        """
        SELECT n.seq, l.body FROM (
            SELECT seq, event_id FROM gateway.event_numbers
            WHERE brand = :brand AND seq > :after ORDER BY seq LIMIT :limit
        ) AS n
        LEFT JOIN LATERAL (
            SELECT body FROM gateway.event_log WHERE event_id = n.event_id LIMIT 1
        ) AS l ON true
        ORDER BY n.seq
        """,
        {"brand": brand, "after": after, "limit": limit},
    )
    return [Numbered(seq=row.seq, body=row.body) for row in result]


async def put_away_up_to(uow: Uow, brand: str) -> int:
    """The highest number of a brand in a month that was put away; 0 of none."""
    result = await uow.execute(
        "SELECT put_away_seq FROM gateway.event_counters WHERE brand = :brand", {"brand": brand}
    )
    return int(result.scalar_one_or_none() or 0)
