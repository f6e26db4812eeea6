"""N04-N06, D13: every block proves its txs, and a node that alters its answer is caught.

The lies are told over what real programs answer: one member altered or left out.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from gateway.cli.deposit_proof_evm import unrlp, value_at
from gateway.cli.deposit_proof_utxo import climb, parse_tx, twice
from tests.conformance.conftest import ACCOUNT, UTXO, registry
from tests.conformance.support import is_utxo, native, unit
from tests.support.worlds import Wallet, World
from watchers.chain import Block, Pay, TxProof
from watchers.chains.bitcoin import proof as utxo_proof
from watchers.chains.bitcoin import rawtx
from watchers.chains.evm import proof as evm_proof
from watchers.chains.evm import trie
from watchers.errors import NodeLied, NodeUnavailable
from watchers.registry import bitcoin_params, evm_params

pytestmark = pytest.mark.asyncio

REAL_UTXO = [item for item in UTXO if "sim" not in str(item.id)]  # type: ignore[attr-defined]
REAL_ACCOUNT = [item for item in ACCOUNT if "sim" not in str(item.id)]  # type: ignore[attr-defined]
Lie = Callable[[dict[str, Any]], None]


async def some_block(world: World, wallet: Wallet) -> Block:
    """A block with several txs, tokens among them where the chain has some."""
    for index in range(5):
        await world.pay([native(world, wallet.address(index), (index + 1) * unit(world))])
    if world.token is not None:
        await world.pay([Pay(asset=world.token, address=wallet.address(0).address, amount_minor=7)])
    [block_hash] = await world.mine()
    return await world.chain.reader.block(block_hash)


def assert_utxo_proof(block: Block, proof: TxProof, header: bytes) -> None:
    root = header[36:68]
    assert twice(header)[::-1].hex() == block.ref.hash
    leaf = twice(parse_tx(proof.raw_tx).stripped)
    assert leaf[::-1].hex() == proof.txid == block.txids[proof.index]
    assert climb(leaf, proof.index, proof.branch) == root
    coinbase = twice(parse_tx(proof.companion).stripped)
    assert coinbase[::-1].hex() == block.txids[0]
    assert climb(coinbase, 0, proof.companion_branch) == root


def assert_evm_proof(block: Block, proof: TxProof, header: bytes) -> None:
    fields = unrlp(header)
    assert isinstance(fields, list)
    tx_root, receipt_root = fields[4], fields[5]
    assert isinstance(tx_root, bytes)
    assert isinstance(receipt_root, bytes)
    key = trie.index_key(proof.index)
    assert proof.txid == block.txids[proof.index]
    assert value_at(tx_root, key, proof.branch) == proof.raw_tx
    assert value_at(receipt_root, key, proof.companion_branch) == proof.companion


async def test_d13_every_block_proves_each_of_its_txs(world: World, wallet: Wallet) -> None:
    block = await some_block(world, wallet)
    evidence = block.evidence
    assert evidence is not None
    assert evidence.unproven is None
    assert len(block.txids) >= 6
    for txid in block.txids:
        proof = evidence.prove(txid)
        assert proof is not None
        check = assert_utxo_proof if is_utxo(world) else assert_evm_proof
        check(block, proof, evidence.header)
    assert evidence.prove(block.txids[0][:-4] + "dead") is None


async def test_d13_an_empty_block_is_proven_to_be_empty(world: World) -> None:
    [block_hash] = await world.mine()
    block = await world.chain.reader.block(block_hash)
    assert block.evidence is not None
    assert block.evidence.unproven is None
    assert len(block.txids) == (1 if is_utxo(world) else 0)


def _last_tx(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["tx"][-1]
    return found


def _omit(answer: dict[str, Any]) -> None:
    answer["tx"].pop()
    answer["nTx"] -= 1


def _omit_and_fit_the_root(answer: dict[str, Any]) -> None:
    _omit(answer)
    answer["merkleroot"] = rawtx.merkle_root([tx["txid"] for tx in answer["tx"]])


def _raise_value(answer: dict[str, Any]) -> None:
    vout = _last_tx(answer)["vout"][0]
    vout["value"] = vout["value"] + 1


def _swap_txs(answer: dict[str, Any]) -> None:
    answer["tx"][-1], answer["tx"][-2] = answer["tx"][-2], answer["tx"][-1]


def _at(*path: str, value: Callable[[Any], Any]) -> Lie:
    def lie(answer: dict[str, Any]) -> None:
        part: Any = answer
        for name in path[:-1]:
            part = part[int(name) if name.lstrip("-").isdigit() else name]
        last: Any = path[-1]
        part[last] = value(part[last])

    return lie


UTXO_LIES: dict[str, Lie] = {
    "n04 a tx left out": _omit,
    "n04 a tx left out, with a root that fits": _omit_and_fit_the_root,
    "n04 txs in another order": _swap_txs,
    "n06 an amount": _raise_value,
    "n06 a receiver": _at(
        "tx", "-1", "vout", "0", "scriptPubKey", value=lambda s: s | {"hex": "51"}
    ),
    "n05 another parent": _at("previousblockhash", value=lambda t: "11" * 32),
    "n05 another time": _at("time", value=lambda n: n + 1),
    "n05 another nonce": _at("nonce", value=lambda n: n ^ 1),
    "n05 an easier target": _at("bits", value=lambda t: "217fffff"),
}


@pytest.mark.parametrize("world", REAL_UTXO, indirect=True)
async def test_n04_n05_n06_a_lie_over_a_real_block_is_caught(world: World, wallet: Wallet) -> None:
    block = await some_block(world, wallet)
    node = world._node  # type: ignore[attr-defined]
    answer = await node.rpc("getblock", block.ref.hash, 2)
    params = bitcoin_params(registry()[world.chain.network])

    def read(shown: dict[str, Any]) -> Block:
        return utxo_proof.proven_block(shown, block.ref.hash, params)

    assert read(answer) == block
    believed = []
    for name, lie in UTXO_LIES.items():
        altered = copy.deepcopy(answer)
        lie(altered)
        try:
            read(altered)
        except NodeLied:
            continue
        believed.append(name)
    assert believed == []


Pair = tuple[dict[str, Any], list[dict[str, Any]]]


def _omit_tx(pair: Pair) -> None:
    pair[0]["transactions"].pop()
    pair[1].pop()


def _no_txs(pair: Pair) -> None:
    pair[0]["transactions"].clear()
    pair[1].clear()


def _empty_roots(pair: Pair) -> None:
    _no_txs(pair)
    for name in ("transactionsRoot", "receiptsRoot"):
        pair[0][name] = "0x" + trie.EMPTY_ROOT.hex()


def _in_tx(name: str, value: Any) -> Callable[[Pair], None]:
    def lie(pair: Pair) -> None:
        pair[0]["transactions"][0][name] = value

    return lie


def _in_receipt(name: str, value: Any) -> Callable[[Pair], None]:
    def lie(pair: Pair) -> None:
        pair[1][0][name] = value

    return lie


def _in_header(name: str, value: Any) -> Callable[[Pair], None]:
    def lie(pair: Pair) -> None:
        pair[0][name] = value

    return lie


def _in_log(name: str, value: Any) -> Callable[[Pair], None]:
    def lie(pair: Pair) -> None:
        log = next(log for receipt in pair[1] for log in receipt["logs"])
        log[name] = value

    return lie


def _no_logs(pair: Pair) -> None:
    for receipt in pair[1]:
        receipt["logs"].clear()


def _made_up_log(pair: Pair) -> None:
    [log] = [log for receipt in pair[1] for log in receipt["logs"]]
    receipt = next(item for item in pair[1] if not item["logs"])
    receipt["logs"].append(log | {"transactionHash": receipt["transactionHash"]})


STRANGER = "0x" + "77" * 20
EVM_LIES: dict[str, Callable[[Pair], None]] = {
    "n04 a tx left out": _omit_tx,
    "n04 all txs left out": _no_txs,
    "n04 all txs left out, with roots that fit": _empty_roots,
    "n04 logs left out": _no_logs,
    "n05 a log made up": _made_up_log,
    "n06 a receipt's status": _in_receipt("status", "0x0"),
    "n06 a receipt's gas": _in_receipt("gasUsed", "0x5209"),
    "n06 a log's amount": _in_log("data", "0x" + f"{9:064x}"),
    "n06 a log's contract": _in_log("address", STRANGER),
    "n06 a tx's value": _in_tx("value", "0x1"),
    "n06 a tx's receiver": _in_tx("to", STRANGER),
    "n06 a tx's sender": _in_tx("from", STRANGER),
    "n06 a tx's nonce": _in_tx("nonce", "0xffff"),
    "n05 another parent": _in_header("parentHash", "0x" + "11" * 32),
    "n05 another time": _in_header("timestamp", "0x1"),
    "n05 another height": _in_header("number", "0x1"),
}


async def _answers(world: World, block: Block) -> Pair:
    node = world._node  # type: ignore[attr-defined]
    answer = await node.rpc("eth_getBlockByHash", block.ref.hash, True)
    return answer, await node.rpc("eth_getBlockReceipts", block.ref.hash)


def _read(pair: Pair, block_hash: str) -> Block:
    params = evm_params(registry()["eth"], [])
    return evm_proof.proven_block(pair[0], pair[1], block_hash, params)


@pytest.mark.parametrize("world", REAL_ACCOUNT, indirect=True)
async def test_n04_n05_n06_a_lie_over_a_real_evm_block_is_caught(
    world: World, wallet: Wallet
) -> None:
    block = await some_block(world, wallet)
    pair = await _answers(world, block)
    assert _read(pair, block.ref.hash).txids == block.txids
    believed = []
    for name, lie in EVM_LIES.items():
        altered = copy.deepcopy(pair)
        lie(altered)
        try:
            _read(altered, block.ref.hash)
        except NodeLied:
            continue
        believed.append(name)
    assert believed == []


def _extra_header_member(pair: Pair) -> None:
    pair[0]["blockAccessListHash"] = "0x" + "11" * 32
    pair[0]["stateRoot"] = "0x" + "22" * 32


def _drop(part: int, name: str) -> Callable[[Pair], None]:
    def change(pair: Pair) -> None:
        if part == 0:
            del pair[0][name]
        else:
            del pair[1][0][name]

    return change


STRANGE: dict[str, tuple[Callable[[Pair], None], str]] = {
    "a type that is not known": (_in_tx("type", "0x7e"), "type 0x7e is not known"),
    "a tx that nobody signed": (
        lambda pair: pair[0]["transactions"][0].update(r="0x0", s="0x0"),
        "without a signature",
    ),
    "a receipt without its bloom": (_drop(1, "logsBloom"), "logsBloom"),
    "a receipt without its total": (_drop(1, "cumulativeGasUsed"), "cumulativeGasUsed"),
    "a header without its mix": (_drop(0, "mixHash"), "mixHash"),
    "a header of a later fork": (_extra_header_member, "blockAccessListHash"),
    "no list of withdrawals": (_drop(0, "withdrawals"), "withdrawals"),
}


@pytest.mark.parametrize("world", REAL_ACCOUNT, indirect=True)
async def test_d60_what_is_not_known_is_followed_and_marked_unproven(
    world: World, wallet: Wallet
) -> None:
    block = await some_block(world, wallet)
    pair = await _answers(world, block)
    for name, (change, reason) in STRANGE.items():
        altered = copy.deepcopy(pair)
        change(altered)
        read = _read(altered, block.ref.hash)
        assert read.evidence is not None, name
        assert reason in (read.evidence.unproven or ""), name
        assert read.evidence.prove(block.txids[0]) is None
        assert read.txids == block.txids


@pytest.mark.parametrize("world", REAL_ACCOUNT, indirect=True)
async def test_n10_a_receipt_of_no_shape_refuses_the_block(world: World, wallet: Wallet) -> None:
    block = await some_block(world, wallet)
    pair = await _answers(world, block)
    pair[1][0]["status"] = "0x2"
    with pytest.raises(NodeUnavailable):
        _read(pair, block.ref.hash)
