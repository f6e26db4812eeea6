"""Node JSON of EVM blocks, receipts and txs -> the house's value types.

Pure. Credits come from evidence only (CASES law 3): `value` of a tx with receipt status 1, and
`Transfer` logs in such a receipt; never from calldata or symbols (D33-D36). The asset of a log is
its contract: one that is not listed has an id that no registry knows (D73).
A shape that is not understood raises `NodeUnavailable`; a log that is no ERC-20 `Transfer` is
ignored (D54).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from watchers.chain import AccountSend, Block, BlockRef, MempoolTx, Transfer, TxOutline
from watchers.chains.evm import batch, collect, safe
from watchers.chains.evm.params import EvmParams
from watchers.errors import NodeUnavailable

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
QUANTITY = re.compile(r"0x(?:0|[1-9a-f][0-9a-f]*)", re.ASCII)
HASH = re.compile(r"0x[0-9a-f]{64}", re.ASCII)
ADDRESS = re.compile(r"0x[0-9a-f]{40}", re.ASCII)
DATA = re.compile(r"0x(?:[0-9a-f]{2})*", re.ASCII)
WORD_DIGITS = 64
# transfer(address,uint256); what an intent names, never what happened.
TRANSFER_CALL = re.compile(r"0xa9059cbb0{24}([0-9a-f]{40})([0-9a-f]{64})", re.ASCII)
WEI_PER_GWEI = 10**9
PLAIN_TRANSFER_GAS = 21_000  # a tx that used no more ran no code (yellow paper, G_transaction)
ADDRESS_PADDING = "0x" + "0" * 24


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMove:
    """A well-formed ERC-20 `Transfer`; `asset` as in `watchers.chain.Transfer`."""

    ordinal: int
    asset: str
    is_listed: bool
    from_key: str
    to_key: str
    amount_minor: int


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


def quantity(value: object, what: str) -> int:
    """A hex QUANTITY of the Ethereum JSON-RPC specification, below 2^256."""
    if not isinstance(value, str) or not QUANTITY.fullmatch(value.lower()) or len(value) > 66:
        raise NodeUnavailable(f"{what}: a quantity is required")
    return int(value, 16)


def hash_text(value: object, what: str) -> str:
    """A 32-byte hash as lower-case 0x hex."""
    if not isinstance(value, str) or not HASH.fullmatch(value.lower()):
        raise NodeUnavailable(f"{what}: a hash is required")
    return value.lower()


def address_key(value: object, what: str) -> str:
    """A 20-byte address as lower-case 0x hex."""
    if not isinstance(value, str) or not ADDRESS.fullmatch(value.lower()):
        raise NodeUnavailable(f"{what}: an address is required")
    return value.lower()


def word(value: object, what: str) -> int:
    """The uint256 that `eth_call` returned; an empty answer is nonsense (no code there)."""
    if not isinstance(value, str) or not DATA.fullmatch(value.lower()):
        raise NodeUnavailable(f"{what}: data is required")
    if len(value) != 2 + WORD_DIGITS:
        raise NodeUnavailable(f"{what}: 32 bytes are required")
    return int(value, 16)


def fact(value: object) -> int | None:
    """The uint256 of a view that a token may lack; None when the answer is none (D38)."""
    if not isinstance(value, str) or not DATA.fullmatch(value.lower()):
        raise NodeUnavailable("eth_call: data is required")
    return int(value, 16) if len(value) == 2 + WORD_DIGITS else None


def code(value: object) -> str:
    """What `eth_getCode` found, lower case; 0x for none, and 23 bytes 0xef0100... for a delegation
    (EIP-7702)."""
    if not isinstance(value, str) or not DATA.fullmatch(value.lower()):
        raise NodeUnavailable("eth_getCode: data is required")
    return value.lower()


def header(value: object) -> BlockRef:
    """The header fields of a block answer."""
    raw = mapping(value, "block")
    return BlockRef(
        height=quantity(raw.get("number"), "number"),
        hash=hash_text(raw.get("hash"), "hash"),
        parent_hash=hash_text(raw.get("parentHash"), "parentHash"),
        time_seconds=quantity(raw.get("timestamp"), "timestamp"),
    )


def block_txs(value: object, *, block_hash: str) -> list[Mapping[str, object]]:
    """The full txs of a block answer, each of which must name this block (N10)."""
    raw = mapping(value, "block")
    if header(raw).hash != block_hash:
        raise NodeUnavailable("block: the hash of another block")
    txs = [mapping(item, "tx") for item in sequence(raw.get("transactions"), "transactions")]
    for tx in txs:
        if hash_text(tx.get("blockHash"), "tx.blockHash") != block_hash:
            raise NodeUnavailable("block: a tx of another block")
    if len({hash_text(tx.get("hash"), "tx.hash") for tx in txs}) != len(txs):
        raise NodeUnavailable("block: a tx twice")
    return txs


def block(value: object, receipts: object, *, block_hash: str, params: EvmParams) -> Block:
    """A block with full txs and all its receipts in order, complete or refused (N10, N11)."""
    txs = block_txs(value, block_hash=block_hash)
    rows = sequence(receipts, "receipts")
    if len(rows) != len(txs):
        raise NodeUnavailable(f"block: {len(rows)} receipts for {len(txs)} txs")
    transfers: list[Transfer] = []
    sends: list[AccountSend] = []
    for tx, row in zip(txs, rows, strict=True):
        txid = hash_text(tx.get("hash"), "tx.hash")
        receipt = checked_receipt(row, txid=txid, block_hash=block_hash)
        moves = token_moves(receipt, params=params)
        transfers.extend(_transfers(tx, receipt, moves, txid=txid, params=params))
        sends.append(_send(tx, receipt, moves, txid=txid, params=params))
    return Block(
        ref=header(value),
        transfers=tuple(transfers),
        spends=(),
        sends=tuple(sends),
        txids=tuple(send.txid for send in sends),
        raw_txs={},
        gifts=withdrawals(value, params=params),
    )


def checked_receipt(value: object, *, txid: str, block_hash: str) -> Mapping[str, object]:
    """A receipt that belongs to this tx in this block; a null one is not there yet (D52)."""
    receipt = mapping(value, "receipt")
    if hash_text(receipt.get("transactionHash"), "receipt.transactionHash") != txid:
        raise NodeUnavailable("receipt: of another tx")
    if hash_text(receipt.get("blockHash"), "receipt.blockHash") != block_hash:
        raise NodeUnavailable("receipt: of another block")
    for item in sequence(receipt.get("logs"), "receipt.logs"):
        log = mapping(item, "log")
        if hash_text(log.get("blockHash"), "log.blockHash") != block_hash:
            raise NodeUnavailable("log: of another block")
        if hash_text(log.get("transactionHash"), "log.transactionHash") != txid:
            raise NodeUnavailable("log: of another tx")
    return receipt


def is_success(receipt: Mapping[str, object]) -> bool:
    """Receipt status 1 (EIP-658)."""
    status = quantity(receipt.get("status"), "receipt.status")
    if status not in (0, 1):
        raise NodeUnavailable("receipt: status is neither 0 nor 1")
    return status == 1


def ran_code(receipts: Iterable[object]) -> frozenset[str]:
    """The txids of successful txs that may have made a call; pure transfers cannot."""
    found = set()
    for item in receipts:
        receipt = mapping(item, "receipt")
        is_plain = quantity(receipt.get("gasUsed"), "gasUsed") <= PLAIN_TRANSFER_GAS
        if is_success(receipt) and not is_plain:
            found.add(hash_text(receipt.get("transactionHash"), "receipt.transactionHash"))
    return frozenset(found)


def token_moves(receipt: Mapping[str, object], *, params: EvmParams) -> list[TokenMove]:
    """ERC-20 `Transfer`s by their ordinal inside the receipt (law 1)."""
    if not is_success(receipt):
        return []
    moves: list[TokenMove] = []
    for ordinal, item in enumerate(sequence(receipt.get("logs"), "receipt.logs")):
        log = mapping(item, "log")
        contract = address_key(log.get("address"), "log.address")
        is_removed = log.get("removed") is not None and log.get("removed") is not False
        move = None if is_removed else _token_move(log, ordinal=ordinal)
        if move is None:
            continue
        listed = params.tokens.get(contract)
        if contract == params.native_mirror:
            listed = params.native_asset
        asset = listed or f"{params.network}:{contract}"
        moves.append(replace(move, asset=asset, is_listed=listed is not None))
    return moves


def _token_move(log: Mapping[str, object], *, ordinal: int) -> TokenMove | None:
    """None for anything but three clean topics and 32 bytes of data; zero moves nothing (D41)."""
    topics, data = log.get("topics"), log.get("data")
    if not isinstance(topics, list) or len(topics) != 3 or not isinstance(data, str):
        return None
    words = [item.lower() if isinstance(item, str) else "" for item in topics]
    if words[0] != TRANSFER_TOPIC or not all(HASH.fullmatch(item) for item in words):
        return None
    if not DATA.fullmatch(data.lower()) or len(data) != 2 + WORD_DIGITS:
        return None
    if not all(item.startswith(ADDRESS_PADDING) for item in words[1:]):
        return None
    amount = int(data, 16)
    if amount == 0:
        return None
    start = len(ADDRESS_PADDING)
    return TokenMove(
        ordinal=ordinal,
        asset="",
        is_listed=False,
        from_key="0x" + words[1][start:],
        to_key="0x" + words[2][start:],
        amount_minor=amount,
    )


def _transfers(
    tx: Mapping[str, object],
    receipt: Mapping[str, object],
    moves: Sequence[TokenMove],
    *,
    txid: str,
    params: EvmParams,
) -> list[Transfer]:
    native = native_transfer(tx, txid=txid, asset=params.native_asset)
    found = [native] if native is not None and is_success(receipt) else []
    # A log of the coin's ERC-20 face may show what the tx's own value moved: once is enough (D61).
    shown = [(item.asset, item.to_key, item.amount_minor) for item in found]
    for move in moves:
        movement = (move.asset, move.to_key, move.amount_minor)
        if movement in shown:
            shown.remove(movement)
            continue
        found.append(
            Transfer(
                txid=txid,
                position=f"log:{move.ordinal}",
                asset=move.asset,
                to_key=move.to_key,
                amount_minor=move.amount_minor,
            )
        )
    return found


def withdrawals(value: object, *, params: EvmParams) -> tuple[Transfer, ...]:
    """What the beacon chain paid out in a block (EIP-4895, amounts in gwei): no tx, no payer.

    The txid of such a movement is its block's hash.
    """
    raw = mapping(value, "block")
    if raw.get("withdrawals") is None:
        return ()
    rows = [mapping(item, "withdrawal") for item in sequence(raw["withdrawals"], "withdrawals")]
    return tuple(
        Transfer(
            txid=header(value).hash,
            position=f"withdrawal:{quantity(row.get('index'), 'withdrawal.index')}",
            asset=params.native_asset,
            to_key=address_key(row.get("address"), "withdrawal.address"),
            amount_minor=amount * WEI_PER_GWEI,
        )
        for row in rows
        if (amount := quantity(row.get("amount"), "withdrawal.amount")) > 0
    )


def native_transfer(tx: Mapping[str, object], *, txid: str, asset: str) -> Transfer | None:
    """What the tx itself would move; whether it did is for its receipt to say."""
    value = quantity(tx.get("value"), "tx.value")
    if tx.get("to") is None or value == 0:
        return None
    return Transfer(
        txid=txid,
        position="value",
        asset=asset,
        to_key=address_key(tx.get("to"), "tx.to"),
        amount_minor=value,
    )


def _send(
    tx: Mapping[str, object],
    receipt: Mapping[str, object],
    moves: Sequence[TokenMove],
    *,
    txid: str,
    params: EvmParams,
) -> AccountSend:
    sender = address_key(tx.get("from"), "tx.from")
    native = native_transfer(tx, txid=txid, asset=params.native_asset)
    has_succeeded = is_success(receipt)
    out = [
        (move.asset, move.to_key, move.amount_minor)
        for move in moves
        if move.from_key == sender and move.is_listed and move.asset != params.native_asset
    ]
    if native is not None and has_succeeded:
        out.insert(0, (native.asset, native.to_key, native.amount_minor))
    logs = sequence(receipt.get("logs"), "receipt.logs") if has_succeeded else ()
    return AccountSend(
        txid=txid,
        sender_key=sender,
        nonce=quantity(tx.get("nonce"), "tx.nonce"),
        is_success=has_succeeded,
        fee_minor=_fee_minor(tx, receipt),
        transfers_out=tuple(out),
        batch=batch.evidence(logs, moves, sender_key=sender, params=params)
        or safe.evidence(tx, logs, moves, params=params),
        collected=collect.collected(moves, to_key=_called(tx), params=params),
    )


def _called(tx: Mapping[str, object]) -> str | None:
    """Whom a tx calls; None for a creation."""
    return None if tx.get("to") is None else address_key(tx.get("to"), "tx.to")


def _fee_minor(tx: Mapping[str, object], receipt: Mapping[str, object]) -> int:
    """Gas, blobs (EIP-4844) and the data fee of an OP-stack chain, in wei."""
    price = receipt.get("effectiveGasPrice", tx.get("gasPrice"))
    fee = quantity(receipt.get("gasUsed"), "gasUsed") * quantity(price, "effectiveGasPrice")
    if receipt.get("blobGasUsed") is not None and receipt.get("blobGasPrice") is not None:
        blob_gas = quantity(receipt.get("blobGasUsed"), "blobGasUsed")
        fee += blob_gas * quantity(receipt.get("blobGasPrice"), "blobGasPrice")
    if receipt.get("l1Fee") is not None:
        fee += quantity(receipt.get("l1Fee"), "l1Fee")
    return fee


def mempool_tx(value: object, *, params: EvmParams) -> MempoolTx:
    """A tx of the pending block: native value only; a token moves when it has happened."""
    tx = mapping(value, "tx")
    txid = hash_text(tx.get("hash"), "tx.hash")
    native = native_transfer(tx, txid=txid, asset=params.native_asset)
    return MempoolTx(
        txid=txid,
        transfers=() if native is None else (native,),
        spends=(),
        sender_key=address_key(tx.get("from"), "tx.from"),
        nonce=quantity(tx.get("nonce"), "tx.nonce"),
    )


def outline(value: object, *, txid: str, params: EvmParams) -> TxOutline:
    """What a tx names: its value, and the receiver of a plain ERC-20 `transfer(address,uint256)`.

    The token's position is `call`: whether a log shows it is for its receipt to say.
    """
    tx = mapping(value, "tx")
    if hash_text(tx.get("hash"), "tx.hash") != txid:
        raise NodeUnavailable("tx: the txid of another tx")
    native = native_transfer(tx, txid=txid, asset=params.native_asset)
    named = _named_transfer(tx, txid=txid, params=params)
    rate = tx.get("maxFeePerGas", tx.get("gasPrice"))
    return TxOutline(
        txid=txid,
        transfers=tuple(item for item in (native, named) if item is not None),
        fee_rate=None if rate is None else quantity(rate, "tx.maxFeePerGas"),
    )


def _named_transfer(tx: Mapping[str, object], *, txid: str, params: EvmParams) -> Transfer | None:
    data, to = tx.get("input"), tx.get("to")
    if not isinstance(data, str) or to is None:
        return None
    match = TRANSFER_CALL.fullmatch(data.lower())
    if match is None or int(match.group(2), 16) == 0:
        return None
    contract = address_key(to, "tx.to")
    return Transfer(
        txid=txid,
        position="call",
        asset=params.tokens.get(contract, f"{params.network}:{contract}"),
        to_key="0x" + match.group(1),
        amount_minor=int(match.group(2), 16),
    )
