"""P02, P03: one kill after every step of a payout; a fresh process continues, and pays once.

Method: the crash hook raises at the named point, which ends the lane's cycle exactly there; a new
lane (new lease holder, empty memory) then runs to rest.
"""

import pytest

from gateway.payouts.context import Lane
from gateway.payouts.crash import POINTS
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts, SimulatedCrash, crash_at

pytestmark = pytest.mark.postgres

STATE_AT = {
    "payout.planned": "planned",
    "payout.sign_requested": "planned",
    "payout.signer_answered": "planned",
    "payout.signed": "signed",
    "payout.broadcasting": "broadcasting",
    "payout.sent_to_node": "broadcasting",
    "payout.recorded": "sent",
    "payout.settled": "completed",
}


async def funded(built: Payouts) -> Payouts:
    """Capital for fees, and something to pay out of."""
    await built.fund(built.native, "1")
    await built.fund(built.native, "2", into="acme")
    return built


async def run_to_rest(built: Payouts) -> None:
    lane = await built.cycle(times=2)
    for _ in range(5):
        await built.mine()
        await built.cycle(lane)


async def run_until_it_dies(built: Payouts, dying: Lane) -> None:
    for _ in range(8):
        await built.cycle(dying)
        await built.mine()


@pytest.mark.parametrize("network", ["btc", "eth"])
@pytest.mark.parametrize("point", POINTS)
async def test_p02_kill_after_each_step_pays_once(
    network: str, point: str, house: BuildHouse
) -> None:
    built = await funded(await house(network))
    row = await built.request("0.25")
    dying = built.lane(crash=crash_at(point))

    with pytest.raises(SimulatedCrash):
        await run_until_it_dies(built, dying)
    assert await built.states(row) == [STATE_AT[point]]
    await run_to_rest(built)

    assert await built.states(row) == ["completed"]
    assert built.paid(row) == 1
    assert len({request.attempt_id for request in built.signer.asked}) == 1
    assert len({request.unsigned for request in built.signer.asked}) == 1
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_p03_crash_after_broadcast_finds_the_recorded_txid(
    network: str, house: BuildHouse
) -> None:
    """The node has it, the books do not: looked for by txid, nothing is built again."""
    built = await funded(await house(network))
    row = await built.request("0.25")
    with pytest.raises(SimulatedCrash):
        await built.cycle(built.lane(crash=crash_at("payout.sent_to_node")))
    recorded = (await built.row(row)).txid
    assert recorded in built.sim.pool

    await built.cycle()

    assert await built.states(row) == ["sent"]
    assert (await built.row(row)).txid == recorded
    assert list(built.sim.pool) == [recorded]


async def test_p02_kill_in_a_row_at_every_step_still_pays_once(
    btc: Payouts,
) -> None:
    """P40's spirit: a crash during the recovery from a crash still converges."""
    built = await funded(btc)
    row = await built.request("0.25")

    for point in POINTS[:-1]:
        with pytest.raises(SimulatedCrash):
            await built.cycle(built.lane(crash=crash_at(point)))
    await run_to_rest(built)

    assert await built.states(row) == ["completed"]
    assert built.paid(row) == 1
    await built.assert_at_rest()
