"""The ways out for staff: a held payout goes on, a dead one is paid anew or given up (W12, P06)."""

import pytest

from gateway.errors import TooLate
from gateway.payouts import withdrawals
from gateway.payouts.approvals import Action
from gateway.payouts.errors import DecisionRefused, MaybeSigned
from gateway.withdrawals_store import WithdrawalRow
from ledger import accounts, balances
from ledger.accounts import Stage
from signer.protocol import Purpose
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.people import approve, call_dead, employ
from tests.support.simchain import SimUtxo

pytestmark = pytest.mark.postgres


async def dead_payout(btc: Payouts) -> tuple[WithdrawalRow, str]:
    """A payout whose coin somebody with our key spent elsewhere, for good; and its txid."""
    await employ(btc)
    await btc.fund("btc:BTC", "0.01")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.25")
    lane = await btc.cycle()
    assert isinstance(btc.sim, SimUtxo)
    [txid] = list(btc.sim.pool)
    await btc.steal_inputs_of(txid)
    await btc.mine(8)
    await btc.cycle(lane)
    found = await btc.row(row)
    assert (found.state, found.code, found.txid) == ("on_hold", "anchor_dead", txid)
    await btc.fund("btc:BTC", "3")
    return found, txid


async def stage(btc: Payouts, row: WithdrawalRow, which: Stage) -> int:
    """What of the player stands in a stage."""
    async with btc.database.unit_of_work() as uow:
        return await balances.balance(
            uow, accounts.player(row.brand, row.player_id, which, row.asset)
        )


async def finish(btc: Payouts, row: WithdrawalRow) -> None:
    """Mine and cycle until it is completed."""
    lane = await btc.cycle()
    for _ in range(4):
        await btc.mine()
        await btc.cycle(lane)
    assert await btc.states(row) == ["completed"]


async def test_p06_a_reissue_by_two_people_pays_once_more_and_only_once(btc: Payouts) -> None:
    row, dead = await dead_payout(btc)
    assert not await call_dead(btc, row, Action.REISSUE, [dead], "alice")
    await btc.cycle()
    assert await btc.states(row) == ["on_hold"]
    assert await call_dead(btc, row, Action.REISSUE, [dead], "bob")

    await finish(btc, row)

    asked = btc.signer.asked[-1]
    assert (asked.purpose, len(asked.approvals)) == (Purpose.REISSUE, 2)
    assert btc.paid(row) == 1
    found = await btc.row(row)
    assert found.txid != dead
    assert await btc.history(row) == [
        "received", "reserved", "queued", "planned", "signed", "broadcasting", "sent",
        "uncertain", "on_hold",
        "queued", "planned", "signed", "broadcasting", "sent", "confirming", "completed",
    ] or (await btc.history(row))[-8:] == [
        "on_hold", "queued", "planned", "signed", "broadcasting", "sent", "confirming", "completed",
    ]  # fmt: skip
    assert await btc.alarms() == []
    await btc.assert_at_rest()


async def test_p06_a_decline_of_a_dead_one_gives_the_money_back_once(btc: Payouts) -> None:
    row, dead = await dead_payout(btc)
    assert await stage(btc, row, Stage.IN_FLIGHT) == row.amount_minor
    assert await call_dead(btc, row, Action.DECLINE_DEAD, [dead])
    await btc.cycle(times=3)
    found = await btc.row(row)
    assert (found.state, found.code) == ("declined", "anchor_dead")
    assert await stage(btc, row, Stage.IN_FLIGHT) == 0
    assert await btc.alarms() == []
    assert btc.paid(row) == 0
    await btc.assert_at_rest()


@pytest.mark.parametrize("action", [Action.REISSUE, Action.DECLINE_DEAD])
async def test_a_death_between_decision_and_deed_loses_and_doubles_nothing(
    btc: Payouts, action: Action
) -> None:
    row, dead = await dead_payout(btc)
    await call_dead(btc, row, action, [dead])
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.exit")))
    if action is Action.REISSUE:
        await finish(btc, row)
        assert btc.paid(row) == 1
    else:
        await btc.cycle()
        assert await btc.states(row) == ["declined"]
    await btc.assert_at_rest()


