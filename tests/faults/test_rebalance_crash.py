"""T6, P02: killed at every step of a move to cold, a fresh process goes on and it is made once."""

import pytest

from gateway.payouts.crash import POINTS_OF_REBALANCES
from tests.support.bumps import funded, no_breaks, run_to_rest, sent
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import SimulatedCrash, crash_at
from tests.support.rebalancing import agree, custody, every, now, told, with_cold

pytestmark = pytest.mark.postgres

ELSEWHERE = {"payout.rebalance_refused", "payout.rebalance_bumped"}  # off the straight road
POINTS = [
    *(point for point in POINTS_OF_REBALANCES if point not in ELSEWHERE),
    "payout.broadcasting",
    "payout.sent_to_node",
    "payout.child_settled",
]
ROAD = ["proposed", "approved", "planned", "signed", "sent", "done"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p02_killed_at_each_step_of_a_move_to_cold_it_is_made_once(
    network: str, point: str, house: BuildHouse
) -> None:
    built = await funded(await house(network))
    await with_cold(built, band=("0.5", "1", "2"))
    dying = built.lane(crash=crash_at(point))
    if point == "payout.rebalance_proposed":
        with pytest.raises(SimulatedCrash):
            await run_to_rest(built, dying, blocks=1)
    else:
        await run_to_rest(built, blocks=1)
    [row] = await every(built)
    await agree(built, row)

    if point != "payout.rebalance_proposed":
        with pytest.raises(SimulatedCrash):
            await run_to_rest(built, dying)
    await run_to_rest(built)

    assert [item.id for item in await every(built)] == [row.id]
    assert (await now(built, row)).state == "done"
    assert await told(built, row) == [f"rebalance.{state}" for state in ROAD]
    [move] = await sent(built)
    asked = {item.unsigned for item in built.signer.asked if item.attempt_id == str(move.id)}
    assert (len(asked), move.state) == (1, "final")
    assert await custody(built, "cold") == row.amount_minor
    payout = await built.request("0.5")
    await run_to_rest(built)
    assert await built.states(payout) == ["completed"]
    assert await built.alarms() == []
    await no_breaks(built)
    await built.assert_at_rest()
