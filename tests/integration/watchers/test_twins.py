"""What two blocks share is told apart: equal coinbases, conflicts of one deposit, a first start."""

from dataclasses import replace

import pytest

from tests.integration.watchers.conftest import UtxoBench
from tests.support.auditor import audit
from tests.support.simchain import SimUtxoReader, utxo_chain
from watchers import addresses, deposit_store
from watchers.chain import Block, Transfer

pytestmark = pytest.mark.postgres

HALF = 50_000_000
TWIN = "cc" * 32
MATURE = 100  # confirmations


class Twins(SimUtxoReader):
    """Every payment of HALF comes by a coinbase, and all coinbases have the same txid (D31)."""

    async def block(self, block_hash: str) -> Block:
        block = await super().block(block_hash)
        return replace(
            block,
            transfers=tuple(_twin(item) for item in block.transfers),
            raw_txs={**block.raw_txs, TWIN: b"coinbase"},
        )


def _twin(transfer: Transfer) -> Transfer:
    if transfer.amount_minor != HALF:
        return transfer
    return replace(transfer, txid=TWIN, position="out:0", is_coinbase=True)


async def mine_twins(utxo: UtxoBench, address: str) -> None:
    """Two blocks whose coinbases are equal and pay `address`, both mature."""
    for _ in range(2):
        utxo.sim.pay([(address, HALF)])
        utxo.sim.mine(1)
    utxo.sim.mine(MATURE)
    twins = utxo_chain(utxo.sim, reader=Twins(utxo.sim))
    await utxo.watch.follow(utxo.watch.new_follower("first", chain=twins))


async def test_d31_equal_coinbases_of_two_blocks_are_two_deposits(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    await mine_twins(utxo, anna.address)
    assert [(row.txid, row.state) for row in await utxo.watch.deposits()] == [(TWIN, "final")] * 2
    assert await utxo.watch.books() == {
        "custody:btc/hot:btc:BTC": 2 * HALF,
        "brand:acme:clearing:btc:BTC": 2 * HALF,
    }
    assert await audit(utxo.watch.as_owner.engine, at_rest=False) == []


async def test_d31_equal_coinbases_of_two_blocks_are_two_inflows(utxo: UtxoBench) -> None:
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
    await mine_twins(utxo, hot.address)
    assert await utxo.watch.books() == {
        "custody:btc/hot:btc:BTC": 2 * HALF,
        "suspense:btc:BTC": 2 * HALF,
    }


async def test_a_later_conflict_does_not_put_off_an_earlier_one(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(1)
    await utxo.watch.follow()
    utxo.sim.rewind(1)
    utxo.sim.conflict(txid)
    utxo.sim.mine(2)
    await utxo.watch.follow()
    before = await utxo.watch.deposit()
    assert before.conflict_txid is not None
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        await deposit_store.insert_inputs(uow, network="btc", inputs=[("ee" * 32, 0, txid, txid)])
        await deposit_store.mark_conflicts_by_input(
            uow,
            network="btc",
            spends=[("ee" * 32, 0, "dd" * 32, 50)],
            blocks={50: "ff" * 32},
        )
    assert await utxo.watch.deposit() == before


async def test_headers_of_a_first_start_that_died_do_not_bar_the_next(utxo: UtxoBench) -> None:
    class Died(Exception):
        pass

    def die(point: str) -> None:
        raise Died(point)

    utxo.sim.mine(5)
    utxo.watch.start_height = None
    with pytest.raises(Died):
        await utxo.watch.follow(utxo.watch.new_follower("first", crash=die))
    utxo.sim.rewind(3)
    for _ in range(4):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow(utxo.watch.new_follower("first"))
    assert (await utxo.watch.position()).height == 6
