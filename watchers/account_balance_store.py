"""SQL of what the operator's accounts hold, by the evidence of the blocks."""

from collections.abc import Sequence

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.columns import column

Move = tuple[str, str, str, int]
"""Block hash, key, asset, and by how much that block moved it."""


async def add(uow: Uow, *, network: str, moves: Sequence[Move]) -> None:
    """Write moves and add them to the balances; one that stands already adds nothing."""
    await uow.execute(
        "WITH added AS (INSERT INTO chain.account_moves AS m (network, block_hash, key, asset, "
        "delta) SELECT :network, * FROM unnest(string_to_array(:hashes, ' '), "
        "string_to_array(:keys, ' '), string_to_array(:assets, ' '), "
        "CAST(string_to_array(:deltas, ' ') AS numeric[])) ON CONFLICT DO NOTHING "
        "RETURNING m.key, m.asset, m.delta) "
        "INSERT INTO chain.account_balances AS b (network, key, asset, amount) "
        "SELECT :network, key, asset, sum(delta) FROM added GROUP BY key, asset "
        "ON CONFLICT (network, key, asset) DO UPDATE SET amount = b.amount + EXCLUDED.amount",
        {
            "network": network,
            "hashes": column(move[0] for move in moves),
            "keys": column(move[1] for move in moves),
            "assets": column(move[2] for move in moves),
            "deltas": column(move[3] for move in moves),
        },
    )


async def remove(uow: Uow, *, network: str, block_hash: str) -> None:
    """Take back what a block moved."""
    await uow.execute(
        "WITH gone AS (DELETE FROM chain.account_moves WHERE network = :network "
        "AND block_hash = :hash RETURNING key, asset, delta) "
        "UPDATE chain.account_balances b SET amount = b.amount - g.delta FROM gone g "
        "WHERE b.network = :network AND b.key = g.key AND b.asset = g.asset",
        {"network": network, "hash": block_hash},
    )


async def amounts(uow: Uow, *, network: str) -> Sequence[RowMapping]:
    """Every balance of a network: as many rows as the operator has accounts and assets."""
    result = await uow.execute(
        "SELECT key, asset, amount FROM chain.account_balances WHERE network = :network",
        {"network": network},
    )
    return result.mappings().all()


async def correct(uow: Uow, *, network: str, key: str, asset: str, amount: int, delta: int) -> bool:
    """Add `delta` to a balance that still is `amount`; False when it moved meanwhile."""
    if amount == 0:
        await uow.execute(
            "INSERT INTO chain.account_balances (network, key, asset, amount) "
            "VALUES (:network, :key, :asset, 0) ON CONFLICT DO NOTHING",
            {"network": network, "key": key, "asset": asset},
        )
    result = await uow.execute(
        "UPDATE chain.account_balances SET amount = amount + :delta WHERE network = :network "
        "AND key = :key AND asset = :asset AND amount = :amount",
        {"network": network, "key": key, "asset": asset, "amount": amount, "delta": delta},
    )
    return result.rowcount == 1
