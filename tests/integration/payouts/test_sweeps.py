"""Deposits of account chains reach the hot wallet, on anvil: gas first, once, and books right."""

import pytest

from gateway.payouts.crash import POINTS_OF_SWEEPS
from tests.support import evm
from tests.support.batch import balance
from tests.support.contract_bench import Bench, BuildBench
from tests.support.sweeping import ETH, USDT, Sweeps, dear, killed_at
from tests.support.vault import TOKEN
from watchers import switches
from watchers.outgoing import OutgoingState
from watchers.switches import Action

pytestmark = [pytest.mark.postgres, pytest.mark.node]

ONE = 10**6
NOT_REACHED = {"payout.sweeps_judged", "payout.sweeps_refused", "payout.sweeps_bumped"}


async def test_t2_t4_a_token_is_swept_after_a_block_has_its_gas(build_bench: BuildBench) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    anna = await sweeps.deposit("anna", USDT, "50")
    lane = await bench.house.cycle()
    assert await sweeps.states() == ["gas_sent"]
    assert await sweeps.deposits() == [("final", "sweeping")]
    await bench.house.cycle(lane, times=3)
    assert await sweeps.states() == ["gas_sent"]  # no block, no sweep: whatever the node says
    assert await sweeps.txs("sweep") == []
    await bench.assert_reconciled()

    await bench.house.mine()
    await bench.assert_reconciled()
    await bench.house.cycle(lane)
    assert await sweeps.states() == ["sent"]
    for _ in range(4):
        await bench.house.mine()
        await bench.assert_reconciled()  # at every block between
        await bench.house.cycle(lane)
        await bench.assert_reconciled()

    row = await sweeps.row()
    assert (row.state, row.code, row.reason, row.deposits) == ("swept", None, "threshold", 1)
    assert (row.amount_minor, row.moved_minor) == (50 * ONE, 50 * ONE)
    assert await sweeps.deposits() == [("final", "swept")]
    [gas], [tx] = await sweeps.txs("gas_top_up"), await sweeps.txs("sweep")
    assert (gas.state, tx.state) == (OutgoingState.FINAL, OutgoingState.FINAL)
    assert tx.txid == row.txid
    hot = await sweeps.own("hot")
    assert await balance(bench.node, hot.address, token=TOKEN) == 50 * ONE
    assert await balance(bench.node, anna.address, token=TOKEN) == 0
    left = gas.payments[0].amount_minor - (tx.fee_minor or 0)
    assert 0 < left == await balance(bench.node, anna.address)
    assert await sweeps.custody("hot", USDT) == 50 * ONE
    assert await sweeps.custody("deposit/acme", USDT) == 0
    assert await sweeps.custody("deposit/acme", ETH) == left
    assert await sweeps.custody("gas", ETH) == 10**18 - gas.payments[0].amount_minor - (
        gas.fee_minor or 0
    )
    assert await bench.house.history(row) == [  # type: ignore[arg-type]
        "waiting", "gas_planned", "gas_sent", "gas_ready", "planned", "signed", "sent", "swept",
    ]  # fmt: skip
    assert await sweeps.events() == [
        f"sweep.{state}"
        for state in await bench.house.history(row)  # type: ignore[arg-type]
    ]
    await bench.house.assert_at_rest()


