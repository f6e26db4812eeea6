"""What stops a payout before it is signed: signer, liquidity, cancel, time, orphaned deposits."""

from datetime import timedelta

import pytest

from config.settings import Settings
from gateway.errors import TooLate
from gateway.payouts import withdrawals
from gateway.payouts.lane import PayoutLane
from gateway.withdrawals_store import WithdrawalRow
from tests.support.clock import ManualClock
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.simchain import SimUtxo
from tests.support.vault import FOREIGN_BTC

pytestmark = pytest.mark.postgres

OTHER_BTC = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202"  # twenty zero bytes


async def ready(house: Payouts) -> None:
    await house.fund(house.native, "1")
    await house.fund(house.native, "3", into="acme")


async def alter_address(house: Payouts, row: WithdrawalRow, address: str) -> None:
    """What a thief with the database does."""
    key = house.chain.codec.parse(address).key
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET address = :address, address_key = :key WHERE id = :id",
            {"address": address, "key": key, "id": row.id},
        )


async def test_s02_row_altered_to_another_address_is_refused_by_the_signer(btc: Payouts) -> None:
    await ready(btc)
    row = await btc.request("0.5")
    await alter_address(btc, row, OTHER_BTC)

    await btc.cycle()

    found = await btc.row(row)
    assert (found.state, found.code) == ("on_hold", "signer_refused")
    assert found.sign_requested_at is None
    assert "signer_refused" in await btc.alarms()
    assert not btc.sim.pool
    async with btc.database.unit_of_work() as uow:
        reserved = await uow.execute(
            "SELECT count(*) FROM chain.coins WHERE reserved_by IS NOT NULL"
        )
        assert reserved.scalar_one() == 0
        detail = await uow.execute("SELECT detail FROM gateway.alarms")
        assert "payment_mismatch" in detail.scalar_one()


async def test_p27_one_bad_member_never_blocks_the_batch(btc: Payouts) -> None:
    await ready(btc)
    rows = [await btc.request(f"0.0{index + 1}", player_id=f"p-{index}") for index in range(6)]
    await alter_address(btc, rows[2], OTHER_BTC)

    lane = await btc.cycle(times=2)
    for _ in range(4):
        await btc.mine()
        await btc.cycle(lane)

    states = await btc.states(*rows)
    assert states[2] == "on_hold"
    assert states[:2] + states[3:] == ["completed"] * 5
    assert [btc.paid(row) for row in rows] == [1, 1, 0, 1, 1, 1]
    txids = {(await btc.row(row)).txid for row in rows} - {None}
    assert len(txids) == 1  # the good ones still share one tx


async def test_p27_member_that_cannot_be_built_leaves_before_planning(btc: Payouts) -> None:
    await ready(btc)
    good, bad = await btc.request("0.1"), await btc.request("0.2")
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET address = 'bcrt1qbroken' WHERE id = :id",
            {"id": bad.id},
        )

    await btc.cycle()

    assert await btc.states(good, bad) == ["sent", "declined"]
    assert "payout_unpayable" in await btc.alarms()


async def test_nonce_of_a_refused_account_payout_goes_to_the_next(eth: Payouts) -> None:
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:ETH", "2", into="acme")
    bad = await eth.request("0.1")
    await alter_address(eth, bad, "0x" + "00" * 19 + "aa")
    lane = await eth.cycle()
    assert await eth.states(bad) == ["on_hold"]

    good = await eth.request("0.2")
    await eth.cycle(lane)

    assert await eth.states(good) == ["sent"]
    async with eth.database.unit_of_work() as uow:
        nonces = await uow.execute("SELECT nonce FROM chain.outgoing WHERE raw IS NOT NULL")
        assert nonces.scalars().all() == [0]


async def test_s21_without_a_signer_payouts_wait_and_stay_cancellable(btc: Payouts) -> None:
    await ready(btc)
    row = await btc.request("0.5")
    btc.signer.is_down = True

    lane = await btc.cycle(times=3)
    assert await btc.states(row) == ["queued"]
    async with btc.database.unit_of_work() as uow:
        await withdrawals.cancel(uow, row.id, ids=btc.ids, at=btc.clock.now())
    btc.signer.is_down = False
    await btc.cycle(lane)

    assert await btc.states(row) == ["cancelled"]
    assert not btc.signer.asked
    await btc.assert_at_rest()


