"""D12: a rejected deposit goes back to where two people send it, once, less the fee."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from gateway import withdrawals_store
from gateway.errors import TooLate
from gateway.payouts import crash, decisions, refunds, withdrawals
from gateway.payouts.errors import DecisionRefused
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Purpose, Refusal
from tests.support.bumps import KVB, pass_blocks, quote, run_to_rest, sent, work
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import FOREIGN, Payouts, SimulatedCrash, crash_at
from tests.support.people import employ
from tests.support.people import said as said_about
from tests.support.refunding import (
    block,
    books,
    deposit_now,
    deposit_states,
    findings,
    finish,
    open_refunds,
    paid,
    refund_of,
    reject,
    rejected,
    said,
    sign,
)
from watchers import deposit_refunds
from watchers.deposit_commands import DepositRow
from watchers.errors import DepositStays

pytestmark = pytest.mark.postgres

HELD = "player:acme:anna:held:{asset}"
RESERVED = "player:acme:anna:reserved:{asset}"
SENT = ["received", "reserved", "pending_approval", "queued", "planned", "signed", "broadcasting",
        "sent", "confirming", "completed"]  # fmt: skip


async def opened(house: BuildHouse, network: str) -> Payouts:
    """The house with fees paid in, and people who may refund."""
    built = await house(network)
    await built.fund(built.native, "1")
    await open_refunds(built)
    return built


async def give_up(built: Payouts, row: WithdrawalRow, person: str = "alice") -> WithdrawalRow:
    """A person declines it, as the API does: the deposit first."""
    async with built.database.unit_of_work() as uow:
        assert row.deposit_id is not None
        await deposit_refunds.lock(uow, [row.deposit_id])
        locked = await withdrawals_store.get(uow, row.id, lock=True)
        assert locked is not None
        desk = said_about(built, row, {"action": "decline", "reason": "no"}, person)
        return await decisions.decline(uow, locked, desk)


@pytest.mark.parametrize("network", ["btc", "ltc", "eth"])
async def test_d12_two_people_send_a_held_deposit_back(network: str, house: BuildHouse) -> None:
    built = await opened(house, network)
    before = await books(built)
    deposit = await rejected(built)
    held, reserved = HELD.format(asset=built.native), RESERVED.format(asset=built.native)
    assert (await books(built))[held] == deposit.amount_minor

    row = await sign(built, deposit, "alice")
    assert (row.state, row.code, row.is_reserved) == ("pending_approval", "refund_approval", True)
    assert (await deposit_now(built, deposit)).state == "refunding"
    set_aside = await books(built)
    assert (set_aside[reserved], held in set_aside) == (deposit.amount_minor, False)
    await built.cycle(times=2)
    assert (await built.row(row)).state == "pending_approval"
    assert built.signer.asked == []

    assert await findings(built) == []
    await sign(built, deposit, "bob")
    await finish(built)

    row = await built.row(row)
    assert await built.history(row) == SENT
    assert (await deposit_states(built, deposit))[-3:] == ["rejected", "refunding", "refunded"]
    [asked] = built.signer.asked
    assert (asked.purpose, asked.payments, len(asked.approvals)) == (Purpose.REFUND, (), 2)
    assert built.paid(row) == 1
    charged = row.fee_charged_minor or 0
    assert 0 < charged == deposit.amount_minor - row.output_minor
    after = await books(built)
    earned = after[f"income:fee_recovery:{built.native}"]
    spent = after[f"expense:fee:network:{built.native}"]
    assert earned == charged
    if network != "eth":  # there the tx's own fee is known before it is mined
        assert spent == charged
    custody = {code: amount for code, amount in after.items() if code.startswith("custody:")}
    was = sum(amount for code, amount in before.items() if code.startswith("custody:"))
    assert sum(custody.values()) == was + charged - spent
    assert not {held, reserved} & set(after)
    assert await built.alarms() == []
    assert await findings(built) == []
    await built.assert_at_rest()


async def test_d12_a_token_goes_back_whole(house: BuildHouse) -> None:
    built = await opened(house, "eth")
    await built.fund("eth:USDT", "20")
    deposit = await rejected(built, "7.5", asset="eth:USDT")
    row = await sign(built, deposit)
    await finish(built)
    row = await built.row(row)
    assert (row.state, row.fee_charged_minor, row.output_minor) == ("completed", None, 7_500_000)
    assert built.paid(row) == 1
    assert (await deposit_now(built, deposit)).state == "refunded"
    await built.assert_at_rest()


async def test_d12_what_was_too_little_goes_back_from_unallocated(house: BuildHouse) -> None:
    built = await opened(house, "btc")
    deposit = await paid(built, "0.00005")
    assert (deposit.state, deposit.credited_stage) == ("below_minimum", "unallocated")
    deposit = await reject(built, deposit)
    words, desk = said(built, deposit, "alice")
    async with built.database.unit_of_work() as uow:
        locked = await deposit_refunds.lock(uow, [deposit.id])
        with pytest.raises(DecisionRefused, match="the operator decides"):
            await refunds.propose_or_agree(uow, words, locked[deposit.id], _of_a_brand(desk))
    row = await sign(built, deposit)
    assert "unallocated:btc:BTC" not in await books(built)
    await finish(built)
    row = await built.row(row)
    assert row.state == "completed"
    assert built.paid(row) == 1
    await built.assert_at_rest()


def _of_a_brand(desk: refunds.Desk) -> refunds.Desk:
    return refunds.Desk(
        staff=desk.staff, is_operator=False, policy=desk.policy, ids=desk.ids, at=desk.at
    )


async def test_d12_less_than_its_fee_is_given_back(house: BuildHouse) -> None:
    built = await opened(house, "btc")
    deposit = await reject(built, await paid(built, "0.00000300"))
    row = await sign(built, deposit)
    await built.cycle(times=2)
    row = await built.row(row)
    assert (row.state, row.code) == ("declined", "refund_unpayable")
    assert (await deposit_now(built, deposit)).state == "rejected"
    assert (await books(built))["unallocated:btc:BTC"] == 300
    assert await built.alarms() == ["refund_unpayable"]
    await built.assert_at_rest()


async def test_a31_one_person_or_two_who_sign_another_thing_send_nothing(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    row = await sign(btc, deposit, "alice")
    assert (await sign(btc, deposit, "alice")).version == row.version  # the same changes nothing
    for changes in (
        {"address": "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"},
        {"amount": "0.49"},
    ):
        with pytest.raises(DecisionRefused, match="Another refund"):
            await sign(btc, deposit, "bob", **changes)
    await btc.cycle(times=2)
    assert await btc.states(row) == ["pending_approval"]
    assert btc.signer.asked == []

    btc.clock.advance(25 * 3600.0)  # nobody else came
    btc.signer.kit.clock.now += 25 * 3600
    await btc.cycle(times=2)
    row = await btc.row(row)
    assert (row.state, row.code) == ("expired", "approval_timeout")
    assert (await deposit_now(btc, deposit)).credited_stage == "held"
    assert (await books(btc))[HELD.format(asset="btc:BTC")] == deposit.amount_minor
    await btc.assert_at_rest()
    again = await sign(btc, deposit)
    assert again.id != row.id
    await btc.sample_fees()
    await finish(btc)
    assert await btc.states(again) == ["completed"]
    await btc.assert_at_rest()


async def test_d12_only_what_is_rejected_and_final_is_sent_back(btc: Payouts) -> None:
    await open_refunds(btc)
    await block(btc, "anna", "fraud")
    deposit = await paid(btc, "0.5")
    with pytest.raises(DepositStays, match="reject it first"):
        await sign(btc, deposit)
    final = await paid(btc, "0.5", player_id="otto")
    with pytest.raises(DepositStays, match="reject it first"):
        await sign(btc, final)
    assert await refund_of(btc, deposit) is None
    await btc.assert_at_rest()


async def test_d12_a_deposit_is_sent_back_once(btc: Payouts) -> None:
    """PostgreSQL and the signer each refuse a second one, whatever the other says."""
    await btc.fund("btc:BTC", "3")
    await open_refunds(btc)
    deposit = await rejected(btc)
    row = await sign(btc, deposit)
    await finish(btc)
    assert await btc.states(row) == ["completed"]
    assert (await sign(btc, deposit)).id == row.id  # the same people say the same again
    await employ(btc, "carol")
    with pytest.raises(DecisionRefused, match="completed"):
        await sign(btc, deposit, "carol")
    for state in ("queued", "pending_approval"):
        with pytest.raises(IntegrityError, match="withdrawals_refund"):
            async with btc.database.unit_of_work() as uow:
                await uow.execute(
                    "INSERT INTO gateway.withdrawals SELECT (jsonb_populate_record(w, "
                    "jsonb_build_object('id', gen_random_uuid(), 'request_id', 'again', 'state', "
                    "CAST(:state AS text), 'txid', NULL, 'attempt_id', NULL, 'version', 3))).* "
                    "FROM gateway.withdrawals w WHERE w.id = :id",
                    {"id": row.id, "state": state},
                )

    done = await btc.row(row)
    await _forget(btc, row, deposit)
    again = await sign(btc, deposit)
    await btc.cycle(times=3)
    found = await btc.row(again)
    assert (found.state, found.txid) == ("on_hold", None)
    assert isinstance(await btc.signer.lookup(btc.signer.asked[-1].attempt_id), Refusal)
    assert btc.paid(done) == 1


async def _forget(built: Payouts, row: WithdrawalRow, deposit: DepositRow) -> None:
    """Whoever owns the database makes a paid refund one that never was."""
    async with built.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET state = 'declined', txid = NULL, "
            "version = version + 1 WHERE id = :id",
            {"id": row.id},
        )
        await uow.execute(
            "UPDATE chain.deposits SET state = 'rejected', credited_stage = 'unallocated', "
            "version = version + 1 WHERE id = :id",
            {"id": deposit.id},
        )
        await uow.execute(
            "SELECT ledger.post(gen_random_uuid(), now(), 'planted', 'planted', NULL, NULL, NULL, "
            "NULL, NULL, ARRAY['custody:btc/hot:btc:BTC', 'unallocated:btc:BTC'], "
            "ARRAY['custody', 'unallocated'], ARRAY['btc:BTC', 'btc:BTC'], "
            "ARRAY[NULL, NULL]::text[], ARRAY[NULL, NULL]::text[], ARRAY['btc/hot', NULL], "
            "ARRAY['debit', 'credit'], ARRAY[50000000, 50000000]::numeric[], "
            "ARRAY[NULL, NULL]::text[])"
        )


@pytest.mark.parametrize("point", ["nothing", "payout.refund_planned"])
async def test_d12_a_person_stops_it_before_it_is_signed(point: str, btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    row = await sign(btc, deposit)
    if point != "nothing":
        with pytest.raises(SimulatedCrash):
            await btc.cycle(btc.lane(crash=crash_at(point)))
        assert await btc.states(row) == ["planned"]
    async with btc.database.unit_of_work() as uow:
        with pytest.raises(TooLate, match="only people"):
            await withdrawals.cancel(uow, row.id, ids=btc.ids, at=btc.clock.now())
    assert (await give_up(btc, await btc.row(row))).state == "declined"
    assert (await deposit_now(btc, deposit)).state == "rejected"
    await finish(btc, blocks=2)
    assert btc.signer.asked == []
    assert (await books(btc))[HELD.format(asset="btc:BTC")] == deposit.amount_minor
    async with btc.database.unit_of_work() as uow:
        voids = await uow.execute("SELECT count(*) FROM gateway.voids")
        assert voids.scalar_one() == 0
    await btc.assert_at_rest()
    await sign(btc, deposit)  # it may be sent back all the same, later
    await finish(btc)
    assert (await deposit_now(btc, deposit)).state == "refunded"
    await btc.assert_at_rest()


async def test_d12_once_signed_nobody_stops_it(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    row = await sign(btc, deposit)
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.sign_requested")))
    with pytest.raises(TooLate):
        await give_up(btc, await btc.row(row))
    await finish(btc)
    assert await btc.states(row) == ["completed"]
    await btc.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "eth"])
@pytest.mark.parametrize("point", [*crash.POINTS, *crash.POINTS_OF_REFUNDS[:1]])
async def test_p02_a_refund_survives_a_kill_after_each_step(
    point: str, network: str, house: BuildHouse
) -> None:
    built = await opened(house, network)
    deposit = await rejected(built)
    row = await sign(built, deposit)
    dying = built.lane(crash=crash_at(point))
    died = False
    for _ in range(8):
        try:
            await built.cycle(dying)
        except SimulatedCrash:
            died = True
            break
        await built.mine()
    assert died is (point != "payout.planned")  # that one is of a batch
    await finish(built)
    assert await built.states(row) == ["completed"]
    assert (await deposit_now(built, deposit)).state == "refunded"
    assert built.paid(await built.row(row)) == 1
    assert len({asked.attempt_id for asked in built.signer.asked}) == 1
    await built.assert_at_rest()


async def test_p13_two_copies_of_the_lane_send_it_back_once(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    row = await sign(btc, deposit)
    lanes = [btc.lane(), btc.lane()]
    for _ in range(3):
        for lane in lanes:
            await btc.cycle(lane)
        await btc.mine()
    await finish(btc)
    assert await btc.states(row) == ["completed"]
    assert btc.paid(await btc.row(row)) == 1
    await btc.assert_at_rest()


async def test_d12_two_people_at_once_make_one_refund(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    rows = await asyncio.gather(sign(btc, deposit, "alice"), sign(btc, deposit, "bob"))
    assert len({row.id for row in rows}) == 1
    assert await btc.states(rows[0]) == ["queued"]
    await finish(btc)
    assert await btc.states(rows[0]) == ["completed"]
    await btc.assert_at_rest()


async def test_d12_the_signer_without_caps_for_it_signs_none(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc, units=0)
    deposit = await rejected(btc)
    row = await sign(btc, deposit)
    await btc.cycle(times=3)
    found = await btc.row(row)
    assert (found.state, found.code, found.txid) == ("on_hold", "signer_refused", None)
    assert (await give_up(btc, found)).state == "declined"
    assert (await deposit_now(btc, deposit)).state == "rejected"
    await btc.cycle()
    assert btc.sim.pool == {}
    await btc.assert_at_rest()


async def test_p05_a_refund_past_its_moment_is_given_back(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    row = await sign(btc, deposit)
    btc.signer.is_down = True
    btc.clock.advance(timedelta(days=3).total_seconds())
    await btc.sample_fees()
    await btc.cycle(times=2)
    assert await btc.states(row) == ["queued"]  # without a comparison nothing is given up
    btc.signer.is_down = False
    await btc.cycle(times=2)
    assert await btc.states(row) == ["expired"]
    assert (await deposit_now(btc, deposit)).state == "rejected"
    await btc.assert_at_rest()


async def test_p25_a_stuck_refund_is_replaced_at_the_same_output(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    await quote(btc, {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB})
    row = await sign(btc, deposit)
    lane = await work(btc)
    first = await btc.row(row)
    await quote(btc, {2: 20 * KVB, 6: 20 * KVB, 36: 20 * KVB})
    await pass_blocks(btc)
    await work(btc, lane)
    second = await btc.row(row)
    assert first.txid != second.txid
    assert first.output_minor == second.output_minor
    old, new = await sent(btc)
    assert (new.purpose, new.replaces_id) == ("refund", old.id)
    await run_to_rest(btc, lane)
    assert await btc.states(row) == ["completed"]
    assert (await deposit_now(btc, deposit)).state == "refunded"
    assert btc.paid(second) == 1
    await btc.assert_at_rest()


async def test_s06_a_refund_goes_to_the_address_of_both_signatures(btc: Payouts) -> None:
    """A stolen database points the row elsewhere: the signer refuses, and nothing leaves."""
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    row = await sign(btc, deposit)
    other = btc.chain.codec.parse("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn")
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET address = :address, address_key = :key WHERE id = :id",
            {"address": other.address, "key": other.key, "id": row.id},
        )
    await btc.cycle(times=3)
    found = await btc.row(row)
    assert (found.state, found.code, found.txid) == ("on_hold", "signer_refused", None)
    assert btc.sim.pool == {}
    assert FOREIGN["btc"] != other.address
