"""Waiting for a state of the database with a deadline, never for time to pass."""

import asyncio

from config.database import Database

LOCK_WAIT_SECONDS = 10.0


async def until_it_waits(database: Database) -> None:
    """Until some unit of work of this database waits for another's lock. `database`: the owner's,
    which sees every session."""
    async with asyncio.timeout(LOCK_WAIT_SECONDS):
        while True:
            async with database.unit_of_work() as uow:
                found = await uow.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND wait_event_type = 'Lock'"
                )
                if found.scalar_one():
                    return