async def test_t2_coins_pay_their_own_gas_and_leave_no_more_than_that(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house, station="")
    anna = await sweeps.deposit("anna", ETH, "0.5")
    await sweeps.finish()
    row = await sweeps.row()
    assert (row.state, row.amount_minor) == ("swept", 5 * 10**17)
    [tx] = await sweeps.txs("sweep")
    assert await sweeps.txs("gas_top_up") == []
    rest = await balance(bench.node, anna.address)
    assert row.moved_minor is not None
    assert row.moved_minor == 5 * 10**17 - tx.fee_cap_minor
    assert rest == tx.fee_cap_minor - (tx.fee_minor or 0)
    assert await sweeps.custody("hot", ETH) == 10**18 + row.moved_minor
    assert await sweeps.custody("deposit/acme", ETH) == rest
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_t3_coin_that_lies_at_the_address_is_the_gas_of_its_tokens(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house, station="")
    await sweeps.deposit("anna", ETH, "0.005")  # below its own threshold
    await sweeps.deposit("anna", USDT, "50")
    await sweeps.finish()
    found = {row.asset: row.state for row in await sweeps.rows()}
    assert found == {ETH: "waiting", USDT: "swept"}
    assert await sweeps.txs("gas_top_up") == []
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_t3_what_a_sweep_left_over_is_not_given_again(build_bench: BuildBench) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    await sweeps.deposit("anna", USDT, "50")
    await dear(bench, 10**10)
    lane = await sweeps.finish()
    await dear(bench, 10**9)
    left = await sweeps.custody("deposit/acme", ETH)
    await sweeps.deposit("anna", USDT, "60")
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept", "swept"]
    assert len(await sweeps.txs("gas_top_up")) == 1  # base fees fell: what was left is enough
    _, tx = sorted(await sweeps.txs("sweep"), key=lambda item: item.nonce or 0)
    assert tx.fee_cap_minor <= left
    assert await sweeps.custody("deposit/acme", ETH) == left - (tx.fee_minor or 0)
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_d17_gas_that_reaches_a_deposit_address_is_never_a_deposit(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    await sweeps.deposit("anna", USDT, "50")
    await sweeps.finish()
    assert len(await sweeps.txs("gas_top_up")) == 1
    assert await sweeps.deposits() == [("final", "swept")]
    await bench.house.assert_at_rest()


async def test_d58_what_is_not_worth_its_gas_stays_and_is_shown_apart(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    rule = {"asset": ETH, "threshold": "0", "forced_fee_permille": 10}
    sweeps = await Sweeps.open(bench.house, rules=[rule])
    await sweeps.deposit("anna", ETH, "0.0001")
    await sweeps.finish()
    row = await sweeps.row()
    assert (row.state, row.code) == ("unsweepable", "uneconomic")
    assert await sweeps.txs("sweep") == []
    assert await sweeps.deposits() == [("below_minimum", "unsweepable")]
    await bench.assert_reconciled()  # no wrong balance
    await sweeps.deposit("anna", ETH, "0.5")  # together they are worth it
    await sweeps.finish()
    row = await sweeps.row()
    assert (row.state, row.deposits) == ("swept", 2)
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_d57_a_barred_token_waits_alone_without_costing_gas(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    hot = await sweeps.own("hot")
    block = evm.call_data("setBlocked(address,bool)", hot.address, True)
    await bench.node.transact(to=TOKEN, data=block)
    await sweeps.deposit("anna", USDT, "50")
    await sweeps.deposit("bert", ETH, "0.5")
    lane = await sweeps.finish()
    found = {row.asset: (row.state, row.code) for row in await sweeps.rows()}
    assert found == {USDT: ("unsweepable", "transfer_fails"), ETH: ("swept", None)}
    assert await sweeps.txs("gas_top_up") == []
    assert "sweep_blocked" in await bench.house.alarms()
    await bench.assert_reconciled()

    free = evm.call_data("setBlocked(address,bool)", hot.address, False)
    await bench.node.transact(to=TOKEN, data=free)
    await bench.house.mine()
    bench.house.clock.advance(7 * 3_600)  # it is looked at again, and by itself
    await bench.house.sample_fees()
    await sweeps.rates()
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept", "swept"]
    await bench.house.assert_at_rest()


async def barred(bench: Bench, account: str, *, is_barred: bool) -> None:
    """The issuer's own call, in front of what waits."""
    data = evm.call_data("setBlocked(address,bool)", account, is_barred)
    quick = {"maxFeePerGas": hex(10**11), "maxPriorityFeePerGas": hex(10**11)}
    world = (await bench.node.accounts())[0]
    call = {"from": world, "to": TOKEN, "data": data, "gas": hex(200_000), **quick}
    await bench.node.rpc("eth_sendTransaction", call)


async def test_d57_a_sweep_that_reverts_costs_its_gas_three_times_and_no_more(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    hot = await sweeps.own("hot")
    await sweeps.deposit("anna", USDT, "50")
    lane = bench.house.lane()
    for tries in (1, 2, 3):
        for _ in range(4):
            await bench.house.cycle(lane)
            if await sweeps.states() == ["sent"]:
                break
            await bench.house.mine()
        await barred(bench, hot.address, is_barred=True)  # after the node said that it moves
        for _ in range(3):
            await bench.house.mine()
            await bench.house.cycle(lane)
        row = await sweeps.row()
        assert (row.state, row.code, row.tries) == (
            "unsweepable" if tries == 3 else "failed", "reverted", tries,
        )  # fmt: skip
        await barred(bench, hot.address, is_barred=False)
        await bench.house.mine()
        await bench.house.cycle(lane)
        assert len(await sweeps.txs("sweep")) == tries  # not before its pause is over
        bench.house.clock.advance(3 * 3_600)
        await bench.house.sample_fees()
        await sweeps.rates()
    await sweeps.finish(lane)
    assert [tx.state for tx in await sweeps.txs("sweep")] == [OutgoingState.REVERTED] * 3
    assert await sweeps.deposits() == [("final", "unsweepable")]
    assert "sweep_failed" in await bench.house.alarms()
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_t3_a_low_gas_account_is_filled_from_hot_and_both_are_booked(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    gas = {
        "network": "eth", "account_min": "0.02", "account_target": "0.05", "refill_day_max": "0.06",
    }  # fmt: skip
    sweeps = await Sweeps.open(bench.house, gas=[gas], station="")
    await sweeps.deposit("anna", USDT, "50")
    lane = await bench.house.cycle()
    row = await sweeps.row()
    assert (row.state, row.code) == ("waiting", "gas_short")
    assert "sweep_gas_short" in await bench.house.alarms()
    [refill] = await sweeps.txs("gas_top_up")
    assert refill.payments[0].amount_minor == 5 * 10**16
    for _ in range(3):
        await bench.assert_reconciled()
        await bench.house.mine()
        await bench.assert_reconciled()
        await bench.house.cycle(lane)
    assert await sweeps.custody("gas", ETH) == 5 * 10**16
    bench.house.clock.advance(61)
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"]
    assert len(await sweeps.txs("gas_top_up")) == 2
    assert "sweep_gas_short" not in await bench.house.alarms()
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_t3_above_its_price_nothing_is_swept_or_topped_up(build_bench: BuildBench) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house, gas=[{"network": "eth", "rate_max_wei": "1"}])
    await sweeps.deposit("anna", USDT, "50")
    await sweeps.finish()
    row = await sweeps.row()
    assert (row.state, row.code) == ("waiting", "gas_too_dear")
    assert await sweeps.txs("gas_top_up") == []


async def test_t2_people_stop_sweeps_of_one_asset_and_deposits_go_on(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    async with bench.house.database.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope=f"asset:{USDT}",
            action=Action.SWEEP,
            reason="test",
            actor="ada",
            ids=bench.house.ids,
            at=bench.house.clock.now(),
        )
    await sweeps.deposit("anna", USDT, "50")
    await sweeps.deposit("bert", ETH, "0.5")
    await sweeps.finish()
    found = {row.asset: row.state for row in await sweeps.rows()}
    assert found == {USDT: "waiting", ETH: "swept"}


async def test_d18_a_swept_block_that_leaves_the_chain_takes_its_postings_back(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house, station="")
    await sweeps.deposit("anna", ETH, "0.5")
    lane = await bench.house.cycle()
    for _ in range(3):
        await bench.house.mine()
        await bench.house.cycle(lane)
    assert await sweeps.states() == ["swept"]
    await bench.house.world.lose(3)
    await bench.house.follow()
    await bench.assert_reconciled()
    await bench.house.cycle(lane)
    assert await sweeps.states() == ["sent"]
    assert await sweeps.deposits() == [("final", "sweeping")]
    assert await sweeps.custody("hot", ETH) == 10**18
    assert await sweeps.custody("deposit/acme", ETH) == 5 * 10**17
    await bench.assert_reconciled()
    await sweeps.finish(lane)
    assert await sweeps.states() == ["swept"]
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


@pytest.mark.parametrize("point", POINTS_OF_SWEEPS)
async def test_p02_killed_at_any_step_a_deposit_is_swept_once(
    build_bench: BuildBench, point: str
) -> None:
    """Token and coin, with a top-up; a process dies at the point as often as it is reached."""
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    await sweeps.deposit("anna", USDT, "50")
    await sweeps.deposit("bert", ETH, "0.5")
    deaths = await killed_at(bench, point)
    await sweeps.finish()
    assert (deaths > 0) is (point not in NOT_REACHED)
    assert await sweeps.states() == ["swept", "swept"]
    sent = await sweeps.txs("sweep")
    assert [tx.state for tx in sent if tx.txid is not None] == [OutgoingState.FINAL] * 2
    hot = await sweeps.own("hot")
    assert await balance(bench.node, hot.address, token=TOKEN) == 50 * ONE
    assert await sweeps.custody("hot", USDT) == 50 * ONE
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


@pytest.mark.parametrize("asset", [USDT, ETH])
async def test_p15_what_gas_outgrew_is_replaced_at_its_nonce_and_swept_once(
    build_bench: BuildBench, asset: str
) -> None:
    """A top-up, a token's sweep, and coin that pays more of itself."""
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    await sweeps.deposit("anna", asset, "50" if asset == USDT else "0.5")
    await dear(bench, 10**9)
    lane = await bench.house.cycle()
    [first] = [*await sweeps.txs("gas_top_up"), *await sweeps.txs("sweep")]
    await dear(bench, 5 * first.fee_cap_minor // 21_000)
    await bench.house.cycle(lane)
    family = [*await sweeps.txs("gas_top_up"), *await sweeps.txs("sweep")]
    assert [tx.nonce for tx in family] == [first.nonce] * 2
    assert family[1].replaces_id == first.id
    assert family[1].fee_cap_minor > first.fee_cap_minor
    await bench.assert_reconciled()
    await sweeps.finish(lane, rounds=12)
    row = await sweeps.row()
    assert (row.state, row.tries) == ("swept", 0)
    won = [tx for tx in await sweeps.txs("sweep") if tx.state is OutgoingState.FINAL]
    assert [tx.txid for tx in won] == [row.txid]
    assert won[0].payments[0].amount_minor == row.moved_minor
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_p15_what_may_not_cost_more_waits_and_is_told(build_bench: BuildBench) -> None:
    bench = await build_bench(has_contract=False)
    gas = [{"network": "eth", "rate_max_wei": str(10 * 10**9)}]
    sweeps = await Sweeps.open(bench.house, gas=gas)
    await sweeps.deposit("anna", USDT, "50")
    await dear(bench, 10**9)
    lane = await bench.house.cycle()
    await dear(bench, 100 * 10**9)
    await bench.house.cycle(lane)
    assert len(await sweeps.txs("gas_top_up")) == 1
    assert "sweep_bump_capped" in await bench.house.alarms()
    assert await sweeps.states() == ["gas_sent"]
