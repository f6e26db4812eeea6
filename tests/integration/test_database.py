"""What every session of the house asks of PostgreSQL."""

from config.database import Database
from gateway.leases import LEASE_SECONDS


async def test_p13_process_frozen_in_a_unit_of_work_is_cut_off_within_a_lease(
    database: Database,
) -> None:
    """A frozen payout role keeps the lease's row locked; only the server can end that. Longer than
    a lease, and the standby would wait with every payout of the network."""
    async with database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT setting::int FROM pg_settings "
            "WHERE name = 'idle_in_transaction_session_timeout'"
        )
        milliseconds = result.scalar_one()
    assert 0 < milliseconds <= LEASE_SECONDS * 1000
