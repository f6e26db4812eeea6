"""Which payouts a deposit that left the chain stops before they are signed (CONTRACT 5, ADR 0042).

Owns that question and its locks: of a withdrawal the player's other deposits are asked, of a refund
the very one that it sends back.
"""

from collections.abc import Sequence
from uuid import UUID

from config.database import Uow
from gateway.payouts import refund_deposits
from gateway.withdrawals_store import WithdrawalRow
from ledger import balances
from watchers import deposit_commands, deposit_refunds
from watchers.deposit_commands import DepositState


async def lock(uow: Uow, rows: Sequence[WithdrawalRow]) -> None:
    """Players, then the deposits of refunds: before the withdrawals and their transactions."""
    await balances.lock_players(uow, sorted({(row.brand, row.player_id) for row in rows}))
    await refund_deposits.lock(uow, rows)


async def paused(uow: Uow, rows: Sequence[WithdrawalRow]) -> frozenset[UUID]:
    """Those of some withdrawals, with `lock`, that may not be signed now."""
    payouts = [row for row in rows if row.deposit_id is None]
    lost = await deposit_commands.orphaned_of(uow, [(row.brand, row.player_id) for row in payouts])
    found = {
        row.id
        for row in payouts
        if not lost.get((row.brand, row.player_id), frozenset()) <= set(row.orphaned_known)
    }
    wanted = {row.deposit_id: row.id for row in rows if row.deposit_id is not None}
    deposits = await deposit_refunds.lock(uow, wanted) if wanted else {}
    for deposit_id, row_id in wanted.items():
        deposit = deposits.get(deposit_id)
        is_there = deposit is not None and deposit_refunds.is_final(deposit)
        if deposit is None or deposit.state is not DepositState.REFUNDING or not is_there:
            found.add(row_id)
    return frozenset(found)
