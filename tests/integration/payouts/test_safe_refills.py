"""Cold to hot from a real Safe: two of three owners sign typed data with a tool of their own."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from eth_account.messages import encode_defunct

from gateway.payouts.rebalances import State
from gateway.payouts.refill_step import CONFLICT, FAILED
from gateway.sandbox.nodes import Anvil
from tests.support import evm, safes
from tests.support.bumps import work
from tests.support.contract_bench import Bench, BuildBench
from tests.support.databases import TestDatabase
from tests.support.payout_parts import SimulatedCrash, crash_at
from tests.support.refill_desk import open_desk
from tests.support.refills import COLD_ACCOUNT
from tests.support.safes import OWNERS, SafeHouse, signed
from tests.support.vault import TOKEN
from watchers import registry
from watchers.chains.evm import safe
from watchers.errors import SignedFileRefused
from watchers.outgoing import OutgoingState

pytestmark = [pytest.mark.postgres, pytest.mark.node]

COIN = 10**18
FINAL_BLOCKS = 4
POINTS = (
    "payout.refill_moved",
    "payout.safe_call_planned",
    "payout.safe_call_asked",
    "payout.safe_call_answered",
    "payout.safe_call_signed",
    "payout.broadcasting",
    "payout.sent_to_node",
    "payout.child_settled",
)


async def opened(anvil: Anvil, build_bench: BuildBench, *, is_pinned: bool = True) -> SafeHouse:
    """The house over anvil with a Safe of 2 of 3."""
    safe = await safes.deploy(anvil)
    bench = await build_bench(has_contract=False, safe=safe)
    return await SafeHouse.of(bench.house, safe, is_pinned=is_pinned)


@pytest.mark.parametrize(("asset", "amount"), [("eth:ETH", "0.7"), ("eth:USDT", "40")])
async def test_two_of_three_owners_fill_hot_and_the_books_follow(
    anvil: Anvil, build_bench: BuildBench, asset: str, amount: str
) -> None:
    cold = await opened(anvil, build_bench)
    house, minor = cold.house, cold.house.minor(asset, amount)
    before, coin_before = await cold.custody(asset), await cold.custody()
    row = await cold.asked(amount, asset=asset)
    lane = await work(house)
    assert (await cold.now(row)).state == State.UNSIGNED_READY
    plan = await cold.plan(row)
    first = await cold.bring(row, signed(plan.typed, OWNERS[2]))
    assert (first.raw, first.signed_by) == (None, (OWNERS[2].address.lower(),))
    await work(house, lane)
    assert (await cold.now(row)).state == State.UNSIGNED_READY
    await cold.bring(row, signed(plan.typed, OWNERS[0]))
    await work(house, lane, times=2)
    assert (await cold.now(row)).state == State.SENT
    for _ in range(FINAL_BLOCKS):
        await house.mine()
        await work(house, lane)
    tx = await cold.tx(row)
    assert (await cold.now(row)).state == State.DONE
    assert (tx.state, tx.is_paid_as_planned, tx.payer_key) == (
        OutgoingState.FINAL, True, cold.safe.lower(),
    )  # fmt: skip
    fee = tx.fee_minor or 0
    after, coin_after = await cold.custody(asset), await cold.custody()
    paid = fee if asset == "eth:ETH" else 0
    assert after == {"hot": before["hot"] + minor - paid, "cold": before["cold"] - minor}
    assert coin_after["hot"] + coin_after["cold"] == (
        coin_before["hot"] + coin_before["cold"] - fee
    )
    assert 0 < fee <= tx.fee_cap_minor
    receipt = await anvil.rpc("eth_getTransactionReceipt", tx.txid)
    transfer = house.chain.writer.gas_limit(asset)
    used, limit = int(receipt["gasUsed"], 16), safe.gas_limit(transfer_gas=transfer, signatures=2)
    assert used < limit * 3 // 4  # room for a token or a receiver that takes more
    await Bench(node=anvil, house=house).assert_reconciled()
    assert await house.alarms() == []
    await house.assert_at_rest()


async def test_a_crash_anywhere_calls_the_safe_once(anvil: Anvil, build_bench: BuildBench) -> None:
    """One refill after the other, each dying again and again at a point of its own."""
    cold = await opened(anvil, build_bench)
    house, bench, fees = cold.house, Bench(node=anvil, house=cold.house), 0
    for number, point in enumerate(POINTS):
        row = await cold.asked("0.1")

        async def dies(at: str = point) -> None:
            for _ in range(2):
                with suppress(SimulatedCrash):
                    await house.cycle(house.lane(crash=crash_at(at)))

        await dies()
        await work(house)
        assert (await cold.plan(row)).nonce == number
        await cold.sign(row)
        await dies()
        await work(house, times=2)
        for _ in range(FINAL_BLOCKS):
            await house.mine()
            await dies()
        await work(house)
        tx = await cold.tx(row)
        assert ((await cold.now(row)).state, tx.is_paid_as_planned) == (State.DONE, True)
        fees += tx.fee_minor or 0
    moved = len(POINTS) * COIN // 10
    assert await cold.custody() == {"hot": 2 * COIN + moved - fees, "cold": 2 * COIN - moved}
    assert len(await bench.own_txs()) == len(POINTS)
    await bench.assert_reconciled()
    await house.assert_at_rest()


async def test_what_an_owner_did_not_sign_is_refused_by_name(
    anvil: Anvil, build_bench: BuildBench
) -> None:
    """A stranger, another transaction, a message instead of typed data, an approval on chain."""
    cold = await opened(anvil, build_bench)
    row, house = await cold.asked("0.7"), cold.house
    await work(house)
    typed = (await cold.plan(row)).typed
    other = typed.replace(b'"nonce":"0"', b'"nonce":"1"')
    assert other != typed
    owner = OWNERS[0]
    message = bytes(
        owner.sign_message(encode_defunct(bytes.fromhex(registry.safe_hash(typed)[2:]))).signature
    )
    approved = bytes(12) + bytes.fromhex(owner.address[2:]) + bytes(32) + b"\x01"
    strange = {
        "foreign_key": [signed(typed, COLD_ACCOUNT), signed(other, owner), message],
        "bad_signature": [message[:-1] + bytes([message[-1] + 4]), bytes(64) + b"\x1b"],
        "contract_owner": [approved],
        "not_a_signature": [signed(typed, owner)[:-1], signed(typed, owner) * 2],
    }
    for code, files in strange.items():
        for file in files:
            with pytest.raises(SignedFileRefused) as refused:
                await cold.bring(row, file)
            assert refused.value.code == code
    again = await cold.sign(row, owner, owner)
    assert again.signed_by == (owner.address.lower(),)  # the same owner twice is one
    assert (await cold.now(row)).state == State.UNSIGNED_READY


@pytest.mark.parametrize("is_signed", [False, True])
async def test_a_number_of_the_safe_that_is_used_elsewhere_ends_the_refill_loudly(
    anvil: Anvil, build_bench: BuildBench, is_signed: bool
) -> None:
    cold = await opened(anvil, build_bench)
    house, row = cold.house, await cold.asked("0.7")
    lane = await work(house)
    if is_signed:
        await cold.sign(row)
    await safes.execute(anvil, cold.safe, to=COLD_ACCOUNT.address, value=0)
    await house.mine()
    house.clock.advance(60)
    await work(house, lane, times=2)
    found = await cold.now(row)
    state = State.FAILED if is_signed else State.CANCELLED
    assert (found.state, found.code) == (state, CONFLICT)
    assert CONFLICT in await house.alarms()
    other = await cold.asked("0.1")
    await work(house, lane)
    assert (await cold.plan(other)).nonce == 1
    assert house.signer.asked == []


async def test_a_safe_that_nobody_pinned_is_not_called_and_its_number_is_free(
    anvil: Anvil, build_bench: BuildBench
) -> None:
    cold = await opened(anvil, build_bench, is_pinned=False)
    house, row = cold.house, await cold.asked("0.7")
    lane = await work(house)
    await cold.sign(row)
    await work(house, lane)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "not_pinned")
    assert FAILED in await house.alarms()
    assert [tx.state for tx in await Bench(node=anvil, house=house).own_txs()] == [
        OutgoingState.REFUSED
    ]
    other = await cold.asked("0.1")
    await work(house, lane)
    assert (await cold.plan(other)).nonce == 0
    await house.assert_at_rest()


async def test_a_refill_that_people_take_back_gives_its_number_to_the_next(
    anvil: Anvil, build_bench: BuildBench
) -> None:
    cold = await opened(anvil, build_bench)
    house, row, waiting = cold.house, await cold.asked("0.7"), await cold.asked("0.2")
    lane = await work(house, times=2)
    assert (await cold.now(waiting)).state == State.APPROVED  # one at a time
    await cold.take_back(row)
    await work(house, lane, times=2)
    assert (await cold.plan(waiting)).nonce == 0
    assert (await cold.now(waiting)).state == State.UNSIGNED_READY


async def test_a_call_that_the_safe_undoes_costs_its_gas_and_moves_nothing(
    anvil: Anvil, build_bench: BuildBench
) -> None:
    """The token refuses the receiver; the Safe's number stays, and the next refill has it."""
    cold = await opened(anvil, build_bench)
    house, row = cold.house, await cold.asked("40", asset="eth:USDT")
    before = {asset: await cold.custody(asset) for asset in ("eth:ETH", "eth:USDT")}
    lane = await work(house)
    await cold.sign(row)
    data = evm.call_data("setBlocked(address,bool)", row.address, True)
    await anvil.transact(to=TOKEN, data=data)
    await anvil.mine()
    await work(house, lane, times=2)
    for _ in range(FINAL_BLOCKS):
        await house.mine()
        await work(house, lane)
    tx, found = await cold.tx(row), await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "reverted")
    assert (tx.state, tx.moved) == (OutgoingState.REVERTED, ())
    fee = tx.fee_minor or 0
    assert await cold.custody("eth:USDT") == before["eth:USDT"]
    coin = before["eth:ETH"]
    assert await cold.custody() == {"hot": coin["hot"] - fee, "cold": coin["cold"]}
    other = await cold.asked("0.1")
    await work(house, lane)
    assert (await cold.plan(other)).nonce == 0
    await Bench(node=anvil, house=house).assert_reconciled()


