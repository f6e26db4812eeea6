"""Real nodes behind a proxy that lies, lags, hangs and breaks; nodes that are not fit to ask."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.sandbox.nodes import Anvil, Bitcoind, Litecoind
from tests.conformance.conftest import registry
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.proxied import HEALTHY, TIMEOUT_SECONDS, agreed, proxied
from tests.support.proxy import Fault, freeze, null, refuse
from tests.support.watching import watched
from tests.support.worlds import Wallet
from watchers.agreed_chain import AgreedChain
from watchers.errors import NodeUnavailable, WrongNetwork
from watchers.judge import PROBATION_LOOKS, NodeState
from watchers.registry import LYING_SECONDS_MIN, build_agreed_chain

pytestmark = [pytest.mark.postgres, pytest.mark.node]

ETHER = 10**18


async def balance_block(node: Anvil, chain: AgreedChain) -> tuple[str, str]:
    """A mined payment of one ether to a key of the public vector; (txid, block hash)."""
    txid = await node.send(Wallet.of(chain).address(0).address, ETHER)
    await node.mine()
    return txid, (await chain.reader.tip()).hash


async def test_n02_a_proxy_to_another_chain_is_refused_at_start_and_in_the_run(
    anvil: Anvil,
) -> None:
    def foreign(method: str, params: list[Any], result: Any) -> Any:
        return "0x539" if method == "eth_chainId" else result

    async with proxied("eth", anvil.url, count=2, quorum=1) as nodes:
        nodes.proxies[0].faults.append(foreign)
        await nodes.chain.reader.check_identity()
        assert await nodes.look() == [NodeState.WRONG_CHAIN, HEALTHY]
        asked = len(nodes.proxies[0].calls)
        await nodes.chain.reader.tip()
        assert "eth_getBlockByNumber" not in nodes.proxies[0].calls[asked:]
        nodes.proxies[1].faults.append(foreign)
        await nodes.look(2)
        with pytest.raises(WrongNetwork):
            await nodes.chain.reader.check_identity()


def flipped(method: str, params: list[Any], result: Any) -> Any:
    """A receipt that claims the opposite of what happened."""
    if method == "eth_getBlockReceipts":
        return [item | {"status": "0x0"} for item in result]
    return result


def without_the_last_tx(method: str, params: list[Any], result: Any) -> Any:
    """A block body that leaves its last tx out."""
    if method == "eth_getBlockByHash":
        return result | {"transactions": result["transactions"][:-1]}
    if method == "eth_getBlockReceipts":
        return result[:-1]
    if method == "getblock":
        return result | {"tx": result["tx"][:-1], "nTx": result["nTx"] - 1}
    return result


def no_receipts(method: str, params: list[Any], result: Any) -> Any:
    """An empty answer, as a node that lags gives it behind a balancer."""
    return [] if method == "eth_getBlockReceipts" else result


def more_value(method: str, params: list[Any], result: Any) -> Any:
    """A tx that moves a hundred times what it moved."""
    if method != "eth_getBlockByHash":
        return result
    txs = [
        tx | {"value": hex(int(tx["value"], 16) * 100)} if isinstance(tx, dict) else tx
        for tx in result["transactions"]
    ]
    return result | {"transactions": txs}


@pytest.mark.parametrize("fault", [flipped, without_the_last_tx, more_value])
async def test_n04_n05_n06_a_false_block_of_anvil_is_a_lie_and_another_node_is_asked(
    anvil: Anvil, fault: Fault
) -> None:
    async with proxied("eth", anvil.url, count=2, quorum=1) as nodes:
        await nodes.look()
        _, block_hash = await balance_block(anvil, nodes.chain)
        nodes.proxies[0].faults.append(fault)
        block = await nodes.chain.reader.block(block_hash)
        assert [item.amount_minor for item in block.transfers] == [ETHER]
        assert (await nodes.look())[0] in (NodeState.LYING, NodeState.QUARANTINED)
        assert len(nodes.chain.pool.records[0].reason) > 0


async def test_n04_a_tx_that_bitcoind_leaves_out_is_a_lie_and_the_node_comes_back(
    bitcoind: Bitcoind, clock: ManualClock
) -> None:
    """Not before its time is over: on a test network that is a minute."""
    async with proxied("btc", bitcoind.url, count=2, quorum=1, clock=clock) as nodes:
        await nodes.look()
        target = Wallet.of(nodes.chain).address(0).address
        txid = await bitcoind.send(target, "0.5")
        [block_hash] = await bitcoind.mine()
        nodes.proxies[0].faults.append(without_the_last_tx)
        block = await nodes.chain.reader.block(block_hash)
        assert txid in block.txids
        assert await nodes.look() == [NodeState.LYING, HEALTHY]
        nodes.proxies[0].honest()
        assert await nodes.look(PROBATION_LOOKS) == [NodeState.QUARANTINED, HEALTHY]
        clock.advance(LYING_SECONDS_MIN)
        assert await nodes.look() == [HEALTHY, HEALTHY]


async def test_n12_receipts_that_a_node_lacks_are_no_empty_block(anvil: Anvil) -> None:
    async with proxied("eth", anvil.url, count=1, quorum=1) as nodes:
        await nodes.look()
        _, block_hash = await balance_block(anvil, nodes.chain)
        nodes.proxies[0].faults.append(no_receipts)
        with pytest.raises(NodeUnavailable):
            await nodes.chain.reader.block(block_hash)


async def test_n13_blocks_are_read_whole_by_hash_and_range_limits_never_met(
    anvil: Anvil,
) -> None:
    """No range of logs is ever asked for, so a node that refuses every range loses nothing."""
    async with proxied("eth", anvil.url, count=1, quorum=1) as nodes:
        for code, message in ((-32005, "more than 10000 results"), (-32602, "range too large")):
            nodes.proxies[0].faults.append(refuse(code, message, "eth_getLogs"))
        await nodes.look()
        txids, found = [], []
        for _ in range(5):
            txid, block_hash = await balance_block(anvil, nodes.chain)
            txids.append(txid)
            found += [item.txid for item in (await nodes.chain.reader.block(block_hash)).transfers]
        assert found == txids
        assert "eth_getLogs" not in nodes.proxies[0].calls


async def test_n14_a_node_without_history_or_traces_leaves_the_answer_to_the_others(
    anvil: Anvil,
) -> None:
    async with proxied("eth", anvil.url, count=3, quorum=2) as nodes:
        await nodes.look()
        _, block_hash = await balance_block(anvil, nodes.chain)
        pruned = refuse(-32000, "missing trie node", "eth_getBalance")
        untraced = refuse(-32601, "no such method", "debug_traceBlockByHash", "trace_block")
        nodes.proxies[0].faults += [pruned, untraced]
        key = Wallet.of(nodes.chain).address(0).key
        held = await nodes.chain.reader.holdings([key], "eth:ETH", block_hash=block_hash)
        assert held[key] >= ETHER
        block = await nodes.chain.reader.block(block_hash)
        assert [item.amount_minor for item in block.transfers] == [ETHER]
        assert await nodes.look() == [HEALTHY] * 3


async def test_n16_a_node_that_hangs_delays_nobody(anvil: Anvil) -> None:
    async with proxied("eth", anvil.url, count=3, quorum=2) as nodes:
        await nodes.look()
        nodes.proxies[0].is_deaf = True
        _, block_hash = await balance_block(anvil, nodes.chain)
        async with asyncio.timeout(TIMEOUT_SECONDS / 2):
            ref = await nodes.chain.reader.ref_of(block_hash)
            assert ref is not None
            assert await nodes.chain.reader.ref_at(ref.height) == ref
            assert await nodes.chain.reader.ref_at(ref.height + 1) is None
        assert (await nodes.look(2))[0] is NodeState.UNREACHABLE
        nodes.proxies[0].honest()


async def test_n08_one_node_over_its_budget_is_left_alone_and_no_block_is_missed(
    anvil: Anvil,
) -> None:
    async with proxied("eth", anvil.url, count=3, quorum=2) as nodes:
        await nodes.look()
        busy = nodes.proxies[0]
        busy.status, busy.headers = 429, {"Retry-After": "60"}
        heights = []
        for _ in range(4):
            _, block_hash = await balance_block(anvil, nodes.chain)
            heights.append((await nodes.chain.reader.block(block_hash)).ref.height)
        assert heights == list(range(heights[0], heights[0] + 4))
        asked = len(busy.calls)
        await nodes.look(2)
        assert len(busy.calls) == asked
        assert nodes.chain.pool.records[0].state is NodeState.UNREACHABLE


@pytest.mark.parametrize(
    "body", [b"<html>502</html>", b"", b'{"id":1,"resu', b"null", b"[" * 10_000]
)
async def test_n09_a_node_that_talks_nonsense_is_out_and_comes_back(
    bitcoind: Bitcoind, body: bytes
) -> None:
    async with proxied("btc", bitcoind.url, count=3, quorum=2) as nodes:
        await nodes.look()
        nodes.proxies[1].body = body
        height = await bitcoind.height()
        assert (await nodes.chain.reader.tip()).height == height
        assert (await nodes.look(2))[1] is NodeState.UNREACHABLE
        nodes.proxies[1].honest()
        assert await nodes.look() == [HEALTHY] * 3


async def test_n09_answers_with_the_ids_of_other_calls_are_none(bitcoind: Bitcoind) -> None:
    async with proxied("btc", bitcoind.url, count=1, quorum=1) as nodes:
        await nodes.look()
        nodes.proxies[0].shift_ids = 1
        with pytest.raises(NodeUnavailable):
            await nodes.chain.reader.tip()


async def test_n11_n28_a_block_that_comes_in_parts_is_not_committed_and_asked_for_again(
    anvil: Anvil, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    """Null for the block; then a node that dies in the middle of a batch of receipts."""
    async with (
        proxied("eth", anvil.url, count=1, quorum=1) as nodes,
        watched(nodes.chain, test_database, clock, ids) as watch,
    ):
        anna = await watch.address("anna")
        await anvil.send(anna.address, ETHER)
        await anvil.send(anna.address, 2 * ETHER)
        await anvil.mine()
        before = await watch.position()
        proxy = nodes.proxies[0]
        proxy.faults.append(null("eth_getBlockByHash"))
        with pytest.raises(NodeUnavailable):
            await watch.follow()
        proxy.honest()
        proxy.faults.append(refuse(-32601, "no such method", "eth_getBlockReceipts"))
        proxy.cut_after = 1
        with pytest.raises(NodeUnavailable):
            await watch.follow()
        assert await watch.position() == before
        assert await watch.deposits() == []
        proxy.honest()
        await nodes.look()
        await watch.follow()
        assert [item.amount_minor for item in await watch.deposits()] == [ETHER, 2 * ETHER]


async def test_n15_heads_that_repeat_and_jump_leave_no_gap(
    anvil: Anvil, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    """The node shows old heads again between new ones; every block is followed by its parent."""
    async with (
        proxied("eth", anvil.url, count=1, quorum=1) as nodes,
        watched(nodes.chain, test_database, clock, ids) as watch,
    ):
        anna = await watch.address("anna")
        heads: list[Any] = []

        def repeat(method: str, params: list[Any], result: Any) -> Any:
            if method == "eth_getBlockByNumber" and params[0] == "latest":
                heads.append(result)
                return heads[len(heads) // 2]
            return result

        nodes.proxies[0].faults.append(repeat)
        for _ in range(6):
            await anvil.send(anna.address, ETHER)
            await anvil.mine()
            await watch.follow()
        nodes.proxies[0].honest()
        await watch.follow()
        assert len(await watch.deposits()) == 6
        assert await watch.deposit_states() <= {"pending", "provisional"}
        assert (await watch.position()).height == await anvil.height()


async def test_n21_the_nodes_own_count_of_confirmations_is_ignored(
    bitcoind: Bitcoind, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    def deep(method: str, params: list[Any], result: Any) -> Any:
        if method in ("getblock", "getblockheader", "getrawtransaction") and result is not None:
            return result | {"confirmations": 999}
        return result

    async with (
        proxied("btc", bitcoind.url, count=1, quorum=1) as nodes,
        watched(nodes.chain, test_database, clock, ids) as watch,
    ):
        nodes.proxies[0].faults.append(deep)
        anna = await watch.address("anna")
        await bitcoind.send(anna.address, "0.5")
        await bitcoind.mine()
        await watch.follow()
        assert (await watch.deposit()).state == "provisional"  # 1 of the 3 that 0.5 coins need


async def test_n24_a_bitcoind_that_still_syncs_is_not_asked(
    node_programs: dict[str, Path], tmp_path: Path
) -> None:
    """A fresh node says `initialblockdownload` until it has a block of our days."""
    async with Bitcoind(node_programs["bitcoind"], tmp_path) as fresh:
        chain = agreed("btc", [fresh.url], quorum=1)
        with pytest.raises(NodeUnavailable, match="syncing: says itself"):
            await chain.reader.tip()
        await fresh.mine(1)
        assert (await chain.reader.tip()).height == 1
        await chain.close()


async def test_n24_a_litecoind_below_the_least_version_is_not_asked(litecoind: Litecoind) -> None:
    spec = registry()["ltc"]
    for least, state in (("0.99.0", NodeState.QUARANTINED), ("0.21.2", HEALTHY)):
        chain = build_agreed_chain(
            replace(spec, min_node_version=least), [litecoind.url], [], quorum=1
        )
        await chain.pool.look_all()
        assert [item.state for item in chain.pool.records] == [state]
        await chain.close()


async def test_n01_a_bitcoind_that_stands_still_is_lagging(bitcoind: Bitcoind) -> None:
    async with proxied("btc", bitcoind.url, count=3, quorum=2) as nodes:
        await nodes.look()
        height = await bitcoind.height()
        stale = await bitcoind.rpc("getblockhash", height)
        nodes.proxies[0].faults += [
            freeze(height),
            lambda method, params, result: stale if method == "getbestblockhash" else result,
        ]
        await bitcoind.mine(3)
        assert await nodes.look(2) == [NodeState.LAGGING, HEALTHY, HEALTHY]
        assert (await nodes.chain.reader.tip()).height == height + 3


def test_the_proxy_passes_amounts_on_exactly() -> None:
    amounts = [Decimal("20999999.97690000"), Decimal("0.00000001"), Decimal("0.1")]
    told = json.loads(json.dumps([float(item) for item in amounts]), parse_float=Decimal)
    assert [int(item * 10**8) for item in told] == [int(item * 10**8) for item in amounts]
