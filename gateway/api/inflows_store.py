"""SQL of gateway.inflow_assignments."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentRow:
    """Who proposed what for an inflow, and who agreed."""

    id: UUID
    inflow_id: UUID
    target: str
    brand: str | None
    proposed_person: str
    approved_person: str | None
    state: str
    created_at: datetime
    done_at: datetime | None


_COLUMNS = (
    "id, inflow_id, target, brand, proposed_person, approved_person, state, created_at, done_at"
)


def _row(row: RowMapping) -> AssignmentRow:
    return AssignmentRow(**{name: row[name] for name in AssignmentRow.__slots__})


async def lock(uow: Uow, *, inflow_id: UUID) -> AssignmentRow | None:
    """The decision about an inflow, locked until the commit."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.inflow_assignments WHERE inflow_id = :id FOR UPDATE",
        {"id": inflow_id},
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def insert(
    uow: Uow,
    *,
    assignment_id: UUID,
    inflow_id: UUID,
    target: str,
    brand: str | None,
    key_id: str,
    person: str,
    at: datetime,
) -> AssignmentRow | None:
    """A proposal; None when another stands meanwhile."""
    result = await uow.execute(
        "INSERT INTO gateway.inflow_assignments (id, inflow_id, target, brand, proposed_by,"
        " proposed_person, state, created_at) VALUES (:id, :inflow_id, :target, :brand, :key_id,"
        " :person, 'pending_approval', :at) ON CONFLICT (inflow_id) DO NOTHING"
        f" RETURNING {_COLUMNS}",
        {
            "id": assignment_id,
            "inflow_id": inflow_id,
            "target": target,
            "brand": brand,
            "key_id": key_id,
            "person": person,
            "at": at,
        },
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def approve(
    uow: Uow, *, assignment_id: UUID, key_id: str, person: str, at: datetime
) -> AssignmentRow:
    """The second person's consent; the row is done."""
    result = await uow.execute(
        "UPDATE gateway.inflow_assignments SET state = 'done', approved_by = :key_id,"
        " approved_person = :person, done_at = :at"
        f" WHERE id = :id AND state = 'pending_approval' RETURNING {_COLUMNS}",
        {"id": assignment_id, "key_id": key_id, "person": person, "at": at},
    )
    return _row(result.mappings().one())
