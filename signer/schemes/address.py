"""The signer's own strict address parsers. Text to what the tx must contain, nothing else.

UTXO: BIP-173 (witness v0, Bech32), BIP-350 (v1, Bech32m), Base58Check with the network's own
version bytes; witness v2 to v16 are refused. EVM: 20 bytes, EIP-55 checked when the case is mixed.
The checksum of Bech32 is our own: embit's takes a fifth of the time of a batch (docs/adr/0028), and
stays the oracle of the tests.
"""

import re
from collections.abc import Iterable
from functools import lru_cache, reduce
from operator import xor

from embit import base58, bech32
from eth_utils.address import to_checksum_address

from signer.errors import RefusalCode, Refused
from signer.settings import Family, NetworkSettings

_TEXT = re.compile(r"[0-9A-Za-z]{14,90}", re.ASCII)
_EVM = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_TAPROOT_BYTES = 32
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # BIP-173: the digits of 0 to 31
_BASE32 = bytes.maketrans(_BECH32.encode(), b"0123456789abcdefghijklmnopqrstuv")  # for int()
_VALUES = bytes.maketrans(_BECH32.encode(), bytes(range(32)))
_DATA = re.compile(f"[{_BECH32}]{{7,}}")  # version, program, six digits of checksum
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CARRY = tuple(  # what the checksum takes in for each value of the five bits that leave it
    reduce(xor, (part for place, part in enumerate(_GENERATOR) if top >> place & 1), 0)
    for top in range(32)
)
_CHECKSUMS = {0: 1, 1: 0x2BC830A3}  # of witness version 0 (BIP-173) and 1 (BIP-350)


def place_of(address: object, network: NetworkSettings) -> bytes:
    """What an address text means on the network, so that its spellings are one; raises Refused."""
    if not isinstance(address, str):
        raise Refused(RefusalCode.NEEDS_STAFF, "address: a string is required")
    if network.family is Family.BITCOIN:
        return bitcoin_script(address, network)
    return evm_address(address)


def bitcoin_script(address: str, network: NetworkSettings) -> bytes:
    """The scriptPubKey of an address; raises Refused (`bad_order`)."""
    if not _TEXT.fullmatch(address):
        raise _bad(network)
    if address.lower().startswith(f"{network.hrp}1"):
        return _segwit_script(address, network)
    try:
        payload = base58.decode_check(address)
    except ValueError as error:
        raise _bad(network) from error
    if len(payload) != 21:
        raise _bad(network)
    if payload[0] in network.p2pkh_versions:
        return b"\x76\xa9\x14" + bytes(payload[1:]) + b"\x88\xac"
    if payload[0] in network.p2sh_versions:
        return b"\xa9\x14" + bytes(payload[1:]) + b"\x87"
    raise _bad(network)


def _segwit_script(address: str, network: NetworkSettings) -> bytes:
    text = address.lower()
    data = text[len(network.hrp) + 1 :]
    if address not in (text, text.upper()) or not _DATA.fullmatch(data):
        raise _bad(network)
    raw = data.encode("ascii")
    values = raw.translate(_VALUES)
    version = values[0]
    if _checksum(_prefix(network.hrp), values) != _CHECKSUMS.get(version):
        raise _bad(network)
    size, padding = divmod(5 * (len(data) - 7), 8)
    number = int(raw[1:-6].translate(_BASE32) or b"0", 32)
    if padding > 4 or number & ((1 << padding) - 1):
        raise _bad(network)
    program = (number >> padding).to_bytes(size, "big")
    if version == 0 and size in (20, 32):
        return bytes([0, size]) + program
    if version == 1 and size == _TAPROOT_BYTES:
        return bytes([0x51, size]) + program
    raise _bad(network)


def _checksum(start: int, values: Iterable[int]) -> int:
    """BIP-173's polynomial over values of five bits, going on from `start`."""
    result = start
    for value in values:
        result = (result & 0x1FFFFFF) << 5 ^ value ^ _CARRY[result >> 25]
    return result


@lru_cache(maxsize=16)  # one per network
def _prefix(hrp: str) -> int:
    """The checksum after the human-readable part (BIP-173)."""
    text = hrp.encode("ascii")
    return _checksum(1, (*(byte >> 5 for byte in text), 0, *(byte & 31 for byte in text)))


def p2wpkh_address(public_key_hash: bytes, network: NetworkSettings) -> str:
    """The canonical text of an own P2WPKH address."""
    return str(bech32.encode(network.hrp, 0, list(public_key_hash)))


def evm_address(address: str) -> bytes:
    """The 20 bytes of an address; raises Refused (`bad_order`). The zero address is refused."""
    digits = address[2:]
    if not _EVM.fullmatch(address):
        raise Refused(RefusalCode.BAD_ORDER, "address: not an EVM address")
    is_mixed = digits not in (digits.lower(), digits.upper())
    if is_mixed and to_checksum_address(address.lower()) != address:
        raise Refused(RefusalCode.BAD_ORDER, "address: wrong EIP-55 checksum")
    result = bytes.fromhex(digits)
    if not any(result):
        raise Refused(RefusalCode.BAD_ORDER, "address: the zero address")
    return result


def _bad(network: NetworkSettings) -> Refused:
    return Refused(RefusalCode.BAD_ORDER, f"address: not an address of {network.name}")