async def test_s21_signer_lost_after_the_gate_is_asked_again_with_the_same_bytes(
    btc: Payouts,
) -> None:
    await ready(btc)
    row = await btc.request("0.5")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.sign_requested")))
    btc.signer.is_down = True
    lane = await btc.cycle(times=2)
    assert await btc.states(row) == ["planned"]

    btc.signer.is_down = False
    btc.clock.advance(3600)  # far past the limit of an unasked plan
    await btc.sample_fees()
    await btc.cycle(lane)

    assert await btc.states(row) == ["sent"]


async def test_cancel_after_signing_was_asked_for_is_too_late(btc: Payouts) -> None:
    await ready(btc)
    row = await btc.request("0.5")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.sign_requested")))

    with pytest.raises(TooLate):
        async with btc.database.unit_of_work() as uow:
            await withdrawals.cancel(uow, row.id, ids=btc.ids, at=btc.clock.now())

    await btc.cycle()
    assert await btc.states(row) == ["sent"]


async def test_cancel_of_a_planned_member_drops_the_batch_and_pays_the_others(
    btc: Payouts,
) -> None:
    await ready(btc)
    gone, kept = await btc.request("0.1"), await btc.request("0.2")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.planned")))
    async with btc.database.unit_of_work() as uow:
        await withdrawals.cancel(uow, gone.id, ids=btc.ids, at=btc.clock.now())

    lane = await btc.cycle(times=2)
    for _ in range(3):
        await btc.mine()
        await btc.cycle(lane)

    assert await btc.states(gone, kept) == ["cancelled", "completed"]
    assert (btc.paid(gone), btc.paid(kept)) == (0, 1)
    await btc.assert_at_rest()


async def test_unsigned_plan_older_than_its_limit_is_queued_again(
    btc: Payouts, clock: ManualClock
) -> None:
    await ready(btc)
    row = await btc.request("0.5")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.planned")))
    first = (await btc.row(row)).attempt_id

    clock.advance(61)
    await btc.cycle(times=2)

    assert await btc.states(row) == ["sent"]
    assert (await btc.row(row)).attempt_id != first
    assert len(btc.signer.asked) == 1


async def test_orphaned_deposit_before_signing_pauses_and_its_return_resumes(
    btc: Payouts, clock: ManualClock
) -> None:
    """CONTRACT 5: on hold (`deposit_orphaned`), back by itself when the deposit is restored."""
    await ready(btc)
    txid = await btc.deposit("p-1", "0.3")
    btc.signer.is_down = True
    row = await btc.request("0.2", player_id="p-1")
    other = await btc.request("0.1", player_id="p-2")
    clock.advance(1)
    btc.sim.rewind(2)
    for _ in range(3):
        btc.sim.mine_exactly([])
    await btc.follow()
    btc.signer.is_down = False

    lane = await btc.cycle(times=2)

    found = await btc.row(row)
    assert (found.state, found.code) == ("on_hold", "deposit_orphaned")
    assert await btc.states(other) == ["sent"]
    assert txid in btc.sim.pool
    await btc.mine(3)
    await btc.cycle(lane, times=2)
    assert await btc.states(row) == ["sent"]


async def test_deposit_orphaned_after_planning_is_seen_by_the_gate(
    btc: Payouts, clock: ManualClock
) -> None:
    await ready(btc)
    await btc.deposit("p-1", "0.3")
    row = await btc.request("0.2", player_id="p-1")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.planned")))
    clock.advance(1)
    btc.sim.rewind(2)
    for _ in range(3):
        btc.sim.mine_exactly([])
    await btc.follow()

    await btc.cycle()

    assert (await btc.row(row)).code == "deposit_orphaned"
    assert not btc.signer.asked


async def test_overdue_withdrawals_expire_and_give_back(btc: Payouts, clock: ManualClock) -> None:
    """Books that were held against the signer's log once; before, they may lack what it paid."""
    await ready(btc)
    payouts = PayoutLane(await btc.cycle())
    await payouts.cycle()
    btc.signer.is_down = True
    row = await btc.request("0.5", valid_for=timedelta(minutes=5))

    clock.advance(301)
    await payouts.cycle()

    assert await btc.states(row) == ["expired"]
    await btc.assert_at_rest()


