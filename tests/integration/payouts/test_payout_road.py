"""A withdrawal's road from `queued` to `completed`, with its postings, on simulated chains."""

import pytest

from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres


async def test_utxo_withdrawal_is_planned_signed_sent_and_settled(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")

    lane = await btc.cycle()
    assert await btc.states(row) == ["sent"]
    await btc.mine(1)
    await btc.cycle(lane)
    assert await btc.states(row) == ["confirming"]
    await btc.mine(1)
    await btc.cycle(lane)

    assert await btc.states(row) == ["completed"]
    assert await btc.history(row) == [
        "received", "reserved", "queued", "planned", "signed", "broadcasting", "sent",
        "confirming", "completed",
    ]  # fmt: skip
    assert btc.paid(row) == 1