async def test_s15_one_person_twice_or_other_txids_carry_nothing_out(btc: Payouts) -> None:
    row, dead = await dead_payout(btc)
    for txids in ([], ["ab" * 32], sorted([dead, "ab" * 32])):
        with pytest.raises(DecisionRefused, match="other_txids"):
            await call_dead(btc, row, Action.REISSUE, txids)
    assert not await call_dead(btc, row, Action.REISSUE, [dead], "alice", "alice")
    await call_dead(btc, row, Action.DECLINE_DEAD, [dead], "bob")
    await btc.cycle()
    assert await btc.states(row) == ["on_hold"]


async def test_what_two_people_decided_no_third_turns_round(btc: Payouts) -> None:
    await employ(btc, "carol")
    row, dead = await dead_payout(btc)
    assert await call_dead(btc, row, Action.DECLINE_DEAD, [dead])
    with pytest.raises(DecisionRefused, match="other_action"):
        await call_dead(btc, row, Action.REISSUE, [dead], "carol")


async def test_a33_a_reissue_that_waits_is_no_unsigned_order(btc: Payouts) -> None:
    """Nothing ends it by itself: no cancel of the client, no clock; nobody simply approves it."""
    row, dead = await dead_payout(btc)
    await call_dead(btc, row, Action.REISSUE, [dead])
    btc.clock.advance(24 * 3_600)  # no fee quote is young enough to build with
    await btc.cycle()
    assert await btc.states(row) == ["queued"]
    assert await stage(btc, row, Stage.RESERVED) == row.amount_minor
    assert await stage(btc, row, Stage.IN_FLIGHT) == 0
    with pytest.raises(TooLate):
        async with btc.database.unit_of_work() as uow:
            await withdrawals.cancel(uow, row.id, ids=btc.ids, at=btc.clock.now())
    btc.clock.advance(8 * 24 * 3_600)
    btc.signer.kit.clock.now += 60
    await btc.sample_fees()
    await finish(btc, row)
    assert btc.paid(row) == 1
    await btc.assert_at_rest()


async def test_a_reissue_that_the_signer_refuses_is_held_and_may_be_given_up(btc: Payouts) -> None:
    """The signer's people are others than the gateway's: it signs for its own alone."""
    await employ(btc, "carol", "dave")
    row, dead = await dead_payout(btc)
    await call_dead(btc, row, Action.REISSUE, [dead], "carol", "dave")
    await btc.cycle()
    found = await btc.row(row)
    assert (found.state, found.code, found.txid) == ("on_hold", "signer_refused", dead)
    with pytest.raises(MaybeSigned):
        await approve(btc, row, "alice")
    await call_dead(btc, row, Action.DECLINE_DEAD, [dead])
    await btc.cycle()
    assert await btc.states(row) == ["declined"]
    assert await btc.alarms() == []
    assert btc.paid(row) == 0
    await btc.assert_at_rest()


async def test_s15_approvals_of_staff_travel_to_the_signer(btc: Payouts) -> None:
    """Let go from a hold by a person: the signature goes with the question."""
    await employ(btc)
    await btc.fund("btc:BTC", "0.01")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.25")
    async with btc.database.unit_of_work() as uow:
        await withdrawals.move(
            uow, row, withdrawals.Trigger.HOLD, ids=btc.ids, at=btc.clock.now(),
            changes={"code": "signer_refused"},
        )  # fmt: skip
    await approve(btc, row, "alice")
    await btc.cycle()
    [asked] = btc.signer.asked
    assert asked.purpose is Purpose.WITHDRAWAL
    assert [item.path.rsplit("/", 1)[-1] for item in asked.approvals] == ["approve"]
    assert await btc.states(row) == ["sent"]
