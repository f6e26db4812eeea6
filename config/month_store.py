"""SQL of putting a month away: out of a table that is parted by month, never out of the database.

The owner's alone (`cage db detach`). Making months is the scheduler's (config.make_months).
"""

from datetime import datetime

from config.database import LOCK_NOT_AVAILABLE, RETRYABLE_SQLSTATES, Uow

DETACHABLE_TABLES = (
    "gateway.deliveries",
    "gateway.event_log",
    "ledger.events",
    "ledger.state_history",
)
"""What is told and what was told. Not the journal, whose entries prove the balances, and not the
audit log, whose seals name its rows."""
REFUSED = "CG009"  # SQLSTATE: still to be numbered or delivered, or not of these tables
BUSY = RETRYABLE_SQLSTATES | {LOCK_NOT_AVAILABLE}  # somebody held the table, or one that it needs


async def detach(uow: Uow, table: str, *, month: datetime) -> bool:
    """Take the month of a moment out of one of DETACHABLE_TABLES; False: it is not in it.

    The commit ends an exclusive lock on the table: one table in a unit of work. DBAPIError with
    REFUSED where something of the month still waits, with one of BUSY where the lock was not had.
    """
    result = await uow.execute(
        "SELECT config.detach_month(CAST(CAST(:table AS text) AS regclass), :month)",
        {"table": table, "month": month},
    )
    return bool(result.scalar_one())
