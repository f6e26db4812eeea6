"""SQL of token checks: searches, and accounts at which code was seen."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from config.database import Uow

_COLUMNS = (
    "id, network, kind, asset, subject, brand, player_id, block_hash, height, claimed, moved, "
    "transfers, state, opened_at, closed_at"
)


async def open_search(uow: Uow, row: Mapping[str, Any]) -> bool:
    """Open a search once per (block, kind, asset, subject); False when it is known."""
    result = await uow.execute(
        "INSERT INTO chain.searches (id, network, kind, asset, subject, brand, player_id, "
        "block_hash, height, claimed, moved, transfers, opened_at) VALUES (:id, :network, :kind, "
        ":asset, :subject, :brand, :player_id, :block_hash, :height, :claimed, :moved, "
        "CAST(:transfers AS jsonb), :at) ON CONFLICT (network, block_hash, kind, asset, subject) "
        "DO NOTHING",
        {**row, "transfers": json.dumps(row["transfers"])},
    )
    return result.rowcount == 1


async def has_open(uow: Uow, *, network: str, kind: str, asset: str, subject: str) -> bool:
    """Whether such a search is open, at whatever block it showed first."""
    result = await uow.execute(
        "SELECT EXISTS (SELECT 1 FROM chain.searches WHERE network = :network AND state = 'open' "
        "AND kind = :kind AND asset = :asset AND subject = :subject)",
        {"network": network, "kind": kind, "asset": asset, "subject": subject},
    )
    return bool(result.scalar_one())


async def searches(uow: Uow, *, network: str, limit: int) -> Sequence[RowMapping]:
    """Open searches of a network, oldest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.searches WHERE network = :network AND state = 'open' "
        "ORDER BY opened_at, id LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return result.mappings().all()


async def flag_code(uow: Uow, *, network: str, keys: Sequence[str], at: datetime) -> list[str]:
    """Remember that code was seen at own accounts; the addresses where it is news."""
    result = await uow.execute(
        "UPDATE chain.addresses SET code_seen_at = :at, version = version + 1 "
        "WHERE network = :network AND key = ANY(CAST(:keys AS text[])) AND code_seen_at IS NULL "
        "RETURNING address",
        {"network": network, "keys": list(keys), "at": at},
    )
    return sorted(result.scalars().all())


async def with_code(uow: Uow, *, network: str, keys: Sequence[str]) -> frozenset[str]:
    """Those of own `keys` at which code was seen: nothing is swept from them (D48)."""
    result = await uow.execute(
        "SELECT key FROM chain.addresses WHERE network = :network "
        "AND key = ANY(CAST(:keys AS text[])) AND code_seen_at IS NOT NULL",
        {"network": network, "keys": list(keys)},
    )
    return frozenset(result.scalars().all())


async def holds_cursor(uow: Uow, *, network: str, block_hash: str) -> bool:
    """Whether the follower stands on this block; it stays there until the commit."""
    result = await uow.execute(
        "SELECT hash FROM chain.cursors WHERE network = :network FOR UPDATE", {"network": network}
    )
    return bool(result.scalar_one_or_none() == block_hash)
