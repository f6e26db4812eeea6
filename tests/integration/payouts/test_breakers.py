"""A breaker in the way of a payout: nothing is built, signed or sent; nothing is lost or doubled.

Method: stop before a step, run cycles, see where the payout stands and what left the house; start
by two people, run to rest, and the payout was paid exactly once.
"""

import pytest

from tests.support.payout_fixtures import BuildHouse
from tests.support.payout_parts import DEPTH
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.simchain import SimUtxo
from watchers import switches
from watchers.switches import Action

DEEPEST = 6  # confirmations that make anything final on Bitcoin

pytestmark = pytest.mark.postgres


async def funded(built: Payouts) -> Payouts:
    """Capital for fees, and something to pay out of."""
    await built.fund(built.native, "1")
    await built.fund(built.native, "2", into="acme")
    return built


async def stop(built: Payouts, action: Action, *, scope: str | None = None) -> None:
    """Open a breaker, under the payouts' own role."""
    async with built.role.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope=scope or f"network:{built.network}",
            action=action,
            reason="drill",
            actor="ada",
            ids=built.ids,
            at=built.clock.now(),
        )


async def start(built: Payouts, action: Action, *, scope: str | None = None) -> None:
    """What the API does once two people agreed."""
    scope = scope or f"network:{built.network}"
    async with built.database.unit_of_work() as uow:
        found = await switches.get(uow, scope=scope, action=action)
        assert found is not None
        closed = await switches.close_breaker(
            uow,
            scope=scope,
            action=action,
            version=found.version,
            reason="over",
            proposed_by="ada",
            approved_by="grace",
            ids=built.ids,
            at=built.clock.now(),
        )
    assert closed is not None


async def run_to_rest(built: Payouts) -> None:
    """A fresh process, and blocks enough for everything to be final."""
    lane = await built.cycle(times=2)
    for _ in range(6):
        await built.mine()
        await built.cycle(lane)


async def attempts_made(built: Payouts) -> int:
    """How many transactions were ever built."""
    async with built.database.unit_of_work() as uow:
        return int((await uow.execute("SELECT count(*) FROM chain.outgoing")).scalar_one())


async def families_made(built: Payouts) -> int:
    """How many payments could ever be made by the transactions that were built."""
    async with built.database.unit_of_work() as uow:
        found = await uow.execute("SELECT count(DISTINCT family_id) FROM chain.outgoing")
        return int(found.scalar_one())


@pytest.mark.parametrize("network", ["btc", "eth"])
@pytest.mark.parametrize("action", [Action.ALL, Action.BUILD, Action.SIGN])
async def test_i16_what_may_not_be_built_or_signed_stays_queued_and_goes_on_by_itself(
    network: str, action: Action, house: BuildHouse
) -> None:
    built = await funded(await house(network))
    row = await built.request("0.25")
    await stop(built, action)
    await built.cycle(times=3)
    assert await built.states(row) == ["queued"]
    assert (built.signer.asked, await attempts_made(built)) == ([], 0)

    await start(built, action)
    await run_to_rest(built)
    assert await built.states(row) == ["completed"]
    assert (built.paid(row), await attempts_made(built)) == (1, 1)
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_i16_a_planned_payout_is_not_signed_while_signing_is_stopped(
    network: str, house: BuildHouse
) -> None:
    built = await funded(await house(network))
    row = await built.request("0.25")
    with pytest.raises(SimulatedCrash):
        await built.cycle(built.lane(crash=crash_at("payout.planned")))
    await stop(built, Action.SIGN)
    await built.cycle(times=3)
    assert (await built.states(row), built.signer.asked) == (["planned"], [])

    await start(built, Action.SIGN)
    await run_to_rest(built)
    assert (await built.states(row), built.paid(row)) == (["completed"], 1)
    await built.assert_at_rest()


async def test_i16_a_planned_payout_that_waits_too_long_is_queued_once_and_not_built_again(
    btc: Payouts,
) -> None:
    await funded(btc)
    row = await btc.request("0.25")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.planned")))
    await stop(btc, Action.SIGN)
    btc.clock.advance(61)
    await btc.sample_fees()
    await btc.cycle(times=3)
    assert await btc.history(row) == ["received", "reserved", "queued", "planned", "queued"]

    await start(btc, Action.SIGN)
    await run_to_rest(btc)
    assert (await btc.states(row), btc.paid(row)) == (["completed"], 1)
    await btc.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
@pytest.mark.parametrize("point", ["payout.sign_requested", "payout.signer_answered"])
async def test_i16_p02_a_question_that_was_committed_is_not_asked_again_until_the_start(
    network: str, point: str, house: BuildHouse
) -> None:
    built = await funded(await house(network))
    row = await built.request("0.25")
    with pytest.raises(SimulatedCrash):
        await built.cycle(built.lane(crash=crash_at(point)))
    asked = len(built.signer.asked)
    await stop(built, Action.SIGN)
    await built.cycle(times=3)
    assert (await built.states(row), len(built.signer.asked)) == (["planned"], asked)

    await start(built, Action.SIGN)
    await run_to_rest(built)
    assert (await built.states(row), built.paid(row)) == (["completed"], 1)
    assert len({request.unsigned for request in built.signer.asked}) == 1
    await built.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
