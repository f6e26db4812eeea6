"""SQL of what the books owe."""

from collections.abc import Sequence

from config.database import Uow
from ledger.store import Row

_OWED = """
WITH pending AS (
    SELECT account_id, sum(delta) AS delta FROM ledger.pending_credits GROUP BY account_id
)
SELECT a.kind, a.asset, coalesce(a.brand, '') AS brand, coalesce(a.player_id, '') AS player_id,
    b.balance + coalesce(p.delta, 0) AS amount
FROM ledger.accounts a
JOIN ledger.balances b ON b.account_id = a.id
LEFT JOIN pending p ON p.account_id = a.id
WHERE split_part(a.asset, ':', 1) = :network
    AND a.kind IN ('provisional', 'held', 'reserved', 'in_flight', 'clearing', 'unallocated',
        'suspense', 'receivable')
    AND b.balance + coalesce(p.delta, 0) <> 0
ORDER BY a.code
"""


async def owed(uow: Uow, *, network: str) -> Sequence[Row]:
    """The accounts of a network's assets on which something stands for others."""
    return (await uow.execute(_OWED, {"network": network})).mappings().all()
