"""SQL of deposits. State changes go through `ledger.lifecycle`; everything else is here."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.columns import Spend, column, spend_columns

_NAMES = (
    "id", "brand", "player_id", "network", "txid", "position", "cycle", "asset", "amount",
    "address_id", "address", "state", "prior_state", "substatus", "sweep_state", "is_internal",
    "is_coinbase", "block_hash", "height", "min_depth", "full_depth", "provisional_at_height",
    "final_at_height", "orphaned_at_height", "absent_at_height", "conflict_txid",
    "conflict_final_at_height", "credited_stage", "custody_block_hash", "custody_height",
    "version", "first_seen_at", "state_at", "policy_version", "is_late",
)  # fmt: skip
COLUMNS = ", ".join(f"d.{name}" for name in _NAMES)


async def known(
    uow: Uow, *, network: str, keys: Sequence[tuple[str, str, str]]
) -> Sequence[RowMapping]:
    """Deposits by (txid, position, coinbase hash), locked."""
    result = await uow.execute(
        f"SELECT {COLUMNS}, k.coinbase_hash FROM chain.deposit_keys k "
        "JOIN chain.deposits d ON d.id = k.deposit_id "
        "WHERE k.network = :network AND (k.txid, k.position, k.coinbase_hash) IN "
        "(SELECT * FROM unnest(CAST(:txids AS text[]), CAST(:positions AS text[]), "
        "CAST(:hashes AS text[]))) ORDER BY d.id FOR UPDATE OF d",
        {
            "network": network,
            "txids": [key[0] for key in keys],
            "positions": [key[1] for key in keys],
            "hashes": [key[2] for key in keys],
        },
    )
    return result.mappings().all()


_INSERTED = (
    "id", "brand", "player_id", "network", "txid", "position", "asset", "amount", "address_id",
    "address", "state", "is_internal", "is_coinbase", "block_hash", "height", "min_depth",
    "full_depth", "provisional_at_height", "final_at_height", "absent_at_height",
    "check_at_height", "fee_rate", "sender_key",
    "sender_nonce", "first_seen_at", "state_at", "policy_version", "is_late",
)  # fmt: skip
_INSERT = f"""
WITH added AS (
    INSERT INTO chain.deposits AS d ({", ".join(_INSERTED)})
    SELECT {", ".join(_INSERTED)}
    FROM jsonb_populate_recordset(CAST(NULL AS chain.deposits), CAST(:rows AS jsonb))
    RETURNING {COLUMNS}
), keyed AS (
    INSERT INTO chain.deposit_keys (network, txid, position, coinbase_hash, deposit_id)
    SELECT a.network, a.txid, a.position, k.hash, a.id FROM added a
    JOIN unnest(CAST(:ids AS uuid[]), CAST(:hashes AS text[])) AS k (id, hash) ON k.id = a.id
)
SELECT * FROM added ORDER BY id
"""


async def insert(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> Sequence[RowMapping]:
    """New deposits with their keys, by id; a key that exists fails the whole unit of work.

    Amounts are given as text, so that JSON keeps every digit.
    """
    result = await uow.execute(
        _INSERT,
        {
            "rows": _json([{name: row[name] for name in _INSERTED} for row in rows]),
            "ids": [row["id"] for row in rows],
            "hashes": [row["coinbase_hash"] for row in rows],
        },
    )
    return result.mappings().all()


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows, separators=(",", ":"), default=str)


async def insert_inputs(
    uow: Uow, *, network: str, inputs: Sequence[tuple[str, int, str, str]]
) -> None:
    """Outpoints that txs which pay players need: (outpoint txid, vout, the tx, its spender there).

    The spender is the tx itself, or an unconfirmed ancestor of it (D13).
    """
    await uow.execute(
        "INSERT INTO chain.deposit_inputs (network, outpoint_txid, outpoint_vout, txid, spender) "
        "SELECT :network, s.* FROM unnest(CAST(:outpoints AS text[]), "
        "CAST(:vouts AS integer[]), CAST(:txids AS text[]), CAST(:spenders AS text[])) AS s "
        "ON CONFLICT (network, outpoint_txid, outpoint_vout, txid) "
        "DO UPDATE SET spender = excluded.spender "
        "WHERE chain.deposit_inputs.spender <> excluded.spender",
        {
            "network": network,
            "outpoints": [item[0] for item in inputs],
            "vouts": [item[1] for item in inputs],
            "txids": [item[2] for item in inputs],
            "spenders": [item[3] for item in inputs],
        },
    )


async def include_orphaned(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """Orphaned deposits, and such as are sent back, are in a block again: the state stays."""
    await uow.execute(
        "UPDATE chain.deposits d SET block_hash = r.block_hash, height = r.height, "
        "min_depth = r.min_depth, full_depth = r.full_depth, policy_version = r.policy_version, "
        "provisional_at_height = r.provisional_at_height, final_at_height = r.final_at_height, "
        "sender_key = coalesce(r.sender_key, d.sender_key), "
        "sender_nonce = coalesce(r.sender_nonce, d.sender_nonce), absent_at_height = NULL "
        "FROM jsonb_populate_recordset(CAST(NULL AS chain.deposits), CAST(:rows AS jsonb)) AS r "
        "WHERE d.id = r.id AND d.state IN ('orphaned', 'refunding')",
        {"rows": _json(rows)},
    )


async def leave_block_orphaned(
    uow: Uow, *, deposit_ids: Sequence[UUID], orphaned_at: int, absent_at: int
) -> None:
    """Orphaned deposits whose new block left the chain, too, and such as are sent back."""
    await uow.execute(
        "UPDATE chain.deposits SET block_hash = NULL, height = NULL, "
        "provisional_at_height = NULL, final_at_height = NULL, "
        "orphaned_at_height = :orphaned_at, absent_at_height = :absent_at "
        "WHERE id = ANY(CAST(:ids AS uuid[]))",
        {"ids": list(deposit_ids), "orphaned_at": orphaned_at, "absent_at": absent_at},
    )


async def in_block(uow: Uow, *, network: str, block_hash: str) -> Sequence[RowMapping]:
    """Deposits of a block."""
    result = await uow.execute(
        f"SELECT {COLUMNS} FROM chain.deposits d WHERE d.network = :network "
        "AND d.block_hash = :hash ORDER BY d.id",
        {"network": network, "hash": block_hash},
    )
    return result.mappings().all()


# Each branch runs on its partial index; `final`, also of a conflict, needs the chain's own finality
# where it exists. The conflict's block is full_depth - 1 below its threshold. Who waits for room
# under a cap is asked for apart (`capped`) until it is final.
_DUE = f"""
SELECT {COLUMNS} FROM chain.deposits d WHERE d.id IN (
    (SELECT id FROM chain.deposits WHERE network = :network
        AND state IN ('pending', 'orphaned') AND provisional_at_height <= :height
        AND substatus IS DISTINCT FROM 'exposure_cap'
        AND id > :after AND asset <> ALL(CAST(:stopped AS text[])) ORDER BY id LIMIT :limit)
    UNION
    (SELECT id FROM chain.deposits WHERE network = :network
        AND state IN ('pending', 'provisional', 'orphaned', 'below_minimum', 'on_hold', 'rejected',
            'refunding', 'refunded') AND final_at_height <= :height AND height <= :final_below
        AND id > :after AND asset <> ALL(CAST(:stopped AS text[])) ORDER BY id LIMIT :limit)
) ORDER BY d.id LIMIT :limit
"""


async def due(
    uow: Uow,
    *,
    network: str,
    height: int,
    final_below: int,
    stopped: Sequence[str],
    after: UUID,
    limit: int,
) -> Sequence[RowMapping]:
    """Deposits with a threshold of their tier at or below `height`, by id after `after`, but for
    the assets of `stopped`: one statement, whatever is open."""
    result = await uow.execute(
        _DUE,
        {
            "network": network,
            "height": height,
            "final_below": final_below,
            "stopped": list(stopped),
            "after": after,
            "limit": limit,
        },
    )
    return result.mappings().all()


_CAPPED = f"""
SELECT {COLUMNS} FROM chain.deposits d WHERE d.id IN (
    SELECT c.id FROM (
        SELECT id, row_number() OVER (PARTITION BY brand, asset ORDER BY first_seen_at, id) AS n
        FROM chain.deposits WHERE network = :network AND state = 'pending'
            AND substatus = 'exposure_cap' AND provisional_at_height <= :height
            AND asset <> ALL(CAST(:stopped AS text[]))
    ) c ORDER BY c.n, c.id LIMIT :limit
)
"""


async def capped(
    uow: Uow, *, network: str, height: int, stopped: Sequence[str], limit: int
) -> Sequence[RowMapping]:
    """Deposits that wait for room under a cap, the oldest of every (brand, asset) first, so that
    one full cap hides nobody else's turn."""
    result = await uow.execute(
        _CAPPED,
        {"network": network, "height": height, "stopped": list(stopped), "limit": limit},
    )
    return result.mappings().all()


