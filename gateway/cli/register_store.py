"""SQL of the set-up commands: brands from the configuration, principals, passwords of the roles.

Runs under the database's owner, never inside a role.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from config.database import Uow
from config.settings import BrandSettings, DatabaseRole


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPrincipal:
    """A row of gateway.clients. `brand` for a client, `person` for staff, neither for operators."""

    key_id: str
    kind: str
    brand: str | None
    person: str | None
    public_key: bytes
    scopes: Sequence[str]
    roles: Sequence[str]
    ip_allow: Sequence[str]
    expires_at: datetime | None


async def sync_brands(
    uow: Uow, brands: Mapping[str, BrandSettings], *, at: datetime
) -> list[tuple[str, int]]:
    """Copy the brands; returns those whose account index in the database is another one.

    An account index never changes: deposit addresses hang below it (CONTRACT 1).
    """
    for name, brand in brands.items():
        await uow.execute(
            """
            INSERT INTO gateway.brands (id, account_index, balance_mode, created_at)
            VALUES (:id, :account_index, :balance_mode, :at)
            ON CONFLICT (id) DO UPDATE SET balance_mode = excluded.balance_mode
            """,
            {
                "id": name,
                "account_index": brand.account_index,
                "balance_mode": brand.balance_mode,
                "at": at,
            },
        )
    result = await uow.execute("SELECT id, account_index FROM gateway.brands")
    return [
        (row.id, row.account_index)
        for row in result
        if row.id in brands and brands[row.id].account_index != row.account_index
    ]


async def brand_exists(uow: Uow, brand: str) -> bool:
    """Whether `db migrate` has copied this brand."""
    result = await uow.execute("SELECT 1 FROM gateway.brands WHERE id = :id", {"id": brand})
    return result.first() is not None


async def add_principal(uow: Uow, principal: NewPrincipal, *, at: datetime) -> bool:
    """Register a key; False when its id is taken."""
    result = await uow.execute(
        """
        INSERT INTO gateway.clients (key_id, kind, brand, person, public_key, scopes, roles,
            ip_allow, expires_at, created_at)
        VALUES (:key_id, :kind, :brand, :person, :public_key, :scopes, :roles,
            CAST(CAST(:ip_allow AS text[]) AS cidr[]), :expires_at, :at)
        ON CONFLICT (key_id) DO NOTHING
        """,
        {
            "key_id": principal.key_id,
            "kind": principal.kind,
            "brand": principal.brand,
            "person": principal.person,
            "public_key": principal.public_key,
            "scopes": list(principal.scopes),
            "roles": list(principal.roles),
            "ip_allow": list(principal.ip_allow),
            "expires_at": principal.expires_at,
            "at": at,
        },
    )
    return result.rowcount == 1


async def set_role_password(uow: Uow, role: DatabaseRole, password: str) -> None:
    """Let a process role log in with `password`; quoted by the server itself."""
    result = await uow.execute(
        "SELECT format('ALTER ROLE %I PASSWORD %L', CAST(:role AS text), CAST(:password AS text))",
        {"role": role, "password": password},
    )
    statement: str = result.scalar_one()
    await uow.connection.exec_driver_sql(statement)
