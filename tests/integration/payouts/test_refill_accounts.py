"""Cold to hot from an account: one transaction that its owner signs elsewhere."""

import json
from pathlib import Path

import pytest

from gateway.payouts import rebalances, rebalances_store
from gateway.payouts.rebalances import State, Trigger
from gateway.payouts.refill_step import CONFLICT, FAILED, LOOK_AGAIN_SECONDS, RefillStep
from tests.support.bumps import no_breaks, work
from tests.support.contract_bench import BuildBench
from tests.support.databases import TestDatabase
from tests.support.payout_parts import SimulatedCrash, crash_at
from tests.support.payouts import Payouts
from tests.support.refill_desk import open_desk
from tests.support.refills import COLD_ACCOUNT, POLICY, AccountHouse
from watchers.errors import SignedFileRefused

pytestmark = pytest.mark.postgres

COIN = 10**18
TOKEN = 10**6
FINAL_BLOCKS = 4
OTHER_COLD = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"  # the sender of EIP-155's example


@pytest.mark.parametrize(("asset", "one"), [("eth:ETH", COIN), ("eth:USDT", TOKEN)])
async def test_a_transaction_signed_outside_moves_the_value_and_the_books_follow(
    eth: Payouts, asset: str, one: int
) -> None:
    cold = await AccountHouse.of(eth)
    before, gas_before = await cold.custody(asset), await cold.custody()
    row = await cold.asked("1", asset=asset)
    lane = await work(eth)
    await no_breaks(eth)
    progress = await cold.sign(row)
    await work(eth, lane, times=2)
    assert ((await cold.now(row)).state, (await cold.now(row)).txid) == (
        State.SENT, progress.txid,
    )  # fmt: skip
    for _ in range(FINAL_BLOCKS):
        await eth.mine()
        await no_breaks(eth)
        await work(eth, lane)
        await no_breaks(eth)
    tx = await cold.tx(row)
    assert (await cold.now(row)).state == State.DONE
    assert tx.fee_minor is not None
    after, gas_after = await cold.custody(asset), await cold.custody()
    fee = tx.fee_minor if asset == "eth:ETH" else 0
    assert after == {"hot": before["hot"] + one, "cold": before["cold"] - one - fee}
    if asset != "eth:ETH":
        assert gas_after["cold"] == gas_before["cold"] - tx.fee_minor
    assert eth.signer.asked == []
    assert await eth.alarms() == []
    await eth.assert_at_rest()


@pytest.mark.parametrize(
    "point", ["payout.refill_moved", "payout.broadcasting", "payout.sent_to_node"]
)
async def test_a_crash_anywhere_moves_it_once(eth: Payouts, point: str) -> None:
    cold = await AccountHouse.of(eth)
    row = await cold.asked("0.7")

    async def dies() -> None:
        for _ in range(3):
            try:
                await eth.cycle(eth.lane(crash=crash_at(point)))
            except SimulatedCrash:
                continue

    await dies()
    await cold.sign(row)
    await dies()
    for _ in range(FINAL_BLOCKS):
        await eth.mine()
        await dies()
    await work(eth, times=2)
    assert (await cold.now(row)).state == State.DONE
    assert (await cold.custody())["hot"] == 2 * COIN + 7 * COIN // 10
    await no_breaks(eth)
    await eth.assert_at_rest()


async def test_one_refill_of_an_account_at_a_time(eth: Payouts) -> None:
    cold = await AccountHouse.of(eth)
    first, second = await cold.asked("0.3"), await cold.asked("0.4")
    lane = await work(eth, times=2)
    assert (await cold.now(second)).state == State.APPROVED
    for row in (first, second):
        await work(eth, lane)
        await cold.sign(row)
        await work(eth, lane, times=2)
        for _ in range(FINAL_BLOCKS):
            await eth.mine()
            await work(eth, lane)
        assert (await cold.now(row)).state == State.DONE
    assert [(await cold.tx(row)).nonce for row in (first, second)] == [0, 1]
    await no_breaks(eth)


async def test_a_number_that_the_owner_used_elsewhere_ends_the_unsigned_refill_loudly(
    eth: Payouts,
) -> None:
    cold = await AccountHouse.of(eth)
    row = await cold.asked("0.7")
    await work(eth)
    raw = await cold.signed(row)
    eth.is_compared = False  # what left cold by no tx of ours is a break, and stays one
    await eth.world.chain.writer.send(raw)  # by themselves: nothing was uploaded
    await eth.mine()
    with pytest.raises(AssertionError, match="a break"):
        await no_breaks(eth)
    await work(eth)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.CANCELLED, CONFLICT)
    assert CONFLICT in await eth.alarms()
    other = await cold.asked("0.1")
    await work(eth)
    assert (await cold.tx(other)).nonce == 1


async def test_more_than_the_account_holds_is_refused(eth: Payouts) -> None:
    cold = await AccountHouse.of(eth)
    row = await cold.asked("2")  # nothing left for gas
    await work(eth)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "cold_wallet_short")
    assert FAILED in await eth.alarms()


async def test_what_older_cold_accounts_hold_is_not_the_named_one_s(eth: Payouts) -> None:
    """The books have one custody account for all of them; only one of them signs."""
    cold = await AccountHouse.of(eth)
    await cold.moved_to(OTHER_COLD, amount="0.5")
    assert (await cold.custody())["cold"] == 2 * COIN + COIN // 2
    row = await cold.asked("1")
    await work(eth)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "cold_wallet_short")
    assert FAILED in await eth.alarms()
    row = await cold.asked("0.4")
    await work(eth)
    assert (await cold.now(row)).state == State.UNSIGNED_READY


