"""SQL that says where a difference between books and chain is; read only where there is one."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

ROWS_MAX = 500  # of one question; what is older was compared before

_SINCE = (
    "SELECT hash FROM chain.blocks WHERE network = :network AND is_canonical "
    "AND height <= :height AND height > coalesce(CAST(:since AS bigint), -1)"
)


async def clean_height(uow: Uow, *, network: str, account: str) -> int | None:
    """The newest block of our chain at which an account agreed; None when it never did."""
    result = await uow.execute(
        "SELECT r.height FROM chain.reconciliation_runs r JOIN chain.blocks b "
        "ON b.network = r.network AND b.hash = r.block_hash AND b.is_canonical "
        "WHERE r.network = :network AND r.height IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM chain.reconciliation_wallets w WHERE w.run_id = r.id "
        "AND w.account = :account AND w.difference <> 0) ORDER BY r.height DESC LIMIT 1",
        {"network": network, "account": account},
    )
    value = result.scalar_one_or_none()
    return None if value is None else int(value)


async def foreign_spends(
    uow: Uow, *, network: str, asset: str, since: int | None, height: int
) -> Sequence[RowMapping]:
    """Own coins that a tx which is not ours spent in the blocks after `since`, newest first, with
    what the same tx paid back to us."""
    result = await uow.execute(
        "SELECT c.txid, c.vout, c.amount, c.spent_by, c.spent_height, a.address, a.role, a.brand, "
        "coalesce((SELECT sum(i.amount) FROM chain.inflows i WHERE i.network = c.network "
        "AND i.txid = c.spent_by AND i.asset = c.asset), 0) AS returned "
        "FROM chain.coins c JOIN chain.addresses a ON a.id = c.address_id "
        "WHERE c.network = :network AND c.asset = :asset "
        f"AND c.spent_hash IN ({_SINCE}) AND NOT EXISTS (SELECT 1 FROM chain.outgoing o "
        "WHERE o.network = c.network AND o.txid = c.spent_by) "
        "ORDER BY c.spent_height DESC, c.txid, c.vout LIMIT :limit",
        {
            "network": network,
            "asset": asset,
            "since": since,
            "height": height,
            "limit": ROWS_MAX,
        },
    )
    return result.mappings().all()


async def blocks_since(
    uow: Uow, *, network: str, since: int | None, height: int, limit: int
) -> Sequence[RowMapping]:
    """Blocks of our chain after `since` up to a height, the newest first."""
    result = await uow.execute(
        "SELECT hash, height FROM chain.blocks WHERE network = :network AND is_canonical "
        "AND height <= :height AND height > coalesce(CAST(:since AS bigint), -1) "
        "ORDER BY height DESC LIMIT :limit",
        {"network": network, "since": since, "height": height, "limit": limit},
    )
    return result.mappings().all()


async def own_txids(uow: Uow, *, network: str, txids: Sequence[str]) -> set[str]:
    """Those of `txids` that these books made."""
    result = await uow.execute(
        "SELECT txid FROM chain.outgoing WHERE network = :network "
        "AND txid = ANY(CAST(:txids AS text[]))",
        {"network": network, "txids": list(txids)},
    )
    return set(result.scalars())


async def settled_fees(uow: Uow, *, network: str, height: int) -> Sequence[RowMapping]:
    """What settled own txs cost, by block, the newest first."""
    result = await uow.execute(
        "SELECT block_hash, height, sum(fee_minor) AS fees, array_agg(txid ORDER BY txid) AS txids "
        "FROM chain.outgoing WHERE network = :network AND height <= :height "
        "AND settled_block_hash = block_hash AND fee_minor IS NOT NULL "
        "GROUP BY block_hash, height ORDER BY height DESC LIMIT :limit",
        {"network": network, "height": height, "limit": ROWS_MAX},
    )
    return result.mappings().all()


async def known_balances(
    uow: Uow,
    *,
    network: str,
    asset: str,
    is_native: bool,
    height: int,
    address_ids: Sequence[UUID],
) -> dict[str, int]:
    """What addresses of an account chain hold by all that is known of them at a height, by key."""
    result = await uow.execute(
        """
        WITH asked AS (
            SELECT id, key FROM chain.addresses WHERE id = ANY(CAST(:ids AS uuid[]))
        ), moves AS (
            SELECT k.key, d.amount FROM chain.deposits d JOIN asked k ON k.id = d.address_id
            WHERE d.network = :network AND d.asset = :asset AND d.height <= :height
            UNION ALL
            SELECT k.key, i.amount FROM chain.inflows i JOIN asked k ON k.id = i.address_id
            WHERE i.network = :network AND i.asset = :asset AND i.height <= :height
            UNION ALL
            SELECT k.key, CASE WHEN o.sender_key = k.key THEN -1 ELSE 1 END
                * CAST(m ->> 'amount_minor' AS numeric)
            FROM chain.outgoing o CROSS JOIN jsonb_array_elements(o.moved) AS m
            JOIN asked k ON k.key IN (o.sender_key, m ->> 'key')
            WHERE o.network = :network AND o.height <= :height AND m ->> 'asset' = :asset
            UNION ALL
            SELECT k.key, -o.fee_minor FROM chain.outgoing o JOIN asked k ON k.key = o.sender_key
            WHERE :is_native AND o.network = :network AND o.height <= :height
                AND o.fee_minor IS NOT NULL
        )
        SELECT key, sum(amount) AS amount FROM moves GROUP BY key
        """,
        {
            "network": network,
            "asset": asset,
            "is_native": is_native,
            "height": height,
            "ids": list(address_ids),
        },
    )
    return {row.key: int(row.amount) for row in result}


async def stuck(uow: Uow, *, network: str, height: int, before: datetime) -> Sequence[RowMapping]:
    """Own txs that are final and inflows that are due, and yet are not in the books."""
    result = await uow.execute(
        "SELECT 'outgoing' AS kind, id, NULL AS asset, txid, state, height FROM chain.outgoing "
        "WHERE network = :network AND state IN ('final', 'reverted') AND height <= :height "
        "AND settled_block_hash IS DISTINCT FROM block_hash AND final_at < :before "
        "UNION ALL SELECT 'inflow', id, asset, txid, state, height FROM chain.inflows "
        "WHERE network = :network AND state = 'seen' AND book_at_height <= :height "
        "AND state_at < :before ORDER BY 1, 2 LIMIT :limit",
        {"network": network, "height": height, "before": before, "limit": ROWS_MAX},
    )
    return result.mappings().all()
