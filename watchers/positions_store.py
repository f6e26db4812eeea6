"""SQL of what the chain holds of ours, and of own transactions on their way."""

from collections.abc import Sequence

from sqlalchemy import RowMapping

from config.database import Uow


async def coins_by_role(uow: Uow, *, network: str) -> Sequence[RowMapping]:
    """Unspent coins in blocks up to the follower's, summed by the role of their address."""
    result = await uow.execute(
        "SELECT a.role, a.brand, c.asset, sum(c.amount) AS amount FROM chain.coins c "
        "JOIN chain.addresses a ON a.id = c.address_id "
        "WHERE c.network = :network AND c.height IS NOT NULL AND c.spent_by IS NULL "
        "GROUP BY a.role, a.brand, c.asset",
        {"network": network},
    )
    return result.mappings().all()


async def balances_by_role(uow: Uow, *, network: str) -> Sequence[RowMapping]:
    """What the operator's accounts hold at the follower's block, summed by role."""
    result = await uow.execute(
        "SELECT a.role, a.brand, b.asset, sum(b.amount) AS amount FROM chain.account_balances b "
        "JOIN chain.addresses a ON a.network = b.network AND a.key = b.key "
        "WHERE b.network = :network GROUP BY a.role, a.brand, b.asset",
        {"network": network},
    )
    return result.mappings().all()


async def newest_comparison(uow: Uow, *, network: str) -> Sequence[RowMapping]:
    """What the chain held by custody account at the newest comparison with the nodes."""
    result = await uow.execute(
        "SELECT w.account, w.chain, r.height, r.block_hash, r.finished_at "
        "FROM chain.reconciliation_runs r "
        "JOIN chain.reconciliation_wallets w ON w.run_id = r.id "
        "WHERE r.id = (SELECT id FROM chain.reconciliation_runs WHERE network = :network "
        "AND block_hash IS NOT NULL ORDER BY number DESC LIMIT 1)",
        {"network": network},
    )
    return result.mappings().all()


# One attempt of each family: the one in a block, else the newest with bytes; the others cannot be
# mined beside it. The role of a UTXO tx is that of a coin it spends: no tx mixes wallets.
_IN_TRANSIT = """
SELECT DISTINCT ON (o.family_id) o.id, o.purpose, o.sender_key, o.payments, o.moved, o.height,
    o.fee_cap_minor, o.fee_minor,
    (SELECT a.role FROM chain.outgoing_inputs i
        JOIN chain.coins c ON c.network = i.network AND c.txid = i.outpoint_txid
            AND c.vout = i.outpoint_vout
        JOIN chain.addresses a ON a.id = c.address_id
        WHERE i.attempt_id = o.id LIMIT 1) AS input_role
FROM chain.outgoing o
WHERE o.network = :network AND o.raw IS NOT NULL
    AND (o.state IN ('signed', 'broadcast', 'seen', 'dropped', 'mined')
        OR (o.height IS NOT NULL AND o.settled_block_hash IS DISTINCT FROM o.block_hash))
ORDER BY o.family_id, (o.height IS NULL), o.family_number DESC, o.id DESC
"""


async def in_transit(uow: Uow, *, network: str) -> Sequence[RowMapping]:
    """Signed own transactions whose effect the books do not hold yet, one of each family."""
    return (await uow.execute(_IN_TRANSIT, {"network": network})).mappings().all()
