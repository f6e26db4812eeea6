"""SQL of coins (UTXO set and reservations) and of account nonces."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.chain import Outpoint
from watchers.columns import Spend, spend_columns

_COLUMNS = (
    "c.network, c.txid, c.vout, c.asset, c.amount, c.address_id, c.key, c.path, "
    "c.is_own_change, c.height"
)

# Of a signature that these books lack (chain.kept_coins).
_KEPT = (
    "SELECT k.attempt_id FROM chain.kept_coins k "
    "WHERE k.network = c.network AND k.txid = c.txid AND k.vout = c.vout"
)

# An unconfirmed own change coin is selectable while its ancestry has at most :ancestors unmined
# txs (HOUSE 5), each of them ours, on its way and without a rival in a block. An unmined ancestor
# of somebody else is a coin whose block was orphaned: what descends from it may never be mined.
# Where a family has several signed attempts, any of them may be mined, or after a reorg another
# one: their change waits for the full tier, so that nothing hangs on a tx that may lose (ADR 0023).
# Coins of others wait for their full tier, coinbase for maturity. A coin of another script than
# P2WPKH is none that the signer can spend (docs/adr/0022), and one of the cold wallet, or of the
# warm one (both `is_cold`), is never spent from here.
_SPENDABLE = f"""
WITH RECURSIVE tip AS (
    SELECT height FROM chain.cursors WHERE network = :network
), ancestry (root_txid, root_vout, txid) AS (
    SELECT txid, vout, txid FROM chain.coins
    WHERE network = :network AND height IS NULL AND is_own_change AND spent_by IS NULL
        AND reserved_by IS NULL
    UNION
    SELECT a.root_txid, a.root_vout, parent.txid
    FROM ancestry a
    JOIN chain.outgoing o ON o.network = :network AND o.txid = a.txid
    JOIN chain.outgoing_inputs i ON i.attempt_id = o.id
    JOIN chain.coins parent ON parent.txid = i.outpoint_txid AND parent.vout = i.outpoint_vout
        AND parent.network = i.network AND parent.height IS NULL
), young AS (
    SELECT a.root_txid, a.root_vout FROM ancestry a
    LEFT JOIN chain.outgoing o ON o.network = :network AND o.txid = a.txid
    GROUP BY a.root_txid, a.root_vout
    HAVING count(DISTINCT a.txid) <= :ancestors
        AND bool_and(o.id IS NOT NULL AND o.conflict_txid IS NULL
            AND o.state IN ('signed', 'broadcast', 'seen', 'mined', 'final')
            AND NOT EXISTS (SELECT 1 FROM chain.outgoing s WHERE s.family_id = o.family_id
                AND s.id <> o.id AND s.raw IS NOT NULL))
)
SELECT {_COLUMNS} FROM chain.coins c
WHERE c.network = :network AND c.spent_by IS NULL AND c.reserved_by IS NULL
    AND NOT c.is_other_script AND NOT c.is_cold AND NOT EXISTS ({_KEPT})
    AND ((c.height IS NOT NULL
            AND (c.spendable_at_height <= (SELECT height FROM tip)
                OR (c.is_own_change AND NOT EXISTS (
                    SELECT 1 FROM chain.outgoing o JOIN chain.outgoing s
                        ON s.family_id = o.family_id AND s.id <> o.id AND s.raw IS NOT NULL
                    WHERE o.network = c.network AND o.txid = c.txid))))
        OR (c.txid, c.vout) IN (SELECT root_txid, root_vout FROM young))
ORDER BY (c.height IS NULL), c.amount DESC, c.txid, c.vout
LIMIT :limit
"""


async def spendable(uow: Uow, *, network: str, limit: int, ancestors: int) -> Sequence[RowMapping]:
    """Coins that a payout may take now, mined first, largest first."""
    result = await uow.execute(
        _SPENDABLE, {"network": network, "limit": limit, "ancestors": ancestors}
    )
    return result.mappings().all()


async def by_outpoints(
    uow: Uow, *, network: str, outpoints: Sequence[Outpoint]
) -> Sequence[RowMapping]:
    """Coins by identity, whoever holds them."""
    result = await uow.execute(
        f"SELECT {_COLUMNS}, c.spent_by, "
        f"coalesce(c.reserved_by, ({_KEPT} LIMIT 1)) AS reserved_by FROM chain.coins c "
        "JOIN unnest(CAST(:txids AS text[]), "
        "CAST(:vouts AS integer[])) AS w (txid, vout) ON c.txid = w.txid AND c.vout = w.vout "
        "WHERE c.network = :network ORDER BY c.txid, c.vout",
        {
            "network": network,
            "txids": [outpoint.txid for outpoint in outpoints],
            "vouts": [outpoint.vout for outpoint in outpoints],
        },
    )
    return result.mappings().all()


# One statement: read by two, a coin that becomes final in between would be missing in both.
_APART = f"""
SELECT {_COLUMNS}, coalesce(c.spendable_at_height <= tip.height, false) AS is_final
FROM chain.coins c JOIN chain.addresses a ON a.id = c.address_id AND a.role = :role
LEFT JOIN chain.cursors tip ON tip.network = c.network
WHERE c.network = :network AND c.is_cold AND c.spent_by IS NULL AND c.reserved_by IS NULL
    AND NOT c.is_other_script AND NOT EXISTS ({_KEPT})
