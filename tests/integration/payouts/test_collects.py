"""Tokens of many deposit addresses in one tx of the gas account, on anvil (docs/adr/0035)."""

from dataclasses import replace
from uuid import UUID

import pytest

from gateway.payouts import collecting, import_moves
from gateway.payouts.crash import POINTS_OF_SWEEPS
from gateway.payouts.fee_policy import AccountFee
from gateway.payouts.import_orders import Signature
from gateway.payouts.same_tx import gas_fields
from signer.protocol import LogEntry, Purpose, SignedTx
from tests.support.batch import balance
from tests.support.contract_bench import Bench, BuildBench
from tests.support.sweeping import (
    ETH,
    NATIVE_RULE,
    RULE,
    USDT,
    RefusingSigner,
    Sweeps,
    dear,
    killed_at,
)
from tests.support.vault import COLLECTOR, TOKEN
from watchers import addresses
from watchers.outgoing import OutgoingState

pytestmark = [pytest.mark.postgres, pytest.mark.node]

ONE = 10**6
PLAYERS = ("anna", "bert", "cleo")
NOT_REACHED = {"payout.sweeps_judged", "payout.sweeps_refused", "payout.sweeps_bumped"}


async def opened(build_bench: BuildBench) -> tuple[Bench, Sweeps]:
    """A house whose collector stands and is final."""
    bench = await build_bench(has_contract=False, has_collector=True)
    sweeps = await Sweeps.open(bench.house)
    return bench, sweeps


async def paid(sweeps: Sweeps, amount: str = "50") -> list[str]:
    """A deposit of each player, final; where it lies."""
    return [(await sweeps.deposit(player, USDT, amount)).address for player in PLAYERS]


async def test_t3_t4_tokens_of_many_addresses_are_swept_by_one_tx_without_gas_there(
    build_bench: BuildBench,
) -> None:
    """Once with delegations, once without; the chain agrees with the books at every block."""
    bench, sweeps = await opened(build_bench)
    places = await paid(sweeps)
    lane = await bench.house.cycle()
    assert await sweeps.states() == ["sent"] * 3
    await bench.assert_reconciled()
    for _ in range(4):
        await bench.house.mine()
        await bench.assert_reconciled()
        await bench.house.cycle(lane)
        await bench.assert_reconciled()

    rows = await sweeps.rows()
    assert [(row.state, row.moved_minor, row.code) for row in rows] == [
        ("swept", 50 * ONE, None)
    ] * 3
    assert await sweeps.deposits() == [("final", "swept")] * 3
    [tx] = await sweeps.txs("collect")
    assert (tx.state, tx.is_paid_as_planned) == (OutgoingState.FINAL, True)
    assert {row.attempt_id for row in rows} == {tx.id}
    assert (await sweeps.txs("sweep"), await sweeps.txs("gas_top_up")) == ([], [])
    hot = await sweeps.own("hot")
    assert await balance(bench.node, hot.address, token=TOKEN) == 150 * ONE
    for place in places:
        assert await balance(bench.node, place, token=TOKEN) == 0
        assert await balance(bench.node, place) == 0
    assert await sweeps.custody("hot", USDT) == 150 * ONE
    assert await sweeps.custody("deposit/acme", USDT) == 0
    assert await sweeps.custody("gas", ETH) == 10**18 - (tx.fee_minor or 0)
    assert await bench.house.alarms() == []

    await paid(sweeps, "60")
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"] * 6
    first, second = sorted(await sweeps.txs("collect"), key=lambda item: item.nonce or 0)
    assert (first.unsigned[:1], second.unsigned[:1]) == (b"\x04", b"\x02")
    assert (second.fee_minor or 0) < (first.fee_minor or 0)
    assert await sweeps.custody("hot", USDT) == 330 * ONE
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_p16_a_collect_is_built_again_as_it_was_for_another_fee(
    build_bench: BuildBench,
) -> None:
    """Legs, authorisations and number from the stored row alone."""
    bench, sweeps = await opened(build_bench)
    await paid(sweeps)
    lane = await sweeps.finish()
    await paid(sweeps, "60")
    await sweeps.finish(lane)
    found = await sweeps.txs("collect")
    assert {tx.unsigned[0] for tx in found} == {2, 4}
    for tx in found:
        max_fee, tip, limit = gas_fields(tx.unsigned)
        fields = {"max_priority_fee_per_gas": tip, "gas_limit": limit}
        keys = [tx.sender_key or "", *(item.from_key or "" for item in tx.payments)]
        async with bench.house.database.unit_of_work() as uow:
            own = await addresses.by_keys(uow, network="eth", keys=keys)
        same = collecting.rebuilt(lane, tx, own, AccountFee(max_fee_per_gas=max_fee, **fields))
        assert same.data == tx.unsigned
        dearer = collecting.rebuilt(
            lane, tx, own, AccountFee(max_fee_per_gas=2 * max_fee, **fields)
        )
        assert gas_fields(dearer.data) == (2 * max_fee, tip, limit)


