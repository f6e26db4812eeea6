"""Staff aborts: a payment on its way is replaced by a transaction that pays nobody (CONTRACT 5)."""

import pytest

from gateway.payouts.aborts import AbortStep
from gateway.payouts.approvals import Action
from gateway.payouts.broadcaster import Broadcaster
from gateway.payouts.bump_policy import BUMPS_MAX
from gateway.payouts.context import Lane
from gateway.payouts.errors import DecisionRefused
from gateway.payouts.lane import PayoutLane
from gateway.withdrawals_store import WithdrawalRow
from ledger import accounts, balances
from ledger.accounts import Stage
from signer.protocol import Purpose
from tests.support.bumps import fees_rise, mine_only, pass_blocks, quote, sent
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.people import ask_abort, call_dead, employ

pytestmark = pytest.mark.postgres

BOTH = pytest.mark.parametrize("network", ["btc", "eth"])


async def on_its_way(house: Payouts) -> WithdrawalRow:
    """One payout that a node shows, in no block."""
    await employ(house)
    await house.fund(house.native, "0.5")
    await house.fund(house.native, "2", into="acme")
    row = await house.request("0.25")
    await house.cycle()
    found = await house.row(row)
    assert (found.state, found.txid is not None) == ("sent", True)
    return found


async def in_flight(house: Payouts, row: WithdrawalRow) -> int:
    """What of the player is in flight."""
    account = accounts.player(row.brand, row.player_id, Stage.IN_FLIGHT, row.asset)
    async with house.database.unit_of_work() as uow:
        return await balances.balance(uow, account)


async def until_it_dies(house: Payouts, dying: Lane) -> None:
    """Cycles and blocks; the lane's hook ends it."""
    depth = house.registry.chains[house.network].full_depth
    for count in (1, 1, depth, depth):
        await house.cycle(dying)
        await house.mine(count)


async def finish(house: Payouts) -> None:
    """Mine to the network's full depth: an abort pays nothing that has a tier of its own."""
    lane = await house.cycle()
    await house.mine()
    await house.cycle(lane)
    await house.mine(house.registry.chains[house.network].full_depth + 2)
    await house.cycle(lane, times=2)


@BOTH
async def test_two_people_stop_a_payment_and_the_money_goes_back(
    network: str, house: BuildHouse
) -> None:
    built = await house(network)
    row = await on_its_way(built)
    assert not await ask_abort(built, row, str(row.txid), "alice")
    await built.cycle()
    assert await built.states(row) == ["sent"]
    assert await ask_abort(built, row, str(row.txid), "bob")

    await built.cycle()
    [state] = await built.states(row)
    asked = built.signer.asked[-1]
    assert (state, asked.purpose, len(asked.approvals)) == ("cancelling", Purpose.ABORT, 2)
    assert asked.payments == ()
    assert row.txid not in built.sim.pool
    await finish(built)

    found = await built.row(row)
    assert found.state == "cancelled"
    assert found.txid != row.txid
    assert built.paid(row) == 0
    assert await in_flight(built, row) == 0
    assert await built.alarms() == []
    await built.assert_at_rest()


@BOTH
async def test_the_payment_may_be_mined_instead_and_is_completed(
    network: str, house: BuildHouse
) -> None:
    built = await house(network)
    row = await on_its_way(built)
    payment = built.sim.pool[str(row.txid)]
    await ask_abort(built, row, str(row.txid))
    await built.cycle()
    assert await built.states(row) == ["cancelling"]
    built.sim.pool.clear()
    built.sim.pool[str(row.txid)] = payment
    await built.mine()
    await finish(built)
    found = await built.row(row)
    assert (found.state, found.txid) == ("completed", row.txid)
    assert built.paid(row) == 1
    await built.assert_at_rest()


@BOTH
@pytest.mark.parametrize(
    "point",
    [
        "payout.abort_planned",
        "payout.bump_answered",
        "payout.bump_signed",
        "payout.broadcasting",
        "payout.sent_to_node",
        "payout.settled",
    ],
)
async def test_a_kill_at_each_step_of_an_abort_pays_nobody_and_gives_back_once(
    network: str, point: str, house: BuildHouse
) -> None:
    built = await house(network)
    row = await on_its_way(built)
    await ask_abort(built, row, str(row.txid))
    dying = built.lane(crash=crash_at(point))
    with pytest.raises(SimulatedCrash):
        await until_it_dies(built, dying)
    await finish(built)
    found = await built.row(row)
    assert found.state == ("completed" if built.paid(row) else "cancelled")
    assert await in_flight(built, row) == 0
    await built.assert_at_rest()


