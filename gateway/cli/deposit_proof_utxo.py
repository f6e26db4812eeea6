"""Checks of a deposit proof on Bitcoin and Litecoin: tx, Merkle branch, headers, work, script.

Pure and of its own code. The facts of each chain are written here once more: those of a bundle are
not believed. A 64-byte tx and a branch of another depth than the coinbase's are refused
(CVE-2017-12842), equal siblings too (CVE-2012-2459).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.cli.deposit_proof import Bundle, CheckStep, Told, shown_amount
from gateway.cli.deposit_proof_errors import CheckFailed

OUTPUT = re.compile(r"out:(0|[1-9][0-9]{0,9})", re.ASCII)
INNER_NODE_BYTES = 64
DEPTH_MAX = 32
BIP34_VERSION = 2  # from this header version on the coinbase starts with the height
WHOLE = 1 << 256
COIN_DECIMALS = 8  # of every chain here
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain by its genesis block: chainparams.cpp of Bitcoin Core and Litecoin Core."""

    name: str
    is_scrypt: bool
    limit: int
    hrp: str
    p2pkh: int
    p2sh: int
    coin_type: int


CHAINS: Mapping[str, Chain] = {
    "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f": Chain(
        "Bitcoin", False, (1 << 224) - 1, "bc", 0x00, 0x05, 0
    ),
    "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6": Chain(
        "Bitcoin signet", False, 0x377AE << 216, "tb", 0x6F, 0xC4, 1
    ),
    "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206": Chain(
        "Bitcoin regtest", False, (1 << 255) - 1, "bcrt", 0x6F, 0xC4, 1
    ),
    "12a765e31ffd4059bada1e25190f6e98c99d9714d334efa41a195a7e7e04bfe2": Chain(
        "Litecoin", True, (1 << 236) - 1, "ltc", 0x30, 0x32, 2
    ),
    "530827f38f93b43ed12af0b3ad25a288dc02ed74d6d7857862df51fc56c416f9": Chain(
        "Litecoin regtest", True, (1 << 255) - 1, "rltc", 0x6F, 0x3A, 1
    ),
}


@dataclass(frozen=True, slots=True)
class Tx:
    """A parsed tx: what hashes to its txid, and what it moves."""

    stripped: bytes
    inputs: tuple[tuple[bytes, bytes], ...]
    """(outpoint, script)."""
    outputs: tuple[tuple[int, bytes], ...]


class _Cursor:
    """Reads forward; past the end it fails."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def take(self, size: int) -> bytes:
        if size > len(self._left):
            raise CheckFailed("a tx ends too early")
        found, self._left = bytes(self._left[:size]), self._left[size:]
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def count(self) -> int:
        first = self.number(1)
        return first if first < 0xFD else self.number(1 << (first - 0xFC))

    def block(self) -> bytes:
        return self.take(self.count())

    def is_empty(self) -> bool:
        return not self._left


def parse_tx(raw: bytes) -> Tx:
    """A tx in the form of BIP 144, nothing behind it."""
    has_witness = raw[4:6] == b"\x00\x01"
    cursor = _Cursor(raw[6:] if has_witness else raw[4:])
    inputs = []
    for _ in range(cursor.count()):
        outpoint, script = cursor.take(36), cursor.block()
        cursor.take(4)
        inputs.append((outpoint, script))
    outputs = [(cursor.number(8), cursor.block()) for _ in range(cursor.count())]
    start = 6 if has_witness else 4
    body_size = len(raw) - start - len(cursor._left)
    if has_witness:
        for _ in inputs:
            for _ in range(cursor.count()):
                cursor.block()
    lock_time = cursor.take(4)
    if not cursor.is_empty() or not inputs or not outputs:
        raise CheckFailed("not one whole tx")
    stripped = raw[:4] + raw[start : start + body_size] + lock_time
    return Tx(stripped, tuple(inputs), tuple(outputs))


def twice(data: bytes) -> bytes:
    """SHA-256d."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def climb(leaf: bytes, index: int, branch: tuple[bytes, ...]) -> bytes:
    """The root over a leaf and its siblings."""
    if len(branch) > DEPTH_MAX or index >> len(branch):
        raise CheckFailed("the index is outside of the tree")
    node = leaf
    for sibling in branch:
        if len(sibling) != 32:
            raise CheckFailed("a sibling of another size than a hash")
        if index & 1:
            if sibling == node:
                raise CheckFailed("a leaf that is in the tree twice")
            node = twice(sibling + node)
        else:
            node = twice(node + sibling)
        index >>= 1
    return node


