"""Readers on nodes that lack a method, change their tip, or answer for another block."""

from collections import Counter
from collections.abc import Callable

import pytest

from config.clock import SystemClock
from tests.unit.watchers.chains.support import MethodPost, bitcoin_network, evm_network, nothing
from watchers.chain import Outpoint, TxPlace
from watchers.chains.bitcoin import mempool, rawtx
from watchers.chains.bitcoin.chain import BitcoinChain
from watchers.chains.bitcoin.node import BitcoinNode
from watchers.chains.bitcoin.reader import MEMPOOL_FEES_PER_CALL_MAX, MEMPOOL_TXS_PER_CALL_MAX
from watchers.chains.bitcoin.unspent import BitcoinUnspent
from watchers.chains.errors import RpcError
from watchers.chains.evm.chain import EvmChain
from watchers.errors import NodeUnavailable, TipMoved

Methods = dict[str, Callable[..., object]]
REGTEST = bitcoin_network("btc", "regtest")
TOKEN = "0x" + "aa" * 20
DEV = evm_network(token=TOKEN)
A, B, C = "aa" * 32, "bb" * 32, "cc" * 32
KEY = "0x" + "11" * 20
FLOOD = 50_000
POLLS = 3


def _bitcoin(methods: Methods) -> tuple[BitcoinChain, MethodPost]:
    def block_hash(height: int) -> object:
        return REGTEST.genesis_hash

    post = MethodPost({"getblockhash": block_hash} | methods)
    chain = BitcoinChain(REGTEST, ["http://node:1"], post=post, clock=SystemClock(), close=nothing)
    return chain, post


def _evm(methods: Methods) -> tuple[EvmChain, MethodPost]:
    post = MethodPost({"eth_chainId": lambda: hex(DEV.chain_id)} | methods)
    return EvmChain(DEV, ["http://node:1"], post=post, clock=SystemClock(), close=nothing), post


def _header(block_hash: str, *, height: int = 5) -> dict[str, object]:
    return {"hash": block_hash, "height": height, "previousblockhash": C, "time": 1}


def _evm_header(block_hash: str, *, height: int = 5) -> dict[str, object]:
    return {
        "hash": "0x" + block_hash,
        "number": hex(height),
        "parentHash": "0x" + C,
        "timestamp": "0x1",
    }


def _refuse(code: int, message: str = "no") -> Callable[..., object]:
    def refuse(*params: object) -> object:
        raise RpcError("method", code, message)

    return refuse


async def test_a_header_of_another_block_is_refused() -> None:
    chain, _ = _bitcoin({"getblockheader": lambda block_hash, verbose: _header(B)})
    with pytest.raises(NodeUnavailable):
        await chain.reader.ref_of(A)
    other, _ = _evm({"eth_getBlockByHash": lambda block_hash, full: _evm_header(B)})
    with pytest.raises(NodeUnavailable):
        await other.reader.ref_of("0x" + A)


async def test_a_header_of_another_height_is_refused() -> None:
    chain, _ = _bitcoin({"getblockheader": lambda block_hash, verbose: _header(block_hash)})
    with pytest.raises(NodeUnavailable):
        await chain.reader.ref_at(6)
    other, _ = _evm({"eth_getBlockByNumber": lambda height, full: _evm_header(A)})
    with pytest.raises(NodeUnavailable):
        await other.reader.ref_at(6)


async def test_only_the_codes_for_unknown_mean_unknown() -> None:
    """Any other error object is no answer, or a busy node would make blocks disappear."""
    for code, is_unknown in ((-5, True), (-1, False), (-32603, False)):
        chain, _ = _bitcoin({"getblockheader": _refuse(code), "getrawtransaction": _refuse(code)})
        if is_unknown:
            assert await chain.reader.ref_of(A) is None
            assert (await chain.reader.tx_status(A)).place is TxPlace.UNKNOWN
        else:
            with pytest.raises(NodeUnavailable):
                await chain.reader.ref_of(A)
            with pytest.raises(NodeUnavailable):
                await chain.reader.tx_status(A)


async def test_coins_read_while_the_tip_moves_are_not_an_answer() -> None:
    tips = iter([A, B])
    chain, _ = _bitcoin({"getbestblockhash": lambda: next(tips), "gettxout": lambda *_: None})
    with pytest.raises(TipMoved):
        await chain.reader.open_coins([Outpoint(txid=C, vout=0)], block_hash=A)


