"""SQL of the audit log and its seals. Rows are written by the database's own functions only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from gateway.audit_chain import parse_json


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One row; `sequence` and both hashes are None until it is sealed."""

    position: int
    id: UUID
    at: datetime
    actor: str
    action: str
    subject_kind: str
    subject: str
    brand: str | None
    before: Any
    after: Any
    reason: str | None
    correlation: str
    sequence: int | None
    previous_hash: str | None
    hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRow:
    """One link of the chain; `row` is None where the row is gone."""

    sequence: int
    previous_hash: str
    hash: str
    row: AuditRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Where the chain ends, and what has no seal yet. `lost`: no seal, and nobody would seal it."""

    sequence: int
    hash: str | None
    waiting: int
    oldest_at: datetime | None
    lost: int


_COLUMNS = (
    "a.position, a.id, a.at, a.actor, a.action, a.subject_kind, a.subject, a.brand,"
    " a.before::text AS before, a.after::text AS after, a.reason, a.correlation"
)
_SEAL = "s.sequence, s.previous_hash, s.hash"


def _row(row: RowMapping) -> AuditRow:
    values = {name: row[name] for name in AuditRow.__slots__}
    values["before"], values["after"] = parse_json(row["before"]), parse_json(row["after"])
    return AuditRow(**values)


async def append(
    uow: Uow,
    *,
    action: str,
    subject_kind: str,
    subject: str,
    brand: str | None,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    reason: str | None,
) -> None:
    """One row, under the actor and correlation of the unit of work."""
    await uow.execute(
        "SELECT gateway.append_audit(:action, :subject_kind, :subject, :brand,"
        " CAST(:before AS jsonb), CAST(:after AS jsonb), :reason)",
        {
            "action": action,
            "subject_kind": subject_kind,
            "subject": subject,
            "brand": brand,
            "before": _json(before),
            "after": _json(after),
            "reason": reason,
        },
    )


def _json(value: Mapping[str, Any] | None) -> str | None:
    """Text for a jsonb. PostgreSQL knows no NUL: one is told as what no text has, U+FFFD."""
    if value is None:
        return None
    return json.dumps(value, default=str).replace("\\u0000", "\\ufffd")


async def last_moves(uow: Uow, object_ids: Sequence[UUID], *, at: datetime) -> Sequence[RowMapping]:
    """The last states of these objects, oldest first; `is_now`: by who acts now."""
    result = await uow.execute(
        """
        SELECT h.brand, h.from_state, h.to_state, h.version,
            h.at = :at AND h.actor = current_setting('cage.actor', true) AS is_now
        FROM unnest(CAST(:ids AS uuid[])) AS i (id)
        CROSS JOIN LATERAL (SELECT * FROM ledger.state_history s WHERE s.object_id = i.id
                            ORDER BY s.version DESC LIMIT 10) AS h
        ORDER BY h.version
        """,
        {"ids": list(object_ids), "at": at},
    )
    return result.mappings().all()


async def find(
    uow: Uow, *, filters: Mapping[str, Any], before: int | None, limit: int
) -> list[AuditRow]:
    """Rows, newest first. `filters`: actor, action, subject, brand, correlation, since, until."""
    result = await uow.execute(
        f"""
        SELECT {_COLUMNS}, {_SEAL}
        FROM gateway.audit a LEFT JOIN gateway.audit_seals s ON s.position = a.position
        WHERE (CAST(:before AS bigint) IS NULL OR a.position < :before)
            AND (CAST(:actor AS text) IS NULL OR a.actor = :actor)
            AND (CAST(:action AS text) IS NULL OR starts_with(a.action, :action))
            AND (CAST(:subject AS text) IS NULL OR strpos(a.subject, :subject) > 0)
            AND (CAST(:brand AS text) IS NULL OR a.brand = :brand)
            AND (CAST(:correlation AS text) IS NULL OR a.correlation = :correlation)
            AND (CAST(:since AS timestamptz) IS NULL OR a.at >= :since)
            AND (CAST(:until AS timestamptz) IS NULL OR a.at < :until)
        ORDER BY a.position DESC LIMIT :limit
        """,
        {**filters, "before": before, "limit": limit},
    )
    return [_row(row) for row in result.mappings()]


async def chain(uow: Uow, *, after: int, limit: int) -> list[SealedRow]:
    """The links after a sequence, in their order; a row that is gone leaves its seal."""
    result = await uow.execute(
        f"""
        SELECT {_COLUMNS}, {_SEAL}
        FROM gateway.audit_seals s
        LEFT JOIN gateway.audit a ON (a.position, a.at) = (s.position, s.at)
        WHERE s.sequence > :after ORDER BY s.sequence LIMIT :limit
        """,
        {"after": after, "limit": limit},
    )
    return [
        SealedRow(
            sequence=row["sequence"],
            previous_hash=row["previous_hash"],
            hash=row["hash"],
            row=None if row["id"] is None else _row(row),
        )
        for row in result.mappings()
    ]


async def tail(uow: Uow) -> Tail:
    """The end of the chain. Looks at every row: each has a seal, or waits for one."""
    result = await uow.execute(
        """
        SELECT h.sequence, h.hash, (SELECT count(*) FROM gateway.audit_queue) AS waiting,
            (SELECT min(at) FROM gateway.audit_queue) AS oldest_at,
            (SELECT count(*) FROM gateway.audit a
             WHERE NOT EXISTS (SELECT 1 FROM gateway.audit_seals s WHERE s.position = a.position)
                AND NOT EXISTS (SELECT 1 FROM gateway.audit_queue q
                                WHERE q.position = a.position)) AS lost
        FROM (SELECT 1) AS one LEFT JOIN LATERAL (
            SELECT sequence, hash FROM gateway.audit_seals ORDER BY sequence DESC LIMIT 1) AS h
            ON true
        """
    )
    row = result.mappings().one()
    return Tail(
        sequence=row["sequence"] or 0,
        hash=row["hash"],
        waiting=row["waiting"],
        oldest_at=row["oldest_at"],
        lost=row["lost"],
    )


async def seal_at(uow: Uow, sequence: int) -> str | None:
    """The hash at a place of the chain."""
    result = await uow.execute(
        "SELECT hash FROM gateway.audit_seals WHERE sequence = :sequence", {"sequence": sequence}
    )
    return result.scalar_one_or_none()


async def head(uow: Uow) -> tuple[int, str] | None:
    """Sequence and hash of the newest seal."""
    result = await uow.execute(
        "SELECT sequence, hash FROM gateway.audit_seals ORDER BY sequence DESC LIMIT 1"
    )
    row = result.one_or_none()
    return None if row is None else (row.sequence, row.hash)


async def take_waiting(uow: Uow, *, limit: int) -> list[AuditRow]:
    """Take the oldest rows off the queue, to be sealed in this unit of work."""
    result = await uow.execute(
        f"""
        WITH taken AS (
            DELETE FROM gateway.audit_queue WHERE position IN (
                SELECT position FROM gateway.audit_queue ORDER BY position LIMIT :limit)
            RETURNING position, at
        )
        SELECT {_COLUMNS}, CAST(NULL AS bigint) AS sequence, CAST(NULL AS text) AS previous_hash,
            CAST(NULL AS text) AS hash
        FROM taken t JOIN gateway.audit a ON (a.position, a.at) = (t.position, t.at)
        ORDER BY a.position
        """,
        {"limit": limit},
    )
    return [_row(row) for row in result.mappings()]


async def insert_seals(uow: Uow, links: Sequence[tuple[int, AuditRow, str, str]]) -> None:
    """(sequence, row, previous hash, hash) of each link; a sequence that stands is an error."""
    await uow.execute(
        """
        INSERT INTO gateway.audit_seals (sequence, position, at, previous_hash, hash, sealed_at)
        SELECT n.sequence, n.position, n.at, n.previous_hash, n.hash, clock_timestamp()
        FROM unnest(CAST(:sequences AS bigint[]), CAST(:positions AS bigint[]),
                CAST(:ats AS timestamptz[]), CAST(:previous AS text[]), CAST(:hashes AS text[]))
            AS n (sequence, position, at, previous_hash, hash)
        """,
        {
            "sequences": [link[0] for link in links],
            "positions": [link[1].position for link in links],
            "ats": [link[1].at for link in links],
            "previous": [link[2] for link in links],
            "hashes": [link[3] for link in links],
        },
    )
