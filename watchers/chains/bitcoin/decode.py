"""Node JSON of Bitcoin-family blocks and txs -> the house's value types.

Pure; a shape that is not understood raises `NodeUnavailable`, so that nothing is ever read as
empty. Litecoin's MWEB parts (outputs without value, inputs without txid) are skipped, they move
no coin that a scriptPubKey of ours could hold (D32). Match key: scriptPubKey hex (D27).
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from watchers.chain import Block, BlockRef, MempoolTx, Outpoint, Spend, Transfer
from watchers.chains.bitcoin import rawtx
from watchers.errors import NodeLied, NodeUnavailable

NO_PARENT = "00" * 32  # the parent field of a genesis header
NULL_OUTPOINT = ("00" * 32, 0xFFFFFFFF)  # the one input of a coinbase
COIN = 10**8
SUPPLY_MAX = 84_000_000  # Litecoin's; no output can hold more
SUPPLY_MAX_MINOR = SUPPLY_MAX * COIN
HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


def amount_minor(value: object) -> int:
    """Satoshi of a node's number, exactly (D30). NodeUnavailable when it has a 9th digit."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise NodeUnavailable("amount is not a number")
    exact = Decimal(value)
    if not 0 <= exact <= SUPPLY_MAX:  # before any arithmetic, which may overflow or round
        raise NodeUnavailable("amount is out of range")
    minor = int(exact.scaleb(8))
    if Decimal(minor).scaleb(-8) != exact:
        raise NodeUnavailable("amount has more than 8 digits")
    return minor


def mapping(value: object, what: str) -> Mapping[str, object]:
    """`value` as a JSON object, or NodeUnavailable."""
    if type(value) is dict:  # all that a parser makes; asking an abstract class is slow
        return value
    if not isinstance(value, Mapping):
        raise NodeUnavailable(f"{what}: an object is required")
    return value


def sequence(value: object, what: str) -> Sequence[object]:
    """`value` as a JSON list, or NodeUnavailable."""
    if not isinstance(value, list):
        raise NodeUnavailable(f"{what}: a list is required")
    return value


def hash_text(value: object, what: str) -> str:
    """`value` as a 32-byte hash in hex, or NodeUnavailable."""
    if not isinstance(value, str) or not HASH.fullmatch(value):
        raise NodeUnavailable(f"{what}: a hash is required")
    return value


def integer(value: object, what: str) -> int:
    """`value` as a non-negative integer, or NodeUnavailable."""
    if type(value) is not int or value < 0:
        raise NodeUnavailable(f"{what}: a number is required")
    return value


def header(value: object) -> BlockRef:
    """A `getblockheader` answer, or the header fields of a `getblock` one."""
    raw = mapping(value, "header")
    height = integer(raw.get("height"), "height")
    parent = raw.get("previousblockhash")
    if parent is None and height:
        raise NodeUnavailable("header: no parent hash")
    return BlockRef(
        height=height,
        hash=hash_text(raw.get("hash"), "hash"),
        parent_hash=NO_PARENT if parent is None else hash_text(parent, "previousblockhash"),
        time_seconds=integer(raw.get("time"), "time"),
    )


def block(value: object, *, block_hash: str, asset: str) -> Block:
    """A `getblock` answer at verbosity 2, complete or refused (N04, N10, N11).

    The txids must hash to the merkle root that the node names, each tx's bytes to its txid, and
    its inputs and outputs must be those of its bytes; `nTx` must be their number. What contradicts
    itself raises NodeLied. What moves is read from the bytes: only those are in the merkle tree.
    """
    return block_and_tree(value, block_hash=block_hash, asset=asset)[0]