async def test_what_reaches_the_account_after_it_was_looked_at_is_not_missed(
    eth: Payouts,
) -> None:
    """A node's answer is kept for a while; an older one than the books is no reason to fail."""
    cold = await AccountHouse.of(eth)
    lane = await work(eth)
    step = RefillStep(lane)
    early = await cold.asked("3")
    await step.run()
    assert (await cold.now(early)).state == State.FAILED
    await eth.fund("eth:ETH", "3", at=COLD_ACCOUNT.address)
    row = await cold.asked("3")
    await step.run()
    assert (await cold.now(row)).state == State.APPROVED
    eth.clock.advance(LOOK_AGAIN_SECONDS + 1)
    await step.run()
    assert (await cold.now(row)).state == State.UNSIGNED_READY


async def test_a_changed_transaction_is_refused(eth: Payouts) -> None:
    cold = await AccountHouse.of(eth)
    row = await cold.asked("0.7")
    await work(eth)
    raw = await cold.signed(row)
    with pytest.raises(SignedFileRefused):
        await cold.upload(row, raw[:-1] + bytes([raw[-1] ^ 1]))
    await work(eth)
    assert (await cold.now(row)).state == State.UNSIGNED_READY


@pytest.mark.node
@pytest.mark.parametrize(("asset", "amount"), [("eth:ETH", "0.7"), ("eth:USDT", "40")])
async def test_anvil_takes_what_the_owner_signed(
    build_bench: BuildBench, asset: str, amount: str
) -> None:
    bench = await build_bench(has_contract=False)
    house = bench.house
    cold = await AccountHouse.of(house)
    before = (await cold.custody(asset))["hot"]
    row = await cold.asked(amount, asset=asset)
    lane = await work(house)
    await cold.sign(row)
    await work(house, lane, times=2)
    for _ in range(FINAL_BLOCKS):
        await house.mine()
        await work(house, lane)
    assert (await cold.now(row)).state == State.DONE
    assert (await cold.custody(asset))["hot"] == before + house.minor(asset, amount)
    await bench.assert_reconciled()


@pytest.mark.node
async def test_a_contract_as_cold_account_is_told_and_nothing_is_built(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    cold = await AccountHouse.of(bench.house)
    await bench.node.rpc("anvil_setCode", COLD_ACCOUNT.address, "0x00")
    await bench.house.mine()
    row = await cold.asked("0.7")
    await work(bench.house)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "cold_is_a_contract")


async def test_the_commands_carry_it_out_and_back_in(
    eth: Payouts, test_database: TestDatabase, tmp_path: Path
) -> None:
    cold = await AccountHouse.of(eth)
    row = await cold.asked("0.7")
    await work(eth)
    refill = f"reb_test_{row.id.hex}"
    out_file, in_file = tmp_path / "out.json", tmp_path / "in.txt"
    async with open_desk(cold, test_database, tmp_path) as desk:
        path = f"/v1/rebalances/{refill}/unsigned"
        found = (await desk.call("alice", "GET", path)).json()
        assert (found["format"], found["psbt"], found["txid"]) == ("eip1559", None, None)
        assert bytes.fromhex(found["tx"][2:]) == (await cold.tx(row)).unsigned
        code, out, _ = await desk.runs(
            "alice", "treasury", "refill", "export", refill, "--file", str(out_file)
        )
        assert (code, "compare amount and address" in out) == (0, True)
        named = json.loads(out_file.read_text())
        assert named == found["transaction"]
        in_file.write_text("0x" + COLD_ACCOUNT.sign_transaction(named).raw_transaction.hex())
        bring = ("treasury", "refill", "import", refill, str(in_file), "--confirm-amount", "0.7")
        code, out, _ = await desk.runs("bob", *bring)
        assert (code, "payouts send it" in out) == (0, True)
        reply = await desk.call(
            "bob", "POST", f"/v1/rebalances/{refill}/signed", {"psbt": "cHNidP8="}
        )
        assert (reply.status, reply.json()["code"]) == (422, "not_a_signed_file")
    await work(eth, times=2)
    assert (await cold.now(row)).state == State.SENT


async def test_a_refill_that_waited_takes_the_number_of_a_cancelled_one(eth: Payouts) -> None:
    """The older request is looked at first; the number behind a gap could never be mined."""
    cold = await AccountHouse.of(eth)
    older = await cold.asked("0.3", people=())
    row = await cold.asked("0.4")
    lane = await work(eth)
    assert (await cold.tx(row)).nonce == 0
    await cold.agree(older)
    await work(eth, lane)
    assert (await cold.now(older)).state == State.APPROVED  # one at a time
    async with eth.database.unit_of_work() as uow:
        locked = await rebalances_store.get(uow, row.id, lock=True)
        assert locked is not None
        await rebalances.move(uow, locked, Trigger.CANCEL, {}, ids=eth.ids, at=eth.clock.now())
    await work(eth, lane, times=2)
    assert (await cold.tx(row)).state == "refused"
    assert (await cold.tx(older)).nonce == 0


async def test_a_refill_that_nobody_signed_in_time_is_in_the_way_of_no_other(
    eth: Payouts,
) -> None:
    cold = await AccountHouse.of(eth)
    row = await cold.asked("0.3", people=())
    lane = await work(eth)
    assert (await cold.now(row)).state == State.PROPOSED
    eth.clock.advance(POLICY.valid_seconds)
    await work(eth, lane)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.CANCELLED, rebalances.EXPIRED)
    async with eth.database.unit_of_work() as uow:
        assert await rebalances_store.open_of(uow, asset="eth:ETH") == []
