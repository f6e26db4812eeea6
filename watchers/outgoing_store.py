"""SQL of our own transactions."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.chain import Outpoint
from watchers.columns import Spend, column

_COLUMNS = (
    "id, network, purpose, family_id, state, unsigned, raw, txid, sender_key, nonce, payments, "
    "fee_cap_minor, fee_minor, block_hash, height, final_at_height, is_success, "
    "is_paid_as_planned, moved, conflict_txid, settled_block_hash, created_at, signed_at, "
    "broadcast_at, final_at, state_at, version, family_number, replaces_id, pays_for_id, "
    "planned_height, broadcast_height, settled_reference, payer_key"
)

UPKEEP_PURPOSES = ("consolidate", "fan_out")  # merges and splits of own coins
OUTSIDE_PURPOSE = "cold_to_hot"  # signed by people with keys of their own, never by the signer
FROM_WARM = "warm_to_hot"
SIGNED_MOVES = ("hot_to_cold", "hot_to_warm", FROM_WARM)  # between wallets, by the signer
SWEEP_PURPOSES = ("sweep", "collect", "gas_top_up")  # deposits to hot, and the gas for it
# What pays nobody.
OWN_PURPOSES = (
    *UPKEEP_PURPOSES, *SWEEP_PURPOSES, "contract_setup", *SIGNED_MOVES, OUTSIDE_PURPOSE,
    "safe_refill",
)  # fmt: skip


async def insert(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """Built attempts; the same id again changes nothing."""
    await uow.execute(
        "INSERT INTO chain.outgoing (id, network, purpose, family_id, state, unsigned, "
        "sender_key, nonce, payments, fee_cap_minor, family_number, replaces_id, pays_for_id, "
        "planned_height, payer_key, expected_txid, created_at, state_at) VALUES (:id, :network, "
        ":purpose, :family_id, 'built', :unsigned, :sender_key, :nonce, CAST(:payments AS jsonb), "
        ":fee_cap_minor, :family_number, :replaces_id, :pays_for_id, :planned_height, :payer_key, "
        ":expected_txid, :at, :at) ON CONFLICT (id) DO NOTHING",
        [dict(row) for row in rows],
    )


async def insert_inputs(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """The outpoints that an attempt consumes."""
    await uow.execute(
        "INSERT INTO chain.outgoing_inputs (attempt_id, network, outpoint_txid, outpoint_vout) "
        "VALUES (:attempt_id, :network, :txid, :vout) ON CONFLICT DO NOTHING",
        [dict(row) for row in rows],
    )


async def insert_change(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """The change outputs of an attempt."""
    await uow.execute(
        "INSERT INTO chain.outgoing_change (attempt_id, vout, address_id, amount) "
        "VALUES (:attempt_id, :vout, :address_id, :amount) ON CONFLICT DO NOTHING",
        [dict(row) for row in rows],
    )


async def change_of(uow: Uow, attempt_id: UUID) -> Sequence[RowMapping]:
    """Change outputs with the keys and paths of their addresses."""
    result = await uow.execute(
        "SELECT x.vout, x.amount, x.address_id, a.key, a.path FROM chain.outgoing_change x "
        "JOIN chain.addresses a ON a.id = x.address_id WHERE x.attempt_id = :id ORDER BY x.vout",
        {"id": attempt_id},
    )
    return result.mappings().all()


async def get(uow: Uow, attempt_id: UUID, *, is_locked: bool = False) -> RowMapping | None:
    """One attempt."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE id = :id"
        + (" FOR UPDATE" if is_locked else ""),
        {"id": attempt_id},
    )
    return result.mappings().one_or_none()


