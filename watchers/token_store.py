"""SQL of token checks: searches, and accounts at which code was seen."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.columns import column

_COLUMNS = (
    "id, network, kind, asset, subject, brand, player_id, block_hash, height, claimed, moved, "
    "transfers, state, opened_at, closed_at"
)


_OPEN_SEARCH = (
    "INSERT INTO chain.searches AS s (id, network, kind, asset, subject, brand, player_id, "
    "block_hash, height, claimed, moved, transfers, opened_at) VALUES (:id, :network, :kind, "
    ":asset, :subject, :brand, :player_id, :block_hash, :height, :claimed, :moved, "
    "CAST(:transfers AS jsonb), :at) ON CONFLICT (network, block_hash, kind, asset, subject) "
    "DO UPDATE SET state = 'open', opened_at = :at, closed_at = NULL, closed_by = NULL, "
    "outcome = NULL WHERE s.state = 'closed'"
)


async def open_search(uow: Uow, row: Mapping[str, Any]) -> bool:
    """Open a search once per (block, kind, asset, subject); False when it is open. One that a
    person closed is opened again: the difference stands all the same."""
    result = await uow.execute(_OPEN_SEARCH, {**row, "transfers": json.dumps(row["transfers"])})
    return result.rowcount == 1


async def open_searches(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """Open many, as `open_search` does each."""
    if rows:
        plain = [{**row, "transfers": json.dumps(row["transfers"])} for row in rows]
        await uow.execute(_OPEN_SEARCH, plain)


async def close_searches(
    uow: Uow,
    *,
    network: str,
    kind: str,
    block_hash: str,
    closed_by: str,
    outcome: str,
    at: datetime,
) -> None:
    """Close what is open of a kind about a block that says nothing any more."""
    await uow.execute(
        "UPDATE chain.searches SET state = 'closed', closed_at = :at, closed_by = :by, "
        "outcome = :outcome WHERE network = :network AND kind = :kind AND block_hash = :hash "
        "AND state = 'open'",
        {
            "network": network,
            "kind": kind,
            "hash": block_hash,
            "by": closed_by,
            "outcome": outcome,
            "at": at,
        },
    )


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


async def deposits_of(uow: Uow, *, network: str, txids: Sequence[str]) -> Sequence[RowMapping]:
    """The deposits that txs of a block made before, with the key that each was to.

    Txid by txid, by the only index that the inner query can use: planned while the table is young,
    anything else reads the deposits of each address and compares them with every txid.
    """
    result = await uow.execute(
        "SELECT d.id, d.txid, d.position, d.asset, d.amount, d.state, d.brand, d.player_id, a.key "
        "FROM (SELECT DISTINCT unnest(string_to_array(:txids, ' ')) AS txid) AS t "
        "CROSS JOIN LATERAL (SELECT * FROM chain.deposits WHERE txid = t.txid OFFSET 0) AS d "
        "JOIN chain.addresses a ON a.id = d.address_id WHERE d.network = :network ORDER BY d.id",
        {"network": network, "txids": column(txids)},
    )
    return result.mappings().all()


# A deposit known by a trace alone, in no block and not excluded by one: each branch runs on its
# partial index.
_AWAITED = """
SELECT d.id, d.txid, d.position, d.asset, d.amount, d.brand, a.key, a.role FROM (
    SELECT * FROM chain.deposits WHERE network = :network AND state = 'orphaned'
        AND absent_at_height IS NOT NULL
    UNION ALL
    SELECT * FROM chain.deposits WHERE network = :network AND state = 'detected'
) d JOIN chain.addresses a ON a.id = d.address_id
WHERE d.block_hash IS NULL AND d.conflict_hash IS NULL AND d.position LIKE 'trace:%'
"""


async def awaited(uow: Uow, *, network: str) -> Sequence[RowMapping]:
    """What every awaited traced deposit claims, summed by role, brand and asset."""
    result = await uow.execute(
        f"SELECT role, brand, asset, sum(amount) AS amount FROM ({_AWAITED}) w "
        "GROUP BY role, brand, asset",
        {"network": network},
    )
    return result.mappings().all()


async def awaited_page(uow: Uow, *, network: str, after: UUID, limit: int) -> Sequence[RowMapping]:
    """Awaited traced deposits by id after `after`."""
    result = await uow.execute(
        f"{_AWAITED} AND d.id > :after ORDER BY d.id LIMIT :limit",
        {"network": network, "after": after, "limit": limit},
    )
    return result.mappings().all()


async def awaited_of(uow: Uow, *, network: str, txids: Sequence[str]) -> Sequence[RowMapping]:
    """Awaited traced deposits of these txs."""
    result = await uow.execute(
        f"{_AWAITED} AND d.txid = ANY(CAST(:txids AS text[])) ORDER BY d.id",
        {"network": network, "txids": list(txids)},
    )
    return result.mappings().all()


async def lock_awaited(
    uow: Uow, *, network: str, deposit_ids: Sequence[UUID]
) -> Sequence[RowMapping]:
    """Those of these deposits that are still awaited, under row locks."""
    ids = {"ids": list(deposit_ids)}
    await uow.execute(
        "SELECT FROM chain.deposits WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE",
        ids,
    )
    result = await uow.execute(
        f"{_AWAITED} AND d.id = ANY(CAST(:ids AS uuid[])) ORDER BY d.id",
        {"network": network, **ids},
    )
    return result.mappings().all()


async def take_amount(uow: Uow, *, deposit_id: UUID, amount: int) -> None:
    """Another sum for a reversed deposit; the step of its inclusion tells it."""
    await uow.execute(
        "UPDATE chain.deposits SET amount = :amount WHERE id = :id AND credited_stage IS NULL "
        "AND state = 'reversed'",
        {"id": deposit_id, "amount": amount},
    )


async def take_effect(uow: Uow, *, deposit_id: UUID, effect: Mapping[str, Any]) -> None:
    """What a block says of a deposit in no block: whose it is, of what, how much. Its inclusion
    tells it, and sets the tiers: those of another sum do not count."""
    await uow.execute(
        "UPDATE chain.deposits SET brand = :brand, player_id = :player_id, "
        "address_id = :address_id, address = :address, asset = :asset, amount = :amount, "
        "min_depth = 0, full_depth = 0 WHERE id = :id AND credited_stage IS NULL "
        "AND state IN ('detected', 'dropped', 'replaced')",
        {"id": deposit_id, **effect},
    )


async def mark_changed(
    uow: Uow, *, deposit_ids: Sequence[UUID], block_hash: str, height: int
) -> None:
    """The deposits' own tx excludes them: in this block it does something else."""
    await uow.execute(
        "UPDATE chain.deposits SET conflict_txid = txid, conflict_hash = :hash, "
        "conflict_final_at_height = :height + full_depth - 1 "
        "WHERE id = ANY(CAST(:ids AS uuid[])) AND state IN ('orphaned', 'detected') "
        "AND conflict_hash IS NULL",
        {"ids": list(deposit_ids), "hash": block_hash, "height": height},
    )


async def holds_cursor(uow: Uow, *, network: str, block_hash: str) -> bool:
    """Whether the follower stands on this block; it stays there until the commit."""
    result = await uow.execute(
        "SELECT hash FROM chain.cursors WHERE network = :network FOR UPDATE", {"network": network}
    )
    return bool(result.scalar_one_or_none() == block_hash)
