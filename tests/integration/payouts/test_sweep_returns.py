"""Sweeps whose blocks leave the chain: what came back after all, and what never will (D57, D77)."""

import pytest

from gateway.payouts.same_tx import gas_fields
from ledger import accounts, balances
from tests.support import evm
from tests.support.batch import balance
from tests.support.contract_bench import Bench, BuildBench
from tests.support.payouts import Payouts
from tests.support.simchain import SimAccount
from tests.support.sweeping import ETH, USDT, Sweeps, dear
from tests.support.vault import TOKEN
from watchers.outgoing import OutgoingState

pytestmark = [pytest.mark.postgres, pytest.mark.node]

ONE = 10**6
COIN = 10**18


async def barred(bench: Bench, account: str, *, is_barred: bool) -> None:
    """The issuer's own call, in front of what waits."""
    data = evm.call_data("setBlocked(address,bool)", account, is_barred)
    quick = {"maxFeePerGas": hex(10**11), "maxPriorityFeePerGas": hex(10**11)}
    world = (await bench.node.accounts())[0]
    call = {"from": world, "to": TOKEN, "data": data, "gas": hex(200_000), **quick}
    await bench.node.rpc("eth_sendTransaction", call)


async def later(sweeps: Sweeps) -> None:
    """Its pause is over."""
    sweeps.house.clock.advance(30 * 3_600)
    await sweeps.house.sample_fees()
    await sweeps.rates()


async def test_d57_a_sweep_that_failed_and_moved_it_after_a_reorg_is_swept_not_unsweepable(
    build_bench: BuildBench,
) -> None:
    """Its first tx reverted and was final; a second is sent. Then the chain goes another way, the
    first one moves everything and the second finds nothing."""
    bench = await build_bench(has_contract=False)
    house = bench.house
    sweeps = await Sweeps.open(house)
    hot = await sweeps.own("hot")
    await sweeps.deposit("anna", USDT, "50")
    lane = await house.cycle()
    await house.mine()
    await house.cycle(lane)
    assert await sweeps.states() == ["sent"]
    below = await bench.node.height()
    await barred(bench, hot.address, is_barred=True)
    for _ in range(4):
        await house.mine()
        await house.cycle(lane)
    assert await sweeps.states() == ["failed"]
    await barred(bench, hot.address, is_barred=False)
    await house.mine()
    await later(sweeps)
    await house.cycle(lane, times=2)
    if await sweeps.states() == ["gas_sent"]:
        await house.mine()
        await house.cycle(lane)
    assert await sweeps.states() == ["sent"]
    first, second = await sweeps.txs("sweep")
    assert first.state is OutgoingState.REVERTED

    await house.world.lose(await bench.node.height() - below)
    await house.follow()
    for _ in range(6):
        await house.mine()
        await house.cycle(lane)
    found = await sweeps.txs("sweep")
    [won] = [tx for tx in found if tx.state is OutgoingState.FINAL]
    [lost] = [tx for tx in found if tx.state is OutgoingState.REVERTED]
    assert (won.family_id, lost.family_id) == (first.family_id, second.family_id)
    assert await balance(bench.node, hot.address, token=TOKEN) == 50 * ONE
    await bench.assert_reconciled()
    await later(sweeps)
    await sweeps.finish(lane, rounds=2)
    row = await sweeps.row()
    assert (row.state, row.attempt_id, row.txid) == ("swept", won.id, won.txid)
    assert (row.moved_minor, row.code) == (50 * ONE, None)
    assert await sweeps.deposits() == [("final", "swept")]
    assert await sweeps.custody("hot", USDT) == 50 * ONE
    assert await sweeps.custody("deposit/acme", USDT) == 0
    assert "sweep_failed" not in await house.alarms()
    await bench.assert_reconciled()
    await house.assert_at_rest()


async def test_d57_gas_that_an_earlier_tx_used_after_a_reorg_is_given_again(
    build_bench: BuildBench,
) -> None:
    """As above, but what the first tx costs in the new chain is most of what lay there for the
    second: no node takes the second one, and everything at its address would wait behind it."""
    bench = await build_bench(has_contract=False)
    house = bench.house
    sweeps = await Sweeps.open(house)
    hot = await sweeps.own("hot")
    await sweeps.deposit("anna", USDT, "50")
    lane = await house.cycle()
    await house.mine()
    await house.cycle(lane)
    assert await sweeps.states() == ["sent"]
    below = await bench.node.height()
    await barred(bench, hot.address, is_barred=True)
    for _ in range(4):
        await house.mine()
        await house.cycle(lane)
    assert await sweeps.states() == ["failed"]
    await barred(bench, hot.address, is_barred=False)
    await house.mine()
    await later(sweeps)
    await house.cycle(lane, times=2)
    if await sweeps.states() == ["gas_sent"]:
        await house.mine()
        await house.cycle(lane)
    assert await sweeps.states() == ["sent"]
    first, second = await sweeps.txs("sweep")
    given = len(await sweeps.txs("gas_top_up"))

    await house.world.lose(await bench.node.height() - below)
    await house.follow()
    dearest, _, _ = gas_fields(first.unsigned)
    await dear(bench, dearest)  # all that the first one may cost
    await house.cycle(lane)
    for _ in range(10):
        await house.mine()
        await house.cycle(lane)

    assert len(await sweeps.txs("gas_top_up")) > given
    ends = {tx.family_id: tx.state for tx in await sweeps.txs("sweep") if tx.height is not None}
    assert ends == {
        first.family_id: OutgoingState.FINAL,
        second.family_id: OutgoingState.REVERTED,
    }
    await later(sweeps)
    await sweeps.finish(lane, rounds=2)
    row = await sweeps.row()
    assert (row.state, row.moved_minor) == ("swept", 50 * ONE)
    await bench.assert_reconciled()
    await house.assert_at_rest()


async def test_d77_a_deposit_reversed_after_its_sweep_is_owed_by_its_brand(eth: Payouts) -> None:
    """The sender's other tx is final: the deposit, and with it its sweep, never happened. What the
    brand paid out meanwhile, it owes."""
    sim = eth.sim
    assert isinstance(sim, SimAccount)
    sweeps = await Sweeps.open(eth)
    below = len(sim.active)
    await sweeps.deposit("anna", ETH, "0.5")
    [[paid]] = [
        [txid for txid, _ in sim.blocks[name].txs] for name in sim.active[below : below + 1]
    ]
    lane = await sweeps.finish()
    assert await sweeps.states() == ["swept"]
    row = await eth.request("0.4")
    for _ in range(6):
        await eth.cycle(lane)
        await eth.mine()
    await eth.cycle(lane)
    assert await eth.states(row) == ["completed"]

    sim.rewind(len(sim.active) - below)
    sim.conflict(paid)
    await eth.follow()
    for _ in range(12):
        await eth.mine()
        await eth.cycle(lane)
    assert await sweeps.deposits() == [("reversed", "sweeping")]
    async with eth.database.unit_of_work() as uow:
        owed = await balances.balance(uow, accounts.receivable("acme", ETH))
        clearing = await balances.balance(uow, accounts.clearing("acme", ETH))
    assert (owed, clearing) == (4 * COIN // 10, 0)
    assert await sweeps.custody("deposit/acme", ETH) == 0
    [tx] = await sweeps.txs("sweep")
    assert tx.height is None
    await eth.assert_at_rest()