async def get_many(
    uow: Uow, ids: Sequence[UUID], *, is_locked: bool = False
) -> Sequence[RowMapping]:
    """Attempts by id, in id order; locked in that order when asked."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id"
        + (" FOR UPDATE" if is_locked else ""),
        {"ids": list(ids)},
    )
    return result.mappings().all()


async def inputs_of(uow: Uow, ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """The outpoints of attempts."""
    result = await uow.execute(
        "SELECT attempt_id, outpoint_txid, outpoint_vout FROM chain.outgoing_inputs "
        "WHERE attempt_id = ANY(CAST(:ids AS uuid[])) ORDER BY 1, 2, 3",
        {"ids": list(ids)},
    )
    return result.mappings().all()


async def spenders(
    uow: Uow, *, network: str, outpoints: Sequence[Outpoint]
) -> Sequence[RowMapping]:
    """Signed attempts that spend one of these, of a family the newest last."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE raw IS NOT NULL AND id IN ("
        "SELECT i.attempt_id FROM chain.outgoing_inputs i "
        "JOIN unnest(CAST(:txids AS text[]), CAST(:vouts AS integer[])) AS w (txid, vout) "
        "ON i.outpoint_txid = w.txid AND i.outpoint_vout = w.vout WHERE i.network = :network) "
        "ORDER BY family_number, id",
        {
            "network": network,
            "txids": [outpoint.txid for outpoint in outpoints],
            "vouts": [outpoint.vout for outpoint in outpoints],
        },
    )
    return result.mappings().all()


async def settled_elsewhere(uow: Uow, *, network: str, limit: int) -> Sequence[RowMapping]:
    """Attempts whose settlement names a block that is not theirs (any more)."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE network = :network "
        "AND settled_block_hash IS NOT NULL AND settled_block_hash IS DISTINCT FROM block_hash "
        "ORDER BY id LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return result.mappings().all()


async def input_paths(uow: Uow, attempt_id: UUID) -> Sequence[RowMapping]:
    """The derivation path of each coin that an attempt spends."""
    result = await uow.execute(
        "SELECT c.txid, c.vout, c.path FROM chain.outgoing_inputs i JOIN chain.coins c "
        "ON c.txid = i.outpoint_txid AND c.vout = i.outpoint_vout AND c.network = i.network "
        "WHERE i.attempt_id = :id",
        {"id": attempt_id},
    )
    return result.mappings().all()


async def asset_of_inputs(uow: Uow, attempt_id: UUID) -> str:
    """The asset of the coins that an attempt spends, which its change is in."""
    result = await uow.execute(
        "SELECT c.asset FROM chain.outgoing_inputs i JOIN chain.coins c "
        "ON c.txid = i.outpoint_txid AND c.vout = i.outpoint_vout AND c.network = i.network "
        "WHERE i.attempt_id = :id LIMIT 1",
        {"id": attempt_id},
    )
    return str(result.scalar_one())


async def followed_height(uow: Uow, *, network: str) -> int | None:
    """The height of the block that the follower stands on."""
    result = await uow.execute(
        "SELECT height FROM chain.cursors WHERE network = :network", {"network": network}
    )
    value = result.scalar_one_or_none()
    return None if value is None else int(value)


async def by_txids(
    uow: Uow, *, network: str, txids: Sequence[str], is_locked: bool = False
) -> Sequence[RowMapping]:
    """Our own transactions among `txids`."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE network = :network "
        "AND txid = ANY(string_to_array(:txids, ' ')) ORDER BY id"
        + (" FOR UPDATE" if is_locked else ""),
        {"network": network, "txids": column(txids)},
    )
    return result.mappings().all()


async def expected(uow: Uow, *, network: str) -> dict[str, UUID]:
    """Unsigned attempts that others sign, by the txid that they will have."""
    result = await uow.execute(
        "SELECT id, expected_txid FROM chain.outgoing "
        "WHERE network = :network AND state = 'built' AND expected_txid IS NOT NULL",
        {"network": network},
    )
    return {row.expected_txid: row.id for row in result}


async def in_states(
    uow: Uow, *, network: str, states: Sequence[str], limit: int
) -> Sequence[RowMapping]:
    """Attempts of a network in some states, oldest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE network = :network "
        "AND state = ANY(CAST(:states AS text[])) ORDER BY id LIMIT :limit",
        {"network": network, "states": list(states), "limit": limit},
    )
    return result.mappings().all()


async def family(uow: Uow, family_id: UUID) -> Sequence[RowMapping]:
    """Every attempt of a family, the newest last."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE family_id = :id ORDER BY family_number, id",
        {"id": family_id},
    )
    return result.mappings().all()


