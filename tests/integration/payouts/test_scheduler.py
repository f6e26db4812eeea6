"""The scheduler ticks under its lease, only wakes others, and keeps its own house."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from config.clock import Waker
from config.database import Database, async_url
from gateway.leases import LeaseLost
from gateway.payouts import limits
from gateway.scheduler import PARTITION_MONTHS, TICKS, Scheduler
from gateway.scheduler_store import MONTHLY_TABLES
from gateway.webhooks.listen_store import Listener
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres

LATER = datetime(2031, 1, 15, tzinfo=UTC)  # far from the months that a migration makes


@pytest.fixture
async def own_role(test_database: TestDatabase) -> Database:
    """The database as the scheduler's own role sees it."""
    return Database(async_url(test_database.role_url("scheduler")), pool_size=4)


async def test_p14_of_two_schedulers_one_ticks(
    own_role: Database, clock: ManualClock, ids: SequentialIds
) -> None:
    first = Scheduler(database=own_role, clock=clock, ids=ids)
    second = Scheduler(database=own_role, clock=clock, ids=ids)

    assert await first.tick("cage_payouts")
    assert not await second.tick("cage_payouts")
    assert await first.work("cage_fold") == 0
    with pytest.raises(LeaseLost):
        await second.work("cage_fold")
    await own_role.close()


async def test_tick_wakes_a_loop_of_another_role(
    own_role: Database, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    waker = Waker(poll_seconds=10.0)
    listener = Listener(
        test_database.role_url("gateway_payouts"), channels={"cage_payouts": waker}, clock=clock
    )
    listening = asyncio.create_task(listener.run())
    async with asyncio.timeout(10):
        await listener.is_listening.wait()
        await waker.wait()  # the one that every new connection gives

        await Scheduler(database=own_role, clock=clock, ids=ids).tick("cage_payouts")

        started = asyncio.get_running_loop().time()
        await waker.wait()
    assert asyncio.get_running_loop().time() - started < 5  # well before the poll
    listening.cancel()
    await own_role.close()


async def test_old_nonces_go_and_young_ones_stay(
    own_role: Database, database: Database, clock: ManualClock, ids: SequentialIds
) -> None:
    async with database.unit_of_work() as uow:
        for nonce, age in (("old-nonce", -1), ("young-nonce", 1)):
            await uow.execute(
                "INSERT INTO gateway.nonces (key_id, nonce, expires_at) VALUES ('k', :nonce, :at)",
                {"nonce": nonce, "at": clock.now() + timedelta(seconds=age)},
            )
    scheduler = Scheduler(database=own_role, clock=clock, ids=ids)
    await scheduler.tick("cage_nonces")

    assert await scheduler.work("cage_nonces") == 1

    async with database.unit_of_work() as uow:
        left = await uow.execute("SELECT nonce FROM gateway.nonces")
        assert left.scalars().all() == ["young-nonce"]
    await own_role.close()


async def test_sums_of_limits_go_when_no_window_reaches_them(
    own_role: Database, btc: Payouts, clock: ManualClock, ids: SequentialIds
) -> None:
    await btc.fund("btc:BTC", "3", into="acme")
    await btc.request("0.5")
    scheduler = Scheduler(database=own_role, clock=clock, ids=ids)
    await scheduler.tick("cage_limits")
    clock.advance(31 * 86_400)
    assert await scheduler.work("cage_limits") == 0
    kept = await btc.request("0.25")
    clock.advance(3_600)

    assert await scheduler.work("cage_limits") == 2  # the brand's sum and the player's

    async with btc.database.unit_of_work() as uow:
        assert await limits.check(uow, at=clock.now()) == []
        assert len(await limits.check(uow)) == 2  # what is gone is gone
        await limits.give_back(uow, kept.id)
        left = await uow.execute("SELECT value, unvalued FROM gateway.limit_usage")
        assert [(row.value, row.unvalued) for row in left] == [(0, 0), (0, 0)]
    await own_role.close()


async def test_partitions_are_made_ahead_once(
    own_role: Database, clock: ManualClock, ids: SequentialIds
) -> None:
    clock.advance((LATER - clock.now()).total_seconds())
    scheduler = Scheduler(database=own_role, clock=clock, ids=ids)
    await scheduler.tick("cage_partitions")

    assert await scheduler.work("cage_partitions") == len(MONTHLY_TABLES) * (PARTITION_MONTHS + 1)
    assert await scheduler.work("cage_partitions") == 0
    await own_role.close()


async def test_a_busy_table_gets_its_months_later_and_holds_up_no_other(
    own_role: Database, database: Database, clock: ManualClock, ids: SequentialIds
) -> None:
    """A long look at the journal holds it for longer than is waited for."""
    clock.advance((LATER - clock.now()).total_seconds())
    scheduler = Scheduler(database=own_role, clock=clock, ids=ids)
    await scheduler.tick("cage_partitions")
    months = PARTITION_MONTHS + 1

    async with database.unit_of_work() as reading:
        await reading.execute("LOCK TABLE ledger.entries IN ACCESS SHARE MODE")
        made = await scheduler.work("cage_partitions")

    assert made == (len(MONTHLY_TABLES) - 1) * months
    assert await scheduler.work("cage_partitions") == months
    await own_role.close()


def test_every_loop_of_upkeep_has_its_tick(
    clock: ManualClock, ids: SequentialIds, database_url: str
) -> None:
    scheduler = Scheduler(database=Database(async_url(database_url)), clock=clock, ids=ids)

    assert set(scheduler.upkeep) <= {tick.channel for tick in TICKS}
