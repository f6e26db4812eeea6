"""F3, P02: killed at every step of a merge or split, a fresh process continues with its bytes."""

import pytest

from gateway.payouts.crash import POINTS_OF_UPKEEP
from tests.support.bumps import funded, no_breaks, run_to_rest, sent
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import SimulatedCrash, crash_at
from tests.support.upkeep import POLICY, cheap_hour, coins_of, rain

pytestmark = pytest.mark.postgres

FINAL_BLOCKS = 15
POINTS = [
    *POINTS_OF_UPKEEP,
    "payout.bump_answered",
    "payout.bump_signed",
    "payout.broadcasting",
    "payout.sent_to_node",
    "payout.recorded",
    "payout.child_settled",
]


CASES = [
    *(("btc", point) for point in POINTS),
    *(("ltc", point) for point in (*POINTS_OF_UPKEEP, "payout.bump_signed")),
]


@pytest.mark.parametrize(("network", "point"), CASES)
async def test_p02_killed_at_each_step_of_a_move_it_is_made_once(
    network: str, point: str, house: BuildHouse
) -> None:
    built = await funded(await house(network))
    if network == "ltc":  # a merge there, a split here
        await rain(built, count=14, minor=100_000)
    await cheap_hour(built)
    dying = built.lane(crash=crash_at(point))

    with pytest.raises(SimulatedCrash):
        await run_to_rest(built, dying, blocks=FINAL_BLOCKS)
    lane = await run_to_rest(built, blocks=FINAL_BLOCKS)

    [move] = await sent(built)
    assert (move.purpose, move.state) == ("fan_out" if network == "btc" else "consolidate", "final")
    asked = {item.unsigned for item in built.signer.asked if item.attempt_id == str(move.id)}
    assert len(asked) == 1
    mined, _ = await coins_of(built)
    assert len(mined) == POLICY.keep_coins + (network == "ltc")
    row = await built.request("0.25")
    await run_to_rest(built, lane)
    assert await built.states(row) == ["completed"]
    assert await built.alarms() == []
    await no_breaks(built)
    await built.assert_at_rest()
