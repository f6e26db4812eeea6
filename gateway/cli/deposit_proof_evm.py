"""Checks of a deposit proof on EVM chains: tx, receipt, tries, headers, transfer.

Pure and of its own code, RLP and trie walk included. An EVM header carries no work: that the block
hash is the chain's own is told, and to be compared with a source that the reader trusts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak

from gateway.cli.deposit_proof import Bundle, CheckStep, Told, shown_amount
from gateway.cli.deposit_proof_errors import CheckFailed

NESTING_MAX = 8
TRANSFER = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
LOG = re.compile(r"log:(0|[1-9][0-9]{0,5})", re.ASCII)
ACCOUNT = re.compile(r"0x[0-9a-f]{40}", re.ASCII)
TO_AND_VALUE = {0: (3, 4), 1: (4, 5), 2: (5, 6), 3: (5, 6), 4: (5, 6)}
"""Where the fields are, by EIP-2718 type."""
FIELDS = {0: 9, 1: 11, 2: 12, 3: 14, 4: 13}
HEADER_FIELDS_MIN = 15
EIP155_V = 35
COIN_TYPES: Mapping[int, int] = {1: 60, 11_155_111: 60, 31_337: 60}
"""SLIP-44 of the native coin by chain id. Of another chain the coin is the operator's word."""
COIN_DECIMALS = 18  # ether's wei; every chain of the list counts in it

Rlp = bytes | list["Rlp"]


class BadTrie(CheckFailed):
    """The nodes do not lead from the root to the key."""


@dataclass(frozen=True, slots=True)
class Tx:
    """What a tx itself says."""

    kind: int
    chain_id: int | None
    to: bytes
    value: int


def unrlp(data: bytes) -> Rlp:
    """One canonical RLP item, nothing behind it."""
    item, end = _item(data, 0, len(data), 0)
    if end != len(data):
        raise CheckFailed("bytes behind an RLP item")
    return item


def _item(data: bytes, at: int, stop: int, depth: int) -> tuple[Rlp, int]:
    if at >= stop or depth > NESTING_MAX:
        raise CheckFailed("RLP that ends too early or is too deep")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    is_list = first >= 0xC0
    size = first - (0xC0 if is_list else 0x80)
    start = at + 1
    if size > 55:
        width = size - 55
        digits = data[start : start + width]
        start, size = start + width, int.from_bytes(digits, "big")
        if len(digits) != width or digits[0] == 0 or size <= 55:
            raise CheckFailed("RLP with a length that is not canonical")
    end = start + size
    if end > stop:
        raise CheckFailed("RLP that ends too early")
    if not is_list:
        if size == 1 and data[start] < 0x80:
            raise CheckFailed("RLP with a byte that is not canonical")
        return data[start:end], end
    items: list[Rlp] = []
    while start < end:
        item, start = _item(data, start, end, depth + 1)
        items.append(item)
    return items, end


def value_at(root: bytes, key: bytes, nodes: Sequence[bytes]) -> bytes:
    """The value of a key under a root by the nodes of the way, all of which must be needed."""
    path = [nibble for byte in key for nibble in (byte >> 4, byte & 15)]
    left, reference = list(nodes), root
    while True:
        if not left or keccak(left[0]) != reference:
            raise BadTrie("a node of the trie is missing, altered or in excess")
        found = _walk(unrlp(left.pop(0)), path)
        if found is None:
            raise BadTrie("the key is not in the trie")
        is_value, content, path = found
        if is_value:
            if left:
                raise BadTrie("a node of the trie is missing, altered or in excess")
            return content
        reference = content


def _walk(node: Rlp, path: list[int]) -> tuple[bool, bytes, list[int]] | None:
    """Down to a value, or to the hash of the next node; None where the way ends."""
    while True:
        if not isinstance(node, list) or len(node) not in (2, 17):
            return None
        if len(node) == 17:
            below = node[path[0]] if path else node[16]
            is_value, path = not path, path[1:]
        else:
            head, below = node
            if not isinstance(head, bytes) or not head or head[0] >> 4 > 3:
                return None
            prefix = [nibble for byte in head[1:] for nibble in (byte >> 4, byte & 15)]
            prefix = [head[0] & 15, *prefix] if head[0] & 0x10 else prefix
            is_value = bool(head[0] & 0x20)
            if path[: len(prefix)] != prefix or (is_value and path != prefix):
                return None
            path = path[len(prefix) :]
        if is_value:
            return (True, below, path) if isinstance(below, bytes) and below else None
        if isinstance(below, bytes):
            return (False, below, path) if len(below) == 32 else None
        node = below