async def test_a_coin_seen_at_another_block_is_not_an_answer() -> None:
    out = {"bestblock": B, "value": 1}
    chain, _ = _bitcoin({"getbestblockhash": lambda: A, "gettxout": lambda *_: out})
    with pytest.raises(TipMoved):
        await chain.reader.open_coins([Outpoint(txid=C, vout=0)], block_hash=A)


async def test_d02_a_tx_indexed_in_a_lost_block_is_not_mined() -> None:
    """The index names a block that the active chain does not have at that height."""
    chain, _ = _bitcoin(
        {
            "getrawtransaction": lambda txid, verbose: {"txid": txid, "blockhash": A},
            "getblockheader": lambda block_hash, verbose: _header(block_hash),
            "getmempoolentry": _refuse(-5),
        }
    )
    assert (await chain.reader.tx_status(C)).place is TxPlace.UNKNOWN


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        (lambda txid: {}, TxPlace.MEMPOOL),
        (_refuse(-5), TxPlace.UNKNOWN),
        (_refuse(-32601), TxPlace.UNKNOWN),  # it has no mempool
        (_refuse(-28, "Loading block index"), None),
        (_refuse(-32603), None),
    ],
)
async def test_d02_a_tx_of_a_lost_block_is_nowhere_only_where_the_node_says_so(
    answer: Callable[..., object], place: TxPlace | None
) -> None:
    """A node that does not answer about its mempool would make our own tx disappear."""
    chain, _ = _bitcoin(
        {
            "getrawtransaction": lambda txid, verbose: {"txid": txid, "blockhash": A},
            "getblockheader": lambda block_hash, verbose: _header(block_hash),
            "getmempoolentry": answer,
        }
    )
    if place is None:
        with pytest.raises(NodeUnavailable):
            await chain.reader.tx_status(C)
    else:
        assert (await chain.reader.tx_status(C)).place is place


async def test_d21_an_output_of_nothing_is_no_unspent_coin() -> None:
    script = "0014" + "11" * 20

    def output(vout: int, amount: int) -> dict[str, object]:
        return {"txid": C, "vout": vout, "scriptPubKey": script, "amount": amount, "height": 5}

    answer = {
        "success": True,
        "height": 6,
        "bestblock": A,
        "unspents": [output(0, 0), output(1, 1)],
    }
    _, post = _bitcoin({"scantxoutset": lambda action, scripts: answer})
    node = BitcoinNode(
        ["http://node:1"],
        post,
        clock=SystemClock(),
        genesis_hash=REGTEST.genesis_hash,
        network="btc",
    )

    found = await BitcoinUnspent(node, close=nothing).unspent([script])

    assert [(coin.outpoint.vout, coin.amount_minor) for coin in found.coins] == [(1, 10**8)]


async def test_a_tx_that_leaves_during_the_poll_is_left_out() -> None:
    chain, _ = _bitcoin({"getrawmempool": lambda: [A, B], "getrawtransaction": _refuse(-5)})
    assert await chain.reader.mempool() == []


async def test_receipts_are_asked_one_by_one_where_a_node_has_no_block_receipts() -> None:
    block_hash, txid = "0x" + A, "0x" + B
    tx = {
        "hash": txid,
        "blockHash": block_hash,
        "from": KEY,
        "to": KEY,
        "value": "0x1",
        "nonce": "0x0",
    }
    receipt = {
        "transactionHash": txid,
        "blockHash": block_hash,
        "status": "0x1",
        "gasUsed": "0x1",
        "effectiveGasPrice": "0x1",
        "logs": [],
    }
    chain, post = _evm(
        {
            "eth_getBlockByHash": lambda *_: _evm_header(A) | {"transactions": [tx]},
            "eth_getTransactionReceipt": lambda _: receipt,
        }
    )
    block = await chain.reader.block(block_hash)
    assert [transfer.amount_minor for transfer in block.transfers] == [1]
    assert "eth_getTransactionReceipt" in post.asked
    assert (await chain.reader.block(block_hash)).transfers == block.transfers
    asked = Counter(post.asked)
    assert asked["eth_getBlockByHash"] == 3  # with its receipts in one batch only at first


async def test_n11_a_block_without_its_receipts_is_refused_however_they_are_asked_for() -> None:
    tx = {"hash": "0x" + B, "blockHash": "0x" + A}
    for receipts in (None, [], [None]):
        chain, post = _evm(
            {
                "eth_getBlockByHash": lambda *_: _evm_header(A) | {"transactions": [tx]},
                "eth_getBlockReceipts": lambda _, found=receipts: found,
            }
        )
        with pytest.raises(NodeUnavailable):
            await chain.reader.block("0x" + A)
        assert "eth_getBlockByHash" in post.asked


