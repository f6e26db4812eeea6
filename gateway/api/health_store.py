"""SQL of the counts that metrics show."""

from config.database import Uow


async def open_withdrawals(uow: Uow) -> dict[str, int]:
    """Withdrawals that have not ended, by state."""
    result = await uow.execute(
        "SELECT state, count(*) AS number FROM gateway.withdrawals WHERE state NOT IN"
        " ('completed', 'rejected', 'cancelled', 'failed', 'declined', 'expired') GROUP BY state"
    )
    return {row.state: int(row.number) for row in result}


async def open_alarms(uow: Uow) -> int:
    """Alarms that nobody has cleared."""
    result = await uow.execute("SELECT count(*) FROM gateway.alarms WHERE cleared_at IS NULL")
    return int(result.scalar_one())
