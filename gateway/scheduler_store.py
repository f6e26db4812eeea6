"""SQL of the scheduler: hints to the roles that own the work, and its own housekeeping."""

from datetime import datetime

from config.database import Uow

MONTHLY_TABLES = (
    "ledger.entries",
    "gateway.audit",
    "ledger.events",
    "ledger.state_history",
    "gateway.event_log",
    "gateway.deliveries",
)
"""What is parted by month (HOUSE 7)."""


async def hint(uow: Uow, channel: str) -> None:
    """Wake whoever listens; sent at the commit, and allowed to be lost."""
    await uow.execute("SELECT pg_notify(:channel, '')", {"channel": channel})


async def fold(uow: Uow, *, limit: int) -> int:
    """Fold pending credits into their balances (ledger's own function); how many accounts."""
    result = await uow.execute("SELECT ledger.fold(:limit)", {"limit": limit})
    return int(result.scalar_one())


async def make_months(uow: Uow, table: str, *, at: datetime, months: int) -> int:
    """Make the months ahead of one of MONTHLY_TABLES; how many are new.

    The commit ends an exclusive lock on it: one table in a unit of work, so that nothing waits for
    a second one while it holds the first.
    """
    result = await uow.execute(
        "SELECT config.make_months(CAST(CAST(:table AS text) AS regclass), :at, :months)",
        {"table": table, "at": at, "months": months},
    )
    return int(result.scalar_one())


async def ask_comparison(uow: Uow, *, at: datetime) -> int:
    """Want the signer's log compared with the books; how many networks were not asked already."""
    result = await uow.execute(
        "UPDATE gateway.signer_logs SET asked_at = :at WHERE asked_at IS NULL", {"at": at}
    )
    return result.rowcount


async def prune_limit_usage(uow: Uow, *, before_hour: int, limit: int) -> int:
    """Forget the sums of hours that no limit looks at; how many. The judged rows stay."""
    result = await uow.execute(
        """
        DELETE FROM gateway.limit_usage WHERE ctid IN (
            SELECT ctid FROM gateway.limit_usage WHERE hour < :before_hour LIMIT :limit
        )
        """,
        {"before_hour": before_hour, "limit": limit},
    )
    return result.rowcount


async def prune_nonces(uow: Uow, *, at: datetime, limit: int) -> int:
    """Forget nonces whose signatures are too old to be accepted anyway; how many."""
    result = await uow.execute(
        """
        DELETE FROM gateway.nonces WHERE ctid IN (
            SELECT ctid FROM gateway.nonces WHERE expires_at < :at LIMIT :limit
        )
        """,
        {"at": at, "limit": limit},
    )
    return result.rowcount
