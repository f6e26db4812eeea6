"""SQL of gateway.clients (keys of callers), gateway.nonces and gateway.brands."""

from dataclasses import dataclass
from datetime import datetime

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRow:
    """A registered key; public half only."""

    key_id: str
    kind: str
    brand: str | None
    person: str | None
    public_key: bytes
    scopes: tuple[str, ...]
    roles: tuple[str, ...]
    ip_allow: tuple[str, ...]
    expires_at: datetime | None
    revoked_at: datetime | None


async def every(uow: Uow) -> list[ClientRow]:
    """All keys, revoked and expired ones included."""
    result = await uow.execute(
        "SELECT key_id, kind, brand, person, public_key, scopes, roles,"
        " CAST(ip_allow AS text[]) AS ip_allow, expires_at, revoked_at FROM gateway.clients"
    )
    return [
        ClientRow(
            key_id=row["key_id"],
            kind=row["kind"],
            brand=row["brand"],
            person=row["person"],
            public_key=bytes(row["public_key"]),
            scopes=tuple(row["scopes"]),
            roles=tuple(row["roles"]),
            ip_allow=tuple(row["ip_allow"]),
            expires_at=row["expires_at"],
            revoked_at=row["revoked_at"],
        )
        for row in result.mappings()
    ]


async def use_nonce(uow: Uow, *, key_id: str, nonce: str, expires_at: datetime) -> bool:
    """Store a nonce; False when it was used. Waits for another unit of work that is using it."""
    result = await uow.execute(
        "INSERT INTO gateway.nonces (key_id, nonce, expires_at)"
        " VALUES (:key_id, :nonce, :expires_at) ON CONFLICT DO NOTHING",
        {"key_id": key_id, "nonce": nonce, "expires_at": expires_at},
    )
    return result.rowcount == 1


async def balance_mode(uow: Uow, brand: str) -> str | None:
    """The brand's `balance_mode`, or None when there is no such brand."""
    result = await uow.execute(
        "SELECT balance_mode FROM gateway.brands WHERE id = :brand", {"brand": brand}
    )
    mode = result.scalar_one_or_none()
    return None if mode is None else str(mode)
