"""P15, P16: on account chains a bump has the same nonce, and both fee fields 12.5 % higher."""

import pytest

from tests.support.bumps import (
    funded,
    mine_only,
    no_breaks,
    pass_blocks,
    quote,
    run_to_rest,
    sent,
    work,
)
from tests.support.payouts import Payouts
from tests.support.sim_account import decode

pytestmark = pytest.mark.postgres

GWEI = 10**9


async def calm(house: Payouts) -> None:
    await quote(house, {1: GWEI, 5: GWEI}, floor=0, base_fee=GWEI)


async def busy(house: Payouts) -> None:
    await quote(house, {1: 9 * GWEI, 5: 9 * GWEI}, floor=0, base_fee=9 * GWEI)


@pytest.mark.parametrize("asset", ["eth:ETH", "eth:USDT"])
async def test_p16_a_stuck_nonce_is_bumped_and_paid_once(eth: Payouts, asset: str) -> None:
    await funded(eth)
    await eth.fund("eth:USDT", "50", into="acme")
    await calm(eth)
    row = await eth.request("0.25", asset=asset)
    lane = await work(eth)
    first = (await eth.row(row)).txid
    assert first is not None
    before = decode(eth.sim.pool[first])
    await busy(eth)
    await pass_blocks(eth)

    await work(eth, lane)

    second = (await eth.row(row)).txid
    assert second is not None
    assert await eth.states(row) == ["sent"]
    assert list(eth.sim.pool) == [second]
    after = decode(eth.sim.pool[second])
    assert (after.sender, after.nonce, after.to, after.value, after.data, after.gas) == (
        before.sender, before.nonce, before.to, before.value, before.data, before.gas,
    )  # fmt: skip
    assert after.max_fee * 1_000 >= before.max_fee * 1_125
    assert after.priority * 1_000 >= before.priority * 1_125
    await run_to_rest(eth, lane)
    assert await eth.states(row) == ["completed"]
    assert eth.paid(row) == 1
    assert [tx.state for tx in await sent(eth)] == ["replaced", "final"]
    await no_breaks(eth)
    await eth.assert_at_rest()


async def test_p20_the_original_of_a_nonce_is_mined_instead(eth: Payouts) -> None:
    """Nodes answer "nonce too low" to the replacement; only the chain's evidence counts (P05)."""
    await funded(eth)
    await calm(eth)
    row = await eth.request("0.25")
    lane = await work(eth)
    first = (await eth.row(row)).txid
    assert first is not None
    original = eth.sim.pool[first]
    await busy(eth)
    await pass_blocks(eth)
    await work(eth, lane)
    eth.sim.pool = {first: original}
    eth.sim.mine_exactly([first])  # the watcher has not seen it yet
    eth.clock.advance(60)
    await work(eth, lane)
    assert await eth.states(row) == ["sent"]

    await mine_only(eth)
    await work(eth, lane)

    assert (await eth.row(row)).txid == first
    await run_to_rest(eth, lane)
    assert await eth.states(row) == ["completed"]
    assert eth.paid(row) == 1
    assert await eth.alarms() == []
    await no_breaks(eth)
    await eth.assert_at_rest()


async def test_p15_only_the_lowest_nonce_is_bumped_and_for_the_most_urgent_behind_it(
    eth: Payouts,
) -> None:
    await funded(eth)
    await calm(eth)
    rows = [await eth.request("0.3", fee_class="economy")]
    lane = await work(eth)
    rows += [await eth.request("0.2", fee_class="urgent"), await eth.request("0.1")]
    await work(eth, lane)
    await busy(eth)
    await pass_blocks(eth)

    await work(eth, lane)

    bumped = [tx for tx in await sent(eth) if tx.replaces_id is not None]
    assert [tx.nonce for tx in bumped] == [0]
    await run_to_rest(eth, lane)
    assert await eth.states(*rows) == ["completed"] * 3
    assert [eth.paid(row) for row in rows] == [1, 1, 1]
    await eth.assert_at_rest()


async def test_p16_what_policy_forbids_calls_a_person_once(eth: Payouts) -> None:
    """The payment is small: a bump would cost more than a tenth of it."""
    await funded(eth)
    await calm(eth)
    row = await eth.request("0.0002")
    lane = await work(eth)
    await busy(eth)
    for _ in range(3):
        await pass_blocks(eth)
        await work(eth, lane)

    assert len(await sent(eth)) == 1
    assert await eth.alarms() == ["bump_capped"]
    await run_to_rest(eth, lane)
    assert await eth.states(row) == ["completed"]
    assert await eth.alarms() == []  # it was mined all the same