async def test_many_headers_of_bitcoin_come_in_order_up_to_the_tip() -> None:
    known = {5: _header(A, height=5), 6: _header(B, height=6)}

    def block_hash(height: int) -> object:
        if height and height not in known:
            raise RpcError("getblockhash", -8, "Block height out of range")
        return known[height]["hash"] if height else REGTEST.genesis_hash

    by_hash = {item["hash"]: item for item in known.values()}
    chain, _ = _bitcoin(
        {"getblockhash": block_hash, "getblockheader": lambda name, verbose: by_hash[name]}
    )
    assert [ref.hash for ref in await chain.reader.refs(5, 9)] == [A, B]
    assert await chain.reader.refs(7, 9) == []
    known[6]["height"] = 7
    with pytest.raises(NodeUnavailable, match="other headers"):
        await chain.reader.refs(5, 9)


async def test_many_headers_of_an_evm_chain_come_in_order_up_to_the_tip() -> None:
    known = {"0x5": _evm_header(A), "0x6": _evm_header(B, height=6)}
    chain, _ = _evm({"eth_getBlockByNumber": lambda number, full: known.get(number)})
    assert [ref.hash for ref in await chain.reader.refs(5, 9)] == ["0x" + A, "0x" + B]
    assert await chain.reader.refs(7, 9) == []
    known["0x6"]["number"] = "0x7"
    with pytest.raises(NodeUnavailable, match="another height"):
        await chain.reader.refs(5, 9)


async def test_d52_a_receipt_that_is_not_there_yet_refuses_the_block() -> None:
    block_hash = "0x" + A
    tx = {"hash": "0x" + B, "blockHash": block_hash}
    chain, _ = _evm(
        {
            "eth_getBlockByHash": lambda *_: _evm_header(A) | {"transactions": [tx]},
            "eth_getTransactionReceipt": lambda _: None,
        }
    )
    with pytest.raises(NodeUnavailable):
        await chain.reader.block(block_hash)


def _only_by_number(answer: object) -> Callable[..., object]:
    def read(call: object, block: object) -> object:
        if not isinstance(block, str):
            raise RpcError("method", -32602, "invalid argument 1")
        assert block == "0x5"
        return answer

    return read


async def test_balances_without_eip1898_are_read_by_number_between_two_looks() -> None:
    chain, post = _evm(
        {
            "eth_getBlockByHash": lambda *_: _evm_header(A),
            "eth_getBlockByNumber": lambda *_: _evm_header(A),
            "eth_getBalance": _only_by_number("0x7"),
            "eth_call": _only_by_number("0x" + f"{9:064x}"),
        }
    )
    reader = chain.reader
    assert await reader.holdings([KEY], "eth:ETH", block_hash="0x" + A) == {KEY: 7}
    assert await reader.holdings([KEY], "eth:USDT", block_hash="0x" + A) == {KEY: 9}
    assert post.asked.count("eth_getBlockByNumber") == 4


async def test_balances_by_number_of_a_lost_block_are_not_an_answer() -> None:
    chain, _ = _evm(
        {
            "eth_getBlockByHash": lambda *_: _evm_header(A),
            "eth_getBlockByNumber": lambda *_: _evm_header(B),
            "eth_getBalance": _only_by_number("0x7"),
        }
    )
    with pytest.raises(TipMoved):
        await chain.reader.holdings([KEY], "eth:ETH", block_hash="0x" + A)


async def test_a_contract_without_code_is_not_a_balance_of_zero() -> None:
    chain, _ = _evm({"eth_call": lambda *_: "0x"})
    with pytest.raises(NodeUnavailable):
        await chain.reader.holdings([KEY], "eth:USDT", block_hash="0x" + A)


async def test_nothing_is_final_while_the_tag_names_no_block() -> None:
    chain, _ = _evm({"eth_getBlockByNumber": lambda *_: None})
    assert await chain.reader.finalised_height() == 0
    chain, _ = _evm({"eth_getBlockByNumber": _refuse(-39001, "finalized block not found")})
    assert await chain.reader.finalised_height() == 0
    chain, _ = _evm({"eth_getBlockByNumber": _refuse(-32000, "busy")})
    with pytest.raises(NodeUnavailable):
        await chain.reader.finalised_height()


