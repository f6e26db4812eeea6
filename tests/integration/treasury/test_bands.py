"""Wallets that leave their band are told once, and once when they are back."""

import asyncio

import pytest

from config.database import Uow
from config.settings import WalletSettings
from tests.support.auditor import audit
from tests.support.payouts import Payouts
from tests.support.treasury import furnish, look, wallet_events, watch_of

pytestmark = pytest.mark.postgres

BAND = WalletSettings(min="1", target="2", max="3")
COIN = 10**8


async def test_each_crossing_is_told_once_with_hysteresis(btc: Payouts) -> None:
    await furnish(btc, {"btc:BTC": BAND})
    watch = await look(btc)
    await look(btc, watch)
    assert await wallet_events(btc) == [("wallet.low", "inside", "0")]
    assert await btc.alarms() == ["wallet_low"]

    await btc.fund("btc:BTC", "1.05")  # above the minimum, not 10 % of the way to the target
    await look(btc, watch)
    assert await btc.alarms() == ["wallet_low"]

    await btc.fund("btc:BTC", "0.05")
    await look(btc)  # another process goes on where the first one stopped
    assert (await wallet_events(btc))[1:] == [("wallet.inside", "low", str(110 * COIN // 100))]
    assert await btc.alarms() == []

    await btc.fund("btc:BTC", "2")
    await look(btc)
    await look(btc)
    assert (await wallet_events(btc))[2:] == [("wallet.high", "inside", str(310 * COIN // 100))]
    assert await btc.alarms() == ["wallet_high"]
    assert await audit(btc.database.engine, at_rest=False) == []


async def test_what_withdrawals_wait_for_is_not_in_the_wallet_any_more(btc: Payouts) -> None:
    """Nothing has left yet, and the wallet is low already: accepted is as good as gone."""
    await furnish(btc, {"btc:BTC": BAND})
    await btc.fund("btc:BTC", "2", into="acme")
    await look(btc)
    await btc.request("1.5")
    await look(btc)
    assert await wallet_events(btc) == [("wallet.low", "inside", str(COIN // 2))]


async def test_a_gas_wallet_that_is_low_has_an_event_of_its_own(eth: Payouts) -> None:
    bands = {
        "eth:ETH": WalletSettings.model_validate({"gas": {"min": "1", "target": "2", "max": "3"}})
    }
    await furnish(eth, bands)
    await look(eth)
    assert [event[0] for event in await wallet_events(eth)] == ["wallet.gas_low"]
    assert await eth.alarms() == ["wallet_gas_low"]

    gas = await eth.database.run(_gas_address)
    await eth.fund("eth:ETH", "2", at=gas)
    await look(eth)
    assert [event[0] for event in await wallet_events(eth)][1:] == ["wallet.inside"]
    assert await eth.alarms() == []


async def _gas_address(uow: Uow) -> str:
    result = await uow.execute(
        "SELECT address FROM chain.addresses WHERE role = 'gas' ORDER BY address_index LIMIT 1"
    )
    return str(result.scalar_one())


async def test_a_band_that_is_taken_away_calls_nobody_any_more(btc: Payouts) -> None:
    await furnish(btc, {"btc:BTC": BAND})
    await look(btc)
    assert await btc.alarms() == ["wallet_low"]
    await furnish(btc, {})
    await look(btc)
    assert await btc.alarms() == []


async def test_two_watches_at_once_tell_one_crossing(btc: Payouts) -> None:
    """Without a lease between them: the first look of both begins in the same moment."""
    await furnish(btc, {"btc:BTC": BAND})
    first, second = watch_of(btc), watch_of(btc)
    found = await asyncio.gather(first.look(), second.look())
    assert sorted(found) == [False, True]
    assert [event[0] for event in await wallet_events(btc)] == ["wallet.low"]


async def test_a_watch_that_lost_its_lease_tells_nothing(btc: Payouts) -> None:
    await furnish(btc, {"btc:BTC": BAND})
    old = await look(btc)
    await look(btc, watch_of(btc))  # another one has it now
    await btc.fund("btc:BTC", "2")
    assert await old.look() is False
    assert [event[0] for event in await wallet_events(btc)] == ["wallet.low"]
