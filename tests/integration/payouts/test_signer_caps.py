"""S05, P27: the signer's caps. What a smaller tx cures is cut, what time cures waits by itself.

Caps of the test signer, per coin: 5 per tx, 8 per hour, 10 per day.
"""

import pytest

from gateway.payouts.lane import PayoutLane
from gateway.payouts.refusals import CAP_WAIT_LEAST, CAP_WAIT_MOST
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts, SimulatedCrash, crash_at

pytestmark = pytest.mark.postgres

WAIT_SECONDS = int(CAP_WAIT_LEAST.total_seconds())
HOUR_SECONDS = 3_600


async def ready(house: Payouts) -> None:
    await house.fund(house.native, "1")
    for _ in range(2):
        await house.fund(house.native, "10", into="acme")
    await house.fund(house.native, "10", into="bravo")


async def later(house: Payouts, seconds: int) -> None:
    """Both clocks, and a fresh fee sample."""
    house.clock.advance(seconds)
    house.signer.kit.clock.now += seconds
    await house.sample_fees()


async def test_s05_a_batch_over_the_cap_per_tx_is_cut_until_it_passes(btc: Payouts) -> None:
    await ready(btc)
    rows = [await btc.request("1.9", player_id=f"p-{number}") for number in range(4)]

    lane = await btc.cycle(times=4)
    await btc.mine(3)
    await btc.cycle(lane, times=2)

    assert await btc.states(*rows) == ["completed"] * 4
    assert len({(await btc.row(row)).txid for row in rows}) == 2
    assert "signer_refused" not in await btc.alarms()
    await btc.assert_at_rest()


async def test_s05_p27_a_single_payment_over_the_cap_per_tx_is_held_and_blocks_nobody(
    btc: Payouts,
) -> None:
    await ready(btc)
    big = await btc.request("5.1", player_id="big")
    small = [await btc.request("0.1", player_id=f"p-{number}") for number in range(3)]

    await btc.cycle(times=4)

    found = await btc.row(big)
    assert (found.state, found.code) == ("on_hold", "signer_refused")
    assert await btc.states(*small) == ["sent"] * 3


async def test_s05_over_the_cap_per_hour_waits_and_is_paid_by_itself(btc: Payouts) -> None:
    await ready(btc)
    first = await btc.request("4.9", player_id="a")
    lane = await btc.cycle()
    big, small = await btc.request("4", player_id="b"), await btc.request("0.5", player_id="c")

    await btc.cycle(lane, times=3)

    assert await btc.states(first, big, small) == ["sent", "waiting_liquidity", "sent"]
    waiting = await btc.row(big)
    assert waiting.code == "signer_cap"
    assert (waiting.attempt_id, waiting.sign_requested_at) == (None, None)
    assert waiting.is_reserved
    assert (await btc.alarms()).count("signer_cap") == 1
    asked = len(btc.signer.asked)
    await btc.cycle(lane, times=5)
    assert len(btc.signer.asked) == asked  # not in each pass

    await later(btc, WAIT_SECONDS)
    await btc.mine(3)
    await btc.cycle(lane, times=3)
    assert len(btc.signer.asked) == asked + 1  # once, and refused again
    assert await btc.states(big) == ["waiting_liquidity"]
    assert (await btc.alarms()).count("signer_cap") == 1

    await later(btc, HOUR_SECONDS + 1)
    await btc.cycle(lane)
    assert await btc.states(big) == ["sent"]
    assert "signer_cap" not in await btc.alarms()
    await btc.mine(3)
    await btc.cycle(lane, times=2)
    assert btc.paid(big) == 1
    await btc.assert_at_rest()


async def test_s05_one_brands_wait_stops_no_other_brand(btc: Payouts) -> None:
    """Three are left of the hour: four of acme do not fit, whatever bravo asks beside it."""
    await ready(btc)
    await btc.request("5", player_id="a")
    lane = await btc.cycle()
    big = await btc.request("4", player_id="b")
    others = [
        await btc.request("0.1", player_id=f"v-{number}", brand="bravo") for number in range(3)
    ]

    await btc.cycle(lane, times=2)

    assert await btc.states(big, *others) == ["waiting_liquidity"] + ["sent"] * 3


async def test_s05_cap_of_an_account_chain_gives_the_nonce_to_the_next(eth: Payouts) -> None:
    await ready(eth)
    first = await eth.request("4.9", player_id="a")
    lane = await eth.cycle()
    big = await eth.request("4", player_id="b")
    await eth.cycle(lane)
    assert (await eth.row(big)).code == "signer_cap"
    small = await eth.request("0.5", player_id="c")

    await eth.cycle(lane, times=2)

    assert await eth.states(first, big, small) == ["sent", "waiting_liquidity", "sent"]
    async with eth.database.unit_of_work() as uow:
        nonces = await uow.execute(
            "SELECT nonce FROM chain.outgoing WHERE raw IS NOT NULL ORDER BY nonce"
        )
        assert nonces.scalars().all() == [0, 1]
    await later(eth, HOUR_SECONDS + 1)
    await eth.cycle(lane, times=2)
    assert await eth.states(big) == ["sent"]


@pytest.mark.parametrize("network", ["btc", "eth"])
@pytest.mark.parametrize("point", ["payout.signer_answered", "payout.refused"])
async def test_p02_killed_around_a_cap_refusal_waits_all_the_same_and_pays_once(
    network: str, point: str, house: BuildHouse
) -> None:
    built = await house(network)
    await ready(built)
    await built.request("4.9", player_id="a")
    lane = await built.cycle()
    big = await built.request("4", player_id="b")

    with pytest.raises(SimulatedCrash):
        await built.cycle(built.lane(crash=crash_at(point)))
    lane = await built.cycle(times=2)

    assert await built.states(big) == ["waiting_liquidity"]
    assert (await built.row(big)).code == "signer_cap"
    refused = [item.attempt_id for item in built.signer.asked[1:]]
    assert len(set(refused)) == 1  # the same question got the same answer
    await later(built, HOUR_SECONDS + 1)
    for _ in range(5):
        await PayoutLane(lane).cycle()
        await built.mine(4)
    await PayoutLane(lane).cycle()
    assert await built.states(big) == ["completed"]
    assert built.paid(big) == 1
    await built.assert_at_rest()


async def test_many_waiting_for_a_cap_are_not_asked_about_one_by_one(btc: Payouts) -> None:
    """Forty payments of one brand over the hour's rest: a few questions per round, not forty."""
    await ready(btc)
    await btc.request("4.9", player_id="a")
    lane = await btc.cycle()
    await btc.request("3", player_id="b")
    await btc.cycle(lane)
    rows = [await btc.request("0.2", player_id=f"p-{number}") for number in range(20)]
    asked = len(btc.signer.asked)

    await btc.cycle(lane, times=8)

    assert set(await btc.states(*rows)) == {"waiting_liquidity"}
    assert len(btc.signer.asked) - asked <= 6


def test_the_waits_are_bounded() -> None:
    assert CAP_WAIT_LEAST < CAP_WAIT_MOST