async def test_p26_short_hot_wallet_waits_and_smaller_ones_pass(btc: Payouts) -> None:
    await ready(btc)
    async with btc.database.unit_of_work() as uow:  # the large coin is not spendable now
        await uow.execute("UPDATE chain.coins SET spendable_at_height = 999 WHERE amount > 2e8")
    big, small = await btc.request("1.5"), await btc.request("0.2")

    lane = await btc.cycle(times=3)

    assert await btc.states(big, small) == ["waiting_liquidity", "sent"]
    assert (await btc.row(big)).code == "hot_wallet"
    assert (await btc.alarms()).count("hot_wallet_short") == 1
    assert (await btc.history(big)).count("waiting_liquidity") == 1  # it does not go to and fro
    async with btc.database.unit_of_work() as uow:
        await uow.execute("UPDATE chain.coins SET spendable_at_height = 1 WHERE amount > 2e8")
    await btc.cycle(lane)
    assert await btc.states(big) == ["sent"]
    assert "hot_wallet_short" not in await btc.alarms()


async def test_without_fee_capital_payouts_wait_for_it(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")
    lane = await btc.cycle(times=2)
    found = await btc.row(row)
    assert (found.state, found.code) == ("waiting_liquidity", "fee_capital")

    await btc.fund("btc:BTC", "0.1")
    await btc.cycle(lane)

    assert await btc.states(row) == ["sent"]


async def test_short_clearing_waits_for_the_brand_and_then_goes(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "0.3", into="acme")
    first, second = await btc.request("0.2"), await btc.request("0.2")
    assert (await btc.row(second)).code == "clearing"
    lane = await btc.cycle(times=2)
    assert await btc.states(first, second) == ["sent", "waiting_liquidity"]

    await btc.fund("btc:BTC", "0.3", into="acme")
    await btc.cycle(lane, times=2)

    assert (await btc.row(second)).state in ("sent", "confirming")


async def test_n26_nothing_is_planned_on_a_stale_fee_quote(
    btc: Payouts, clock: ManualClock
) -> None:
    await ready(btc)
    row = await btc.request("0.5")
    clock.advance(601)

    lane = await btc.cycle()
    assert await btc.states(row) == ["queued"]
    await btc.sample_fees()
    await btc.cycle(lane)

    assert await btc.states(row) == ["sent"]


async def test_p22_two_processes_pay_each_withdrawal_once(btc: Payouts) -> None:
    await ready(btc)
    rows = [await btc.request(f"0.0{index + 1}", player_id=f"p-{index}") for index in range(4)]
    first = await btc.cycle()
    await btc.expire_lease()

    second = await btc.cycle()
    await PayoutLane(first).cycle()  # believes it still has the lease

    assert not first.lease.is_held
    assert second.lease.fence > 1
    await btc.mine(3)
    await btc.cycle(second)
    assert [btc.paid(row) for row in rows] == [1] * 4


def test_p22_crash_point_is_refused_in_live_mode() -> None:
    with pytest.raises(ValueError, match="crash_at"):
        Settings(livemode=True, crash_at="payout.signed")


def test_the_altered_address_is_another_one() -> None:
    assert OTHER_BTC != FOREIGN_BTC


async def test_reversed_deposit_leaves_the_payout_to_staff(
    btc: Payouts, clock: ManualClock
) -> None:
    """CONTRACT 5: back when restored; staff decide when reversed."""
    await ready(btc)
    txid = await btc.deposit("p-1", "0.3")
    row = await btc.request("0.2", player_id="p-1")
    clock.advance(1)
    btc.sim.rewind(2)
    if not isinstance(btc.sim, SimUtxo):
        raise TypeError("a UTXO world is required")
    btc.sim.conflict(txid)
    for _ in range(3):
        btc.sim.mine_exactly([])
    await btc.follow()
    lane = await btc.cycle()
    assert (await btc.row(row)).code == "deposit_orphaned"

    await btc.mine(8)
    await btc.cycle(lane, times=2)

    assert await btc.states(row) == ["on_hold"]
    assert "deposit_reversed" in await btc.alarms()
