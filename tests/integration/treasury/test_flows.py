"""The hourly history: what counts, what leaves it again, and how an old past is caught up."""

from datetime import timedelta

import pytest

from gateway.payouts import withdrawals
from gateway.payouts.withdrawals import Trigger
from gateway.treasury import flows
from gateway.treasury.flows import Flow
from tests.support.payouts import Payouts
from tests.support.treasury import furnish, history_of, look

pytestmark = pytest.mark.postgres

HOUR = 3_600
COIN = 10**8


async def _amounts(house: Payouts, flow: Flow) -> list[int]:
    async with house.database.unit_of_work() as uow:
        found = await flows.series(uow, network=house.network, asset=house.native, flow=flow)
    assert found is not None
    return list(found.amounts)


async def test_an_hour_is_summed_once_it_is_over(btc: Payouts) -> None:
    await furnish(btc, {})
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    await btc.deposit("ann", "0.7")
    await btc.request("0.3")
    await btc.request("0.2")
    await btc.cycle(times=2)
    await look(btc)
    assert [await _amounts(btc, flow) for flow in Flow] == [[], [], []]

    btc.clock.advance(HOUR)
    later = await btc.request("0.1")
    await look(btc)
    assert await _amounts(btc, Flow.INFLOW) == [7 * COIN // 10]  # funds of ours are no deposits
    assert await _amounts(btc, Flow.DEMAND) == [5 * COIN // 10]
    assert await _amounts(btc, Flow.OUTFLOW) == [5 * COIN // 10]

    btc.clock.advance(2 * HOUR)
    await look(btc)
    assert await _amounts(btc, Flow.DEMAND) == [5 * COIN // 10, COIN // 10, 0]
    assert await _amounts(btc, Flow.OUTFLOW) == [5 * COIN // 10, 0, 0]

    async with btc.database.unit_of_work() as uow:
        await withdrawals.give_up(
            uow, await btc.row(later), Trigger.CANCEL, ids=btc.ids, at=btc.clock.now()
        )
    btc.clock.advance(HOUR)
    await look(btc)
    assert await _amounts(btc, Flow.DEMAND) == [5 * COIN // 10, 0, 0, 0]


async def test_a_replacement_is_no_second_payout(btc: Payouts) -> None:
    await furnish(btc, {})
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    await btc.request("0.5")
    await btc.cycle(times=2)
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO chain.outgoing (id, network, purpose, family_id, state, unsigned, raw, "
            "txid, payments, fee_cap_minor, family_number, replaces_id, created_at, signed_at, "
            "state_at) SELECT CAST(overlay(id::text placing 'f' from 36) AS uuid), network, "
            "purpose, family_id, 'signed', unsigned, raw, 'ab', payments, fee_cap_minor, 2, id, "
            "created_at, signed_at, state_at FROM chain.outgoing"
        )
        since = btc.clock.now() - timedelta(hours=1)
        assert await flows.signed_since(uow, network="btc", since=since) == {"btc:BTC": COIN // 2}
    btc.clock.advance(HOUR)
    await look(btc)
    assert await _amounts(btc, Flow.OUTFLOW) == [COIN // 2]


async def test_an_old_past_is_caught_up_in_bounded_passes(btc: Payouts) -> None:
    """The watch begins on a house that has worked for nine weeks."""
    await furnish(btc, {})
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    await btc.request("0.5")
    weeks = 9
    btc.clock.advance(weeks * 7 * 24 * HOUR)
    watch = await look(btc)
    assert len(await _amounts(btc, Flow.DEMAND)) == 4 * 168
    for _ in range(2):
        await look(btc, watch)
    found = await _amounts(btc, Flow.DEMAND)
    assert (len(found), found[0], sum(found)) == (weeks * 168, COIN // 2, COIN // 2)


async def test_an_asset_has_no_history_from_before_it_was_used(btc: Payouts) -> None:
    """The network was followed for 100 hours, the asset brought something in the last ten."""
    await history_of(btc, "btc:BTC", hourly=5, hours=100, flow="demand")
    now = flows.hour_of(btc.clock.now())
    async with btc.database.unit_of_work() as uow:
        await uow.execute("DELETE FROM gateway.flow_hours WHERE hour < :first", {"first": now - 10})
        found = await flows.series(uow, network="btc", asset="btc:BTC", flow=Flow.DEMAND)
        other = await flows.series(uow, network="btc", asset="btc:XYZ", flow=Flow.DEMAND)
    assert found is not None
    assert other is not None
    assert (found.first_hour, found.amounts) == (now - 10, (5,) * 10)
    assert (other.first_hour, other.amounts) == (now, ())