ORDER BY is_final DESC, c.amount DESC, c.txid, c.vout
LIMIT :limit
"""


async def apart(uow: Uow, *, network: str, role: str, limit: int) -> Sequence[RowMapping]:
    """Coins of one role that nothing has reserved, final ones first, then largest first."""
    result = await uow.execute(_APART, {"network": network, "role": role, "limit": limit})
    return result.mappings().all()


async def reserve(
    uow: Uow, *, attempt_id: UUID, outpoints: Sequence[Outpoint], is_cold: bool
) -> int:
    """Reserve free coins in one order, so that two batches never deadlock; returns how many."""
    parameters = {
        "txids": [outpoint.txid for outpoint in outpoints],
        "vouts": [outpoint.vout for outpoint in outpoints],
        "attempt_id": attempt_id,
        "is_cold": is_cold,
    }
    wanted = "unnest(CAST(:txids AS text[]), CAST(:vouts AS integer[])) AS w (txid, vout)"
    await uow.execute(
        f"SELECT 1 FROM chain.coins c JOIN {wanted} ON c.txid = w.txid AND c.vout = w.vout "
        "ORDER BY c.txid, c.vout FOR UPDATE OF c",
        {key: parameters[key] for key in ("txids", "vouts")},
    )
    result = await uow.execute(
        f"UPDATE chain.coins c SET reserved_by = :attempt_id FROM {wanted} "
        "WHERE c.txid = w.txid AND c.vout = w.vout AND c.spent_by IS NULL "
        "AND NOT c.is_other_script AND c.is_cold = :is_cold "
        "AND (c.reserved_by = :attempt_id "
        f"OR (c.reserved_by IS NULL AND NOT EXISTS ({_KEPT})))",
        parameters,
    )
    return result.rowcount


async def free(uow: Uow, *, attempt_id: UUID) -> int:
    """Free what an attempt reserved, unless its bytes exist."""
    result = await uow.execute(
        "UPDATE chain.coins SET reserved_by = NULL WHERE reserved_by = :id AND NOT EXISTS "
        "(SELECT 1 FROM chain.outgoing o WHERE o.id = :id AND o.raw IS NOT NULL)",
        {"id": attempt_id},
    )
    return result.rowcount


async def free_replaced(uow: Uow, *, attempt_id: UUID) -> int:
    """Free the coins of an attempt whose conflict is final; the spent ones are spent anyway."""
    result = await uow.execute(
        "UPDATE chain.coins SET reserved_by = NULL WHERE reserved_by = :id AND spent_by IS NULL",
        {"id": attempt_id},
    )
    return result.rowcount


_INSERT_TXS = """
INSERT INTO chain.previous_txs (network, txid, raw)
SELECT CAST(:network AS text), t.txid, t.raw
FROM unnest(CAST(:txids AS text[]), CAST(:raws AS bytea[])) AS t (txid, raw)
ON CONFLICT DO NOTHING
"""


async def insert_txs(uow: Uow, *, network: str, raws: Mapping[str, bytes]) -> None:
    """Keep the bytes of txs whose outputs become coins, once each; before their coins.

    Sorted, so that two writers wait in one order. The first bytes of a txid stay: others differ
    in their witness only, which no later signature covers.
    """
    txids = sorted(raws)
    await uow.execute(
        _INSERT_TXS,
        {"network": network, "txids": txids, "raws": [raws[txid] for txid in txids]},
    )


async def previous_txs(uow: Uow, *, network: str, txids: Collection[str]) -> dict[str, bytes]:
    """The bytes of the txs that made coins, once each."""
    result = await uow.execute(
        "SELECT txid, raw FROM chain.previous_txs WHERE network = :network "
        "AND txid = ANY(CAST(:txids AS text[]))",
        {"network": network, "txids": list(txids)},
    )
    return {row.txid: bytes(row.raw) for row in result}


_UPSERT_MINED = """
INSERT INTO chain.coins (network, txid, vout, asset, amount, address_id, key, path,
    is_own_change, is_coinbase, is_other_script, is_cold, block_hash, height,
    spendable_at_height)