_DEAD = f"""
SELECT {COLUMNS} FROM chain.deposits d WHERE d.network = :network
    AND d.conflict_final_at_height <= :height AND d.state = 'orphaned' AND d.block_hash IS NULL
    AND d.conflict_final_at_height - d.full_depth + 1 <= :final_below ORDER BY d.id
"""


async def dead(uow: Uow, *, network: str, height: int, final_below: int) -> Sequence[RowMapping]:
    """Orphaned deposits whose conflict is final. All: they are counted before any is reversed."""
    result = await uow.execute(
        _DEAD, {"network": network, "height": height, "final_below": final_below}
    )
    return result.mappings().all()


async def absent_due(
    uow: Uow, *, network: str, height: int, after: UUID | None, limit: int
) -> Sequence[RowMapping]:
    """Orphaned deposits that no block had for T blocks, by id; `after` ended the last page."""
    result = await uow.execute(
        f"SELECT {COLUMNS} FROM chain.deposits d WHERE d.network = :network "
        "AND d.state = 'orphaned' AND d.block_hash IS NULL AND d.absent_at_height <= :height "
        "AND (CAST(:after AS uuid) IS NULL OR d.id > :after) ORDER BY d.id LIMIT :limit",
        {"network": network, "height": height, "after": after, "limit": limit},
    )
    return result.mappings().all()


