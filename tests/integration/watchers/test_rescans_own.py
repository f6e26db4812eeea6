"""Blocks looked at again that hold our own txs and inflows; and the loop that works them off."""

import pytest

from tests.integration.watchers.conftest import UtxoBench
from tests.integration.watchers.test_loops import loop_over
from tests.integration.watchers.test_own_transactions import OUTSIDE, funded
from tests.integration.watchers.test_rescans import ask, missed, newest, rows, work_off
from tests.support.watching import Watch
from watchers import addresses, inflows
from watchers.inflows import InflowState
from watchers.rescans import BLOCKS_PER_LOOK, RescanState

pytestmark = pytest.mark.postgres

HALF = 50_000_000


async def begin_at_tip(watch: Watch) -> None:
    """A watcher that lost its place and begins at the tip of now."""
    async with watch.as_owner.unit_of_work() as uow:
        await uow.execute("DELETE FROM chain.blocks")
        await uow.execute("DELETE FROM chain.cursors")
    watch.start_height = None
    watch.follower = watch.new_follower("first")
    await watch.follow()


async def test_d18_own_txs_and_their_change_are_found_once_and_never_a_deposit(
    utxo: UtxoBench,
) -> None:
    payouts = await funded(utxo)
    paid = await payouts.pay(OUTSIDE, HALF // 2)
    utxo.sim.mine(8)
    await begin_at_tip(utxo.watch)
    assert (await payouts.get(paid.id)).state == "broadcast"

    await ask(utxo.watch)
    done = await work_off(utxo.watch)
    assert (done.state, done.found) == (RescanState.DONE, 1)
    assert (await payouts.get(paid.id)).state == "final"
    [change] = await payouts.spendable()
    assert change.is_own_change
    assert len(await utxo.watch.deposits()) == 1

    before = await rows(utxo.watch)
    await ask(utxo.watch)
    assert (await work_off(utxo.watch)).found == 0
    assert await rows(utxo.watch) == before


async def test_p29_a_found_coin_that_a_later_block_spends_is_not_left_spendable(
    utxo: UtxoBench,
) -> None:
    """The books forgot deposit and payout; the range that was asked for ends below the payout."""
    payouts = await funded(utxo)
    await payouts.pay(OUTSIDE, HALF // 2)
    utxo.sim.mine(8)
    async with utxo.watch.as_owner.unit_of_work() as uow:
        await uow.execute("TRUNCATE chain.deposits, chain.outgoing, chain.coins CASCADE")
        await uow.execute("TRUNCATE chain.evidence, chain.inflows CASCADE")
    await begin_at_tip(utxo.watch)
    height = (await utxo.watch.position()).height
    await ask(utxo.watch, 0, 2)
    done = await work_off(utxo.watch)
    assert (done.state, done.to_height) == (RescanState.DONE, height)
    assert all(
        coin.is_own_change or coin.amount_minor != HALF for coin in await payouts.spendable()
    )


async def test_d24_an_inflow_to_our_wallet_is_found_and_booked_once(utxo: UtxoBench) -> None:
    watch = utxo.watch
    async with watch.as_payouts.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
    utxo.sim.pay([(hot.address, HALF)])
    utxo.sim.mine(6)
    await begin_at_tip(watch)
    for found in (1, 0):
        await ask(watch)
        done = await work_off(watch)
        assert (done.state, done.found) == (RescanState.DONE, found)
    async with watch.as_watcher.unit_of_work() as uow:
        [inflow] = await inflows.find(uow, network="btc")
    assert (inflow.state, inflow.amount_minor) == (InflowState.BOOKED, HALF)
    await watch.audit()


async def test_d11_new_blocks_come_before_those_that_are_looked_at_again(utxo: UtxoBench) -> None:
    watch = utxo.watch
    await missed(utxo, blocks=60)
    await ask(watch)
    loop = loop_over(watch, watch.chain)
    assert await loop.look() == 0.0
    assert (await newest(watch)).next_height == BLOCKS_PER_LOOK
    utxo.sim.mine(1)
    assert await loop.look() == 0.0
    assert (await watch.position()).hash == utxo.sim.active[-1]
    assert (await newest(watch)).next_height == BLOCKS_PER_LOOK
    while await loop.look() is not None:
        pass
    assert (await newest(watch)).state is RescanState.DONE
    assert (await watch.deposit()).state == "final"
    await watch.audit()
