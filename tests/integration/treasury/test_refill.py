"""A hot wallet that is short: payouts wait, one refill is asked for, and it takes itself back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from config.settings import WalletSettings
from gateway.payouts import rebalances
from tests.support.auditor import audit
from tests.support.colds import COLD_BTC_ADDRESS
from tests.support.payouts import Payouts
from tests.support.treasury import furnish, history_of, look, requests, watch_of

pytestmark = pytest.mark.postgres

BAND = WalletSettings(min="0.5", target="2", max="4")
COIN = 10**8


async def _stored_cold(house: Payouts) -> None:
    """0.2 hot for fees, 1 hot and 3 cold for the brand's players."""
    await furnish(house, {"btc:BTC": BAND})
    await house.fund("btc:BTC", "0.2")
    await house.fund("btc:BTC", "1", into="acme")
    await house.fund("btc:BTC", "3", into="acme", at=COLD_BTC_ADDRESS)


async def test_p26_a_short_hot_wallet_asks_for_a_refill_once_and_funds_stay_reserved(
    btc: Payouts,
) -> None:
    await _stored_cold(btc)
    await history_of(btc, "btc:BTC", hourly=COIN // 100, hours=24 * 40, flow="demand")
    big, small = await btc.request("2.5"), await btc.request("0.3")
    lane = await btc.cycle(times=3)
    assert await btc.states(big, small) == ["waiting_liquidity", "sent"]

    watch = await look(btc)
    await look(btc, watch)
    await look(btc, watch_of(btc))  # another process

    [request] = await requests(btc)
    assert (request.state, request.requested_by, request.direction) == (
        "proposed", None, "cold_to_hot",
    )  # fmt: skip
    assert request.reason.startswith("payouts_wait: move ")
    assert request.forecast is not None
    assert "withdrawals expected within 12 h: 0.12 (hour_of_week" in request.forecast
    # Target 2, and 0.12 that are expected, less what is there: 0.9 less a fee less 2.5.
    assert 0 < request.amount_minor - 372 * COIN // 100 < COIN // 1_000
    assert (await btc.row(big)).is_reserved
    assert await btc.history(big) == ["received", "reserved", "queued", "waiting_liquidity"]

    await btc.fund("btc:BTC", "3.7")
    await btc.cycle(lane, times=2)
    assert await btc.states(big) == ["sent"]
    await look(btc)
    [request] = await requests(btc)
    assert (request.state, request.code) == ("cancelled", "not_needed")
    assert await audit(btc.database.engine, at_rest=False) == []


async def test_a_wallet_that_will_be_short_is_refilled_in_time(btc: Payouts) -> None:
    """1.2 are there, 0.1 leave each hour: below 0.5 in the eighth."""
    await _stored_cold(btc)
    await history_of(btc, "btc:BTC", hourly=COIN // 10, hours=24 * 40, flow="demand")
    await look(btc)
    [request] = await requests(btc)
    due = btc.clock.now() + timedelta(hours=7)
    assert request.reason.startswith("forecast: move 2 btc:BTC cold -> hot")  # 2 + 1.2 - 1.2
    assert request.reason.endswith(f"before {due:%Y-%m-%d %H:%M} UTC")
    assert await btc.alarms() == []


async def test_without_a_cold_wallet_the_alarm_is_the_only_word(btc: Payouts) -> None:
    await furnish(btc, {"btc:BTC": BAND})
    settings = btc.registry.settings.model_copy(update={"cold": {}})
    btc.registry = replace(btc.registry, settings=settings)
    await look(btc)
    assert await requests(btc) == []
    assert await btc.alarms() == ["wallet_low"]


async def test_a_request_that_people_turned_down_comes_again_after_the_pause(
    btc: Payouts,
) -> None:
    await _stored_cold(btc)
    await btc.request("2")
    await look(btc)
    [request] = await requests(btc)
    async with btc.database.unit_of_work() as uow:
        await rebalances.decline(
            uow, request, person="ada", reason="not today", ids=btc.ids, at=btc.clock.now()
        )
    await look(btc)
    assert [item.state for item in await requests(btc)] == ["declined"]
    pause = btc.registry.policy.rebalances["btc:BTC"].pause_seconds
    btc.clock.advance(pause)
    await look(btc)
    assert [item.state for item in await requests(btc)] == ["declined", "proposed"]


async def test_a_request_that_nobody_signed_in_its_time_is_asked_anew(btc: Payouts) -> None:
    await _stored_cold(btc)
    await btc.request("2")
    await look(btc)
    btc.clock.advance(btc.registry.policy.rebalances["btc:BTC"].valid_seconds + 1)
    await look(btc)
    await look(btc)
    assert [(item.state, item.code) for item in await requests(btc)] == [
        ("cancelled", "expired"), ("proposed", None),
    ]  # fmt: skip


async def test_what_people_asked_for_is_not_asked_for_again(btc: Payouts) -> None:
    await _stored_cold(btc)
    await btc.request("2")
    await look(btc)
    [request] = await requests(btc)
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.rebalances SET requested_by = 'ada'")
    await look(btc)
    assert [item.id for item in await requests(btc)] == [request.id]
