"""The signer's own strict address parsers. Text to what the tx must contain, nothing else.

UTXO: BIP-173 (witness v0, Bech32), BIP-350 (v1, Bech32m), Base58Check with the network's own
version bytes; witness v2 to v16 are refused. EVM: 20 bytes, EIP-55 checked when the case is mixed.
"""

import re

from embit import base58, bech32
from eth_utils.address import to_checksum_address

from signer.errors import RefusalCode, Refused
from signer.settings import NetworkSettings

_TEXT = re.compile(r"[0-9A-Za-z]{14,90}", re.ASCII)
_EVM = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_TAPROOT_BYTES = 32


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
    version, program = bech32.decode(network.hrp, address)
    if version == 0:  # 20 or 32 bytes, checked with the right checksum by decode
        return bytes([0, len(program)]) + bytes(program)
    if version == 1 and len(program) == _TAPROOT_BYTES:
        return bytes([0x51, _TAPROOT_BYTES]) + bytes(program)
    raise _bad(network)


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
