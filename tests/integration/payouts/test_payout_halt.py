"""N25: a chain that stands still for hours delays a payout and never makes it fail."""

import pytest

from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres

HOURS = 3


async def test_n25_no_payout_fails_because_no_block_came(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")
    lane = await btc.cycle()
    for _ in range(HOURS * 6):
        btc.clock.advance(600)
        await btc.cycle(lane)
    assert set(await btc.states(row)) <= {"sent", "uncertain"}
    assert btc.paid(row) <= 1

    for _ in range(6):
        await btc.mine()
        await btc.cycle(lane)
    assert await btc.states(row) == ["completed"]
    assert "failed" not in await btc.history(row)
    assert btc.paid(row) == 1
    await btc.assert_at_rest()
