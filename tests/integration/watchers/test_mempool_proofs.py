"""Real nodes behind proxies that lie about unconfirmed txs: the liar is named, the truth counts."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from gateway.sandbox.nodes import Anvil, Bitcoind, Litecoind, UtxoNode
from tests.support.proxied import HEALTHY, Proxied, proxied
from tests.support.proxy import Fault, refuse
from tests.support.worlds import Wallet
from watchers.chain import MempoolTx
from watchers.judge import NodeState

pytestmark = pytest.mark.node

HALF = 50_000_000
ETHER = 10**18
THIEF_SCRIPT = "0014" + "77" * 20
THIEF = "0x" + "77" * 20


def outputs(tell: Any) -> Fault:
    """Verbose txs with other outputs; their bytes stay true."""

    def fault(method: str, params: list[Any], result: Any) -> Any:
        if method != "getrawtransaction" or not isinstance(result, dict):
            return result
        return result | {"vout": tell([dict(item) for item in result["vout"]])}

    return fault


def richer(outs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item | {"value": item["value"] * Decimal(2)} for item in outs]


def stolen(outs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    script = {"hex": THIEF_SCRIPT}
    return [item | {"scriptPubKey": item["scriptPubKey"] | script} for item in outs]


def longer(outs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    more = {"n": len(outs), "value": Decimal(7), "scriptPubKey": {"hex": THIEF_SCRIPT}}
    return [*outs, more]


def other_inputs(method: str, params: list[Any], result: Any) -> Any:
    """A tx that would exclude what it does not: its false rival would be `replaced` (D11)."""
    if method != "getrawtransaction" or not isinstance(result, dict):
        return result
    return result | {"vin": [item | {"txid": "aa" * 32} for item in result["vin"]]}


def other_bytes(method: str, params: list[Any], result: Any) -> Any:
    """The bytes changed too: they are those of another txid."""
    if method != "getrawtransaction" or not isinstance(result, dict):
        return result
    return result | {"hex": result["hex"][:-8] + "11000000"}


UTXO_LIES: Sequence[Fault] = [
    outputs(richer),
    outputs(stolen),
    outputs(longer),
    other_inputs,
    other_bytes,
]
UTXO_NAMES = ["amount", "receiver", "one output more", "inputs", "bytes"]


async def the_truth_is_seen(nodes: Proxied, txid: str) -> MempoolTx:
    """Both nodes are asked; the tx is reported once, and the first node is named."""
    [found] = [tx for tx in await nodes.chain.reader.mempool() if tx.txid == txid]
    assert [item.state for item in nodes.chain.pool.records] == [NodeState.LYING, HEALTHY]
    assert txid in nodes.chain.pool.records[0].reason
    return found


async def lies_about_outputs(node: UtxoNode, network: str, fault: Fault) -> None:
    async with proxied(network, node.url, count=2, quorum=1) as nodes:
        await nodes.look()
        target = Wallet.of(nodes.chain).address(0)
        await nodes.chain.reader.mempool()
        nodes.proxies[0].faults.append(fault)
        txid = await node.send(target.address, "0.5")
        found = await the_truth_is_seen(nodes, txid)
        paid = [item.amount_minor for item in found.transfers if item.to_key == target.key]
        assert paid == [HALF]
        assert THIEF_SCRIPT not in {item.to_key for item in found.transfers}
        await node.mine()


@pytest.mark.parametrize("fault", UTXO_LIES, ids=UTXO_NAMES)
async def test_n05_n06_a_false_unconfirmed_tx_of_bitcoind_is_a_lie(
    bitcoind: Bitcoind, fault: Fault
) -> None:
    await lies_about_outputs(bitcoind, "btc", fault)


@pytest.mark.parametrize("fault", UTXO_LIES, ids=UTXO_NAMES)
async def test_n05_n06_a_false_unconfirmed_tx_of_litecoind_is_a_lie(
    litecoind: Litecoind, fault: Fault
) -> None:
    await lies_about_outputs(litecoind, "ltc", fault)


def pending(**changes: Any) -> Fault:
    """The txs of the pending block with these fields."""

    def fault(method: str, params: list[Any], result: Any) -> Any:
        if method != "eth_getBlockByNumber" or params[0] != "pending":
            return result
        return result | {"transactions": [tx | changes for tx in result["transactions"]]}

    return fault


@pytest.mark.parametrize(
    "fault",
    [
        pending(value=hex(100 * ETHER)),
        pending(to=THIEF),
        pending(nonce="0x7fff"),
        pending(**{"from": THIEF}),
    ],
    ids=["amount", "receiver", "nonce", "sender"],
)
async def test_n05_n06_a_false_unconfirmed_tx_of_anvil_is_a_lie(anvil: Anvil, fault: Fault) -> None:
    async with proxied("eth", anvil.url, count=2, quorum=1) as nodes:
        await nodes.look()
        target = Wallet.of(nodes.chain).address(0)
        await nodes.chain.reader.mempool()
        nodes.proxies[0].faults.append(fault)
        txid = await anvil.send(target.address, ETHER)
        found = await the_truth_is_seen(nodes, txid)
        assert [(item.to_key, item.amount_minor) for item in found.transfers] == [
            (target.key, ETHER)
        ]
        await anvil.mine()


async def test_n05_an_unconfirmed_tx_of_an_unknown_type_is_not_reported(anvil: Anvil) -> None:
    """Nothing of it can be checked; that is no lie."""
    async with proxied("eth", anvil.url, count=1, quorum=1) as nodes:
        await nodes.look()
        nodes.proxies[0].faults.append(pending(type="0x7e"))
        txid = await anvil.send(Wallet.of(nodes.chain).address(0).address, ETHER)
        assert txid not in {tx.txid for tx in await nodes.chain.reader.mempool()}
        assert [item.state for item in nodes.chain.pool.records] == [HEALTHY]
        await anvil.mine()


async def test_n05_an_unconfirmed_tx_for_another_chain_is_not_reported(anvil: Anvil) -> None:
    async with proxied("eth", anvil.url, count=1, quorum=1) as nodes:
        await nodes.look()
        nodes.proxies[0].faults.append(pending(chainId="0x1"))
        txid = await anvil.send(Wallet.of(nodes.chain).address(0).address, ETHER)
        assert txid not in {tx.txid for tx in await nodes.chain.reader.mempool()}
        await anvil.mine()


async def test_r10_the_fee_rate_of_an_unconfirmed_tx_is_its_node_s_word(
    bitcoind: Bitcoind, litecoind: Litecoind, anvil: Anvil
) -> None:
    nodes: Sequence[tuple[str, UtxoNode]] = [("btc", bitcoind), ("ltc", litecoind)]
    for network, node in nodes:
        async with proxied(network, node.url, count=1, quorum=1) as one:
            await one.look()
            txid = await node.send(Wallet.of(one.chain).address(0).address, "0.5")
            [found] = [tx for tx in await one.chain.reader.mempool() if tx.txid == txid]
            entry = await node.rpc("getmempoolentry", txid)
            told = int(Decimal(str(entry["fees"]["base"])) * 10**11) // entry["vsize"]
            assert found.fee_rate is not None
            assert 1_000 <= found.fee_rate <= told
            await node.mine()
    async with proxied("eth", anvil.url, count=1, quorum=1) as one:
        await one.look()
        txid = await anvil.send(Wallet.of(one.chain).address(0).address, ETHER)
        [seen] = [tx for tx in await one.chain.reader.mempool() if tx.txid == txid]
        tx = await anvil.rpc("eth_getTransactionByHash", txid)
        most = int(tx.get("maxFeePerGas", tx["gasPrice"]), 16)
        assert seen.fee_rate is not None
        assert 0 < seen.fee_rate <= most
        await anvil.mine()


async def test_r10_a_node_that_hides_fees_still_shows_txs(bitcoind: Bitcoind) -> None:
    async with proxied("btc", bitcoind.url, count=1, quorum=1) as nodes:
        await nodes.look()
        nodes.proxies[0].faults.append(refuse(-32601, "Method not found", "getmempoolentry"))
        txid = await bitcoind.send(Wallet.of(nodes.chain).address(0).address, "0.5")
        [found] = [tx for tx in await nodes.chain.reader.mempool() if tx.txid == txid]
        assert found.fee_rate is None
        await bitcoind.mine()


async def test_n22_a_bitcoind_that_has_no_mempool_calls_is_silent_and_healthy(
    bitcoind: Bitcoind,
) -> None:
    async with proxied("btc", bitcoind.url, count=1, quorum=1) as nodes:
        await nodes.look()
        nodes.proxies[0].faults.append(refuse(-32601, "Method not found", "getrawmempool"))
        assert await nodes.chain.reader.mempool() == []
        assert await nodes.look() == [HEALTHY]
