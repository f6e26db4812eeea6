"""SQL of the doctor's cases, and of what stands about deposits outside `chain`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

FORGOTTEN_PER_CASE = 10  # more than come: the table holds about a day of lookups


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow:
    """One lookup that asked nodes; `probes` by network."""

    id: UUID
    brand: str
    txid: str
    probes: Mapping[str, UUID]
    created_at: datetime


async def insert_case(uow: Uow, case: CaseRow, *, forget_before: datetime) -> None:
    """Keep a lookup, and forget a few old ones."""
    await uow.execute(
        "DELETE FROM gateway.doctor_cases WHERE id IN (SELECT id FROM gateway.doctor_cases "
        "WHERE created_at < :before ORDER BY created_at LIMIT :limit)",
        {"before": forget_before, "limit": FORGOTTEN_PER_CASE},
    )
    await uow.execute(
        "INSERT INTO gateway.doctor_cases (id, brand, txid, probes, created_at) VALUES "
        "(:id, :brand, :txid, CAST(:probes AS jsonb), :at)",
        {
            "id": case.id,
            "brand": case.brand,
            "txid": case.txid,
            "probes": json.dumps({name: str(key) for name, key in case.probes.items()}),
            "at": case.created_at,
        },
    )


async def case(uow: Uow, case_id: UUID, *, brand: str) -> CaseRow | None:
    """One lookup of exactly this view."""
    result = await uow.execute(
        "SELECT id, brand, txid, probes, created_at FROM gateway.doctor_cases "
        "WHERE id = :id AND brand = :brand",
        {"id": case_id, "brand": brand},
    )
    row = result.mappings().one_or_none()
    if row is None:
        return None
    probes = {name: UUID(key) for name, key in row["probes"].items()}
    return CaseRow(**{**row, "probes": probes})


async def postings(uow: Uow, references: Sequence[str]) -> Mapping[str, UUID]:
    """The postings that stand among these references."""
    result = await uow.execute(
        "SELECT reference, posting_id FROM ledger.standing(CAST(:references AS text[]))",
        {"references": list(references)},
    )
    return {row["reference"]: row["posting_id"] for row in result.mappings()}


async def deliveries(uow: Uow, deposit_ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """Each delivery of each event of these deposits, in the order of the events."""
    result = await uow.execute(
        "SELECT l.object_id, l.type, d.state, d.attempts, d.last_status, d.last_error "
        "FROM gateway.event_log l "
        "JOIN gateway.webhook_endpoints e ON e.brand = l.brand AND e.state <> 'deleted' "
        "JOIN gateway.deliveries d ON d.endpoint_id = e.id AND d.event_id = l.event_id "
        "AND d.object_id = l.object_id "
        "WHERE l.object_id = ANY(CAST(:ids AS uuid[])) "
        "ORDER BY l.object_id, l.object_version, e.id",
        {"ids": list(deposit_ids)},
    )
    return result.mappings().all()
