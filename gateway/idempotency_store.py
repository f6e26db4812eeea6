"""SQL of gateway.idempotency."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key, what it stands for, and its answer once done."""

    print_: bytes
    status: int | None
    body: bytes | None


async def insert(uow: Uow, *, scope: str, key: str, print_: bytes, at: datetime) -> bool:
    """Claim a key; False when it stands. Waits for another unit of work that claims it."""
    result = await uow.execute(
        "INSERT INTO gateway.idempotency (scope, key, fingerprint, state, created_at)"
        " VALUES (:scope, :key, :fingerprint, 'running', :at) ON CONFLICT DO NOTHING",
        {"scope": scope, "key": key, "fingerprint": print_, "at": at},
    )
    return result.rowcount == 1


async def get(uow: Uow, *, scope: str, key: str) -> KeyRow | None:
    """One key's row."""
    result = await uow.execute(
        "SELECT fingerprint, status, body FROM gateway.idempotency"
        " WHERE scope = :scope AND key = :key",
        {"scope": scope, "key": key},
    )
    row = result.mappings().one_or_none()
    if row is None:
        return None
    body = row["body"]
    return KeyRow(
        print_=bytes(row["fingerprint"]),
        status=row["status"],
        body=None if body is None else bytes(body),
    )


async def finish_many(uow: Uow, *, scope: str, answers: Sequence[tuple[str, int, bytes]]) -> None:
    """Store (key, status, body)s of one scope."""
    await uow.rows(
        "UPDATE gateway.idempotency AS i SET state = 'done', status = a.status, body = a.body"
        " FROM unnest(CAST(:keys AS text[]), CAST(:statuses AS integer[]),"
        " CAST(:bodies AS bytea[])) AS a (key, status, body)"
        " WHERE i.scope = :scope AND i.key = a.key AND i.key = ANY(CAST(:keys AS text[]))",
        {
            "scope": scope,
            "keys": [key for key, _, _ in answers],
            "statuses": [status for _, status, _ in answers],
            "bodies": [body for _, _, body in answers],
        },
    )