def _chain(bundle: Bundle) -> Chain:
    chain = CHAINS.get(bundle.genesis_hash or "")
    if chain is None:
        raise CheckFailed("no chain that this program knows has this genesis block")
    return chain


def check_network(bundle: Bundle) -> str:
    """The CAIP-2 id and the asset are those of the genesis block."""
    chain = _chain(bundle)
    if bundle.caip2 != f"bip122:{(bundle.genesis_hash or '')[:32]}":
        raise CheckFailed("caip2 and genesis block differ")
    if bundle.chain_id is not None or bundle.contract is not None:
        raise CheckFailed("a chain id or contract, which this chain does not have")
    is_coin = bundle.caip19 == f"{bundle.caip2}/slip44:{chain.coin_type}"
    if not is_coin or bundle.decimals != COIN_DECIMALS:
        raise CheckFailed("not the coin of this chain")
    return chain.name


def check_tx(bundle: Bundle) -> str:
    """The bytes are the tx."""
    stripped = parse_tx(bundle.raw_tx).stripped
    if twice(stripped)[::-1].hex() != bundle.txid:
        raise CheckFailed("the tx's bytes hash to another txid")
    if len(stripped) == INNER_NODE_BYTES:
        raise CheckFailed("a tx of 64 bytes may be a node of the tree")
    return bundle.txid


def check_inclusion(bundle: Bundle) -> str:
    """The tx and the coinbase are leaves of the tree under the block's header."""
    coinbase, branch = bundle.coinbase, bundle.coinbase_branch
    if coinbase is None or branch is None or bundle.receipt is not None:
        raise CheckFailed("a coinbase and no receipt is required")
    if bundle.receipt_branch is not None:
        raise CheckFailed("no branch of a receipt belongs here")
    root = _header(bundle.headers, 0)[36:68]
    if climb(twice(parse_tx(bundle.raw_tx).stripped), bundle.index, bundle.branch) != root:
        raise CheckFailed("the branch does not lead to the block's merkle root")
    first = parse_tx(coinbase)
    if len(first.stripped) == INNER_NODE_BYTES or climb(twice(first.stripped), 0, branch) != root:
        raise CheckFailed("the coinbase's branch does not lead to the block's merkle root")
    if len(branch) != len(bundle.branch):
        raise CheckFailed("the tx is at another depth than the coinbase")
    if len(first.inputs) != 1 or first.inputs[0][0] != b"\0" * 32 + b"\xff" * 4:
        raise CheckFailed("the block's first tx is no coinbase")
    return f"tx {bundle.index} of the block"


def check_block(bundle: Bundle) -> str | Told:
    """The first header is the block; the coinbase holds its height (BIP 34)."""
    header = _header(bundle.headers, 0)
    if twice(header)[::-1].hex() != bundle.block_hash:
        raise CheckFailed("the header hashes to another block")
    if int.from_bytes(header[:4], "little", signed=True) < BIP34_VERSION:
        return Told(detail=f"{bundle.block_hash}; a block before BIP 34 does not hold its height")
    script = parse_tx(bundle.coinbase or b"").inputs[0][1]
    if not script.startswith(_pushed(bundle.height)):
        raise CheckFailed("the coinbase names another height")
    return f"{bundle.block_hash} at height {bundle.height}"