@pytest.mark.parametrize(
    ("point", "states"),
    [
        ("payout.signed", ["signed"]),
        ("payout.broadcasting", ["uncertain"]),
    ],
)
async def test_i16_signed_bytes_are_not_sent_while_sending_is_stopped(
    network: str, point: str, states: list[str], house: BuildHouse
) -> None:
    built = await funded(await house(network))
    row = await built.request("0.25")
    with pytest.raises(SimulatedCrash):
        await built.cycle(built.lane(crash=crash_at(point)))
    await stop(built, Action.BROADCAST)
    lane = await built.cycle(times=3)
    for _ in range(3):
        built.clock.advance(31)
        await built.mine()
        await built.cycle(lane)
    assert (await built.states(row), built.paid(row)) == (states, 0)

    await start(built, Action.BROADCAST)
    await run_to_rest(built)
    assert (await built.states(row), built.paid(row)) == (["completed"], 1)
    assert await families_made(built) == 1  # a promise in danger may have been bumped since
    await built.assert_at_rest()


async def test_i16_what_was_sent_before_the_stop_is_still_found_and_settled(btc: Payouts) -> None:
    await funded(btc)
    row = await btc.request("0.25")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.sent_to_node")))
    await stop(btc, Action.ALL)
    await run_to_rest(btc)
    assert (await btc.states(row), btc.paid(row)) == (["completed"], 1)
    await btc.assert_at_rest()


async def test_i16_a_stopped_token_leaves_the_coin_of_its_network_running(eth: Payouts) -> None:
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:ETH", "2", into="acme")
    await eth.fund("eth:USDT", "100", into="acme")
    token = await eth.request("12.5", asset="eth:USDT")
    coin = await eth.request("0.25")
    await stop(eth, Action.BUILD, scope="asset:eth:USDT")
    await run_to_rest(eth)
    assert await eth.states(token, coin) == ["queued", "completed"]

    await start(eth, Action.BUILD, scope="asset:eth:USDT")
    await run_to_rest(eth)
    assert await eth.states(token, coin) == ["completed", "completed"]
    assert (eth.paid(token), eth.paid(coin)) == (1, 1)
    await eth.assert_at_rest()


async def test_d05_a_completed_payout_that_loses_its_block_stops_its_network(btc: Payouts) -> None:
    """What was final was not: the bytes are not sent again, nothing new is built (CONTRACT 5)."""
    await funded(btc)
    first = await btc.request("0.25")
    await run_to_rest(btc)
    assert await btc.states(first) == ["completed"]
    second = await btc.request("0.125")
    btc.sim.rewind(7)
    btc.sim.pool.clear()
    for _ in range(8):
        btc.sim.mine_exactly([])
    await btc.follow()
    await btc.cycle(times=3)
    assert (await btc.states(first))[0] in ("sent", "uncertain")
    assert await btc.states(second) == ["queued"]
    assert {"switch_stopped", "withdrawal_reopened"} <= set(await btc.alarms())

    await start(btc, Action.ALL)
    await run_to_rest(btc)
    assert await btc.states(first, second) == ["completed", "completed"]
    assert (btc.paid(first), btc.paid(second)) == (1, 1)
    await btc.assert_at_rest()


async def test_p23_a_payout_whose_input_is_reorged_away_is_flagged_and_the_network_stops(
    btc: Payouts,
) -> None:
    """P23: the coin was final when it was taken; its tx is double-spent on the new branch. What
    comes next stays queued until two people have looked, and is paid once."""
    await btc.fund("btc:BTC", "0.01")
    await btc.fund("btc:BTC", "2", into="acme")
    await btc.mine(DEEPEST - DEPTH)
    async with btc.database.unit_of_work() as uow:
        found = await uow.execute("SELECT txid FROM chain.coins ORDER BY amount DESC LIMIT 1")
        inflow = str(found.scalar_one())
    row = await btc.request("0.25")
    lane = await btc.cycle()
    [txid] = list(btc.sim.pool)
    assert await btc.states(row) == ["sent"]
    assert isinstance(btc.sim, SimUtxo)
    btc.sim.rewind(DEEPEST)
    btc.sim.conflict(inflow)
    for _ in range(DEEPEST + 1):
        btc.sim.mine()
    await btc.follow()
    later = await btc.request("0.125")
    await btc.cycle(lane, times=3)

    alarms = set(await btc.alarms())
    assert "switch_stopped" in alarms
    assert await btc.states(later) == ["queued"]
    flagged = await btc.row(row)
    assert (flagged.state, flagged.code, flagged.txid) == ("on_hold", "anchor_dead", txid)