SELECT r.network, r.txid, r.vout, r.asset, r.amount, r.address_id, r.key, r.path,
    r.is_own_change, r.is_coinbase, r.is_other_script, r.is_cold, r.block_hash, r.height,
    r.spendable_at_height
FROM jsonb_populate_recordset(CAST(NULL AS chain.coins), CAST(:rows AS jsonb)) AS r
ON CONFLICT (txid, vout, network) DO UPDATE SET block_hash = excluded.block_hash,
    height = excluded.height, spendable_at_height = excluded.spendable_at_height
"""


async def upsert_mined(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """Coins of a block: new ones, or known ones that are (again) in a block; one statement."""
    plain = [{**row, "amount": str(row["amount"])} for row in rows]
    await uow.execute(
        _UPSERT_MINED, {"rows": json.dumps(plain, separators=(",", ":"), default=str)}
    )


async def insert_unmined(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """Change coins of a signed tx of ours; one that a block brought first stays."""
    await uow.execute(
        "INSERT INTO chain.coins (network, txid, vout, asset, amount, address_id, key, path, "
        "is_own_change, is_cold) VALUES (:network, :txid, :vout, :asset, :amount, :address_id, "
        ":key, :path, true, "
        "(SELECT role IN ('warm', 'cold') FROM chain.addresses WHERE id = :address_id)) "
        "ON CONFLICT (txid, vout, network) DO NOTHING",
        [dict(row) for row in rows],
    )


async def mark_spent(
    uow: Uow,
    *,
    network: str,
    spends: Sequence[Spend],
    blocks: Mapping[int, str],
) -> int:
    """Mark own coins spent by inputs of blocks (hashes by height)."""
    result = await uow.execute(
        "UPDATE chain.coins c SET spent_by = s.spender, spent_hash = b.hash, "
        "spent_height = b.height FROM unnest(string_to_array(:txids, ' '), "
        "CAST(string_to_array(:vouts, ' ') AS integer[]), string_to_array(:spenders, ' '), "
        "CAST(string_to_array(:at_heights, ' ') AS bigint[])) AS s (txid, vout, spender, height) "
        "JOIN unnest(CAST(:heights AS bigint[]), CAST(:hashes AS text[])) AS b (height, hash) "
        "ON b.height = s.height "
        "WHERE c.network = :network AND c.txid = s.txid AND c.vout = s.vout",
        {"network": network, **spend_columns(spends, blocks)},
    )
    return result.rowcount


async def disconnect(uow: Uow, *, network: str, block_hash: str) -> None:
    """Undo what a block did to coins."""
    parameters = {"network": network, "hash": block_hash}
    await uow.execute(
        "UPDATE chain.coins SET spent_by = NULL, spent_hash = NULL, spent_height = NULL "
        "WHERE network = :network AND spent_hash = :hash",
        parameters,
    )
    await uow.execute(
        "UPDATE chain.coins SET block_hash = NULL, height = NULL, spendable_at_height = NULL "
        "WHERE network = :network AND block_hash = :hash",
        parameters,
    )


async def open_mined(uow: Uow, *, network: str) -> Sequence[RowMapping]:
    """Unspent coins in blocks: what the chain must confirm in a reconciliation."""
    result = await uow.execute(
        f"SELECT {_COLUMNS}, a.role FROM chain.coins c JOIN chain.addresses a "
        "ON a.id = c.address_id WHERE c.network = :network "
        "AND c.height IS NOT NULL AND c.spent_by IS NULL ORDER BY c.txid, c.vout",
        {"network": network},
    )
    return result.mappings().all()


async def ensure_account(uow: Uow, *, network: str, sender_key: str, following: int) -> None:
    """Make the account's row exist, and its next nonce at least `following`."""
    await uow.execute(
        "INSERT INTO chain.nonces AS n (network, sender_key, next) VALUES (:network, :key, :next) "
        "ON CONFLICT (network, sender_key) DO UPDATE SET next = excluded.next "
        "WHERE n.next < excluded.next",
        {"network": network, "key": sender_key, "next": following},
    )


