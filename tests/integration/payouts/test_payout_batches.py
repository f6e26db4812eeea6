"""Payouts through the batch contract and over several lanes, on anvil (W5, W6, P27, P28)."""

import pytest
from sqlalchemy import text

from config.assets import load_assets
from config.chains import load_chains
from tests.support import evm
from tests.support.batch import balance, fresh
from tests.support.contract_bench import Bench, BuildBench, network_of
from tests.support.payout_parts import settings_of
from tests.support.payouts import SimulatedCrash, crash_at
from tests.support.vault import BATCH_CONTRACT, TOKEN
from watchers.follower import Follower
from watchers.registry import build_chain

pytestmark = [pytest.mark.postgres, pytest.mark.node]

ONE = 10**6


async def _funded(bench: Bench, *, tokens: str = "100", coins: str = "1") -> None:
    """Gas and capital at lane 0; tokens and coins of the brand in the contract."""
    await bench.house.fund("eth:ETH", "1")
    await bench.house.fund("eth:USDT", tokens, into="acme", at=BATCH_CONTRACT)
    await bench.house.fund("eth:ETH", coins, into="acme", at=BATCH_CONTRACT)


async def test_p27_p28_a_bad_leg_fails_alone_and_the_others_complete(
    build_bench: BuildBench,
) -> None:
    """Five token payouts in one tx, one to a blocked holder: four are paid, one is released."""
    bench = await build_bench()
    await _funded(bench)
    rows = await bench.pay(5, "2")
    blocked = evm.call_data("setBlocked(address,bool)", fresh(3), True)
    await bench.node.transact(to=TOKEN, data=blocked)
    await bench.node.mine()

    await bench.finish()

    assert await bench.house.states(*rows) == [
        "completed", "completed", "completed", "failed", "completed",
    ]  # fmt: skip
    (tx,) = await bench.own_txs()
    assert tx.payer_key == BATCH_CONTRACT
    paid = [await balance(bench.node, fresh(i), token=TOKEN) for i in range(5)]
    assert paid == [2 * ONE, 2 * ONE, 2 * ONE, 0, 2 * ONE]
    assert "paid_differently" not in await bench.house.alarms()
    await bench.house.assert_at_rest()
    await bench.assert_reconciled()


