"""SQL of gateway.approvals, and the list of every decision that takes two people."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRow:
    """Who proposed what, and who decided."""

    id: UUID
    kind: str
    subject: str
    subject_version: int
    content: Mapping[str, str | int | None]
    reason: str | None
    state: str
    proposed_by: str
    proposed_person: str
    decided_person: str | None
    created_at: datetime
    expires_at: datetime | None
    decided_at: datetime | None


_COLUMNS = (
    "id, kind, subject, subject_version, content, reason, state, proposed_by, proposed_person, "
    "decided_person, created_at, expires_at, decided_at"
)
# Inflow assignments were there first and keep their own table.
_EVERY = f"""
    SELECT {_COLUMNS} FROM gateway.approvals
    UNION ALL
    SELECT id, 'inflow', inflow_id::text, 0,
        jsonb_build_object('as', target || coalesce(':' || brand, '')), NULL, state, proposed_by,
        proposed_person, approved_person, created_at, NULL, done_at
    FROM gateway.inflow_assignments
"""


def _row(row: RowMapping) -> ApprovalRow:
    return ApprovalRow(**{name: row[name] for name in ApprovalRow.__slots__})


async def find(
    uow: Uow, *, state: str | None, before: UUID | None, limit: int
) -> list[ApprovalRow]:
    """Decisions, newest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM ({_EVERY}) AS every WHERE "
        "(CAST(:state AS text) IS NULL OR state = :state) "
        "AND (CAST(:before AS uuid) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit",
        {"state": state, "before": before, "limit": limit},
    )
    return [_row(row) for row in result.mappings()]


async def get(uow: Uow, approval_id: UUID) -> ApprovalRow | None:
    """One decision, not locked."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM ({_EVERY}) AS every WHERE id = :id", {"id": approval_id}
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def lock_open(uow: Uow, *, kind: str, subject: str) -> ApprovalRow | None:
    """The open decision about a subject, locked until the commit."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.approvals WHERE kind = :kind AND subject = :subject "
        "AND state = 'pending_approval' FOR UPDATE",
        {"kind": kind, "subject": subject},
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def insert(
    uow: Uow,
    *,
    approval_id: UUID,
    kind: str,
    subject: str,
    subject_version: int,
    content: Mapping[str, str | int | None],
    reason: str,
    key_id: str,
    person: str,
    at: datetime,
    expires_at: datetime,
) -> ApprovalRow | None:
    """A proposal; None when another is open meanwhile."""
    result = await uow.execute(
        "INSERT INTO gateway.approvals (id, kind, subject, subject_version, content, reason, "
        "state, proposed_by, proposed_person, created_at, expires_at) VALUES (:id, :kind, "
        ":subject, :version, CAST(:content AS jsonb), :reason, 'pending_approval', :key_id, "
        ":person, :at, :expires_at) ON CONFLICT (kind, subject) "
        f"WHERE state = 'pending_approval' DO NOTHING RETURNING {_COLUMNS}",
        {
            "id": approval_id,
            "kind": kind,
            "subject": subject,
            "version": subject_version,
            "content": json.dumps(content, sort_keys=True),
            "reason": reason,
            "key_id": key_id,
            "person": person,
            "at": at,
            "expires_at": expires_at,
        },
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def decide(
    uow: Uow, *, approval_id: UUID, state: str, key_id: str, person: str, at: datetime
) -> ApprovalRow | None:
    """`done`, `declined` or `expired`; None when it was decided meanwhile."""
    result = await uow.execute(
        "UPDATE gateway.approvals SET state = :state, decided_by = :key_id, "
        "decided_person = :person, decided_at = :at WHERE id = :id "
        f"AND state = 'pending_approval' RETURNING {_COLUMNS}",
        {"id": approval_id, "state": state, "key_id": key_id, "person": person, "at": at},
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def is_key_valid(uow: Uow, key_id: str, *, at: datetime) -> bool:
    """Whether a key still counts: who left the house meanwhile has not agreed to anything."""
    result = await uow.execute(
        "SELECT 1 FROM gateway.clients WHERE key_id = :key_id "
        "AND (revoked_at IS NULL OR revoked_at > :at) AND (expires_at IS NULL OR expires_at > :at)",
        {"key_id": key_id, "at": at},
    )
    return result.scalar_one_or_none() is not None