def _pushed(height: int) -> bytes:
    """A number as a script pushes it (CScript << int64)."""
    if height == 0:
        return b"\x00"
    if height <= 16:
        return bytes([0x50 + height])
    data = height.to_bytes(height.bit_length() // 8 + 1, "little")  # with room for the sign bit
    return bytes([len(data)]) + data


def check_headers(bundle: Bundle) -> str:
    """Each header names the one before it."""
    parent = b""
    for number in range(len(bundle.headers)):
        header = _header(bundle.headers, number)
        if number and header[4:36] != parent:
            raise CheckFailed(f"header {number} does not follow the one before it")
        parent = twice(header)
    return f"{len(bundle.headers)} in a chain, the last is {parent[::-1].hex()}"


def check_work(bundle: Bundle) -> str:
    """Each header meets a target that is legal on the chain."""
    chain, total = _chain(bundle), 0
    for number in range(len(bundle.headers)):
        header = _header(bundle.headers, number)
        target = _target(header[72:76])
        if not 0 < target <= chain.limit:
            raise CheckFailed(f"header {number}: its target is not legal on {chain.name}")
        if chain.is_scrypt:
            work = hashlib.scrypt(header, salt=header, n=1024, r=1, p=1, dklen=32)
        else:
            work = twice(header)
        if int.from_bytes(work, "little") > target:
            raise CheckFailed(f"header {number}: its work does not meet its target")
        total += WHOLE // (target + 1)
    return f"2^{total.bit_length() - 1} hashes or more; compare with what the chain has per block"


def _target(bits: bytes) -> int:
    size, negative = bits[3], bits[2] & 0x80
    digits = int.from_bytes(bits[:3], "little") & 0x7FFFFF
    if negative or size > 34:
        return 0
    return digits << 8 * (size - 3) if size > 3 else digits >> 8 * (3 - size)


def check_transfer(bundle: Bundle) -> str:
    """The output at the position pays the amount to the key."""
    place = OUTPUT.fullmatch(bundle.position)
    outputs = parse_tx(bundle.raw_tx).outputs
    if place is None or int(place[1]) >= len(outputs):
        raise CheckFailed("the tx has no such output")
    value, script = outputs[int(place[1])]
    if value != bundle.amount_minor:
        raise CheckFailed(f"the output holds {value}, not {bundle.amount_minor}")
    if script.hex() != bundle.key:
        raise CheckFailed("the output pays another script")
    return f"{bundle.position} pays {value} to {bundle.key}"


def check_address(bundle: Bundle) -> str:
    """The address is the text of the key."""
    script, chain = bytes.fromhex(bundle.key), _chain(bundle)
    if bundle.address != _address(script, chain):
        raise CheckFailed("the address is not the text of the key")
    return f"{bundle.address} <- {bundle.key}"


def check_amount(bundle: Bundle) -> str:
    """The shown amount by the decimals of the coin."""
    if bundle.decimals != COIN_DECIMALS:
        raise CheckFailed(f"the coin of this chain has {COIN_DECIMALS} decimals")
    return shown_amount(bundle)


def _address(script: bytes, chain: Chain) -> str:
    """The address of a script: BIP 173, 350 and base58check. Encoded, never parsed."""
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return _base58(bytes([chain.p2pkh]) + script[3:23])
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return _base58(bytes([chain.p2sh]) + script[2:22])
    if len(script) in (22, 34) and script[0] in (0x00, 0x51) and script[1] == len(script) - 2:
        return _bech32(chain.hrp, script[0] & 0x0F, script[2:])
    raise CheckFailed("a script without an address")


def _base58(payload: bytes) -> str:
    data = payload + twice(payload)[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def _bech32(hrp: str, version: int, program: bytes) -> str:
    """BIP 173 for version 0, BIP 350 above."""
    number, size = int.from_bytes(program, "big"), len(program) * 8
    pad = -size % 5
    number, size = number << pad, size + pad
    data = [version, *(number >> shift & 31 for shift in range(size - 5, -5, -5))]
    expanded = [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]
    check = _polymod([*expanded, *data, 0, 0, 0, 0, 0, 0]) ^ (0x2BC830A3 if version else 1)
    tail = [check >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{hrp}1" + "".join(BECH32[item] for item in (*data, *tail))


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for place, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> place & 1 else 0
    return check


def _header(headers: tuple[bytes, ...], number: int) -> bytes:
    if number >= len(headers) or len(headers[number]) != 80:
        raise CheckFailed("headers of 80 bytes are required")
    return headers[number]


STEPS: tuple[CheckStep, ...] = (
    ("network", check_network),
    ("tx", check_tx),
    ("inclusion", check_inclusion),
    ("block", check_block),
    ("headers", check_headers),
    ("work", check_work),
    ("transfer", check_transfer),
    ("address", check_address),
    ("amount", check_amount),
)
