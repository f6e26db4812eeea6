"""SQL of chain.searches for the people who work them off."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """One search; amounts in minor units."""

    id: UUID
    network: str
    kind: str
    asset: str
    subject: str
    brand: str | None
    player_id: str | None
    block_hash: str
    height: int
    claimed: Decimal
    moved: Decimal
    transfers: list[dict[str, Any]]
    state: str
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    outcome: str | None


_COLUMNS = ", ".join(SearchRow.__slots__)


async def find(
    uow: Uow, *, network: str | None, state: str | None, before: UUID | None, limit: int
) -> list[SearchRow]:
    """Searches, newest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.searches WHERE "
        "(CAST(:network AS text) IS NULL OR network = :network) "
        "AND (CAST(:state AS text) IS NULL OR state = :state) "
        "AND (CAST(:before AS uuid) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit",
        {"network": network, "state": state, "before": before, "limit": limit},
    )
    return [SearchRow(**row) for row in result.mappings()]


async def close(
    uow: Uow, search_id: UUID, *, person: str, outcome: str, at: datetime
) -> SearchRow | None:
    """Closed by a person, unless another one did before; None when there is no such search."""
    await uow.execute(
        "UPDATE chain.searches SET state = 'closed', closed_at = :at, closed_by = :person, "
        "outcome = :outcome WHERE id = :id AND state = 'open'",
        {"id": search_id, "person": person, "outcome": outcome, "at": at},
    )
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.searches WHERE id = :id", {"id": search_id}
    )
    row = result.mappings().one_or_none()
    return None if row is None else SearchRow(**row)
