"""What is final and yet in no book is told after an hour, and ends with its booking (L12)."""

from datetime import timedelta

import pytest

from config.breaker_policy import BreakerPolicy
from tests.integration.watchers.conftest import UtxoBench
from tests.integration.watchers.test_own_transactions import OUTSIDE, funded, settle
from tests.support.clock import ManualClock
from tests.support.watching import Watch
from watchers import addresses, inflows, reconciliations
from watchers.breaks import STUCK_AFTER, BreakKind
from watchers.reconciliations import Break, Trigger

pytestmark = pytest.mark.postgres

HOUR_SECONDS = STUCK_AFTER / timedelta(seconds=1)


async def compared(watch: Watch) -> list[Break]:
    """What stands open after one more comparison."""
    await reconciliations.compare(
        watch.as_watcher, watch.chain, watch.network, clock=watch.clock, trigger=Trigger.REQUEST
    )
    async with watch.as_watcher.unit_of_work() as uow:
        return await reconciliations.open_breaks(uow, network=watch.network.name)


async def test_l12_a_payout_that_is_final_and_never_settled_is_stuck_until_it_is(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    payouts, watch = await funded(utxo), utxo.watch
    sent = await payouts.pay(OUTSIDE, 10_000_000)
    utxo.sim.mine(3)
    await watch.follow()
    clock.advance(HOUR_SECONDS)
    assert await compared(watch) == []  # an hour to the second is not more than an hour
    clock.advance(1)
    [found] = await compared(watch)
    assert (found.kind, found.subject) == (BreakKind.STUCK, f"outgoing:{sent.id}")
    assert (found.asset, found.difference_minor) == ("btc:BTC", 0)
    assert found.details["txid"] == sent.txid
    assert BreakerPolicy().of_break(found.kind.value, watch.network.family.value) == ()

    await settle(watch, await payouts.get(sent.id))
    assert await compared(watch) == []


async def test_l12_an_inflow_that_is_due_and_not_booked_is_stuck_until_it_is(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    """Its moment is put behind the follower, which books what a new block brings into reach."""
    watch = utxo.watch
    async with watch.as_api.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
    utxo.sim.pay([(hot.address, 7_000)])
    utxo.sim.mine(1)
    await watch.follow()
    async with watch.as_watcher.unit_of_work() as uow:
        [inflow] = await inflows.find(uow, network="btc")
    clock.advance(HOUR_SECONDS + 1)
    assert await compared(watch) == []  # it has still to wait for its depth
    async with watch.as_owner.unit_of_work() as uow:
        await uow.execute("UPDATE chain.inflows SET book_at_height = height")
    [found] = await compared(watch)
    assert (found.kind, found.subject) == (BreakKind.STUCK, f"inflow:{inflow.id}")
    assert (found.asset, found.difference_minor) == ("btc:BTC", 0)
    utxo.sim.mine(1)
    await watch.follow()
    assert await compared(watch) == []
