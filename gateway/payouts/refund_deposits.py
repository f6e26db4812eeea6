"""The deposit behind a refund, moved in the unit of work that moves the refund (docs/adr/0042).

Owns which end of a refund means which step of its deposit, and the order of their locks: players
and deposits first, then withdrawals, then transactions. A withdrawal of a player has no deposit,
and every call does nothing about it.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from config.database import Uow
from config.ids import Ids
from gateway.withdrawals_store import WithdrawalRow
from ledger import holds
from ledger.errors import StaleState
from watchers import deposit_refunds
from watchers.deposit_commands import DepositRow

KIND: Final = "refund"
"""Kind of a withdrawal that sends a deposit back."""


async def lock(uow: Uow, rows: Iterable[WithdrawalRow]) -> None:
    """The deposits of these refunds, which are not locked yet; a later call re-reads them."""
    wanted = {row.deposit_id for row in rows if row.deposit_id is not None}
    if wanted:
        await deposit_refunds.lock(uow, wanted)


async def of(uow: Uow, row: WithdrawalRow) -> DepositRow:
    """The deposit of a refund as it stands, locked. Raises StaleState where it cannot be seen."""
    if row.deposit_id is None:
        raise ValueError(f"{row.id} is no refund")
    found = await deposit_refunds.lock(uow, [row.deposit_id])
    if row.deposit_id not in found:
        raise StaleState(f"deposit {row.deposit_id} is not sent back any more")
    return found[row.deposit_id]


async def ended(uow: Uow, row: WithdrawalRow, *, ids: Ids, at: datetime) -> None:
    """The refund paid nothing, and its hold was given back."""
    if row.deposit_id is None:
        return
    hold = await holds.get(uow, row.id)
    if hold is None:
        raise StaleState(f"refund {row.id} has no hold")
    deposit = await of(uow, row)
    await deposit_refunds.end(uow, deposit, source=hold.source, ids=ids, at=at)


async def completed(uow: Uow, row: WithdrawalRow, *, ids: Ids, at: datetime) -> None:
    """The refund is final and settled."""
    if row.deposit_id is not None:
        await deposit_refunds.complete(uow, await of(uow, row), ids=ids, at=at)


async def reopened(uow: Uow, row: WithdrawalRow, *, ids: Ids, at: datetime) -> None:
    """The block of a refund that was settled left the chain."""
    if row.deposit_id is not None:
        await deposit_refunds.reopen(uow, await of(uow, row), ids=ids, at=at)
