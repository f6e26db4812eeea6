"""D21, D27, D30, N04, N10, N11 and Litecoin's MWEB shapes: node JSON to values, or refusal."""

from decimal import Decimal
from typing import Any

import pytest
from embit.script import Script
from embit.transaction import Transaction, TransactionInput, TransactionOutput

from watchers.chain import Outpoint, Spend
from watchers.chains.bitcoin import decode, rawtx
from watchers.chains.jsonrpc import parse_json
from watchers.errors import NodeLied, NodeUnavailable

ASSET = "btc:BTC"
# The genesis block's coinbase (Bitcoin, height 0): a real tx with a well-known txid.
COINBASE_TXID = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
COINBASE_HEX = (
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d"
    "0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66"
    "207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe55"
    "48271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba"
    "0b8d578a4c702b6bf11d5fac00000000"
)
GENESIS_HASH = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
# The first segwit example of BIP 143 (native P2WPKH), signed: a real serialisation with witness.
SEGWIT_HEX = (
    "01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830"
    "450221008b9d1dc26ba6a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f928"
    "1a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc618ef3ed01eeffffffef51e1b804cc89d182d279655c3aa89e81"
    "5b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f6"
    "6f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988"
    "ac000247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c"
    "4518331561406f90300e8f3358f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7aca"
    "fcdb3566bb0ad253f62fc70f07aeee635711000000"
)


def _vout(n: int, value: str, script: str = "0014" + "11" * 20) -> dict[str, Any]:
    return {"n": n, "value": Decimal(value), "scriptPubKey": {"hex": script}}


def _tx(text: str, *, is_coinbase: bool = False) -> dict[str, Any]:
    """A tx as a node shows it, by another parser than the one under test."""
    tx = Transaction.parse(bytes.fromhex(text))
    vin = [{"txid": item.txid.hex(), "vout": item.vout} for item in tx.vin]
    return {
        "txid": tx.txid().hex(),
        "hex": text,
        "vin": [{"coinbase": "04ffff"}] if is_coinbase else vin,
        "vout": [
            _vout(n, str(Decimal(out.value).scaleb(-8)), out.script_pubkey.data.hex())
            for n, out in enumerate(tx.vout)
        ],
    }


def _coinbase() -> dict[str, Any]:
    return _tx(COINBASE_HEX, is_coinbase=True)


def _segwit() -> dict[str, Any]:
    return _tx(SEGWIT_HEX)


def _paying(*outputs: tuple[int, str]) -> dict[str, Any]:
    """A tx of one input with these outputs (satoshi, script)."""
    vin = [TransactionInput(bytes.fromhex("aa" * 32), 3)]
    vout = [TransactionOutput(value, Script(bytes.fromhex(key))) for value, key in outputs]
    return _tx(Transaction(version=2, vin=vin, vout=vout).serialize().hex())


def _block(*txs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    txids = [tx["txid"] for tx in txs]
    block = {
        "hash": GENESIS_HASH,
        "height": 1,
        "previousblockhash": "bb" * 32,
        "time": 1231006505,
        "nTx": len(txs),
        "merkleroot": rawtx.merkle_root(txids),
        "tx": list(txs),
    }
    return block | changes


def _decode(block: dict[str, Any]) -> Any:
    return decode.block(block, block_hash=GENESIS_HASH, asset=ASSET)


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("0.1", 10_000_000),
        ("0.2", 20_000_000),
        ("20999999.9769", 2_099_999_997_690_000),
        ("1e-8", 1),
        ("0.00000001", 1),
        ("0", 0),
        ("21000000.00000000", 2_100_000_000_000_000),
    ],
)
def test_d30_node_amounts_are_exact(text: str, minor: int) -> None:
    assert decode.amount_minor(parse_json(text.encode())) == minor


@pytest.mark.parametrize(
    "text",
    [
        *("0.000000001", "-0.1", "1e20", '"0.1"', "null", "true", "[]"),
        *("1e999999", "1e-999999", "0.1" + "0" * 30 + "1", "84000000.00000001"),
    ],
)
def test_d30_amounts_that_are_no_satoshis_are_refused(text: str) -> None:
    with pytest.raises(NodeUnavailable):
        decode.amount_minor(parse_json(text.encode()))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[1e400, NaN]"])
def test_d30_not_a_number_is_not_json(text: str) -> None:
    with pytest.raises(NodeUnavailable):
        parse_json(text.encode())


