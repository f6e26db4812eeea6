"""Waiting for a state with a deadline, never for time to pass."""

import asyncio
from collections.abc import Callable

from config.database import Database

LOCK_WAIT_SECONDS = 10.0
TURN_SECONDS = 30.0  # of real time, for a stuck test


async def until_it_waits(database: Database, *, count: int = 1) -> None:
    """Until so many units of work of this database wait for another's lock. `database`: the
    owner's, which sees every session."""
    async with asyncio.timeout(LOCK_WAIT_SECONDS):
        while True:
            async with database.unit_of_work() as uow:
                found = await uow.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND wait_event_type = 'Lock'"
                )
                if found.scalar_one() >= count:
                    return


async def until(holds: Callable[[], bool]) -> None:
    """Let the tasks of this loop run until it holds; TimeoutError where it never does."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TURN_SECONDS):
        while not holds():
            has_turned = asyncio.Event()
            loop.call_soon(has_turned.set)
            await has_turned.wait()
