"""The hourly comparison of the signer's log with the books, in both directions."""

from collections.abc import AsyncIterator

import pytest

from config.database import Database, async_url
from gateway.payouts import recovery_store as rows
from gateway.payouts.recovery import PAYOUT_ACTIONS
from gateway.scheduler import Scheduler
from signer.protocol import Payment
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts
from tests.support.sign_requests import authorise, evm_request, order_body
from tests.support.vault import FOREIGN_EVM
from watchers import switches
from watchers.switches import Action

pytestmark = pytest.mark.postgres


@pytest.fixture
async def scheduler(test_database: TestDatabase, btc: Payouts) -> AsyncIterator[Scheduler]:
    """The scheduler under its own database role, with its lease."""
    database = Database(async_url(test_database.role_url("scheduler")))
    made = Scheduler(database=database, clock=btc.clock, ids=btc.ids)
    yield made
    await database.close()


async def ask(house: Payouts) -> None:
    """What the scheduler does every hour."""
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.signer_logs SET asked_at = :at", {"at": house.clock.now()}
        )


async def stopped(house: Payouts, asset: str, action: Action) -> bool:
    async with house.database.unit_of_work() as uow:
        return await switches.is_stopped(uow, network=house.network, asset=asset, action=action)


async def paid_one(house: Payouts) -> None:
    await house.fund(house.native, "1")
    await house.fund(house.native, "3", into="acme")
    await house.request("0.5")
    await house.cycle(times=2)


async def test_books_that_agree_are_compared_and_nothing_stops(
    btc: Payouts, scheduler: Scheduler
) -> None:
    await paid_one(btc)
    async with btc.database.unit_of_work() as uow:
        before = await rows.place(uow, "btc")
    assert await scheduler.tick("cage_compare")  # a slow machine's lease has passed by now
    assert await scheduler.work("cage_compare") == 1
    assert await scheduler.tick("cage_compare")
    assert await scheduler.work("cage_compare") == 0  # asked already
    await btc.cycle()
    async with btc.database.unit_of_work() as uow:
        after = await rows.place(uow, "btc")
    assert after.asked_at is None
    assert after.sequence > before.sequence
    assert await btc.alarms() == []


async def test_signature_that_the_books_lack_stops_the_asset_and_the_network(
    eth: Payouts,
) -> None:
    """Signed by the same signer for somebody else's books, while the lane runs."""
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:ETH", "3", into="acme")
    lane = await eth.cycle()
    lost = order_body(request_id="lost", asset="eth:ETH", address=FOREIGN_EVM)
    claim = authorise(lost, created=eth.signer.kit.clock.now)
    payment = Payment(brand="acme", request_id="lost", output_index=0, authorisation=claim)
    eth.signer.kit.signed(evm_request(attempt_id=str(eth.ids.new_id()), payments=(payment,)))
    await ask(eth)

    row = await eth.request("0.5")
    asked = len(eth.signer.asked)
    await eth.cycle(lane, times=2)

    assert {"recovery", "signer_log_mismatch"} <= set(await eth.alarms())
    for action in PAYOUT_ACTIONS:
        assert await stopped(eth, "eth:ETH", action)
        assert not await stopped(eth, "eth:USDT", action)
    assert not await stopped(eth, "eth:ETH", Action.CREDIT)
    assert (await eth.states(row), len(eth.signer.asked)) == (["queued"], asked)


async def test_signature_that_the_signer_does_not_know_stops_the_asset(
    btc: Payouts,
) -> None:
    """Books that call a tx signed which the signer never signed: altered, or another signer's."""
    await paid_one(btc)
    lane = await btc.cycle()
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE chain.outgoing SET txid = repeat('ab', 32)")
    await ask(btc)
    await btc.cycle(lane)

    assert "signer_log_mismatch" in await btc.alarms()
    for action in PAYOUT_ACTIONS:
        assert await stopped(btc, "btc:BTC", action)


async def test_other_log_at_the_start_is_a_recovery(btc: Payouts) -> None:
    """A signer whose log is not the one that was compared: a store from elsewhere."""
    await paid_one(btc)
    await btc.cycle()
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.signer_logs SET entry_hash = repeat('00', 32)")
    await btc.cycle(times=2)
    async with btc.database.unit_of_work() as uow:
        row = await rows.current(uow, "btc")
    assert row is not None
    assert (row.cause, row.unknown) == ("other_log", 0)


async def test_s23_signer_that_knows_a_newer_worker_is_a_recovery(btc: Payouts) -> None:
    """A restored database whose lost time had no signature that is missing, only a newer fence."""
    await paid_one(btc)
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.leases SET fence = 0")
    await btc.expire_lease()
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.leases SET fence = -5")
    lane = await btc.cycle()
    async with btc.database.unit_of_work() as uow:
        row = await rows.current(uow, "btc")
    assert row is not None
    assert (row.cause, row.unknown) == ("newer_worker", 0)

    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.recoveries SET state = 'imported'")
        assert await rows.confirm(
            uow, row.id, version=row.version, people=["ada", "bob"], at=btc.clock.now()
        )
    await btc.cycle(lane)
    assert lane.lease.fence > row.epoch
    later = await btc.request("0.2")
    await btc.cycle(lane, times=2)
    assert await btc.states(later) == ["sent"]