def _key(index: int) -> bytes:
    """RLP of an index."""
    if index == 0:
        return b"\x80"
    if index < 0x80:
        return bytes([index])
    digits = index.to_bytes((index.bit_length() + 7) // 8, "big")
    return bytes([0x80 + len(digits)]) + digits


def _number(item: Rlp) -> int:
    if not isinstance(item, bytes) or len(item) > 32 or item[:1] == b"\0":
        raise CheckFailed("a number that is not canonical")
    return int.from_bytes(item, "big")


def _text(item: Rlp) -> bytes:
    if not isinstance(item, bytes):
        raise CheckFailed("bytes are required, not a list")
    return item


def _fields(item: Rlp) -> list[Rlp]:
    if not isinstance(item, list):
        raise CheckFailed("a list is required")
    return item


def _envelope(raw: bytes) -> tuple[int, list[Rlp]]:
    """(type, fields) of EIP-2718."""
    if not raw:
        raise CheckFailed("nothing to read")
    kind, payload = (0, raw) if raw[0] >= 0xC0 else (raw[0], raw[1:])
    if kind not in FIELDS or (kind == 0 and raw[0] < 0xC0):
        raise CheckFailed("a type that this program does not know")
    return kind, _fields(unrlp(payload))


def parse_tx(raw: bytes) -> Tx:
    """What a tx says of itself."""
    kind, fields = _envelope(raw)
    if len(fields) != FIELDS[kind]:
        raise CheckFailed("a tx with another number of fields")
    if kind:
        chain_id: int | None = _number(fields[0])
    else:
        v = _number(fields[6])
        chain_id = (v - EIP155_V) // 2 if v >= EIP155_V else None
    to, value = TO_AND_VALUE[kind]
    return Tx(kind, chain_id, _text(fields[to]), _number(fields[value]))


def _receipt(bundle: Bundle) -> list[Rlp]:
    if bundle.receipt is None or bundle.receipt_branch is None:
        raise CheckFailed("a receipt is required")
    kind, fields = _envelope(bundle.receipt)
    if kind != parse_tx(bundle.raw_tx).kind or len(fields) != 4:
        raise CheckFailed("a receipt of another type than its tx")
    return fields


def _header(bundle: Bundle, number: int) -> list[Rlp]:
    if number >= len(bundle.headers):
        raise CheckFailed("the block's header is required")
    fields = _fields(unrlp(bundle.headers[number]))
    if len(fields) < HEADER_FIELDS_MIN:
        raise CheckFailed("a header with too few fields")
    return fields


def check_network(bundle: Bundle) -> str | Told:
    """The chain id that the tx was signed for."""
    if bundle.genesis_hash is not None or bundle.caip2 != f"eip155:{bundle.chain_id}":
        raise CheckFailed("caip2 and chain id differ")
    signed_for = parse_tx(bundle.raw_tx).chain_id
    if signed_for is None:
        return Told(detail=f"{bundle.caip2}; the tx was signed for no chain (before EIP-155)")
    if signed_for != bundle.chain_id:
        raise CheckFailed("the tx was signed for another chain")
    return bundle.caip2


def check_tx(bundle: Bundle) -> str:
    """The bytes are the tx."""
    if "0x" + keccak(bundle.raw_tx).hex() != bundle.txid:
        raise CheckFailed("the tx's bytes hash to another txid")
    return bundle.txid


def check_inclusion(bundle: Bundle) -> str:
    """Tx and receipt are at the same index of their tries under the header; it succeeded."""
    if bundle.coinbase is not None or bundle.coinbase_branch is not None:
        raise CheckFailed("no coinbase belongs here")
    header, receipt = _header(bundle, 0), _receipt(bundle)
    key = _key(bundle.index)
    if value_at(_text(header[4]), key, bundle.branch) != bundle.raw_tx:
        raise CheckFailed("another tx is at this index of the block")
    if value_at(_text(header[5]), key, bundle.receipt_branch or ()) != bundle.receipt:
        raise CheckFailed("another receipt is at this index of the block")
    if receipt[0] != b"\x01":
        raise CheckFailed("the tx did not succeed")
    return f"tx {bundle.index} of the block, successful"


def check_block(bundle: Bundle) -> str:
    """The first header is the block."""
    if not bundle.headers or "0x" + keccak(bundle.headers[0]).hex() != bundle.block_hash:
        raise CheckFailed("the header hashes to another block")
    if _number(_header(bundle, 0)[8]) != bundle.height:
        raise CheckFailed("the header names another height")
    return f"{bundle.block_hash} at height {bundle.height}"


def check_headers(bundle: Bundle) -> str:
    """Each header names the one before it."""
    parent = b""
    for number, raw in enumerate(bundle.headers):
        header = _header(bundle, number)
        if number and header[0] != parent:
            raise CheckFailed(f"header {number} does not follow the one before it")
        if _number(header[8]) != bundle.height + number:
            raise CheckFailed(f"header {number} names another height")
        parent = keccak(raw)
    return f"{len(bundle.headers)} in a chain, the last is 0x{parent.hex()}"


def check_work(bundle: Bundle) -> Told:
    """There is none: the reader compares."""
    return Told(detail="headers carry no work: compare the block hash with a source you trust")


def check_transfer(bundle: Bundle) -> str:
    """The tx's own value, or the log at the position, pays the amount to the key."""
    if not ACCOUNT.fullmatch(bundle.key):
        raise CheckFailed("the key is no account")
    key = bytes.fromhex(bundle.key[2:])
    if bundle.position == "value":
        tx = parse_tx(bundle.raw_tx)
        if tx.to != key:
            raise CheckFailed("the tx pays another account")
        _compare(tx.value, bundle.amount_minor)
    else:
        place = LOG.fullmatch(bundle.position)
        if place is None:
            raise CheckFailed("no receipt can prove a transfer at this position")
        _check_log(bundle, int(place[1]), key)
    return f"{bundle.position} pays {bundle.amount_minor} to {bundle.key}"


def _check_log(bundle: Bundle, place: int, key: bytes) -> None:
    logs = _fields(_receipt(bundle)[3])
    if place >= len(logs):
        raise CheckFailed("the receipt has no such log")
    log = _fields(logs[place])
    if len(log) != 3:
        raise CheckFailed("a log with another number of fields")
    emitter, topics, data = _text(log[0]), _fields(log[1]), _text(log[2])
    if "0x" + emitter.hex() != bundle.contract:
        raise CheckFailed("the log is another contract's")
    if len(topics) != 3 or topics[0] != TRANSFER or len(data) != 32:
        raise CheckFailed("the log is no Transfer")
    if topics[2] != key.rjust(32, b"\0"):
        raise CheckFailed("the log pays another account")
    _compare(int.from_bytes(data, "big"), bundle.amount_minor)


def _compare(found: int, claimed: int) -> None:
    if found != claimed:
        raise CheckFailed(f"the chain says {found}, not {claimed}")


def check_asset(bundle: Bundle) -> str | Told:
    """The asset's id names the contract whose log it is, or the chain's coin by the list here."""
    name = bundle.caip19
    is_log = bundle.position != "value"
    if name == f"{bundle.caip2}/erc20:{bundle.contract}" and is_log:
        return name
    if name is None or not re.fullmatch(re.escape(bundle.caip2) + r"/slip44:[0-9]{1,10}", name):
        raise CheckFailed("the asset is not what the position holds")
    if is_log != (bundle.contract is not None):
        raise CheckFailed("the asset is not what the position holds")
    coin_type = COIN_TYPES.get(bundle.chain_id or 0)
    if coin_type is not None and name != f"{bundle.caip2}/slip44:{coin_type}":
        raise CheckFailed("not the coin of this chain")
    if is_log:
        return Told(detail=f"{name} by its ERC-20 face {bundle.contract}")
    if coin_type is None:
        return Told(detail=f"{name}: this program does not know the coin of this chain")
    return name


def check_amount(bundle: Bundle) -> str | Told:
    """The shown amount by the coin's own decimals; those of a token no hash covers."""
    shown = shown_amount(bundle)
    if bundle.decimals is None:
        return shown
    if bundle.position != "value":
        return Told(detail=f"{shown}; the token's {bundle.decimals} decimals are the operator's")
    if bundle.chain_id not in COIN_TYPES:
        return Told(detail=f"{shown}; the coin's {bundle.decimals} decimals are the operator's")
    if bundle.decimals != COIN_DECIMALS:
        raise CheckFailed(f"the coin of this chain has {COIN_DECIMALS} decimals")
    return shown


def check_address(bundle: Bundle) -> str:
    """The address is the key, with the checksum of EIP-55 or in lower case."""
    if not ACCOUNT.fullmatch(bundle.key):
        raise CheckFailed("the key is no account")
    digits = bundle.key[2:]
    marks = keccak(digits.encode()).hex()
    mixed = "".join(
        digit.upper() if int(mark, 16) >= 8 else digit
        for digit, mark in zip(digits, marks[:40], strict=True)
    )
    if bundle.address not in (bundle.key, "0x" + mixed):
        raise CheckFailed("the address is not the text of the key")
    return f"{bundle.address} <- {bundle.key}"


STEPS: tuple[CheckStep, ...] = (
    ("network", check_network),
    ("tx", check_tx),
    ("inclusion", check_inclusion),
    ("block", check_block),
    ("headers", check_headers),
    ("work", check_work),
    ("transfer", check_transfer),
    ("asset", check_asset),
    ("address", check_address),
    ("amount", check_amount),
)
