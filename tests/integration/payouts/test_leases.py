"""P13, P14: one holder at a time, and a holder that was stopped too long can change nothing."""

import asyncio

import pytest

from config.database import Database
from gateway.leases import Lease, LeaseLost, hold

pytestmark = pytest.mark.postgres


async def taken(database: Database, lease: Lease) -> bool:
    async with database.unit_of_work() as uow:
        return await lease.acquire(uow)


async def expire(database: Database, name: str) -> None:
    """What a stop longer than the lease does."""
    async with database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.leases SET expires_at = clock_timestamp() WHERE name = :name",
            {"name": name},
        )


async def test_second_holder_waits_until_the_first_has_gone(database: Database) -> None:
    first, second = Lease(name="n", holder="a"), Lease(name="n", holder="b")

    assert await taken(database, first)
    assert not await taken(database, second)
    async with database.unit_of_work() as uow:
        await first.release(uow)
    assert await taken(database, second)
    assert second.fence == 2


async def test_p13_stopped_holder_is_refused_after_its_lease_passed(database: Database) -> None:
    first, second = Lease(name="n", holder="a"), Lease(name="n", holder="b")
    await taken(database, first)
    await expire(database, "n")
    await taken(database, second)

    with pytest.raises(LeaseLost):
        async with database.unit_of_work() as uow:
            await first.check(uow)

    assert not first.is_held
    async with database.unit_of_work() as uow:
        await second.check(uow)


async def test_p13_expired_lease_is_refused_though_nobody_took_it(database: Database) -> None:
    lease = Lease(name="n", holder="a")
    await taken(database, lease)
    await expire(database, "n")

    with pytest.raises(LeaseLost):
        async with database.unit_of_work() as uow:
            await lease.check(uow)


async def test_p13_nobody_takes_over_while_a_money_unit_of_work_is_open(
    database: Database,
) -> None:
    first, second = Lease(name="n", holder="a", seconds=1), Lease(name="n", holder="b")
    await taken(database, first)

    async with database.unit_of_work() as uow:
        await first.check(uow)
        await uow.execute("SELECT pg_sleep(1.2)")  # the lease runs out inside
        taking = asyncio.create_task(taken(database, second))
        done, _ = await asyncio.wait([taking], timeout=0.3)
        assert not done
    assert await taking
    assert second.fence == first.fence + 1


async def test_p14_fences_only_rise_and_twenty_takers_get_one_lease(database: Database) -> None:
    leases = [Lease(name="n", holder=f"h{index}") for index in range(20)]

    answers = await asyncio.gather(*(hold(database, lease) for lease in leases))

    assert answers.count(True) == 1
    winner = leases[answers.index(True)]
    assert await hold(database, winner)
    assert winner.fence == 1


async def test_restart_of_the_same_holder_raises_the_fence(database: Database) -> None:
    lease = Lease(name="n", holder="a")
    await taken(database, lease)
    fence = lease.fence

    await taken(database, lease)

    assert lease.fence == fence + 1
