"""T6, P02: killed at every step of a move to cold, a fresh process goes on and it is made once."""

import pytest

from gateway.payouts.crash import POINTS_OF_REBALANCES
from tests.support.bumps import (
    funded,
    mine_only,
    no_breaks,
    pass_blocks,
    run_to_rest,
    sent,
    work,
)
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import SimulatedCrash, crash_at
from tests.support.rebalancing import agree, ask, custody, every, now, pin, told, with_cold

pytestmark = pytest.mark.postgres

ELSEWHERE = {"payout.rebalance_refused", "payout.rebalance_bumped"}  # tests of their own below
POINTS = [
    *(point for point in POINTS_OF_REBALANCES if point not in ELSEWHERE),
    "payout.broadcasting",
    "payout.sent_to_node",
    "payout.child_settled",
]
BLOCKS_UNTIL_LATE = 20  # the test fails where none of them makes a move dearer
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


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p02_killed_with_a_dearer_attempt_planned_one_attempt_counts(
    network: str, house: BuildHouse
) -> None:
    built = await with_cold(await funded(await house(network)))
    row = await agree(built, await ask(built, "1"))
    await work(built, times=2)
    dying = built.lane(crash=crash_at("payout.rebalance_bumped"))

    async def wait() -> None:
        for _ in range(BLOCKS_UNTIL_LATE):
            await pass_blocks(built)
            await built.sample_fees()
            await work(built, dying)

    with pytest.raises(SimulatedCrash):
        await wait()
    [first, planned] = await sent(built)
    assert (planned.state, planned.replaces_id) == ("built", first.id)

    lane = await work(built, times=2)

    [_, dearer] = await sent(built)
    assert (dearer.id, (await now(built, row)).txid) == (planned.id, dearer.txid)
    asked = [item.unsigned for item in built.signer.asked if item.attempt_id == str(planned.id)]
    assert len(asked) == 1
    await mine_only(built, dearer.txid or "")
    await run_to_rest(built, lane)
    found = await now(built, row)
    assert (found.state, found.txid) == ("done", dearer.txid)
    assert await custody(built, "cold") == row.amount_minor
    assert await built.alarms() == []
    await no_breaks(built)
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p02_killed_at_a_refusal_the_move_has_failed_and_nothing_is_held(
    network: str, house: BuildHouse
) -> None:
    built = await funded(await house(network))
    await with_cold(built, is_pinned=False)
    pin(built)  # this minute: it counts tomorrow
    row = await agree(built, await ask(built, "1"))
    with pytest.raises(SimulatedCrash):
        await work(built, built.lane(crash=crash_at("payout.rebalance_refused")), times=2)

    await run_to_rest(built)

    found = await now(built, row)
    assert (found.state, found.code) == ("failed", "not_pinned")
    assert len(built.signer.asked) == 1
    assert await built.alarms() == ["rebalance_failed"]
    payout = await built.request("1.5")  # coins and nonce went to the next one
    await run_to_rest(built)
    assert await built.states(payout) == ["completed"]
    await no_breaks(built)