async def test_n22_a_node_without_a_pending_block_has_no_mempool() -> None:
    for answer in (_refuse(-32602, "pending is not available"), lambda *_: None):
        chain, _ = _evm({"eth_getBlockByNumber": answer})
        assert await chain.reader.mempool() == []


async def test_d29_a_mempool_of_50_000_txs_costs_a_bounded_number_of_calls_per_poll() -> None:
    """Counted, not timed: 2,000 txs and 500 fees of them per poll, each tx once."""
    raw = {}
    for number in range(FLOOD):
        data = _payment(number)
        raw[rawtx.reduce(data).txid] = data

    def verbose(txid: str, is_verbose: bool) -> object:
        script = {"hex": "51"}
        spent = {"txid": f"{int(raw[txid][5:9][::-1].hex(), 16):064x}", "vout": 0}
        out = {"n": 0, "value": 1, "scriptPubKey": script}
        return {"txid": txid, "hex": raw[txid].hex(), "vin": [spent], "vout": [out]}

    entry = {"fees": {"base": 1, "ancestor": 3}, "vsize": 10**6, "ancestorsize": 2 * 10**6}
    chain, post = _bitcoin(
        {
            "getrawmempool": lambda: list(raw),
            "getrawtransaction": verbose,
            "getmempoolentry": lambda txid: entry,
        }
    )
    reported: list[str] = []
    for _ in range(POLLS):
        post.asked.clear()
        found = await chain.reader.mempool()
        reported += [tx.txid for tx in found]
        asked = Counter(post.asked)
        assert asked["getrawtransaction"] == MEMPOOL_TXS_PER_CALL_MAX
        assert asked["getmempoolentry"] == MEMPOOL_FEES_PER_CALL_MAX
        assert asked["getrawmempool"] == 1
        assert [tx.fee_rate for tx in found].count(100_000) == MEMPOOL_FEES_PER_CALL_MAX
    assert len(set(reported)) == len(reported) == POLLS * MEMPOOL_TXS_PER_CALL_MAX


def _payment(number: int) -> bytes:
    """One input, one coin to anybody."""
    outpoint = number.to_bytes(32, "little") + bytes(4)
    value = (10**8).to_bytes(8, "little")
    return b"\2\0\0\0\1" + outpoint + b"\0\xff\xff\xff\xff\1" + value + b"\1\x51" + bytes(4)


@pytest.mark.parametrize(
    ("entry", "rate"),
    [
        ({"fees": {"base": "x", "ancestor": 1}, "vsize": 1, "ancestorsize": 1}, None),
        ({"fees": {"base": 1}, "vsize": 1, "ancestorsize": 1}, None),
        ({"fees": {"base": 1, "ancestor": 1}, "vsize": 0, "ancestorsize": 1}, None),
        ({"fees": {"base": 1, "ancestor": 1}, "vsize": 1}, None),
        ({"fees": {"base": -1, "ancestor": 1}, "vsize": 1, "ancestorsize": 1}, None),
        ({}, None),
        ("nonsense", None),
        (None, None),
        ({"fees": {"base": 2, "ancestor": 2}, "vsize": 10**6, "ancestorsize": 10**6}, 200_000),
        ({"fees": {"base": 9, "ancestor": 10}, "vsize": 10**6, "ancestorsize": 10**7}, 100_000),
    ],
)
def test_r10_a_fee_rate_waits_for_its_ancestors_and_nonsense_is_none(
    entry: object, rate: int | None
) -> None:
    assert mempool.fee_rate(entry) == rate


async def test_r10_the_doctor_is_told_the_fee_that_miners_see_its_ancestors_included() -> None:
    data = _payment(7)
    txid = rawtx.reduce(data).txid
    out = {"n": 0, "value": 1, "scriptPubKey": {"hex": "51"}}
    vin = [{"txid": f"{7:064x}", "vout": 0}]
    answer = {"txid": txid, "hex": data.hex(), "vin": vin, "vout": [out]}
    entry = {"fees": {"base": 9, "ancestor": 10}, "vsize": 10**6, "ancestorsize": 10**7}
    chain, _ = _bitcoin(
        {"getrawtransaction": lambda *_: answer, "getmempoolentry": lambda _: entry}
    )
    outline = await chain.reader.outline(txid)
    assert outline is not None
    assert (outline.fee_rate, len(outline.transfers)) == (100_000, 1)


async def test_n22_a_node_without_mempool_calls_has_no_mempool() -> None:
    chain, post = _bitcoin({})
    assert await chain.reader.mempool() == []
    assert post.asked.count("getrawmempool") == 1
