"""W4: the planner chooses batch and rate, so that each promise is kept at least cost."""

import pytest

from gateway.withdrawals_store import WithdrawalRow
from tests.support.bumps import KVB, funded, no_breaks, quote, run_to_rest, sent, work
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres

STEEP = {2: 10 * KVB, 6: 5 * KVB, 36: KVB}
FLAT = {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB}


async def orders(house: Payouts) -> list[WithdrawalRow]:
    """One urgent payment and five of economy; every window is over at once here."""
    rows = [await house.request("0.01", fee_class="urgent")]
    return rows + [await house.request(f"0.02{n}", fee_class="economy") for n in range(5)]


async def test_w4_an_endangered_payment_goes_alone_and_the_others_pay_their_own_rate(
    btc: Payouts,
) -> None:
    await funded(btc, coins=2)
    await quote(btc, STEEP)
    rows = await orders(btc)

    lane = await work(btc)

    assert await btc.states(*rows) == ["sent"] * 6
    urgent, *economy = [(await btc.row(row)).txid for row in rows]
    assert len(set(economy)) == 1
    assert urgent not in economy
    fee = {tx.txid: tx.fee_minor for tx in await sent(btc)}
    assert fee[urgent] > 4 * fee[economy[0]]
    await run_to_rest(btc, lane)
    assert await btc.states(*rows) == ["completed"] * 6
    assert [btc.paid(row) for row in rows] == [1] * 6
    await no_breaks(btc)
    await btc.assert_at_rest()


async def test_w4_where_company_costs_nothing_they_share_a_tx(btc: Payouts) -> None:
    await funded(btc, coins=2)
    await quote(btc, FLAT)
    rows = await orders(btc)

    await work(btc)

    assert await btc.states(*rows) == ["sent"] * 6
    assert len(await sent(btc)) == 1


async def test_w4_those_behind_the_only_coin_wait_a_cycle_and_call_nobody(btc: Payouts) -> None:
    """The change of the first tx exists once it is signed."""
    await btc.fund("btc:BTC", "0.0001")  # fee capital, and no coin for five payments
    await btc.fund("btc:BTC", "2", into="acme")
    await quote(btc, STEEP)
    rows = await orders(btc)

    lane = await work(btc)

    assert await btc.states(*rows) == ["sent", *["queued"] * 5]
    assert await btc.alarms() == []
    await work(btc, lane)
    assert await btc.states(*rows) == ["sent"] * 6
    await run_to_rest(btc, lane)
    assert await btc.states(*rows) == ["completed"] * 6
    await btc.assert_at_rest()
