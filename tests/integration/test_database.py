"""What every session of the house asks of PostgreSQL."""

import asyncio
import threading
from datetime import UTC, datetime

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from config.database import (
    LOCK_TIMEOUT_MS,
    TRUSTED_SECONDS,
    Database,
    Uow,
    async_url,
    is_away,
    sqlstate,
)
from gateway.leases import LEASE_SECONDS
from tests.support.clock import ManualClock


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


async def test_rows_by_the_driver_take_named_parameters(database: Database) -> None:
    """A name may stand twice; a cast, a time of day and an array are not parameters."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    async with database.unit_of_work() as uow:
        found = await uow.rows(
            "SELECT n * 2 AS twice, :name::text AS name, '10:30' AS told, "
            "CAST(:at AS timestamptz) = :at AS same "
            "FROM unnest(CAST(:numbers AS numeric[])) AS n",
            {"numbers": [1, 10**30], "name": "a", "at": at},
        )
        nothing = await uow.rows("SELECT 1 WHERE false")
    assert found == [
        {"twice": twice, "name": "a", "told": "10:30", "same": True} for twice in (2, 2 * 10**30)
    ]
    assert nothing == []


async def test_rows_by_the_driver_are_of_the_unit_of_work_and_fail_as_execute_does(
    database: Database,
) -> None:
    async def work(uow: Uow) -> None:
        await uow.rows("CREATE TABLE public.gone (id int PRIMARY KEY)")
        await uow.rows("INSERT INTO public.gone VALUES (1), (1)")

    with pytest.raises(DBAPIError) as raised:
        await database.run(work)
    assert (sqlstate(raised.value), is_away(raised.value)) == ("23505", False)
    async with database.unit_of_work() as uow:
        found = await uow.execute("SELECT to_regclass('public.gone')")
        assert found.scalar_one() is None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 FROM config.no_such",
        "SELECT 1 / 0",
        "INSERT INTO config.schema_version VALUES (NULL)",
    ],
)
async def test_rows_by_the_driver_fail_with_the_class_of_execute(
    database: Database, statement: str
) -> None:
    classes = []
    for name in ("execute", "rows"):
        with pytest.raises(DBAPIError) as raised:
            async with database.unit_of_work() as uow:
                await getattr(uow, name)(statement)
        classes.append((type(raised.value), sqlstate(raised.value)))
    assert classes[0] == classes[1]


async def test_rows_of_a_lost_connection_say_that_the_database_is_away(database: Database) -> None:
    async def work(uow: Uow) -> None:
        [own] = await uow.rows("SELECT pg_backend_pid() AS pid")
        async with database.unit_of_work() as other:
            await other.rows("SELECT pg_terminate_backend(:pid)", own)
        await uow.rows("SELECT 1")

    with pytest.raises(DBAPIError) as raised:
        await database.run(work)
    assert is_away(raised.value)


async def test_waiting_for_a_lock_is_limited_until_it_is_not(database: Database) -> None:
    read = "SELECT setting::int AS ms FROM pg_settings WHERE name = 'lock_timeout'"
    async with database.unit_of_work() as uow:
        await uow.limit_waiting(200)
        assert await uow.rows(read) == [{"ms": 200}]
        await uow.limit_waiting(None)
        assert await uow.rows(read) == [{"ms": LOCK_TIMEOUT_MS}]


async def test_settings_of_a_unit_of_work_end_with_it(database: Database) -> None:
    read = "SELECT current_setting('cage.brand') AS brand, current_setting('lock_timeout') AS lock"
    async with database.unit_of_work(brand="acme", session={"lock_timeout": "250"}) as uow:
        assert await uow.rows(read) == [{"brand": "acme", "lock": "250ms"}]
    async with database.unit_of_work() as uow:
        assert await uow.rows(read) == [{"brand": "*", "lock": f"{LOCK_TIMEOUT_MS // 1000}s"}]


async def test_connections_that_the_server_closed_are_replaced_unseen(
    database: Database, database_url: str
) -> None:
    """A restart of the server closes all of the pool; the next units of work do not notice."""
    async with database.unit_of_work() as one, database.unit_of_work() as two:
        old = {await _pid(one), await _pid(two)}
    await _terminate(database_url, old)
    async with database.unit_of_work() as one, database.unit_of_work() as two:
        new = {await _pid(one), await _pid(two)}
    assert len(new) == 2
    assert not new & old


async def test_connection_that_idled_is_asked_before_its_use(database_url: str) -> None:
    """What was cut while the loop did not turn looks alive: one that was in use just now breaks
    its unit of work, one that idled is found out."""
    clock = ManualClock()
    database = Database(async_url(database_url), pool_size=1, clock=clock)
    try:
        for idle_seconds in (0.0, TRUSTED_SECONDS):
            async with database.unit_of_work() as uow:
                old = await _pid(uow)
            clock.advance(idle_seconds)
            _terminate_unheard(database_url, old)
            if idle_seconds:
                assert await database.run(_pid) != old
            else:
                with pytest.raises(DBAPIError) as raised:
                    await database.run(_pid)
                assert is_away(raised.value)
    finally:
        await database.close()


async def _pid(uow: Uow) -> int:
    [row] = await uow.rows("SELECT pg_backend_pid() AS pid")
    return int(row["pid"])


async def _terminate(url: str, pids: set[int]) -> None:
    """End backends, and wait until they are gone."""
    connection = await asyncpg.connect(url)
    try:
        ended = "SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM unnest($1::int[]) AS pid"
        assert await connection.fetchval(ended, list(pids))
    finally:
        await connection.close()


def _terminate_unheard(url: str, pid: int) -> None:
    """`_terminate` from another thread, while the loop of the test does not turn."""
    thread = threading.Thread(target=lambda: asyncio.run(_terminate(url, {pid})))
    thread.start()
    thread.join()
