"""The scheduler sees that nobody holds the books against the signer's log (P09)."""

from collections.abc import AsyncIterator

import pytest

from config.database import Database, async_url
from gateway.comparison_watch import FORGET_AFTER, PATIENCE, SIGNER_NOT_COMPARED
from gateway.scheduler import Scheduler
from tests.support.clock import ManualClock
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres

CHANNEL = "cage_compared"
LATE_SECONDS = PATIENCE.total_seconds()


@pytest.fixture
async def own_role(test_database: TestDatabase) -> AsyncIterator[Database]:
    """The database as the scheduler's own role sees it."""
    made = Database(async_url(test_database.role_url("scheduler")))
    yield made
    await made.close()


@pytest.fixture
def scheduler(own_role: Database, btc: Payouts) -> Scheduler:
    return Scheduler(database=own_role, clock=btc.clock, ids=btc.ids, networks=["btc"])


async def looked(scheduler: Scheduler, clock: ManualClock, *, after_seconds: float = 0) -> int:
    """One look, so much later; the lease of a slow machine is renewed."""
    clock.advance(after_seconds)
    assert await scheduler.tick(CHANNEL)
    return await scheduler.work(CHANNEL)


async def another_life(house: Payouts) -> None:
    """What a start of PostgreSQL, or a restore, leaves of the last comparison."""
    async with house.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.signer_logs SET life = 'of another start'")


async def details(house: Payouts) -> list[str]:
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT detail FROM gateway.alarms WHERE kind = :kind AND cleared_at IS NULL",
            {"kind": SIGNER_NOT_COMPARED},
        )
        return list(result.scalars())


async def test_p09_books_that_nobody_compares_after_a_start_of_the_database_are_an_alarm(
    btc: Payouts, scheduler: Scheduler
) -> None:
    await btc.cycle()
    assert await looked(scheduler, btc.clock) == 0
    await another_life(btc)
    btc.signer.is_down = True
    lane = await btc.cycle()

    assert await looked(scheduler, btc.clock) == 0
    assert await looked(scheduler, btc.clock, after_seconds=LATE_SECONDS - 1) == 0
    assert await details(btc) == []
    assert await looked(scheduler, btc.clock, after_seconds=1) == 1
    assert await looked(scheduler, btc.clock, after_seconds=60) == 1
    [detail] = await details(btc)
    assert "since the database was started or restored" in detail

    btc.signer.is_down = False
    await btc.cycle(lane)
    assert await looked(scheduler, btc.clock) == 0
    assert await details(btc) == []


async def test_p09_books_that_were_never_compared_wait_too(
    btc: Payouts, scheduler: Scheduler
) -> None:
    """A new house whose signer does not answer: no row tells that somebody waits."""
    async with btc.database.unit_of_work() as uow:
        await uow.execute("DELETE FROM gateway.signer_logs")
    assert await looked(scheduler, btc.clock) == 0
    assert await looked(scheduler, btc.clock, after_seconds=LATE_SECONDS) == 1
    assert len(await details(btc)) == 1


async def test_an_hourly_comparison_that_is_not_made_is_an_alarm(
    btc: Payouts, scheduler: Scheduler
) -> None:
    lane = await btc.cycle()
    await scheduler.tick("cage_compare")
    assert await scheduler.work("cage_compare") == 1
    assert await looked(scheduler, btc.clock, after_seconds=LATE_SECONDS - 1) == 0
    assert await looked(scheduler, btc.clock, after_seconds=1) == 1
    [detail] = await details(btc)
    assert "was not made" in detail

    await btc.cycle(lane)
    assert await looked(scheduler, btc.clock) == 0
    assert await details(btc) == []


async def test_p09_a_recovery_has_its_own_alarm(btc: Payouts, scheduler: Scheduler) -> None:
    """It waits for people, not for the signer."""
    await btc.cycle()
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.signer_logs SET entry_hash = repeat('00', 32)")
    await another_life(btc)
    await btc.cycle()
    assert await btc.alarms() == ["recovery"]

    assert await looked(scheduler, btc.clock) == 0
    assert await looked(scheduler, btc.clock, after_seconds=LATE_SECONDS) == 0
    assert await btc.alarms() == ["recovery"]


async def test_p14_a_scheduler_that_had_no_lease_meanwhile_counts_anew(
    btc: Payouts, scheduler: Scheduler
) -> None:
    """What it saw before says nothing: the books may have been compared, and wait again."""
    await btc.cycle()
    await another_life(btc)
    assert await looked(scheduler, btc.clock) == 0
    absent_seconds = FORGET_AFTER.total_seconds() + 1
    assert await looked(scheduler, btc.clock, after_seconds=absent_seconds) == 0
    assert await looked(scheduler, btc.clock, after_seconds=LATE_SECONDS) == 1
