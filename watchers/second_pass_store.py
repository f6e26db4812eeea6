"""SQL of the second pass: blocks that another node has yet to be asked for."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from config.database import Uow


async def remember(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """Blocks wait for their second look: one block before each makes any deposit final."""
    await uow.execute(
        "INSERT INTO chain.second_looks (network, block_hash, height, due_at_height, given_by, "
        "digest, payments, connected_at, next_look_at) VALUES (:network, :block_hash, :height, "
        "greatest(:height, least(:final_at, (SELECT min(final_at_height) FROM chain.deposits "
        "WHERE network = :network AND block_hash = :block_hash)) - 1), "
        "CAST(:given_by AS text[]), :digest, :payments, :at, :at) "
        "ON CONFLICT (network, block_hash) DO UPDATE SET given_by = excluded.given_by, "
        "due_at_height = excluded.due_at_height, digest = excluded.digest, "
        "payments = excluded.payments, state = 'waiting', "
        "connected_at = excluded.connected_at, next_look_at = excluded.next_look_at",
        [dict(row) for row in rows],
    )


async def due(uow: Uow, *, network: str, at: datetime, limit: int) -> Sequence[RowMapping]:
    """Blocks whose second look is due, the next to become final first."""
    result = await uow.execute(
        "SELECT s.block_hash, s.height, s.given_by, s.digest, s.payments, s.connected_at "
        "FROM chain.second_looks s JOIN chain.cursors c ON c.network = s.network "
        "WHERE s.network = :network AND s.state = 'waiting' AND s.due_at_height <= c.height "
        "AND s.next_look_at <= :at ORDER BY s.due_at_height, s.block_hash LIMIT :limit",
        {"network": network, "at": at, "limit": limit},
    )
    return result.mappings().all()


async def forget_stale(uow: Uow, *, network: str) -> None:
    """Forget due blocks that left our chain; none is connected meanwhile: the cursor is held."""
    await uow.execute(
        "SELECT FROM chain.cursors WHERE network = :network FOR UPDATE", {"network": network}
    )
    await uow.execute(
        "DELETE FROM chain.second_looks s USING chain.cursors c WHERE s.network = :network "
        "AND c.network = s.network AND s.state = 'waiting' AND s.due_at_height <= c.height "
        "AND NOT EXISTS (SELECT FROM chain.blocks b WHERE b.network = s.network "
        "AND b.hash = s.block_hash AND b.is_canonical)",
        {"network": network},
    )


async def done(uow: Uow, *, network: str, block_hash: str, connected_at: datetime) -> None:
    """The second look is over; one that was asked for again meanwhile stays."""
    await uow.execute(
        "DELETE FROM chain.second_looks WHERE network = :network AND block_hash = :hash "
        "AND state = 'waiting' AND connected_at = :connected",
        {"network": network, "hash": block_hash, "connected": connected_at},
    )


async def postpone(uow: Uow, *, network: str, block_hash: str, until: datetime) -> None:
    """Nobody could be asked; the others come first."""
    await uow.execute(
        "UPDATE chain.second_looks SET next_look_at = :until WHERE network = :network "
        "AND block_hash = :hash AND state = 'waiting'",
        {"network": network, "hash": block_hash, "until": until},
    )


async def mark_different(uow: Uow, *, network: str, block_hash: str) -> bool:
    """Keep the row for people; False when another instance did."""
    result = await uow.execute(
        "UPDATE chain.second_looks SET state = 'differs' WHERE network = :network "
        "AND block_hash = :hash AND state = 'waiting'",
        {"network": network, "hash": block_hash},
    )
    return result.rowcount == 1


async def keys_before(
    uow: Uow, *, network: str, keys: Collection[str], at: datetime
) -> frozenset[str]:
    """Those of `keys` that were ours at a moment."""
    result = await uow.execute(
        "SELECT key FROM chain.addresses WHERE network = :network "
        "AND key = ANY(CAST(:keys AS text[])) AND created_at <= :at",
        {"network": network, "keys": sorted(keys), "at": at},
    )
    return frozenset(result.scalars())