async def test_p28_p30_native_legs_to_hostile_receivers_fail_alone(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench()
    await _funded(bench)
    hostile = [await evm.deploy(bench.node, name) for name in ("Reverter", "GasBurner", "Caller")]
    rows = [await bench.house.request("0.01", address=address) for address in hostile]
    rows += await bench.pay(9, "0.01", asset="eth:ETH")

    await bench.finish()

    assert await bench.house.states(*rows) == ["failed"] * 3 + ["completed"] * 9
    (tx,) = await bench.own_txs()
    assert len(tx.payments) == 12
    await bench.house.assert_at_rest()
    await bench.assert_reconciled()


async def test_w5_a_batch_is_used_only_where_it_is_cheaper(build_bench: BuildBench) -> None:
    """Two coin payouts go alone, from lane 0; three token payouts go together."""
    bench = await build_bench()
    await _funded(bench)
    await bench.house.fund("eth:ETH", "1", into="acme")
    coins = await bench.pay(2, "0.01", asset="eth:ETH")
    tokens = await bench.pay(3, "1")

    await bench.finish()

    assert await bench.house.states(*coins, *tokens) == ["completed"] * 5
    payers = sorted(str(tx.payer_key) for tx in await bench.own_txs())
    assert payers == [BATCH_CONTRACT, "None", "None"]
    await bench.house.assert_at_rest()


async def test_p26_what_only_the_contract_holds_is_paid_by_it(build_bench: BuildBench) -> None:
    """A single payout, and then one that is more than the contract has."""
    bench = await build_bench()
    await _funded(bench, tokens="10")
    (row,) = await bench.pay(1, "4")
    await bench.finish()
    await bench.house.fund("eth:USDT", "5", into="acme", at=BATCH_CONTRACT)
    await bench.house.fund("eth:USDT", "5", into="acme")
    (more,) = await bench.pay(1, "15")
    await bench.finish()

    assert await bench.house.states(row, more) == ["completed", "waiting_liquidity"]


@pytest.mark.parametrize(
    "point",
    [
        "payout.planned",
        "payout.sign_requested",
        "payout.signer_answered",
        "payout.signed",
        "payout.broadcasting",
        "payout.sent_to_node",
        "payout.recorded",
        "payout.settled",
    ],
)
async def test_p02_a_batch_survives_a_kill_and_pays_each_once(
    build_bench: BuildBench, point: str
) -> None:
    bench = await build_bench()
    await _funded(bench)
    rows = await bench.pay(4, "2")

    with pytest.raises(SimulatedCrash):
        await bench.finish(lane=bench.house.lane(crash=crash_at(point)))
    await bench.finish()

    assert await bench.house.states(*rows) == ["completed"] * 4
    assert [await balance(bench.node, fresh(i), token=TOKEN) for i in range(4)] == [2 * ONE] * 4
    await bench.house.assert_at_rest()


async def test_p24_a_batch_that_lost_its_block_is_settled_again(build_bench: BuildBench) -> None:
    bench = await build_bench()
    await _funded(bench)
    rows = await bench.pay(3, "2")
    lane = await bench.house.cycle(times=2)
    await bench.house.mine()
    await bench.house.cycle(lane)
    assert await bench.house.states(*rows) == ["confirming"] * 3

    await bench.house.world.lose(1)
    await bench.house.follow()
    await bench.house.cycle(lane)
    await bench.finish()

    assert await bench.house.states(*rows) == ["completed"] * 3
    assert [await balance(bench.node, fresh(i), token=TOKEN) for i in range(3)] == [2 * ONE] * 3
    await bench.house.assert_at_rest()


async def test_p29_a_reader_without_the_contract_calls_nobody_unpaid(
    build_bench: BuildBench,
) -> None:
    """A watcher that does not know the contract sees no leg: people are called, nothing moves."""
    bench = await build_bench()
    await _funded(bench)
    rows = await bench.pay(3, "2")
    lane = await bench.house.cycle(times=2)
    house = bench.house
    settings = settings_of("eth")
    chains = load_chains(settings)
    blind = build_chain(
        chains["eth"],
        [bench.node.url],
        load_assets(settings, chains).values(),
        timeout_seconds=10.0,
    )
    house.is_compared = False  # it does not see what left the contract either
    house.follower = Follower(
        chain=blind,
        network=network_of(house),
        database=house.database,
        clock=house.clock,
        holder="test",
        start_height=None,
    )
    for _ in range(4):
        await house.mine()
        await house.cycle(lane)
    await blind.close()

    assert await house.states(*rows) == ["confirming"] * 3
    assert "paid_differently" in await house.alarms()


async def test_w6_payouts_spread_over_the_lanes_and_a_stuck_one_stops_only_itself(
    build_bench: BuildBench,
) -> None:
    """Three lanes; the tx of one never reaches a node, and the next payouts go by the others."""
    bench = await build_bench(has_contract=False, lanes=3)
    house = bench.house
    for number in range(3):
        await house.fund("eth:ETH", "1", lane=number)
        await house.fund("eth:ETH", "1", into="acme", lane=number)
    first = await bench.pay(3, "0.1", asset="eth:ETH")
    lane = await house.cycle(times=2)
    txs = await bench.own_txs()
    assert len({tx.sender_key for tx in txs}) == 3
    assert {tx.nonce for tx in txs} == {0}

    stuck = txs[0]
    await bench.node.rpc("anvil_dropTransaction", stuck.txid)
    await house.mine()
    await house.cycle(lane)
    async with house.database.unit_of_work() as uow:  # what twenty minutes do
        await uow.execute(
            text("UPDATE chain.outgoing SET signed_at = signed_at - interval '20 minutes'")
        )
    await bench.node.rpc("anvil_dropTransaction", stuck.txid)
    second = [await house.request("0.1", address=fresh(50 + i)) for i in range(4)]
    await house.cycle(lane)

    later = [tx for tx in await bench.own_txs() if tx.id not in {item.id for item in txs}]
    assert len(later) == 4
    assert stuck.sender_key not in {tx.sender_key for tx in later}
    await bench.finish()
    await bench.finish()
    assert await house.states(*first, *second) == ["completed"] * 7
    await house.assert_at_rest()
    await bench.assert_reconciled()


async def test_p17_w6_a_nonce_that_somebody_else_used_kills_one_payout_and_the_account_goes_on(
    build_bench: BuildBench,
) -> None:
    """The same key signs elsewhere at our second number: that payout is held for two people when
    the foreign tx is final, not before; those beside it are paid, and so is what comes later."""
    bench = await build_bench(has_contract=False)
    house = bench.house
    await house.fund("eth:ETH", "1")
    await house.fund("eth:ETH", "1", into="acme")
    rows = await bench.pay(3, "0.1", asset="eth:ETH")
    lane = await house.cycle(times=2)
    txs = sorted(await bench.own_txs(), key=lambda tx: tx.nonce or 0)
    await bench.node.rpc("anvil_dropTransaction", txs[1].txid)
    await bench.node.rpc("anvil_impersonateAccount", txs[1].sender_key)
    house.is_compared = False  # what it takes is a break, and shall be
    foreign = {"from": txs[1].sender_key, "to": fresh(77), "value": hex(1), "nonce": hex(1)}
    await bench.node.rpc("eth_sendTransaction", foreign)

    await house.mine()
    await house.cycle(lane)
    assert "anchor_dead" not in await house.alarms()
    await bench.finish(lane=lane)

    (dead,) = [row for row in rows if row.address_key == txs[1].payments[0].key]
    assert (await house.row(dead)).code == "anchor_dead"
    assert "anchor_dead" in await house.alarms()
    assert sorted(await house.states(*rows)) == ["completed", "completed", "on_hold"]
    later = await house.request("0.1", address=fresh(60))
    await bench.finish(lane=lane)
    assert await house.states(later) == ["completed"]
    assert max(tx.nonce or 0 for tx in await bench.own_txs()) == 3


async def test_w6_a_refused_payout_leaves_no_gap_that_a_node_would_wait_for(
    build_bench: BuildBench,
) -> None:
    """On a real node nothing above an unused number is mined: all but the refused one are."""
    bench = await build_bench(has_contract=False)
    house = bench.house
    await house.fund("eth:ETH", "1")
    await house.fund("eth:ETH", "1", into="acme")
    rows = await bench.pay(5, "0.1", asset="eth:ETH")
    async with house.database.unit_of_work() as uow:  # what a thief with the database does
        await uow.execute(
            text("UPDATE gateway.withdrawals SET address = :to, address_key = :to WHERE id = :id"),
            {"to": fresh(90), "id": rows[2].id},
        )

    await bench.finish()
    await bench.finish()

    states = await house.states(*rows)
    assert states == ["completed", "completed", "on_hold", "completed", "completed"]
    assert await balance(bench.node, fresh(90)) == 0
    await bench.assert_reconciled()


async def test_w6_a_lane_pays_no_more_than_it_holds(build_bench: BuildBench) -> None:
    """Two lanes of 0.5: the books have 1.0, and 0.8 waits although they do."""
    bench = await build_bench(has_contract=False, lanes=2)
    house = bench.house
    await house.fund("eth:ETH", "0.5", into="acme", lane=0)
    await house.fund("eth:ETH", "0.5", into="acme", lane=1)
    await house.fund("eth:ETH", "0.1", lane=1)
    await house.fund("eth:ETH", "0.1", lane=0)
    big = await house.request("0.8")
    small = [await house.request("0.05", address=fresh(60 + i)) for i in range(2)]

    await bench.finish()

    assert await house.states(big, *small) == ["waiting_liquidity", "completed", "completed"]
    assert len({tx.sender_key for tx in await bench.own_txs()}) == 2


async def test_p16_a_batch_is_bumped_at_its_nonce_and_pays_each_once(
    build_bench: BuildBench,
) -> None:
    """The base fee rises above the tx: the same legs at the same nonce, with the same batch id."""
    bench = await build_bench()
    await _funded(bench)
    rows = await bench.pay(3, "2")
    lane = await bench.house.cycle(times=2)
    await bench.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(20 * 10**9))
    await bench.house.mine()
    bench.house.clock.advance(60)
    await bench.house.sample_fees()
    await bench.house.cycle(lane, times=2)
    await bench.finish()

    txs = await bench.own_txs()
    assert len(txs) > 1
    assert {(tx.nonce, tx.payer_key, tx.payments) for tx in txs} == {
        (0, BATCH_CONTRACT, txs[0].payments)
    }
    assert await bench.house.states(*rows) == ["completed"] * 3
    assert [await balance(bench.node, fresh(i), token=TOKEN) for i in range(3)] == [2 * ONE] * 3
    await bench.house.assert_at_rest()