async def lock_account(uow: Uow, *, network: str, sender_key: str) -> int:
    """The next nonce never used, with its row locked."""
    result = await uow.execute(
        "SELECT next FROM chain.nonces WHERE network = :network AND sender_key = :key FOR UPDATE",
        {"network": network, "key": sender_key},
    )
    return int(result.scalar_one())


async def nonce_of(uow: Uow, *, attempt_id: UUID) -> int | None:
    """The nonce that an attempt holds."""
    result = await uow.execute(
        "SELECT nonce FROM chain.nonce_uses WHERE attempt_id = :id", {"id": attempt_id}
    )
    value = result.scalar_one_or_none()
    return None if value is None else int(value)


async def take_free_nonce(
    uow: Uow, *, network: str, sender_key: str, attempt_id: UUID
) -> int | None:
    """The lowest given-back nonce, now held by the attempt; None when there is none."""
    result = await uow.execute(
        "UPDATE chain.nonce_uses SET attempt_id = :id WHERE (network, sender_key, nonce) = "
        "(SELECT network, sender_key, nonce FROM chain.nonce_uses WHERE network = :network "
        "AND sender_key = :key AND attempt_id IS NULL ORDER BY nonce LIMIT 1) RETURNING nonce",
        {"network": network, "key": sender_key, "id": attempt_id},
    )
    value = result.scalar_one_or_none()
    return None if value is None else int(value)


async def take_next_nonce(
    uow: Uow, *, network: str, sender_key: str, nonce: int, attempt_id: UUID
) -> None:
    """Hold a number never used, and move the account on."""
    await uow.execute(
        "INSERT INTO chain.nonce_uses (network, sender_key, nonce, attempt_id) "
        "VALUES (:network, :key, :nonce, :id)",
        {"network": network, "key": sender_key, "nonce": nonce, "id": attempt_id},
    )
    await uow.execute(
        "UPDATE chain.nonces SET next = :next WHERE network = :network AND sender_key = :key",
        {"network": network, "key": sender_key, "next": nonce + 1},
    )


async def take_free_nonces(
    uow: Uow, *, network: str, sender_key: str, attempt_ids: Sequence[UUID]
) -> list[int]:
    """The lowest given-back nonces, ascending, now held by the first of the attempts; as many as
    there are. The account's row is locked."""
    result = await uow.execute(
        "UPDATE chain.nonce_uses u SET attempt_id = t.id FROM ("
        "SELECT f.nonce, w.id FROM (SELECT nonce, row_number() OVER (ORDER BY nonce) AS n "
        "FROM chain.nonce_uses WHERE network = :network AND sender_key = :key "
        "AND attempt_id IS NULL ORDER BY nonce LIMIT :count) f "
        "JOIN unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS w (id, n) USING (n)) t "
        "WHERE u.network = :network AND u.sender_key = :key AND u.nonce = t.nonce "
        "RETURNING u.nonce",
        {
            "network": network,
            "key": sender_key,
            "ids": list(attempt_ids),
            "count": len(attempt_ids),
        },
    )
    return sorted(int(nonce) for nonce in result.scalars())


async def take_next_nonces(
    uow: Uow, *, network: str, sender_key: str, nonce: int, attempt_ids: Sequence[UUID]
) -> None:
    """Hold numbers never used, from `nonce` on in the attempts' order, and move the account on."""
    await uow.execute(
        "INSERT INTO chain.nonce_uses (network, sender_key, nonce, attempt_id) "
        "SELECT CAST(:network AS text), CAST(:key AS text), CAST(:nonce AS bigint) + n - 1, id "
        "FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS w (id, n)",
        {"network": network, "key": sender_key, "nonce": nonce, "ids": list(attempt_ids)},
    )
    await uow.execute(
        "UPDATE chain.nonces SET next = :next WHERE network = :network AND sender_key = :key",
        {"network": network, "key": sender_key, "next": nonce + len(attempt_ids)},
    )


async def unsigned_nonces(
    uow: Uow, *, network: str, sender_keys: Sequence[str]
) -> Sequence[RowMapping]:
    """Free numbers of accounts (no attempt), and those of unsigned first attempts, ascending."""
    result = await uow.execute(
        "SELECT sender_key, nonce, attempt_id FROM chain.nonce_uses WHERE network = :network "
        "AND sender_key = ANY(CAST(:keys AS text[])) AND attempt_id IS NULL "
        "UNION ALL SELECT sender_key, nonce, id FROM chain.outgoing WHERE network = :network "
        "AND sender_key = ANY(CAST(:keys AS text[])) AND state = 'built' "
        "AND replaces_id IS NULL AND nonce IS NOT NULL ORDER BY 1, 2",
        {"network": network, "keys": list(sender_keys)},
    )
    return result.mappings().all()


