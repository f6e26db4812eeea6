"""The audit log: who changed what, before, after, why and when (CONTRACT 3, `GET /v1/audit`).

Two roads write it, both in the unit of work of the change: the API's dispatcher one row for each
call that a person makes (`record`), and the database's triggers one for each changed row of a table
of control (`0030_audit.sql`), whoever changes it. `seal_next` binds them into a chain. It must not
decide anything.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from config.database import Uow
from gateway import audit_store as store
from gateway.api.wire_base import rfc3339
from gateway.audit_chain import row_hash
from gateway.audit_store import AuditRow, SealedRow
from ledger.chain_of_seals import GENESIS_HASH

SEAL_ROWS = 500  # of one unit of work
REQUEST_BYTES_MAX = 16 * 1024  # a longer body is told by its digest: signed files, uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of a person: `POST /v1/switches`, what it was about and what was asked."""

    action: str
    subject: str
    brand: str | None
    """None: that of the object, if it has one."""
    object_ids: tuple[UUID, ...]
    """Objects of its path: the states that they went through are told."""
    request: Mapping[str, Any]
    body: bytes
    """The request as it was sent."""
    status: int
    at: datetime


async def record(uow: Uow, operation: Operation) -> None:
    """One row for a call; actor and correlation are those of the unit of work."""
    known = []
    if operation.object_ids:
        known = list(await store.last_moves(uow, operation.object_ids, at=operation.at))
    moves = [row for row in known if row["is_now"]]
    before = {"state": moves[0]["from_state"]} if moves else None
    request: Mapping[str, Any] = operation.request
    if len(operation.body) > REQUEST_BYTES_MAX:
        digest = hashlib.sha256(operation.body).hexdigest()
        request = {"bytes": len(operation.body), "sha256": digest}
    after: dict[str, Any] = {"request": request, "status": operation.status}
    if moves:
        after |= {"state": moves[-1]["to_state"], "version": moves[-1]["version"]}
    reason = operation.request.get("reason") or operation.request.get("outcome")
    await store.append(
        uow,
        action=operation.action,
        subject_kind="call",
        subject=operation.subject,
        brand=operation.brand or (known[-1]["brand"] if known else None),
        before=before,
        after=after,
        reason=reason if isinstance(reason, str) else None,
    )


async def seal_next(uow: Uow) -> int:
    """Bind the oldest rows that wait; how many, SEAL_ROWS when more may wait."""
    rows = await store.take_waiting(uow, limit=SEAL_ROWS)
    if not rows:
        return 0
    sequence, previous = await store.head(uow) or (0, GENESIS_HASH)
    links = []
    for row in rows:
        sequence += 1
        found = row_hash(chained(row), sequence=sequence, previous_hash=previous)
        links.append((sequence, row, previous, found))
        previous = found
    await store.insert_seals(uow, links)
    return len(rows)


def link(sealed: SealedRow) -> dict[str, Any]:
    """A record of the chain as who verifies it reads it."""
    return {
        "sequence": sealed.sequence,
        "previous_hash": sealed.previous_hash,
        "hash": sealed.hash,
        "row": None if sealed.row is None else chained(sealed.row),
    }


def chained(row: AuditRow) -> dict[str, Any]:
    """What a seal covers of a row, as the wire says it."""
    return {
        "id": row.id.hex,
        "at": rfc3339(row.at),
        "actor": row.actor,
        "action": row.action,
        "subject_kind": row.subject_kind,
        "subject": row.subject,
        "brand": row.brand,
        "before": row.before,
        "after": row.after,
        "reason": row.reason,
        "correlation": row.correlation,
    }
