"""Reversal by absence: an orphaned deposit that no block and no mempool has had for T blocks.

Owns which deposits are asked about; the step and the limit of their number are
`deposit_due.reverse_within_limit`. It calls no node: the follower does, between the two functions.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID

from config.database import Database, Uow
from watchers import deposit_due
from watchers import deposit_store as store
from watchers.deposits import DepositRow, DepositState, from_row
from watchers.network import Network

PAGE_ROWS = 200  # deposits read per unit of work; no limit of what is reached


async def due(database: Database, network: Network, *, height: int) -> AsyncIterator[DepositRow]:
    """Every deposit that no block had for T at tip `height`, page by page, by id."""
    after: UUID | None = None
    while True:
        async with database.unit_of_work() as uow:
            rows = await store.absent_due(
                uow, network=network.name, height=height, after=after, limit=PAGE_ROWS
            )
        for row in rows:
            yield from_row(row)
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1]["id"]


async def reverse(
    uow: Uow, network: Network, deposits: Sequence[DepositRow], *, height: int, at: datetime
) -> int:
    """Reverse deposits that no mempool has either; returns how many moved.

    Above a limit of number or value none moves and the alarm is raised (CONTRACT 4, breaker).
    """
    absent = [
        deposit
        for deposit in await deposit_due.locked(uow, deposits)
        if deposit.state is DepositState.ORPHANED
        and deposit.block_hash is None
        and deposit.absent_at_height is not None
        and deposit.absent_at_height <= height
    ]
    return await deposit_due.reverse_within_limit(uow, network, absent, at=at)