async def test_who_rides_with_others_is_never_aborted(btc: Payouts) -> None:
    await employ(btc)
    await btc.fund("btc:BTC", "0.5")
    await btc.fund("btc:BTC", "2", into="acme")
    rows = [await btc.request("0.2"), await btc.request("0.3")]
    await btc.cycle()
    found = await btc.row(rows[0])
    with pytest.raises(DecisionRefused, match="batched"):
        await ask_abort(btc, found, str(found.txid))


async def test_other_txids_and_other_states_are_refused(btc: Payouts) -> None:
    row = await on_its_way(btc)
    with pytest.raises(DecisionRefused, match="other_txid"):
        await ask_abort(btc, row, "ab" * 32)
    await finish(btc)
    with pytest.raises(DecisionRefused, match="wrong_state"):
        await ask_abort(btc, row, str(row.txid))


async def test_an_abort_that_the_signer_refuses_calls_people_and_the_payment_stands(
    btc: Payouts,
) -> None:
    """Its people are others than the gateway's."""
    await employ(btc, "carol", "dave")
    row = await on_its_way(btc)
    await ask_abort(btc, row, str(row.txid), "carol", "dave")
    await btc.cycle()
    assert await btc.states(row) == ["uncertain"]
    assert {"abort_blocked", "bump_refused"} <= set(await btc.alarms())
    btc.sim.pool.clear()
    await btc.cycle()
    assert await btc.states(row) == ["sent"]
    assert str(row.txid) in btc.sim.pool  # sent again
    await finish(btc)
    assert await btc.states(row) == ["completed"]
    assert btc.paid(row) == 1
    assert await btc.alarms() == []  # each ended with its reason
    await btc.assert_at_rest()


@BOTH
async def test_after_a_refused_abort_people_may_sign_again(network: str, house: BuildHouse) -> None:
    built = await house(network)
    await employ(built, "carol", "dave")
    row = await on_its_way(built)
    await ask_abort(built, row, str(row.txid), "carol", "dave")
    lane = await built.cycle()
    await built.cycle(lane)
    assert await built.states(row) == ["sent"]
    asked = len(built.signer.asked)
    await built.cycle(lane, times=2)
    assert len(built.signer.asked) == asked  # what they signed is used up
    built.sim.mine_exactly([])
    await built.follow()
    assert await ask_abort(built, row, str(row.txid))
    await built.cycle(lane)
    assert await built.states(row) == ["cancelling"]
    assert "abort_blocked" not in await built.alarms()
    await finish(built)
    assert await built.states(row) == ["cancelled"]
    assert built.paid(row) == 0
    await built.assert_at_rest()


async def test_whose_change_pays_somebody_else_already_is_not_thrown_out(btc: Payouts) -> None:
    await employ(btc)
    await btc.fund("btc:BTC", "0.001")
    await btc.fund("btc:BTC", "2", into="acme")
    first = await btc.request("0.5")
    lane = await btc.cycle()
    second = await btc.request("0.6")
    await btc.cycle(lane)
    found = await btc.row(first)
    assert await btc.states(first, second) == ["sent", "sent"]
    await ask_abort(btc, found, str(found.txid))
    await btc.cycle(lane)
    assert await btc.states(first, second) == ["sent", "sent"]
    assert "abort_blocked" in await btc.alarms()
    await finish(btc)
    assert await btc.states(first, second) == ["completed", "completed"]
    await btc.assert_at_rest()


async def test_p06_an_abort_that_loses_to_a_final_tx_goes_to_two_people(btc: Payouts) -> None:
    row = await on_its_way(btc)
    await ask_abort(btc, row, str(row.txid))
    lane = await btc.cycle()
    aborting = await btc.row(row)
    assert aborting.state == "cancelling"
    await btc.steal_inputs_of(str(aborting.txid))
    await btc.mine(1)
    await btc.cycle(lane)
    assert await btc.states(row) == ["cancelling"]  # a rival that is not final decides nothing
    await btc.mine(8)
    await btc.cycle(lane)

    found = await btc.row(row)
    assert (found.state, found.code) == ("on_hold", "anchor_dead")
    assert "anchor_dead" in await btc.alarms()
    dead = sorted([str(row.txid), str(aborting.txid)])
    assert await call_dead(btc, row, Action.DECLINE_DEAD, dead)
    await btc.cycle(lane, times=2)
    assert await btc.states(row) == ["declined"]
    assert await in_flight(btc, row) == 0
    assert btc.paid(row) == 0
    assert "anchor_dead" not in await btc.alarms()
    await btc.assert_at_rest()