async def by_account_nonces(
    uow: Uow, *, network: str, keys: Sequence[str], nonces: Sequence[int]
) -> Sequence[RowMapping]:
    """Signed attempts at (account, nonce) pairs, locked."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE network = :network AND raw IS NOT NULL "
        "AND (sender_key, nonce) IN (SELECT * FROM unnest(CAST(:keys AS text[]), "
        "CAST(:nonces AS bigint[]))) ORDER BY id FOR UPDATE",
        {"network": network, "keys": list(keys), "nonces": list(nonces)},
    )
    return result.mappings().all()


# `dead`: txs that can never be mined beside the blocks, with the rival there. A deposit or inflow
# that we spent (its inputs are in chain.deposit_inputs), an own tx, and what spends their outputs.
# Unmined attempts below such a one, unsigned ones included, and signed attempts with a spent input.
_EXCLUDED = """
WITH RECURSIVE spends (txid, vout, spender) AS (
    SELECT * FROM unnest(string_to_array(:txids, ' '),
        CAST(string_to_array(:vouts, ' ') AS integer[]), string_to_array(:spenders, ' '))
), dead (txid, spender) AS (
    (SELECT i.txid, s.spender FROM spends s
    JOIN chain.deposit_inputs i ON i.network = :network AND i.outpoint_txid = s.txid
        AND i.outpoint_vout = s.vout AND i.spender <> s.spender
    UNION
    SELECT o.txid, s.spender FROM spends s
    JOIN chain.outgoing_inputs i ON i.network = :network AND i.outpoint_txid = s.txid
        AND i.outpoint_vout = s.vout
    JOIN chain.outgoing o ON o.id = i.attempt_id AND o.txid <> s.spender)
    UNION
    SELECT o.txid, d.spender FROM dead d
    JOIN chain.outgoing_inputs i ON i.network = :network AND i.outpoint_txid = d.txid
    JOIN chain.outgoing o ON o.id = i.attempt_id AND o.txid IS NOT NULL
)
SELECT o.id, d.spender, false AS is_direct FROM dead d
JOIN chain.outgoing_inputs i ON i.network = :network AND i.outpoint_txid = d.txid
JOIN chain.outgoing o ON o.id = i.attempt_id
WHERE o.state IN ('built', 'signed', 'broadcast', 'seen', 'dropped')
UNION
SELECT o.id, s.spender, true FROM spends s
JOIN chain.outgoing_inputs i ON i.network = :network AND i.outpoint_txid = s.txid
    AND i.outpoint_vout = s.vout
JOIN chain.outgoing o ON o.id = i.attempt_id
WHERE o.txid IS NOT NULL AND o.txid <> s.spender
"""


async def excluded(uow: Uow, *, network: str, spends: Sequence[Spend]) -> Sequence[RowMapping]:
    """Attempts that a spend of some blocks makes impossible, each with every such spender:
    `is_direct` where that spends an input of the attempt itself, else of what it descends from."""
    result = await uow.execute(
        _EXCLUDED,
        {
            "network": network,
            "txids": column(spend[0] for spend in spends),
            "vouts": column(spend[1] for spend in spends),
            "spenders": column(spend[2] for spend in spends),
        },
    )
    return result.mappings().all()


async def in_block(uow: Uow, *, network: str, block_hash: str) -> Sequence[RowMapping]:
    """Attempts whose tx is in a block."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE network = :network "
        "AND block_hash = :hash ORDER BY id FOR UPDATE",
        {"network": network, "hash": block_hash},
    )
    return result.mappings().all()


async def final_due(
    uow: Uow, *, network: str, height: int, final_below: int, limit: int
) -> Sequence[RowMapping]:
    """Mined attempts whose full tier is reached, in blocks that may count as final; the longest
    due first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE network = :network AND state = 'mined' "
        "AND final_at_height <= :height AND height <= :final_below "
        "ORDER BY final_at_height, id LIMIT :limit FOR UPDATE",
        {"network": network, "height": height, "final_below": final_below, "limit": limit},
    )
    return result.mappings().all()


async def conflict_due(
    uow: Uow, *, network: str, height: int, final_below: int, limit: int
) -> Sequence[RowMapping]:
    """Attempts whose conflict is final: its full tier is reached and its block may count so. The
    longest due first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE network = :network "
        "AND conflict_final_at_height <= :height AND state IN ('signed', 'broadcast', 'seen', "
        "'dropped') AND (SELECT b.height FROM chain.blocks b WHERE b.network = :network "
        "AND b.hash = conflict_hash) <= :final_below "
        "ORDER BY conflict_final_at_height, id LIMIT :limit FOR UPDATE",
        {"network": network, "height": height, "final_below": final_below, "limit": limit},
    )
    return result.mappings().all()