async def lock(uow: Uow, ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """Re-read under row locks, after the players' locks were taken."""
    result = await uow.execute(
        f"SELECT {COLUMNS} FROM chain.deposits d WHERE d.id = ANY(CAST(:ids AS uuid[])) "
        "ORDER BY d.id FOR UPDATE",
        {"ids": list(ids)},
    )
    return result.mappings().all()


async def mark_booked(uow: Uow, *, deposit_ids: Sequence[UUID], stage: str) -> None:
    """Their custody entries stand, each with the effect of its block."""
    await uow.execute(
        "UPDATE chain.deposits SET credited_stage = :stage, custody_block_hash = block_hash, "
        "custody_height = height, final_at_height = NULL, sweep_state = CASE "
        "WHEN position LIKE 'out:%' THEN 'swept' ELSE sweep_state END "
        "WHERE id = ANY(CAST(:ids AS uuid[]))",
        {"ids": list(deposit_ids), "stage": stage},
    )


async def mark_final(uow: Uow, *, deposit_ids: Sequence[UUID]) -> None:
    """They stand aside and their block is final; what the books have of them stays."""
    await uow.execute(
        "UPDATE chain.deposits SET final_at_height = NULL, sweep_state = CASE "
        "WHEN position LIKE 'out:%' THEN 'swept' ELSE sweep_state END "
        "WHERE id = ANY(CAST(:ids AS uuid[]))",
        {"ids": list(deposit_ids)},
    )


_BY_INPUT = """
UPDATE chain.deposits d SET conflict_txid = c.spender, conflict_hash = c.hash,
    conflict_final_at_height = c.height + d.full_depth - 1
FROM (
    SELECT DISTINCT ON (i.txid) i.txid, s.spender, b.hash, b.height
    FROM unnest(string_to_array(:txids, ' '), CAST(string_to_array(:vouts, ' ') AS integer[]),
        string_to_array(:spenders, ' '), CAST(string_to_array(:at_heights, ' ') AS bigint[]))
        AS s (txid, vout, spender, height)
    JOIN chain.deposit_inputs i ON i.network = :network AND i.outpoint_txid = s.txid
        AND i.outpoint_vout = s.vout AND i.spender <> s.spender
    JOIN unnest(CAST(:heights AS bigint[]), CAST(:hashes AS text[])) AS b (height, hash)
        ON b.height = s.height
    ORDER BY i.txid, s.height, s.spender
) c WHERE d.txid = c.txid AND d.network = :network AND d.conflict_hash IS NULL
"""


async def mark_conflicts_by_input(
    uow: Uow,
    *,
    network: str,
    spends: Sequence[Spend],
    blocks: Mapping[int, str],
) -> None:
    """Blocks (hashes by height) spend inputs of deposits' txs by other txs; the earliest stays."""
    await uow.execute(_BY_INPUT, {"network": network, **spend_columns(spends, blocks)})


async def mark_conflicts_by_nonce(
    uow: Uow,
    *,
    network: str,
    sends: Sequence[tuple[str, int, str, int]],
    blocks: Mapping[int, str],
) -> None:
    """Blocks (hashes by height) have other txs at the sender and nonce of deposits' txs; the
    earliest stays. A send: sender, nonce, txid, the height of its block."""
    await uow.execute(
        "UPDATE chain.deposits d SET conflict_txid = s.txid, conflict_hash = b.hash, "
        "conflict_final_at_height = b.height + d.full_depth - 1 "
        "FROM unnest(string_to_array(:keys, ' '), "
        "CAST(string_to_array(:nonces, ' ') AS bigint[]), string_to_array(:txids, ' '), "
        "CAST(string_to_array(:at_heights, ' ') AS bigint[])) AS s (key, nonce, txid, height) "
        "JOIN unnest(CAST(:heights AS bigint[]), CAST(:hashes AS text[])) AS b (height, hash) "
        "ON b.height = s.height "
        "WHERE d.network = :network AND d.sender_key = s.key AND d.sender_nonce = s.nonce "
        "AND d.txid <> s.txid AND d.state IN ('detected', 'orphaned', 'refunding') "
        "AND d.conflict_hash IS NULL",
        {
            "network": network,
            "heights": list(blocks),
            "hashes": list(blocks.values()),
            "keys": column(send[0] for send in sends),
            "nonces": column(send[1] for send in sends),
            "txids": column(send[2] for send in sends),
            "at_heights": column(send[3] for send in sends),
        },
    )


async def conflicted(
    uow: Uow, *, network: str, block_hashes: Sequence[str]
) -> Sequence[RowMapping]:
    """Detected deposits that blocks made impossible."""
    result = await uow.execute(
        f"SELECT {COLUMNS} FROM chain.deposits d WHERE d.network = :network "
        "AND d.conflict_hash = ANY(CAST(:hashes AS text[])) AND d.state = 'detected' "
        "ORDER BY d.id FOR UPDATE",
        {"network": network, "hashes": list(block_hashes)},
    )
    return result.mappings().all()


async def clear_conflicts(uow: Uow, *, network: str, block_hash: str) -> None:
    """The block with the conflicting tx left the chain."""
    await uow.execute(
        "UPDATE chain.deposits SET conflict_txid = NULL, conflict_hash = NULL, "
        "conflict_final_at_height = NULL WHERE network = :network AND conflict_hash = :hash",
        {"network": network, "hash": block_hash},
    )


async def get(uow: Uow, deposit_id: UUID) -> RowMapping | None:
    """One deposit, as far as row-level security shows it."""
    result = await uow.execute(
        f"SELECT {COLUMNS} FROM chain.deposits d WHERE d.id = :id", {"id": deposit_id}
    )
    return result.mappings().one_or_none()


async def find(
    uow: Uow, *, filters: Mapping[str, Any], before: UUID | None, limit: int
) -> Sequence[RowMapping]:
    """Deposits, newest first. Filters: brand, state, player_id, asset, txid, created_after."""
    clauses = ["true"]
    for name in filters:
        clauses.append(
            "d.first_seen_at > :created_after" if name == "created_after" else f"d.{name} = :{name}"
        )
    if before is not None:
        clauses.append("d.id < :before")
    result = await uow.execute(
        f"SELECT {COLUMNS} FROM chain.deposits d WHERE {' AND '.join(clauses)} "
        "ORDER BY d.id DESC LIMIT :limit",
        {**filters, "limit": limit} | ({} if before is None else {"before": before}),
    )
    return result.mappings().all()


async def sums(uow: Uow, *, brand: str, player_id: str) -> Sequence[RowMapping]:
    """Sums of a player's deposits by asset, state and what an orphaned one had been."""
    result = await uow.execute(
        "SELECT asset, state, prior_state, sum(amount) AS total FROM chain.deposits "
        "WHERE brand = :brand AND player_id = :player_id GROUP BY asset, state, prior_state",
        {"brand": brand, "player_id": player_id},
    )
    return result.mappings().all()


# `state` as a literal, so that the index of unfinished deposits serves it.
_ORPHANED = "state = 'orphaned' AND prior_state IN ('provisional', 'final')"
_REVERSED = "state = 'reversed'"


async def of_players(
    uow: Uow, *, brand: str, players: Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    """Provisional and orphaned sums of players by asset (the lock rule); and with an `id` those
    that were credited and are orphaned or reversed, oldest first."""
    return await uow.rows(
        "SELECT player_id, asset, state, sum(amount) AS total, CAST(NULL AS uuid) AS id "
        "FROM chain.deposits WHERE brand = :brand "
        "AND player_id = ANY(CAST(:players AS text[])) "
        f"AND (state = 'provisional' OR ({_ORPHANED})) "
        "AND state IN ('detected', 'pending', 'provisional', 'orphaned', 'on_hold') "
        "GROUP BY player_id, asset, state UNION ALL "
        "(SELECT player_id, NULL, NULL, NULL, id FROM chain.deposits WHERE brand = :brand "
        "AND player_id = ANY(CAST(:players AS text[])) "
        f"AND ({_REVERSED} OR ({_ORPHANED})) ORDER BY id)",
        {"brand": brand, "players": list(players)},
    )


async def has_lost_anew(
    uow: Uow, *, brand: str, player_id: str, is_reversed: bool, known: Sequence[UUID]
) -> bool:
    """Whether a deposit of the player is orphaned (or reversed) that is not among `known`."""
    result = await uow.execute(
        "SELECT EXISTS (SELECT 1 FROM chain.deposits WHERE brand = :brand "
        f"AND player_id = :player_id AND {_REVERSED if is_reversed else _ORPHANED} "
        "AND id <> ALL(CAST(:known AS uuid[])))",
        {"brand": brand, "player_id": player_id, "known": list(known)},
    )
    return bool(result.scalar_one())


async def orphaned_of(uow: Uow, pairs: Sequence[tuple[str, str]]) -> Sequence[RowMapping]:
    """The credited deposits of some (brand, player) that are orphaned now."""
    result = await uow.execute(
        "SELECT brand, player_id, id FROM chain.deposits JOIN (SELECT * FROM unnest("
        "CAST(:brands AS text[]), CAST(:players AS text[]))) AS p (brand, player_id) "
        f"USING (brand, player_id) WHERE {_ORPHANED}",
        {"brands": [pair[0] for pair in pairs], "players": [pair[1] for pair in pairs]},
    )
    return result.mappings().all()


async def unposted(uow: Uow, *, network: str, height: int) -> Sequence[RowMapping]:
    """Sums by brand and asset of what is mined up to a height, with no custody effect of that
    block in the ledger (HOUSE 7). Tokens that no list has never get one: strangers decide how many
    of those there are."""
    result = await uow.execute(
        "SELECT d.brand, d.asset, sum(d.amount) AS amount FROM chain.deposits d "
        "WHERE d.network = :network AND d.height IS NOT NULL AND d.height <= :height "
        "AND d.custody_block_hash IS DISTINCT FROM d.block_hash GROUP BY d.brand, d.asset",
        {"network": network, "height": height},
    )
    return result.mappings().all()