async def test_p09_what_a_recovery_writes_of_sweeps_is_what_was_planned(
    build_bench: BuildBench,
) -> None:
    """A sweep, a top-up and a collect, each read from the signer's own question."""
    bench, sweeps = await opened(build_bench)
    await sweeps.deposit("anna", USDT, "50")
    lane = await sweeps.finish()
    await sweeps.deposit("anna", ETH, "0.5")
    await sweeps.finish(lane)
    await paid(sweeps)
    await sweeps.finish(lane)
    planned = {
        str(tx.id): tx.payments
        for purpose in ("sweep", "gas_top_up", "collect")
        for tx in await sweeps.txs(purpose)
    }
    seen = set()
    for question in bench.house.signer.asked:
        answer = await bench.house.signer.lookup(question.attempt_id)
        assert isinstance(answer, SignedTx)
        entry = LogEntry(
            sequence=answer.log_sequence,
            attempt_id=question.attempt_id,
            purpose=question.purpose.value,
            txid=answer.txid,
            family=question.attempt_id,
            fee_minor=0,
            requests=(),
        )
        signature = Signature(
            id=UUID(question.attempt_id), entry=entry, question=question, answer=answer
        )
        async with bench.house.database.unit_of_work() as uow:
            found = await import_moves.own_payments(lane, uow, signature)
        assert found == planned[question.attempt_id]
        seen.add(question.purpose)
    assert seen == {Purpose.SWEEP, Purpose.GAS_TOP_UP, Purpose.COLLECT}


async def test_t3_one_alone_is_given_gas_and_one_that_delegates_rides_alone(
    build_bench: BuildBench,
) -> None:
    """To delegate for one leg costs what a top-up costs, and changes an account for ever."""
    bench, sweeps = await opened(build_bench)
    await sweeps.deposit("anna", USDT, "50")
    lane = await sweeps.finish()
    assert await sweeps.states() == ["swept"]
    assert await sweeps.txs("collect") == []
    assert len(await sweeps.txs("gas_top_up")) == 1

    await paid(sweeps, "5000")
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"] * 4
    before = len(await sweeps.txs("collect"))
    await sweeps.deposit("cleo", USDT, "70")
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"] * 5
    assert len(await sweeps.txs("collect")) == before + 1
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_t2_coin_of_an_address_that_delegates_is_swept_by_its_own_tx(
    build_bench: BuildBench,
) -> None:
    """Its number is the chain's: the authorisation used one that no tx of it tells of."""
    bench, sweeps = await opened(build_bench)
    await paid(sweeps)
    lane = await sweeps.finish()
    assert len(await sweeps.txs("collect")) == 1
    await sweeps.deposit("anna", ETH, "0.5")
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"] * 4
    [tx] = await sweeps.txs("sweep")
    assert tx.nonce == 1
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_d57_a_leg_that_fails_is_tried_again_and_the_others_are_swept(
    build_bench: BuildBench,
) -> None:
    """The account of one delegates no more when the block comes: it waits alone, and goes later."""
    bench, sweeps = await opened(build_bench)
    places = await paid(sweeps)
    lane = await sweeps.finish()
    await paid(sweeps, "60")
    await bench.house.cycle(lane)
    await bench.node.rpc("anvil_setCode", places[1], "0x")
    for _ in range(5):
        await bench.house.mine()
        await bench.assert_reconciled()
        await bench.house.cycle(lane)

    found = {row.address: row for row in await sweeps.rows() if row.amount_minor == 60 * ONE}
    assert [found[place].state for place in places] == ["swept", "failed", "swept"]
    failed = found[places[1]]
    assert (failed.code, failed.tries) == ("leg_failed", 1)
    assert await bench.house.alarms() == ["sweep_failed"]
    assert await sweeps.custody("deposit/acme", USDT) == 60 * ONE
    [tx] = [tx for tx in await sweeps.txs("collect") if tx.unsigned.startswith(b"\x02")]
    assert (tx.is_success, tx.is_paid_as_planned, len(tx.moved)) == (True, False, 2)

    bench.house.clock.advance(3_600)
    await bench.house.sample_fees()
    await sweeps.rates()
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"] * 6
    assert await bench.house.alarms() == []
    assert await sweeps.custody("hot", USDT) == 330 * ONE
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_d18_a_collect_whose_block_leaves_the_chain_is_mined_and_booked_again(
    build_bench: BuildBench,
) -> None:
    """Delegations and movements are undone together, and come again by the same bytes."""
    bench, sweeps = await opened(build_bench)
    await paid(sweeps)
    lane = await bench.house.cycle()
    for _ in range(3):
        await bench.house.mine()
        await bench.house.cycle(lane)
    assert await sweeps.states() == ["swept"] * 3
    await bench.house.world.lose(3)
    await bench.house.follow()
    await bench.assert_reconciled()
    await bench.house.cycle(lane)
    assert await sweeps.states() == ["sent"] * 3
    assert await sweeps.custody("hot", USDT) == 0
    assert await sweeps.custody("deposit/acme", USDT) == 150 * ONE
    await bench.assert_reconciled()
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"] * 3
    assert len(await sweeps.txs("collect")) == 1
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