def block_and_tree(value: object, *, block_hash: str, asset: str) -> tuple[Block, rawtx.Levels]:
    """`block` with the merkle tree over its txids."""
    raw = mapping(value, "block")
    ref = header(raw)
    if ref.hash != block_hash:
        raise NodeUnavailable("block: the hash of another block")
    txs = [mapping(item, "tx") for item in sequence(raw.get("tx"), "tx")]
    txids = [hash_text(tx.get("txid"), "txid") for tx in txs]
    if not txids or integer(raw.get("nTx"), "nTx") != len(txids):
        raise NodeUnavailable("block: the list of txs is not complete")
    levels = _merkle_levels(txids)
    if levels[-1][0][::-1].hex() != raw.get("merkleroot"):
        raise NodeLied("block: txids do not hash to the merkle root")
    transfers: list[Transfer] = []
    spends: list[Spend] = []
    raw_txs: dict[str, bytes] = {}
    for txid, tx in zip(txids, txs, strict=True):
        reduced = _reduced(tx, txid=txid)
        if not _says(tx, reduced):
            _compare(reduced, _transfers(tx, txid=txid, asset=asset), _spends(tx, txid=txid))
        found, spent = _of_bytes(reduced, asset=asset)
        transfers.extend(found)
        spends.extend(spent)
        raw_txs[txid] = reduced.data
    block = Block(
        ref=ref,
        transfers=tuple(transfers),
        spends=tuple(spends),
        sends=(),
        txids=tuple(txids),
        raw_txs=raw_txs,
    )
    return block, levels


def mempool_tx(
    value: object, *, txid: str, asset: str, fee_rate_sat_per_kvb: int | None = None
) -> MempoolTx:
    """A verbose `getrawtransaction` answer, as its bytes have it; NodeLied when they differ.

    An MWEB part is not in the txid: a tx of nothing else has an id that its bytes do not give,
    and moves nothing here.
    """
    tx = mapping(value, "tx")
    if hash_text(tx.get("txid"), "txid") != txid:
        raise NodeUnavailable("tx: the txid of another tx")
    has_mweb = _has_mweb(tx)
    reduced = _parsed(tx, txid=txid)
    if reduced.txid != txid:
        if reduced.inputs or reduced.outputs or not has_mweb:
            raise NodeLied(f"tx {txid}: its bytes are another tx")
        return MempoolTx(txid=txid, transfers=(), spends=(), fee_rate=fee_rate_sat_per_kvb)
    found, spent = _of_bytes(reduced, asset=asset)
    if not has_mweb:
        _compare(reduced, _transfers(tx, txid=txid, asset=asset), _spends(tx, txid=txid))
    return MempoolTx(txid=txid, transfers=found, spends=spent, fee_rate=fee_rate_sat_per_kvb)


def _of_bytes(tx: rawtx.RawTx, *, asset: str) -> tuple[tuple[Transfer, ...], tuple[Spend, ...]]:
    """What the bytes of a tx move and spend."""
    is_coinbase = tx.inputs == (NULL_OUTPOINT,)
    transfers = tuple(
        Transfer(
            txid=tx.txid,
            position=f"out:{number}",
            asset=asset,
            to_key=script,
            amount_minor=value,
            is_coinbase=is_coinbase,
        )
        for number, (value, script) in enumerate(tx.outputs)
        if value
    )
    if is_coinbase:
        return transfers, ()
    spends = (Outpoint(txid=txid, vout=vout) for txid, vout in tx.inputs)
    return transfers, tuple(Spend(txid=tx.txid, outpoint=item) for item in spends)


def spends(value: object, *, txid: str) -> tuple[Spend, ...]:
    """The inputs of a verbose tx."""
    return tuple(_spends(mapping(value, "tx"), txid=txid))


def _transfers(tx: Mapping[str, object], *, txid: str, asset: str) -> list[Transfer]:
    is_coinbase = any("coinbase" in mapping(vin, "vin") for vin in sequence(tx.get("vin"), "vin"))
    found: list[Transfer] = []
    for number, item in enumerate(sequence(tx.get("vout"), "vout")):
        out = mapping(item, "vout")
        if out.get("ismweb") is True:
            continue  # stays inside MWEB: no value, no script
        if integer(out.get("n"), "n") != number and not _has_mweb(tx):
            raise NodeUnavailable("vout: outputs are not in order")
        script = mapping(out.get("scriptPubKey"), "scriptPubKey").get("hex")
        if not isinstance(script, str) or not HEX.fullmatch(script):
            raise NodeUnavailable("scriptPubKey: hex is required")
        value = amount_minor(out.get("value"))
        if value == 0:
            continue  # OP_RETURN and the like move nothing (D21)
        found.append(
            Transfer(
                txid=txid,
                position=f"out:{integer(out.get('n'), 'n')}",
                asset=asset,
                to_key=script,
                amount_minor=value,
                is_coinbase=is_coinbase,
            )
        )
    return found


def _has_mweb(tx: Mapping[str, object]) -> bool:
    return any(
        mapping(part, "part").get("ismweb") is True
        for field in ("vin", "vout")
        for part in sequence(tx.get(field), field)
    )