async def clear_conflicts(uow: Uow, *, network: str, block_hash: str) -> None:
    """The block that held the conflicting tx is gone."""
    await uow.execute(
        "UPDATE chain.outgoing SET conflict_txid = NULL, conflict_hash = NULL, "
        "conflict_final_at_height = NULL, version = version + 1 WHERE network = :network "
        "AND conflict_hash = :hash",
        {"network": network, "hash": block_hash},
    )


async def update(
    uow: Uow, *, attempt_id: UUID, current: str, changes: Mapping[str, Any], at: datetime
) -> RowMapping | None:
    """Compare-and-set of one attempt; None when its state was not `current`."""
    values = {
        name: json.dumps(value) if name == "moved" and value is not None else value
        for name, value in changes.items()
    }
    assignments = ", ".join(
        f"{name} = CAST(:{name} AS jsonb)" if name == "moved" else f"{name} = :{name}"
        for name in values
    )
    result = await uow.execute(
        f"UPDATE chain.outgoing SET {assignments}, version = version + 1, "
        "state_at = CASE WHEN state = :state THEN state_at ELSE :at END "
        f"WHERE id = :id AND state = :current RETURNING {_COLUMNS}",
        {"state": current, **values, "id": attempt_id, "current": current, "at": at},
    )
    return result.mappings().one_or_none()


async def set_settled(uow: Uow, *, attempt_id: UUID, block_hash: str, reference: str | None) -> int:
    """Record that the ledger holds the effect of this block; 0 rows when it is not there now."""
    result = await uow.execute(
        "UPDATE chain.outgoing SET settled_block_hash = :hash, settled_reference = :reference "
        "WHERE id = :id AND block_hash = :hash AND state IN ('final', 'reverted')",
        {"id": attempt_id, "hash": block_hash, "reference": reference},
    )
    return result.rowcount


async def set_settled_many(uow: Uow, settled: Sequence[tuple[UUID, str, str]]) -> int:
    """`set_settled` of (attempt, block hash, reference); how many were there."""
    result = await uow.execute(
        "UPDATE chain.outgoing o SET settled_block_hash = s.hash, settled_reference = s.reference "
        "FROM unnest(CAST(:ids AS uuid[]), CAST(:hashes AS text[]), CAST(:references AS text[])) "
        "AS s (id, hash, reference) WHERE o.id = s.id AND o.block_hash = s.hash "
        "AND o.state IN ('final', 'reverted')",
        {
            "ids": [item[0] for item in settled],
            "hashes": [item[1] for item in settled],
            "references": [item[2] for item in settled],
        },
    )
    return result.rowcount


async def set_unsettled(uow: Uow, *, attempt_id: UUID) -> int:
    """Record that the ledger no longer holds any effect of the attempt."""
    result = await uow.execute(
        "UPDATE chain.outgoing SET settled_block_hash = NULL, settled_reference = NULL "
        "WHERE id = :id",
        {"id": attempt_id},
    )
    return result.rowcount


async def unsettled(uow: Uow, *, network: str, height: int) -> Sequence[RowMapping]:
    """Attempts mined up to a height whose effect the ledger does not hold at that block."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.outgoing WHERE network = :network AND height <= :height "
        "AND settled_block_hash IS DISTINCT FROM block_hash ORDER BY id",
        {"network": network, "height": height},
    )
    return result.mappings().all()


async def notify(uow: Uow, *, network: str) -> None:
    """Hint to payouts that an own transaction changed; it also polls."""
    await uow.execute("SELECT pg_notify('cage_outgoing', :network)", {"network": network})
