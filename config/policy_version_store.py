"""SQL of policy versions: the one set of statements of every table that keeps them."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from config.database import Uow

Table = Literal["chain.credit_policies", "gateway.limit_policies", "gateway.sweep_policies"]


async def latest(uow: Uow, table: Table) -> Mapping[str, Any] | None:
    """The newest version."""
    found = await uow.rows(
        f"SELECT version, content, proposed_by, approved_by, created_at FROM {table} "
        "ORDER BY version DESC LIMIT 1"
    )
    return found[0] if found else None


async def lock(uow: Uow, table: Table) -> None:
    """One decision about the table's versions at a time, until the commit."""
    await uow.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('versions of ' || :table, 0))",
        {"table": table},
    )


async def insert(
    uow: Uow,
    table: Table,
    *,
    version: int,
    content: Mapping[str, Any],
    proposed_by: str,
    approved_by: str,
    at: datetime,
) -> bool:
    """Append a version; False when another took the number."""
    result = await uow.execute(
        f"INSERT INTO {table} (version, content, proposed_by, approved_by, created_at) "
        "VALUES (:version, CAST(:content AS jsonb), :proposed_by, :approved_by, :at) "
        "ON CONFLICT DO NOTHING",
        {
            "version": version,
            "content": json.dumps(content),
            "proposed_by": proposed_by,
            "approved_by": approved_by,
            "at": at,
        },
    )
    return result.rowcount == 1
