"""SQL of gateway.webhook_endpoints as the API writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    """One endpoint; its secret is sealed."""

    id: UUID
    brand: str
    url: str
    types: tuple[str, ...]
    secret_sealed: bytes
    previous_until: datetime | None
    state: str
    failures_in_a_row: int
    version: int
    created_at: datetime


_COLUMNS = (
    "id, brand, url, types, secret_sealed, previous_until, state, failures_in_a_row, version,"
    " created_at"
)
_CHANGEABLE = frozenset(
    {
        "url",
        "types",
        "state",
        "failures_in_a_row",
        "next_probe_at",
        "secret_sealed",
        "previous_secret_sealed",
        "previous_until",
    }
)


def _row(row: RowMapping) -> EndpointRow:
    values = {name: row[name] for name in EndpointRow.__slots__}
    values |= {"types": tuple(row["types"]), "secret_sealed": bytes(row["secret_sealed"])}
    return EndpointRow(**values)


async def insert(
    uow: Uow,
    *,
    endpoint_id: UUID,
    brand: str,
    url: str,
    types: Sequence[str],
    secret_sealed: bytes,
    at: datetime,
) -> EndpointRow:
    """A new, active endpoint."""
    result = await uow.execute(
        "INSERT INTO gateway.webhook_endpoints (id, brand, url, types, secret_sealed, state,"
        " created_at) VALUES (:id, :brand, :url, :types, :secret_sealed, 'active', :at)"
        f" RETURNING {_COLUMNS}",
        {
            "id": endpoint_id,
            "brand": brand,
            "url": url,
            "types": list(types),
            "secret_sealed": secret_sealed,
            "at": at,
        },
    )
    return _row(result.mappings().one())


async def count(uow: Uow, *, brand: str) -> int:
    """How many endpoints a brand has."""
    result = await uow.execute(
        "SELECT count(*) FROM gateway.webhook_endpoints"
        " WHERE brand = :brand AND state <> 'deleted'",
        {"brand": brand},
    )
    return int(result.scalar_one())


async def find(uow: Uow, *, brand: str | None) -> list[EndpointRow]:
    """Endpoints of a brand, or all, oldest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.webhook_endpoints WHERE state <> 'deleted'"
        + (" AND brand = :brand" if brand is not None else "")
        + " ORDER BY id LIMIT 500",
        {} if brand is None else {"brand": brand},
    )
    return [_row(row) for row in result.mappings()]


async def get(uow: Uow, *, endpoint_id: UUID, lock: bool) -> EndpointRow | None:
    """One endpoint that was not deleted."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.webhook_endpoints"
        " WHERE id = :id AND state <> 'deleted'" + (" FOR UPDATE" if lock else ""),
        {"id": endpoint_id},
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def update(uow: Uow, *, endpoint_id: UUID, changes: Mapping[str, Any]) -> EndpointRow:
    """Change columns of the known list; version + 1."""
    unknown = set(changes) - _CHANGEABLE
    if unknown:
        raise ValueError(f"not a column that may change: {sorted(unknown)}")
    columns = ", ".join(f"{name} = :{name}" for name in changes)
    result = await uow.execute(
        f"UPDATE gateway.webhook_endpoints SET {columns}, version = version + 1"
        f" WHERE id = :id RETURNING {_COLUMNS}",
        {**changes, "id": endpoint_id},
    )
    return _row(result.mappings().one())