@BOTH
async def test_an_abort_that_is_stuck_on_its_fee_is_bumped_and_settles_once(
    network: str, house: BuildHouse
) -> None:
    built = await house(network)
    row = await on_its_way(built)
    await ask_abort(built, row, str(row.txid))
    lane = await built.cycle()
    first = await built.row(row)
    assert first.state == "cancelling"
    await fees_rise(built)
    await pass_blocks(built)

    await built.cycle(lane)

    second = await built.row(row)
    assert (second.state, second.txid == first.txid) == ("cancelling", False)
    assert list(built.sim.pool) == [second.txid]
    payment, abort, bumped = await sent(built)
    assert (bumped.purpose, bumped.replaces_id) == ("abort", abort.id)
    assert bumped.fee_minor > abort.fee_minor > payment.fee_minor
    assert built.signer.asked[-1].payments == ()
    await finish(built)
    assert await built.states(row) == ["cancelled"]
    assert [tx.state for tx in await sent(built)] == ["replaced", "replaced", "final"]
    assert await in_flight(built, row) == 0
    assert built.paid(row) == 0
    assert await built.alarms() == []
    await built.assert_at_rest()


@BOTH
async def test_a_bumped_abort_that_its_first_one_beats_is_cancelled_by_that(
    network: str, house: BuildHouse
) -> None:
    built = await house(network)
    row = await on_its_way(built)
    await ask_abort(built, row, str(row.txid))
    lane = await built.cycle()
    first = str((await built.row(row)).txid)
    original = built.sim.pool[first]
    await fees_rise(built)
    await pass_blocks(built)
    await built.cycle(lane)
    assert len(await sent(built)) == 3
    built.sim.pool = {first: original}  # a miner who never saw the replacement
    await mine_only(built, first)
    await finish(built)
    found = await built.row(row)
    assert (found.state, found.txid) == ("cancelled", first)
    assert await in_flight(built, row) == 0
    await built.assert_at_rest()


async def test_an_abort_that_may_cost_no_more_calls_a_person_and_stays(btc: Payouts) -> None:
    row = await on_its_way(btc)
    await ask_abort(btc, row, str(row.txid))
    lane = await btc.cycle()
    for count in range(BUMPS_MAX + 1):
        kvb = 10_000 + 3_000 * count
        await quote(btc, {2: kvb, 6: kvb, 36: kvb})
        await pass_blocks(btc)
        await btc.cycle(lane)
    aborts = [tx.state for tx in await sent(btc) if tx.purpose == "abort"]
    assert (len(aborts), set(aborts)) == (BUMPS_MAX, {"seen"})
    assert await btc.alarms() == ["bump_capped"]
    await finish(btc)
    assert await btc.states(row) == ["cancelled"]
    assert await btc.alarms() == []
    await btc.assert_at_rest()


async def loop_of(house: Payouts) -> PayoutLane:
    """One process: a fresh one does nothing about what it could not compare with the signer."""
    loop = PayoutLane(await house.cycle())
    await loop.cycle()
    return loop


@BOTH
async def test_under_a_silent_signer_what_shall_be_aborted_is_still_sent_and_settled(
    network: str, house: BuildHouse
) -> None:
    """It was sent before: a nonce that nobody mines would stop its account."""
    built = await house(network)
    row = await on_its_way(built)
    loop = await loop_of(built)
    await ask_abort(built, row, str(row.txid))
    built.signer.is_down = True
    await loop.cycle()
    assert await built.states(row) == ["cancelling"]
    built.sim.pool.clear()  # evicted
    built.clock.advance(60)
    await loop.cycle()
    assert list(built.sim.pool) == [row.txid]
    await built.mine()
    await built.mine(built.registry.chains[network].full_depth + 2)
    await loop.cycle()
    found = await built.row(row)
    assert (found.state, found.txid) == ("completed", row.txid)
    assert built.paid(row) == 1
    built.signer.is_down = False
    await loop.cycle()  # the abort that was never asked for is dropped
    assert [tx.state for tx in await sent(built)] == ["final", "refused"]
    await built.assert_at_rest()


async def test_what_was_never_sent_and_shall_be_aborted_is_not_sent(btc: Payouts) -> None:
    await employ(btc)
    await btc.fund(btc.native, "0.5")
    await btc.fund(btc.native, "2", into="acme")
    row = await btc.request("0.25")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.signed")))
    found = await btc.row(row)
    assert found.state == "signed"
    await ask_abort(btc, found, str(found.txid))
    lane = await btc.cycle(times=0)
    await AbortStep(lane).run()
    await Broadcaster(lane).run()
    assert await btc.states(row) == ["cancelling"]
    assert btc.sim.pool == {}
    await finish(btc)
    assert await btc.states(row) == ["cancelled"]
    await btc.assert_at_rest()
