"""SQL of what people signed about one object, exactly as received: the signer reads it, too."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.database import Uow
from gateway.payouts.approvals_store import SIGNED, authorisation, signed_values
from signer.protocol import Authorisation


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTable:
    """Where requests about one kind of object are; `subject` is the column that names it."""

    name: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """One person's request. `is_valid`: their key is not revoked."""

    person: str
    key_id: str
    is_valid: bool
    signed: Authorisation


async def add(
    uow: Uow,
    table: RequestTable,
    subject_id: UUID,
    *,
    person: str,
    key_id: str,
    signed: Authorisation,
    at: datetime,
) -> None:
    """Keep what a person signed."""
    await uow.execute(
        f"INSERT INTO {table.name} ({table.subject}, person, key_id, {SIGNED}, at) "
        "VALUES (:subject_id, :person, :key_id, :method, :authority, :path, :query, "
        "CAST(:headers AS jsonb), :body, :signature_input, :signature, :at)",
        {
            "subject_id": subject_id,
            "person": person,
            "key_id": key_id,
            **signed_values(signed),
            "at": at,
        },
    )


async def every(uow: Uow, table: RequestTable, subject_id: UUID) -> list[Signed]:
    """What people signed about an object, oldest first."""
    result = await uow.execute(
        f"SELECT r.person, r.key_id, {', '.join('r.' + name for name in SIGNED.split(', '))}, "
        f"c.revoked_at IS NULL AS is_valid FROM {table.name} r "
        f"JOIN gateway.clients c USING (key_id) WHERE r.{table.subject} = :id "
        "ORDER BY r.at, r.person",
        {"id": subject_id},
    )
    return [
        Signed(
            person=row["person"],
            key_id=row["key_id"],
            is_valid=row["is_valid"],
            signed=authorisation(row),
        )
        for row in result.mappings()
    ]
