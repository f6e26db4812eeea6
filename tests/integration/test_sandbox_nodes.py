"""The real nodes of the sandbox do what the demo and the chain tests need of them."""

import pytest

from gateway.sandbox.nodes import Anvil, Bitcoind, Litecoind, UtxoNode

pytestmark = pytest.mark.node


async def _check_reorg_and_double_spend(node: UtxoNode) -> None:
    txid = await node.send(await node.new_address(), "1.5")
    await node.mine()
    await node.reorg(1)
    assert txid in await node.rpc("getrawmempool")
    await node.mine(2)
    conflict = await node.double_spend(txid, depth=2)
    assert txid not in await node.rpc("getrawmempool")
    assert await node.rpc("gettxout", txid, 0) is None
    assert (await node.rpc("getrawtransaction", conflict, True))["confirmations"] == 3


async def test_bitcoind_reorgs_a_tx_out_and_double_spends_it(bitcoind: Bitcoind) -> None:
    await _check_reorg_and_double_spend(bitcoind)


async def test_litecoind_reorgs_a_tx_out_and_double_spends_it(litecoind: Litecoind) -> None:
    await _check_reorg_and_double_spend(litecoind)


async def test_anvil_forgets_the_txs_of_replaced_blocks(anvil: Anvil) -> None:
    txid = await anvil.send((await anvil.accounts())[1], 10**18)
    height = await anvil.mine(3)
    assert (await anvil.rpc("eth_getTransactionReceipt", txid))["status"] == "0x1"
    await anvil.reorg(3)
    assert await anvil.height() == height
    assert await anvil.rpc("eth_getTransactionReceipt", txid) is None


async def test_anvil_calls_final_what_is_two_blocks_deep(anvil: Anvil) -> None:
    height = await anvil.mine(5)
    final = await anvil.rpc("eth_getBlockByNumber", "finalized", False)
    assert int(final["number"], 16) == height - 2
