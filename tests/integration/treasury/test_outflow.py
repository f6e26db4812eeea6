"""Payouts of one asset stop when an hour takes more than own history expects; deposits go on."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from config.treasury_policy import OutflowMax
from gateway.treasury import flows
from tests.support.payouts import Payouts
from tests.support.treasury import furnish, history_of
from watchers import switches
from watchers.switches import Action

pytestmark = pytest.mark.postgres

COIN = 10**8
HOURLY = COIN // 10
BREAKER = {
    "btc:BTC": OutflowMax(
        quantile_permille=990, factor_permille=3_000, at_least_minor=2 * COIN // 10
    )
}
DAYS = 24


async def _ready(house: Payouts, *, days: int, outflow: Mapping[str, OutflowMax] = BREAKER) -> None:
    """Each hour took 0.1 until now: 0.3 is the bound."""
    await furnish(house, {}, outflow=outflow)
    await house.fund("btc:BTC", "1")
    for _ in range(3):
        await house.fund("btc:BTC", "1", into="acme")
    await history_of(house, "btc:BTC", hourly=HOURLY, hours=days * DAYS, flow="outflow")


async def _stopped(house: Payouts) -> list[str]:
    async with house.database.unit_of_work() as uow:
        return switches.names_of(await switches.every(uow), network="btc")


async def _start(house: Payouts) -> None:
    """What two people do."""
    async with house.database.unit_of_work() as uow:
        switch = await switches.get(uow, scope="asset:btc:BTC", action=Action.SIGN)
        assert switch is not None
        await switches.close_breaker(
            uow, scope=switch.scope, action=switch.action, version=switch.version,
            reason="a jackpot", proposed_by="ada", approved_by="grace", ids=house.ids,
            at=house.clock.now(),
        )  # fmt: skip


async def test_an_hour_above_the_bound_stops_what_crosses_it_and_deposits_go_on(
    btc: Payouts,
) -> None:
    await _ready(btc, days=40)
    usual = await btc.request("0.3")
    lane = await btc.cycle(times=2)
    assert (await btc.states(usual), await _stopped(btc)) == (["sent"], [])

    above = await btc.request("0.01")
    await btc.cycle(lane, times=2)
    assert await _stopped(btc) == ["btc:BTC/sign"]
    assert "switch_stopped" in await btc.alarms()
    assert await btc.states(usual, above) == ["sent", "planned"]
    assert (await btc.row(above)).sign_requested_at is None

    await btc.deposit("ann", "0.5")
    async with btc.database.unit_of_work() as uow:
        rows = await uow.execute("SELECT state FROM chain.deposits")
        assert rows.scalars().all() == ["final"]
        told = await uow.execute(
            "SELECT snapshot ->> 'scope' FROM ledger.events WHERE type = 'switch.changed'"
        )
        assert told.scalars().all() == ["asset:btc:BTC"]


async def test_after_two_people_let_it_go_on_the_hour_begins_anew(btc: Payouts) -> None:
    await _ready(btc, days=40)
    await btc.request("0.4")
    lane = await btc.cycle(times=2)
    assert await _stopped(btc) == ["btc:BTC/sign"]

    btc.clock.advance(1)
    await _start(btc)
    small = await btc.request("0.2")
    await btc.cycle(lane, times=3)
    assert await _stopped(btc) == []
    assert await btc.states(small) == ["sent"]
    more = await btc.request("0.2")
    await btc.cycle(lane, times=2)
    assert await _stopped(btc) == ["btc:BTC/sign"]
    assert await btc.states(more) == ["planned"]


@pytest.mark.parametrize(("days", "outflow"), [(20, BREAKER), (40, {})])
async def test_without_enough_history_or_policy_nothing_stops(
    btc: Payouts, days: int, outflow: Mapping[str, OutflowMax]
) -> None:
    await _ready(btc, days=days, outflow=outflow)
    row = await btc.request("2.5")
    await btc.cycle(times=2)
    assert (await btc.states(row), await _stopped(btc)) == (["sent"], [])


async def test_the_bound_is_never_below_what_policy_names(btc: Payouts) -> None:
    """A quiet asset: its history is nothing at all, and 0.2 may leave."""
    await _ready(btc, days=40)
    await history_of(btc, "btc:BTC", hourly=0, hours=40 * DAYS, flow="outflow")
    within = await btc.request("0.2")
    lane = await btc.cycle(times=2)
    assert (await btc.states(within), await _stopped(btc)) == (["sent"], [])
    await btc.request("0.00001")
    await btc.cycle(lane)
    assert await _stopped(btc) == ["btc:BTC/sign"]


async def test_an_hour_later_the_same_outflow_is_usual_again(btc: Payouts) -> None:
    await _ready(btc, days=40)
    for _ in range(3):
        row = await btc.request("0.3")
        await btc.cycle(times=2)
        assert await btc.states(row) == ["sent"]
        async with btc.database.unit_of_work() as uow:  # an hour passes
            await uow.execute(
                "UPDATE chain.outgoing SET signed_at = signed_at - interval '3601 seconds'"
            )
    assert await _stopped(btc) == []


async def test_what_two_people_let_go_on_does_not_count_against_the_next_hour(
    btc: Payouts,
) -> None:
    """0.4 was built and stopped; people saw it. Once it is signed, 0.25 more is within 0.3."""
    await _ready(btc, days=40)
    seen = await btc.request("0.4")
    lane = await btc.cycle(times=2)
    assert await _stopped(btc) == ["btc:BTC/sign"]

    btc.clock.advance(1)
    await _start(btc)
    await btc.cycle(lane, times=2)
    after = await btc.request("0.25")
    await btc.cycle(lane, times=2)
    assert (await btc.states(seen, after), await _stopped(btc)) == (["sent", "sent"], [])


async def test_what_was_built_long_ago_and_waits_to_be_signed_counts(btc: Payouts) -> None:
    """A signer that comes back after hours would sign all of it in one go."""
    await _ready(btc, days=40)
    await btc.request("0.4")
    await btc.cycle(times=2)
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE chain.outgoing SET created_at = created_at - interval '3 hours'")
        since = btc.clock.now() - timedelta(hours=1)
        found = await flows.signed_since(uow, network="btc", since=since)
    assert found == {"btc:BTC": 4 * COIN // 10}