def _spends(tx: Mapping[str, object], *, txid: str) -> list[Spend]:
    found: list[Spend] = []
    for item in sequence(tx.get("vin"), "vin"):
        vin = mapping(item, "vin")
        if "coinbase" in vin or vin.get("ismweb") is True:
            continue
        outpoint = Outpoint(
            txid=hash_text(vin.get("txid"), "vin.txid"), vout=integer(vin.get("vout"), "vin.vout")
        )
        found.append(Spend(txid=txid, outpoint=outpoint))
    return found


def _merkle_levels(txids: list[str]) -> rawtx.Levels:
    try:
        return rawtx.merkle_levels(txids)
    except rawtx.MutatedTree as error:
        raise NodeLied(f"block: {error}") from error


def _reduced(tx: Mapping[str, object], *, txid: str) -> rawtx.RawTx:
    """The bytes of a tx, which a BIP 174 parser reads and which hash to `txid`."""
    reduced = _parsed(tx, txid=txid)
    if reduced.txid != txid:
        raise NodeLied(f"tx {txid}: its bytes are another tx")
    return reduced


def _parsed(tx: Mapping[str, object], *, txid: str) -> rawtx.RawTx:
    text = tx.get("hex")
    data = _bytes(text)
    if data is None:
        raise NodeUnavailable("tx: hex is required")
    try:
        return rawtx.reduce(data)
    except rawtx.BadRawTx as error:
        raise NodeLied(f"tx {txid}: its bytes do not parse") from error


def _bytes(value: object) -> bytes | None:
    """Of lower-case hex without gaps; None for anything else. A pattern takes longer."""
    if not isinstance(value, str):
        return None
    try:
        data = bytes.fromhex(value)
    except ValueError:
        return None
    return data if data.hex() == value else None


def _says(tx: Mapping[str, object], reduced: rawtx.RawTx) -> bool:
    """Whether the decoded JSON says what the bytes say, as a plain tx says it.

    False is no verdict: MWEB parts, and shapes that are not understood, are for `_compare`.
    """
    ins, outs = tx.get("vin"), tx.get("vout")
    if not isinstance(ins, list) or not isinstance(outs, list):
        return False
    if len(ins) != len(reduced.inputs) or len(outs) != len(reduced.outputs):
        return False
    for number, (out, (value, script)) in enumerate(zip(outs, reduced.outputs, strict=True)):
        if type(out) is not dict or type(out.get("n")) is not int:
            return False
        named = out.get("scriptPubKey")
        if out["n"] != number or type(named) is not dict or named.get("hex") != script:
            return False
        if out.get("ismweb", False) is not False:
            return False
        amount = out.get("value")
        if type(amount) is not Decimal or amount != Decimal(value).scaleb(-8):
            return False
        if value > SUPPLY_MAX_MINOR:
            return False
    is_coinbase = reduced.inputs == (NULL_OUTPOINT,)
    for vin, (txid, vout) in zip(ins, reduced.inputs, strict=True):
        if type(vin) is not dict or ("coinbase" in vin) is not is_coinbase:
            return False
        if vin.get("ismweb", False) is not False:
            return False
        if is_coinbase:
            continue
        if vin.get("txid") != txid or type(vin.get("vout")) is not int or vin["vout"] != vout:
            return False
    return True


def _compare(tx: rawtx.RawTx, transfers: Sequence[Transfer], spends: Sequence[Spend]) -> None:
    """The decoded JSON must say what the bytes say: only those are in the merkle tree."""
    outputs = [
        (f"out:{number}", value, script)
        for number, (value, script) in enumerate(tx.outputs)
        if value
    ]
    if [(item.position, item.amount_minor, item.to_key) for item in transfers] != outputs:
        raise NodeLied(f"tx {tx.txid}: outputs differ from its bytes")
    inputs = [] if tx.inputs == (NULL_OUTPOINT,) else list(tx.inputs)
    if [(item.outpoint.txid, item.outpoint.vout) for item in spends] != inputs:
        raise NodeLied(f"tx {tx.txid}: inputs differ from its bytes")
    if any(item.is_coinbase != (tx.inputs == (NULL_OUTPOINT,)) for item in transfers):
        raise NodeLied(f"tx {tx.txid}: a coinbase by its bytes or by its JSON only")