async def test_a_safe_of_contracts_and_an_account_that_is_no_safe_are_refused_by_name(
    anvil: Anvil, build_bench: BuildBench
) -> None:
    contracts = [await safes.deploy(anvil) for _ in range(2)]
    owners = [*contracts, OWNERS[0].address]
    safe = await safes.deploy(anvil, owners=owners)
    bench = await build_bench(has_contract=False, safe=safe)
    cold = await SafeHouse.of(bench.house, safe)
    row = await cold.asked("0.7")
    lane = await work(bench.house)
    found = await cold.now(row)
    assert (found.state, found.code) == (State.FAILED, "safe_owners_are_contracts")
    await anvil.rpc("anvil_setCode", safe, "0x00")
    await bench.house.mine()
    bench.house.clock.advance(60)
    other = await cold.asked("0.7")
    await work(bench.house, lane)
    assert (await cold.now(other)).code == "not_a_safe"


async def test_the_commands_carry_typed_data_out_and_signatures_back(
    anvil: Anvil, build_bench: BuildBench, test_database: TestDatabase, tmp_path: Path
) -> None:
    cold = await opened(anvil, build_bench)
    house, row = cold.house, await cold.asked("0.7")
    await work(house)
    refill = f"reb_test_{row.id.hex}"
    path, file = f"/v1/rebalances/{refill}", tmp_path / "out.json"
    async with open_desk(cold, test_database, tmp_path) as desk:
        found = (await desk.call("alice", "GET", f"{path}/unsigned")).json()
        assert (found["format"], found["psbt"], found["tx"]) == ("safe", None, None)
        assert found["safe_tx_hash"] == await safes.hash_on_chain(anvil, cold.safe, found)
        code, out, _ = await desk.runs(
            "alice", "treasury", "refill", "export", refill, "--file", str(file)
        )
        assert (code, found["safe_tx_hash"] in out) == (0, True)
        typed = file.read_bytes()
        assert json.loads(typed) == found["typed_data"]
        for name, body in {"tx": {"tx": "0x02"}, "psbt": {"psbt": "cHNidP8="}}.items():
            reply = await desk.call("bob", "POST", f"{path}/signed", body)
            told = [item["field"] for item in reply.json()["errors"]]
            assert (reply.status, reply.json()["code"], told) == (422, "not_a_signature", [name])
        for number, owner in enumerate((OWNERS[1], OWNERS[0])):
            brought = tmp_path / f"{number}.txt"
            brought.write_text("0x" + signed(typed, owner).hex() + "\n")
            code, out, _ = await desk.runs(
                "bob", "treasury", "refill", "import", refill, str(brought),
                "--confirm-amount", "0.7",
            )  # fmt: skip
            assert code == 0
            assert ("payouts send it" in out) is (number == 1)
    await work(house, times=2)
    assert (await cold.now(row)).state == State.SENT