def test_block_is_reduced_to_its_effects() -> None:
    segwit = _segwit()
    block = _decode(_block(_coinbase(), segwit))
    assert block.ref.parent_hash == "bb" * 32
    assert block.txids == (COINBASE_TXID, segwit["txid"])
    assert [(t.position, t.amount_minor, t.is_coinbase) for t in block.transfers] == [
        ("out:0", 5_000_000_000, True),
        ("out:0", 112_340_000, False),  # the amounts and outpoints that BIP 143 names
        ("out:1", 223_450_000, False),
    ]
    outpoints = [
        Outpoint(txid="9f96ade4b41d5433f4eda31e1738ec2b36f6e7d1420d94a6af99801a88f7f7ff", vout=0),
        Outpoint(txid="8ac60eb9575db5b2d987e29f301b5b819ea83a5c6579d282d189cc04b8e151ef", vout=1),
    ]
    assert block.spends == tuple(Spend(txid=segwit["txid"], outpoint=item) for item in outpoints)
    assert block.raw_txs[segwit["txid"]] == bytes.fromhex(SEGWIT_HEX)


def test_d21_outputs_without_value_are_no_transfers() -> None:
    block = _decode(_block(_paying((5, "51"), (0, "6a"), (7, "52"))))
    assert [transfer.position for transfer in block.transfers] == ["out:0", "out:2"]


def test_d27_key_is_the_script_whatever_the_address_text_says() -> None:
    tx = _paying((5, "0014" + "11" * 20))
    tx["vout"][0]["scriptPubKey"]["address"] = "rb1qsomethingelse"
    assert _decode(_block(tx)).transfers[0].to_key == "0014" + "11" * 20


def _without(key: str) -> dict[str, Any]:
    block = _block(_coinbase(), _segwit())
    del block[key]
    return block


@pytest.mark.parametrize(
    "block",
    [
        None,
        [],
        {},
        *(_without(key) for key in ("hash", "height", "time", "nTx", "merkleroot", "tx")),
        _without("previousblockhash"),
        _block(_coinbase(), hash="cc" * 32),
        _block(_coinbase(), nTx=2),
        _block(_coinbase(), merkleroot="cc" * 32),
        _block(_coinbase()) | {"tx": [COINBASE_TXID]},
        _block(_coinbase()) | {"tx": [], "nTx": 0},
    ],
)
def test_n10_n11_a_block_that_is_not_whole_is_refused(block: Any) -> None:
    with pytest.raises(NodeUnavailable):
        _decode(block)


def test_n04_a_tx_left_out_shows_in_the_merkle_root() -> None:
    whole = _block(_coinbase(), _segwit())
    with pytest.raises(NodeUnavailable, match="merkle"):
        _decode(whole | {"tx": whole["tx"][:1], "nTx": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"vin": None},
        {"vin": [{}]},
        {"vin": [{"txid": "aa", "vout": 0}]},
        {"vout": None},
        {"vout": [{"n": 0, "value": Decimal(1)}]},
        {"vout": [_vout(0, "1", "zz")]},
        {"vout": [_vout(1, "1")]},
        {"hex": None},
    ],
)
def test_a_tx_of_strange_shape_refuses_the_whole_block(change: dict[str, Any]) -> None:
    with pytest.raises(NodeUnavailable):
        _decode(_block(_coinbase(), _segwit() | change))


def test_mweb_parts_are_skipped_and_the_rest_is_read() -> None:
    """Shapes of litecoind 0.21 after MWEB activation (CHAINS B3)."""
    pegin = _paying((0, "6a"), (50_000_000, "51"))
    pegin["vin"] = [pegin["vin"][0] | {"ismweb": False}, {"ismweb": True, "output_id": "dd" * 32}]
    pegin["vout"] = [
        {"ismweb": True, "output_id": "ee" * 32},
        _vout(1, "0.5", "51") | {"ismweb": False},
    ]
    pegin["vkern"] = [{"kernel_id": "ff" * 32, "pegin": Decimal("0.1"), "pegout": []}]
    block = _decode(_block(_coinbase(), pegin) | {"mweb": {"hash": "00" * 32}})
    assert [(t.position, t.amount_minor) for t in block.transfers[1:]] == [("out:1", 50_000_000)]
    assert len(block.spends) == 1


def test_hogex_pegouts_are_ordinary_outputs() -> None:
    """D32: what leaves MWEB arrives as outputs 1.. of the block's last tx."""
    hogex = _paying((10**10, "5820" + "22" * 32), (70_000_000, "51"))
    block = _decode(_block(_coinbase(), hogex))
    assert block.transfers[-1].position == "out:1"
    assert block.transfers[-1].amount_minor == 70_000_000


def _with_mweb_flag(raw: bytes, mweb: bytes) -> bytes:
    """As litecoind serialises it: flag 0x09, MWEB part between witnesses and lock time."""
    return raw[:5] + b"\x09" + raw[6:-4] + mweb + raw[-4:]


def test_raw_with_an_mweb_part_becomes_a_tx_that_any_parser_reads() -> None:
    plain = bytes.fromhex(SEGWIT_HEX)
    for mweb in (b"\x00", b"\x01" + b"\x55" * 300):
        assert rawtx.reduce(_with_mweb_flag(plain, mweb)) == rawtx.reduce(plain)


