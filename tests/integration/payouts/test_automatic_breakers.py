"""What stops by itself: books that contradict themselves, a signer that refuses again (T9)."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from config.breaker_policy import BreakerPolicy
from config.database import Database, async_url
from gateway.scheduler import Scheduler
from ledger import journal
from ledger.accounts import custody, reorg_loss
from ledger.journal import Posting, credit, debit
from tests.integration.payouts.test_breakers import funded, start
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts
from watchers import switches
from watchers.switches import Action

pytestmark = pytest.mark.postgres


@pytest.fixture
async def scheduler(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[Scheduler]:
    """The scheduler under its own role, holding the lease."""
    role = Database(async_url(test_database.role_url("scheduler")), pool_size=2)
    made = Scheduler(database=role, clock=clock, ids=ids)
    assert await made.tick("cage_books")
    yield made
    await role.close()


async def stopped(house: Payouts, asset: str) -> set[str]:
    async with house.database.unit_of_work() as uow:
        return {
            action.value
            for action in Action
            if await switches.is_stopped(uow, network=house.network, asset=asset, action=action)
        }


async def break_cache(house: Payouts) -> None:
    """A clearing balance that no entry explains."""
    async with house.database.unit_of_work() as uow:
        await uow.execute("SET LOCAL session_replication_role = replica")
        await uow.execute("UPDATE ledger.checked_balances SET balance = balance + 1")


async def test_t9_books_that_do_not_balance_stop_their_asset_and_no_other(
    eth: Payouts, scheduler: Scheduler
) -> None:
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:USDT", "50", into="acme")
    assert await scheduler.work("cage_books") == 0
    assert await scheduler.work("cage_reconcile") == 0
    await break_cache(eth)
    assert await scheduler.work("cage_books") > 0
    assert await stopped(eth, "eth:USDT") == {"accept", "credit", "build", "sign"}
    assert await stopped(eth, "eth:ETH") == set()
    assert "books_broken" in await eth.alarms()


async def test_t9_a_loss_that_people_booked_is_told_and_stops_nothing(
    btc: Payouts, scheduler: Scheduler
) -> None:
    """Less than the liabilities, and yet every book adds up."""
    await btc.fund(btc.native, "2", into="acme")
    posting = Posting(
        reference="loss:1",
        kind="test",
        entries=(debit(reorg_loss(btc.native), 7), credit(custody("btc", "hot", btc.native), 7)),
    )
    async with btc.database.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=btc.ids.new_id(), at=btc.clock.now())
    assert await scheduler.work("cage_reconcile") == 1
    assert await stopped(btc, btc.native) == set()
    assert "undercovered" in await btc.alarms()


async def test_t9_a_second_asset_short_of_its_liabilities_is_told_beside_the_first(
    eth: Payouts, scheduler: Scheduler
) -> None:
    """It stops nothing: the alarm is the only word about it."""
    assets = ("eth:ETH", "eth:USDT")
    for asset in assets:
        await eth.fund(asset, "1", into="acme")
    for asset in assets:
        posting = Posting(
            reference=f"loss:{asset}",
            kind="test",
            entries=(debit(reorg_loss(asset), 7), credit(custody("eth", "hot", asset), 7)),
        )
        async with eth.database.unit_of_work() as uow:
            await journal.post(uow, posting, posting_id=eth.ids.new_id(), at=eth.clock.now())
        for _ in range(2):  # a second look says nothing twice
            await scheduler.work("cage_reconcile")
    assert (await eth.alarms()).count("undercovered") == 2


async def book_loss(house: Payouts, reference: str, amount: int) -> None:
    """Custody that is gone; less than nothing is custody that came back."""
    out, back = custody("btc", "hot", house.native), reorg_loss(house.native)
    entries = (debit(back, amount), credit(out, amount))
    if amount < 0:
        entries = (debit(out, -amount), credit(back, -amount))
    posting = Posting(reference=reference, kind="test", entries=entries)
    async with house.database.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=house.ids.new_id(), at=house.clock.now())


async def details(house: Payouts, kind: str) -> list[str]:
    """Of the open alarms of a kind."""
    async with house.database.unit_of_work() as uow:
        rows = await uow.execute(
            "SELECT detail FROM gateway.alarms WHERE kind = :kind AND cleared_at IS NULL",
            {"kind": kind},
        )
        return list(rows.scalars())


async def test_t9_the_alarm_tells_what_is_missing_now_and_ends_when_nothing_is(
    btc: Payouts, scheduler: Scheduler
) -> None:
    await btc.fund(btc.native, "2", into="acme")
    await book_loss(btc, "loss:1", 7)
    await scheduler.work("cage_books")
    assert await details(btc, "undercovered") == ["btc:BTC: undercovered of btc:BTC -7, 1 in all"]
    await book_loss(btc, "loss:2", 5)
    await scheduler.work("cage_books")
    assert await details(btc, "undercovered") == ["btc:BTC: undercovered of btc:BTC -12, 1 in all"]
    await book_loss(btc, "found:1", -12)
    await scheduler.work("cage_books")
    assert await details(btc, "undercovered") == []


async def test_t9_what_only_the_whole_look_can_see_is_ended_by_a_whole_look_alone(
    eth: Payouts, scheduler: Scheduler
) -> None:
    """Two accounts of one asset whose caches are wrong by as much the other way."""
    await eth.fund("eth:USDT", "50", into="acme")
    wrong = (
        "UPDATE ledger.free_balances SET balance = balance + :by WHERE account_id IN "
        "(SELECT id FROM ledger.accounts WHERE kind IN ('custody', 'suspense') "
        "AND asset = 'eth:USDT')"
    )
    async with eth.database.unit_of_work() as uow:
        await uow.execute("SET LOCAL session_replication_role = replica")
        await uow.execute(wrong, {"by": 3})
    assert await scheduler.work("cage_books") == 0
    assert await scheduler.work("cage_reconcile") > 0
    [told] = await details(eth, "books_broken")
    assert "cache_drift" in told
    async with eth.database.unit_of_work() as uow:
        await uow.execute("SET LOCAL session_replication_role = replica")
        await uow.execute(wrong, {"by": -3})
    await scheduler.work("cage_books")
    assert await details(eth, "books_broken") == [told]
    await scheduler.work("cage_reconcile")
    assert await details(eth, "books_broken") == []
    assert "build" in await stopped(eth, "eth:USDT")  # two people start it again


def patient(house: Payouts, refusals: int) -> None:
    """The policy of a house that takes so many refusals."""
    policy = replace(house.registry.policy, breakers=BreakerPolicy(signer_refusals_max=refusals))
    house.registry = replace(house.registry, policy=policy)


async def refused(house: Payouts, count: int) -> None:
    """So many payouts whose destination a thief changed in the database."""
    for _ in range(count):
        row = await house.request("0.1")
        async with house.database.unit_of_work() as uow:
            await uow.execute(
                "UPDATE gateway.withdrawals SET amount = amount - 1 WHERE id = :id", {"id": row.id}
            )
        await house.cycle(times=2)
        assert await house.states(row) == ["on_hold"]


async def test_t9_a_signer_that_refuses_too_often_stops_its_network(btc: Payouts) -> None:
    await funded(btc)
    patient(btc, 3)
    await refused(btc, 2)
    assert await stopped(btc, btc.native) == set()
    await refused(btc, 1)
    assert await stopped(btc, btc.native) == {"build", "sign"}
    waiting = await btc.request("0.1")
    await btc.cycle(times=2)
    assert await btc.states(waiting) == ["queued"]

    btc.clock.advance(1)
    for action in (Action.BUILD, Action.SIGN):
        await start(btc, action)
    btc.clock.advance(1)
    await btc.sample_fees()
    await btc.cycle(times=2)
    assert await btc.states(waiting) == ["sent"]
    await refused(btc, 2)  # the count began again with the start
    assert await stopped(btc, btc.native) == set()


async def test_t9_refusals_of_long_ago_do_not_count(btc: Payouts) -> None:
    await funded(btc)
    patient(btc, 2)
    await refused(btc, 1)
    btc.clock.advance(601)
    await btc.sample_fees()
    await refused(btc, 1)
    assert await stopped(btc, btc.native) == set()
