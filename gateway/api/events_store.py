"""SQL of gateway.event_log as the feed reads it."""

from collections.abc import Sequence
from dataclasses import dataclass

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """One event of the feed."""

    seq: int
    body: str


async def after(uow: Uow, *, brand: str, after: int, limit: int) -> Sequence[Numbered]:
    """Events of a brand with `seq` above `after`, in order."""
    result = await uow.execute(
        "SELECT seq, body FROM gateway.event_log WHERE brand = :brand AND seq > :after"
        " ORDER BY seq LIMIT :limit",
        {"brand": brand, "after": after, "limit": limit},
    )
    return [Numbered(seq=row.seq, body=row.body) for row in result]