def _with_output(number: int, **changes: Any) -> dict[str, Any]:
    tx = _segwit()
    tx["vout"][number] |= changes
    return tx


def _with_input(number: int, **changes: Any) -> dict[str, Any]:
    tx = _segwit()
    tx["vin"][number] |= changes
    return tx


@pytest.mark.parametrize(
    "tx",
    [
        pytest.param(_with_output(0, value=Decimal("9")), id="amount"),
        pytest.param(_with_output(1, scriptPubKey={"hex": "0014" + "11" * 20}), id="receiver"),
        pytest.param(_segwit() | {"vout": _segwit()["vout"][:1]}, id="output left out"),
        pytest.param(_segwit() | {"vin": _segwit()["vin"][:1]}, id="input left out"),
        pytest.param(_segwit() | {"vin": [{"coinbase": "00"}]}, id="said to be a coinbase"),
        pytest.param(_with_input(0, vout=1), id="other output spent"),
        pytest.param(_with_input(1, txid="aa" * 32), id="other tx spent"),
        pytest.param(_segwit() | {"vin": _segwit()["vin"][::-1]}, id="inputs in another order"),
        pytest.param(_segwit() | {"vout": [*_segwit()["vout"], _vout(2, "1")]}, id="output more"),
        pytest.param(_with_output(1, ismweb=True), id="output said to be in MWEB"),
        pytest.param(_with_input(1, ismweb=True), id="input said to be in MWEB"),
        pytest.param(_segwit() | {"hex": COINBASE_HEX}, id="bytes of another tx"),
        pytest.param(_segwit() | {"hex": SEGWIT_HEX[:-2]}, id="bytes cut short"),
    ],
)
def test_n05_n06_a_tx_that_differs_from_its_bytes_is_a_lie(tx: dict[str, Any]) -> None:
    with pytest.raises(NodeLied):
        _decode(_block(_coinbase(), tx))


def test_n04_a_list_of_txs_with_the_same_root_twice_is_a_lie() -> None:
    """CVE-2012-2459: [a, b, c] and [a, b, c, c] have one root."""
    txs = [_coinbase(), _segwit(), _paying((5, "51"))]
    honest = _block(*txs)
    assert len(_decode(honest).txids) == 3
    with pytest.raises(NodeLied, match="siblings"):
        _decode(honest | {"tx": [*txs, txs[-1]], "nTx": 4})


@pytest.mark.parametrize("text", [SEGWIT_HEX, COINBASE_HEX])
def test_raw_cut_short_anywhere_is_refused(text: str) -> None:
    whole = bytes.fromhex(text)
    for size in range(len(whole)):
        with pytest.raises(rawtx.BadRawTx):
            rawtx.reduce(whole[:size])


@pytest.mark.parametrize(
    ("inputs", "outputs", "script"), [(1, 300, 1), (260, 1, 255), (2, 2, 70_000)]
)
def test_long_lists_and_scripts_are_read_as_another_parser_reads_them(
    inputs: int, outputs: int, script: int
) -> None:
    vin = [TransactionInput(bytes([n % 256] * 32), n, Script(bytes(script))) for n in range(inputs)]
    vout = [TransactionOutput(n, Script(bytes(script))) for n in range(outputs)]
    other = Transaction(version=2, vin=vin, vout=vout)
    found = rawtx.reduce(other.serialize())
    assert found.txid == other.txid().hex()
    assert found.inputs == tuple((item.txid.hex(), item.vout) for item in vin)
    assert found.outputs == tuple((item.value, item.script_pubkey.data.hex()) for item in vout)


@pytest.mark.parametrize("size", ["fd", "fdff", "feffffff", "ff" * 8, "ff" * 9])
def test_a_length_past_the_end_is_refused(size: str) -> None:
    start = bytes.fromhex("0100000001" + "aa" * 36)
    with pytest.raises(rawtx.BadRawTx):
        rawtx.reduce(start + bytes.fromhex(size))
    with pytest.raises(rawtx.BadRawTx):
        rawtx.reduce(start[:4] + bytes.fromhex(size) + bytes(100))


def test_known_txids_are_computed() -> None:
    assert rawtx.reduce(bytes.fromhex(COINBASE_HEX)).txid == COINBASE_TXID
    assert rawtx.merkle_root([COINBASE_TXID]) == COINBASE_TXID
    with pytest.raises(rawtx.BadRawTx):
        rawtx.reduce(bytes.fromhex(COINBASE_HEX) + b"\x00")


def test_genesis_has_no_parent() -> None:
    block = _block(_coinbase(), height=0)
    del block["previousblockhash"]
    assert _decode(block).ref.parent_hash == decode.NO_PARENT