@pytest.mark.parametrize("point", POINTS_OF_SWEEPS)
async def test_p02_killed_at_any_step_a_collect_takes_each_deposit_once(
    build_bench: BuildBench, point: str
) -> None:
    """A process dies at the point as often as it is reached."""
    bench, sweeps = await opened(build_bench)
    await paid(sweeps)
    deaths = await killed_at(bench, point)
    await sweeps.finish()
    assert (deaths > 0) is (point not in NOT_REACHED)
    assert await sweeps.states() == ["swept"] * 3
    signed = [tx for tx in await sweeps.txs("collect") if tx.txid is not None]
    assert [tx.state for tx in signed] == [OutgoingState.FINAL]
    assert await sweeps.custody("hot", USDT) == 150 * ONE
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_t3_an_address_that_delegates_is_given_gas_while_nothing_is_collected(
    build_bench: BuildBench,
) -> None:
    """It runs code when it is paid, which 21,000 gas would not do."""
    bench, sweeps = await opened(build_bench)
    await paid(sweeps)
    await sweeps.finish()
    assert len(await sweeps.txs("collect")) == 1
    lane = bench.house.lane()
    lane = replace(lane, spec=replace(lane.spec, collects=False))
    await sweeps.deposit("anna", USDT, "60")
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"] * 4
    assert len(await sweeps.txs("collect")) == 1
    [gas] = await sweeps.txs("gas_top_up")
    assert (gas.state, gas.is_success) == (OutgoingState.FINAL, True)
    [tx] = await sweeps.txs("sweep")
    assert tx.nonce == 1
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_without_the_contract_at_its_address_tokens_go_one_by_one(
    build_bench: BuildBench,
) -> None:
    """The setting alone delegates nobody to an address without code."""
    bench = await build_bench(has_contract=False, has_collector=True)
    await bench.node.rpc("anvil_setCode", COLLECTOR, "0x")
    await bench.house.mine(4)
    sweeps = await Sweeps.open(bench.house)
    await paid(sweeps)
    await sweeps.finish()
    assert await sweeps.states() == ["swept"] * 3
    assert await sweeps.txs("collect") == []
    assert len(await sweeps.txs("gas_top_up")) == 3


async def test_p15_a_collect_that_gas_outgrew_is_replaced_and_takes_each_deposit_once(
    build_bench: BuildBench,
) -> None:
    bench, sweeps = await opened(build_bench)
    await paid(sweeps)
    await dear(bench, 10**9)
    lane = await bench.house.cycle()
    [first] = await sweeps.txs("collect")
    await dear(bench, 5 * gas_fields(first.unsigned)[0])
    await bench.house.cycle(lane)
    _, second = await sweeps.txs("collect")
    assert (second.nonce, second.replaces_id) == (first.nonce, first.id)
    assert second.payments == first.payments
    assert {row.attempt_id for row in await sweeps.rows()} == {second.id}
    await sweeps.finish(lane, rounds=12)
    assert await sweeps.states() == ["swept"] * 3
    hot = await sweeps.own("hot")
    assert await balance(bench.node, hot.address, token=TOKEN) == 150 * ONE
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_p18_a_number_that_an_authorisation_used_is_never_given_to_a_tx(
    build_bench: BuildBench,
) -> None:
    """Its own tx was refused, so its number was free; then a collect delegated at that number."""
    bench, sweeps = await opened(build_bench)
    house = bench.house
    anna = await sweeps.deposit("anna", ETH, "0.0003")
    await sweeps.deposit("anna", USDT, "50")
    await sweeps.policy(rules=[RULE])
    signer = RefusingSigner(house.signer, times=1)
    await house.cycle(house.lane(signer=signer), times=2)  # one asset of an address in a pass
    [refused] = await sweeps.txs("sweep")
    assert (refused.state, refused.sender_key) == (OutgoingState.REFUSED, anna.key)
    await dear(bench, 10**10)
    house.clock.advance(16 * 60)
    await house.sample_fees()
    await sweeps.rates()
    lane = await house.cycle()  # her coin waits on
    for player in ("bert", "cleo"):
        await sweeps.deposit(player, USDT, "50")
    await sweeps.finish(lane)
    [collect] = await sweeps.txs("collect")
    assert anna.key in [leg.from_key for leg in collect.payments]
    assert await house.chain.reader.account_nonce(anna.key) == (refused.nonce or 0) + 1

    await dear(bench, 10**9)
    await sweeps.policy(rules=[RULE, NATIVE_RULE])
    await sweeps.deposit("anna", ETH, "0.5")
    await sweeps.finish(lane)
    [*_, own] = await sweeps.txs("sweep")
    assert (own.state, own.nonce) == (OutgoingState.FINAL, (refused.nonce or 0) + 1)
    assert {row.state for row in await sweeps.rows()} == {"swept"}
    await bench.assert_reconciled()
    await house.assert_at_rest()
