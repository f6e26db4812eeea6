"""SQL of gateway.reconciliations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRow:
    """A run: the question per network, and what the books alone showed."""

    id: UUID
    probes: Mapping[str, str]
    book_breaks: Sequence[Mapping[str, Any]]
    created_at: datetime


async def insert(
    uow: Uow,
    *,
    reconciliation_id: UUID,
    probes: Mapping[str, str],
    book_breaks: Sequence[Mapping[str, Any]],
    requested_by: str,
    at: datetime,
) -> None:
    """Store a run."""
    await uow.execute(
        "INSERT INTO gateway.reconciliations (id, probes, book_breaks, requested_by, created_at)"
        " VALUES (:id, CAST(:probes AS jsonb), CAST(:breaks AS jsonb), :requested_by, :at)",
        {
            "id": reconciliation_id,
            "probes": json.dumps(dict(probes)),
            "breaks": json.dumps(list(book_breaks)),
            "requested_by": requested_by,
            "at": at,
        },
    )


async def get(uow: Uow, reconciliation_id: UUID) -> ReconciliationRow | None:
    """One run."""
    result = await uow.execute(
        "SELECT id, probes, book_breaks, created_at FROM gateway.reconciliations WHERE id = :id",
        {"id": reconciliation_id},
    )
    row = result.mappings().one_or_none()
    if row is None:
        return None
    return ReconciliationRow(
        id=row["id"],
        probes=_json(row["probes"]),
        book_breaks=_json(row["book_breaks"]),
        created_at=row["created_at"],
    )


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