async def claim_nonce(
    uow: Uow, *, network: str, sender_key: str, nonce: int, following: int, attempt_id: UUID
) -> None:
    """The number is the attempt's unless another has it; those skipped from `following` on are
    free."""
    await uow.execute(
        "INSERT INTO chain.nonce_uses (network, sender_key, nonce, attempt_id) "
        "SELECT CAST(:network AS text), CAST(:key AS text), n, NULL "
        "FROM generate_series(CAST(:following AS bigint), CAST(:nonce AS bigint) - 1) AS n "
        "ON CONFLICT DO NOTHING",
        {"network": network, "key": sender_key, "following": following, "nonce": nonce},
    )
    await uow.execute(
        "INSERT INTO chain.nonce_uses AS u (network, sender_key, nonce, attempt_id) "
        "VALUES (:network, :key, :nonce, :id) ON CONFLICT (network, sender_key, nonce) "
        "DO UPDATE SET attempt_id = excluded.attempt_id WHERE u.attempt_id IS NULL",
        {"network": network, "key": sender_key, "nonce": nonce, "id": attempt_id},
    )


async def keep(uow: Uow, *, network: str, attempt_id: UUID, outpoints: Sequence[Outpoint]) -> None:
    """Nobody may spend these, whether a block has brought them or not."""
    await uow.execute(
        "INSERT INTO chain.kept_coins (network, txid, vout, attempt_id) "
        "SELECT CAST(:network AS text), w.txid, w.vout, CAST(:id AS uuid) "
        "FROM unnest(CAST(:txids AS text[]), CAST(:vouts AS integer[])) AS w (txid, vout) "
        "ON CONFLICT DO NOTHING",
        {
            "network": network,
            "id": attempt_id,
            "txids": [outpoint.txid for outpoint in outpoints],
            "vouts": [outpoint.vout for outpoint in outpoints],
        },
    )


async def claim(uow: Uow, *, network: str, attempt_id: UUID | None) -> int:
    """Reserve the unspent inputs of signed attempts (of one, or of all that are open) that nobody
    has reserved."""
    result = await uow.execute(
        "UPDATE chain.coins c SET reserved_by = o.id FROM chain.outgoing_inputs i "
        "JOIN chain.outgoing o ON o.id = i.attempt_id "
        "WHERE i.network = :network AND o.raw IS NOT NULL "
        "AND o.state IN ('signed', 'broadcast', 'seen', 'dropped') "
        "AND (CAST(:id AS uuid) IS NULL OR o.id = CAST(:id AS uuid)) "
        "AND c.network = i.network AND c.txid = i.outpoint_txid AND c.vout = i.outpoint_vout "
        "AND c.reserved_by IS NULL AND c.spent_by IS NULL",
        {"network": network, "id": attempt_id},
    )
    return result.rowcount


async def mark_own_change(uow: Uow, *, network: str, txid: str) -> None:
    """Coins of a tx that turned out to be ours, which blocks had brought as others'."""
    await uow.execute(
        "UPDATE chain.coins c SET is_own_change = true FROM chain.outgoing o "
        "JOIN chain.outgoing_change x ON x.attempt_id = o.id "
        "WHERE o.network = :network AND o.txid = :txid AND c.network = :network "
        "AND c.txid = :txid AND c.vout = x.vout AND NOT c.is_own_change",
        {"network": network, "txid": txid},
    )


async def give_back_nonce(uow: Uow, *, attempt_id: UUID) -> int:
    """Free the number of an attempt that was never signed."""
    result = await uow.execute(
        "UPDATE chain.nonce_uses SET attempt_id = NULL WHERE attempt_id = :id AND NOT EXISTS "
        "(SELECT 1 FROM chain.outgoing o WHERE o.id = :id AND o.raw IS NOT NULL)",
        {"id": attempt_id},
    )
    return result.rowcount


async def used_on_chain(uow: Uow, *, network: str, sender_key: str, nonce: int) -> None:
    """A free number that somebody used on chain is not free any more."""
    await uow.execute(
        "DELETE FROM chain.nonce_uses WHERE network = :network AND sender_key = :key "
        "AND nonce = :nonce AND attempt_id IS NULL",
        {"network": network, "key": sender_key, "nonce": nonce},
    )
