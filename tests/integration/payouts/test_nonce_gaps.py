"""No signed payout ever waits behind a nonce that nobody uses."""

import pytest

from gateway.leases import hold
from gateway.payouts import withdrawals
from gateway.payouts.batcher import Batcher
from gateway.payouts.lane import PayoutLane
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres


async def test_a_cancelled_payout_leaves_no_nonce_gap_before_the_next(eth: Payouts) -> None:
    """Both are planned, at n and n + 1; the first is cancelled before signing."""
    await eth.fund(eth.native, "1")
    await eth.fund(eth.native, "5", into="acme")
    first = await eth.request("0.1", player_id="a")
    second = await eth.request("0.2", player_id="b")
    lane = eth.lane()
    await eth.expire_lease()
    await hold(eth.role, lane.lease)
    await Batcher(lane).plan()
    assert await eth.states(first, second) == ["planned", "planned"]
    async with eth.database.unit_of_work() as uow:
        await withdrawals.cancel(uow, first.id, ids=eth.ids, at=eth.clock.now())
    for _ in range(5):
        await PayoutLane(lane).cycle()
        await eth.mine(13)
    await PayoutLane(lane).cycle()
    assert await eth.states(first, second) == ["cancelled", "completed"]
    assert eth.paid(second) == 1
