"""SQL of the books' own checks."""

from collections.abc import Sequence

from config.database import Uow
from ledger.store import Row

# What stands on the accounts by their cached balances, and what per asset must hold of it.
_CACHED = """
cached AS (
    SELECT a.id, a.code, a.kind, a.asset, a.normal_side, a.is_checked,
        b.balance + coalesce((SELECT sum(p.delta) FROM ledger.pending_credits p
                              WHERE p.account_id = a.id), 0) AS balance
    FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
), per_asset AS (
    SELECT asset,
        sum(CASE normal_side WHEN 'debit' THEN balance ELSE -balance END) AS skew,
        sum(CASE WHEN kind IN ('custody', 'receivable') THEN balance ELSE 0 END) AS cover,
        sum(CASE WHEN kind IN ('provisional', 'held', 'reserved', 'in_flight', 'clearing',
                               'unallocated') THEN balance ELSE 0 END) AS owed
    FROM cached GROUP BY asset
), held AS (
    SELECT asset, sum(amount) FILTER (WHERE state = 'open') AS reserved,
        sum(amount) FILTER (WHERE state = 'captured') AS in_flight
    FROM ledger.holds GROUP BY asset
), staged AS (
    SELECT asset, coalesce(sum(balance) FILTER (WHERE kind = 'reserved'), 0) AS reserved,
        coalesce(sum(balance) FILTER (WHERE kind = 'in_flight'), 0) AS in_flight
    FROM cached GROUP BY asset
)
"""

_PER_ASSET = """
SELECT 'out_of_balance' AS kind, asset AS subject, asset, skew AS difference
FROM per_asset WHERE skew <> 0
UNION ALL
SELECT 'undercovered', asset, asset, cover - owed FROM per_asset WHERE cover < owed
UNION ALL
SELECT 'hold_drift', 'reserved', s.asset, s.reserved - coalesce(h.reserved, 0)
FROM staged s LEFT JOIN held h ON h.asset = s.asset WHERE s.reserved <> coalesce(h.reserved, 0)
UNION ALL
SELECT 'hold_drift', 'in_flight', s.asset, s.in_flight - coalesce(h.in_flight, 0)
FROM staged s LEFT JOIN held h ON h.asset = s.asset WHERE s.in_flight <> coalesce(h.in_flight, 0)
"""

_TOTALS = f"WITH {_CACHED} {_PER_ASSET} ORDER BY 1, 2"

_CONTRADICTIONS = f"""
WITH summed AS (
    SELECT a.id, sum(CASE WHEN e.side = a.normal_side THEN e.amount ELSE -e.amount END) AS total
    FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id GROUP BY a.id
), {_CACHED}
SELECT 'unbalanced_posting' AS kind, e.posting_id::text AS subject, e.asset,
    sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) AS difference
FROM ledger.entries e GROUP BY e.posting_id, e.asset
HAVING sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) <> 0
UNION ALL
SELECT 'cache_drift', c.code, c.asset, c.balance - coalesce(s.total, 0)
FROM cached c LEFT JOIN summed s ON s.id = c.id WHERE c.balance <> coalesce(s.total, 0)
UNION ALL
SELECT 'negative_account', c.code, c.asset, c.balance FROM cached c
WHERE c.is_checked AND c.balance < 0
UNION ALL
{_PER_ASSET}
ORDER BY 1, 2
"""

_CUSTODY_AT = """
WITH headers AS (
    SELECT min(height) AS lowest FROM chain.blocks WHERE network = :network
)
SELECT a.wallet, a.asset,
    sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) AS balance
FROM ledger.accounts a
JOIN ledger.entries e ON e.account_id = a.id
JOIN ledger.postings p ON p.id = e.posting_id AND p.booked_at = e.booked_at
LEFT JOIN chain.blocks b ON b.network = p.network AND b.hash = p.block_hash
CROSS JOIN headers h
WHERE a.kind = 'custody' AND split_part(a.wallet, '/', 1) = :network
    AND (p.block_hash IS NULL
        OR (p.block_height <= :height AND (b.is_canonical OR p.block_height < h.lowest)))
GROUP BY a.wallet, a.asset ORDER BY a.wallet, a.asset
"""


async def contradictions(uow: Uow) -> Sequence[Row]:
    """One row per contradiction: kind, subject, asset, difference."""
    return (await uow.execute(_CONTRADICTIONS)).mappings().all()


async def totals(uow: Uow) -> Sequence[Row]:
    """The contradictions per asset alone, by the cached balances."""
    return (await uow.execute(_TOTALS)).mappings().all()


async def custody_at(uow: Uow, *, network: str, height: int) -> Sequence[Row]:
    """Custody by wallet and asset at the canonical block of a height."""
    result = await uow.execute(_CUSTODY_AT, {"network": network, "height": height})
    return result.mappings().all()


async def fees_of_blocks(
    uow: Uow, *, network: str, asset: str, hashes: Sequence[str]
) -> Sequence[Row]:
    """Network fees by the block that took them: debits less what was taken back."""
    result = await uow.execute(
        "SELECT p.block_hash, sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) "
        "AS amount FROM ledger.accounts a JOIN ledger.entries e ON e.account_id = a.id "
        "JOIN ledger.postings p ON p.id = e.posting_id AND p.booked_at = e.booked_at "
        "WHERE a.kind = 'network_fee' AND a.asset = :asset AND p.network = :network "
        "AND p.block_hash = ANY(CAST(:hashes AS text[])) GROUP BY p.block_hash",
        {"network": network, "asset": asset, "hashes": list(hashes)},
    )
    return result.mappings().all()
