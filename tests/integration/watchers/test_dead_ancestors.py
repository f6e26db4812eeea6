"""A deposit that we spent leaves the chain: what descends from it is not offered, and ends."""

import pytest

from tests.integration.watchers.conftest import UtxoBench
from tests.integration.watchers.test_own_transactions import (
    HALF,
    OUTSIDE,
    UtxoPayouts,
    funded,
)
from watchers import addresses

pytestmark = pytest.mark.postgres

TENTH = HALF // 5


async def test_change_of_an_orphaned_deposit_is_not_offered_until_the_deposit_is_back(
    utxo: UtxoBench,
) -> None:
    payouts = await funded(utxo)
    sent = await payouts.pay(OUTSIDE, TENTH)
    deposit_txid = (await utxo.watch.deposit()).txid
    assert len(await payouts.spendable()) == 1

    utxo.sim.rewind(3)
    for _ in range(4):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    assert await payouts.spendable() == []

    utxo.sim.mine_exactly([deposit_txid])
    await utxo.watch.follow()
    (change,) = await payouts.spendable()
    assert (change.outpoint.txid, change.height) == (sent.txid, None)


async def test_everything_that_descends_from_a_dead_deposit_is_replaced(utxo: UtxoBench) -> None:
    payouts = await funded(utxo)
    first = await payouts.pay(OUTSIDE, TENTH)
    second = await payouts.pay(OUTSIDE, TENTH)
    assert second.inputs[0].txid == first.txid

    utxo.sim.rewind(3)
    rival = utxo.sim.conflict((await utxo.watch.deposit()).txid)
    utxo.sim.mine(4)
    await utxo.watch.follow()
    for attempt in (first, second):
        row = await payouts.get(attempt.id)
        assert (row.state, row.conflict_txid) == ("replaced", rival)
    assert await payouts.spendable() == []
    await utxo.watch.audit()


async def test_a_dead_inflow_ends_its_descendants_too(utxo: UtxoBench) -> None:
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
    inflow_txid = utxo.sim.pay([(hot.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    payouts = UtxoPayouts(utxo)
    sent = await payouts.pay(OUTSIDE, TENTH)

    utxo.sim.rewind(3)
    rival = utxo.sim.conflict(inflow_txid)
    utxo.sim.mine(4)
    await utxo.watch.follow()
    row = await payouts.get(sent.id)
    assert (row.state, row.conflict_txid) == ("replaced", rival)


async def test_a_rival_that_leaves_the_chain_ends_nothing(utxo: UtxoBench) -> None:
    payouts = await funded(utxo)
    sent = await payouts.pay(OUTSIDE, TENTH)
    deposit_txid = (await utxo.watch.deposit()).txid
    deposit_raw = next(
        raw
        for name in utxo.sim.active
        for txid, raw in utxo.sim.blocks[name].txs
        if txid == deposit_txid
    )
    assert sent.raw is not None

    utxo.sim.rewind(3)
    rival = utxo.sim.conflict(deposit_txid)
    utxo.sim.mine()
    for _ in range(3):
        utxo.sim.mine_exactly([])
    utxo.sim.rewind(3)
    await utxo.watch.follow()
    utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    assert (await payouts.get(sent.id)).conflict_txid == rival
    assert await payouts.spendable() == []

    utxo.sim.rewind(2)
    utxo.sim.drop(rival)
    utxo.sim.pool[deposit_txid] = deposit_raw
    assert sent.txid is not None
    utxo.sim.pool[sent.txid] = sent.raw
    utxo.sim.mine(6)
    await utxo.watch.follow()
    row = await payouts.get(sent.id)
    assert (row.state, row.conflict_txid) == ("final", None)
    await utxo.watch.audit()
