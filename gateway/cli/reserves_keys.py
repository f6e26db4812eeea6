"""Does the key of an address sign the statement of a proof of reserves? For the verifier alone.

UTXO: BIP-137 with a native segwit header, as Core's `signmessage` prefixes it (Litecoin by its own
prefix). EVM: EIP-191, version 0x45. It shares no code with the signer.
"""

import base64
import binascii
import hashlib

from coincurve import PublicKey
from embit import bech32, hashes
from eth_hash.auto import keccak

SEGWIT_HEADERS = range(39, 43)  # BIP-137: P2WPKH, plus the recovery id
EVM_VS = (27, 28)
MAGICS = {
    "bc": b"Bitcoin Signed Message:\n",
    "tb": b"Bitcoin Signed Message:\n",
    "bcrt": b"Bitcoin Signed Message:\n",
    "ltc": b"Litecoin Signed Message:\n",
    "tltc": b"Litecoin Signed Message:\n",
    "rltc": b"Litecoin Signed Message:\n",
}
SIGNATURE_CHARACTERS_MAX = 200
KEY_HASH_BYTES = 20


def message_of(statement: str) -> str:
    """What every address signs."""
    return "cage-reserves/1 sha256:" + hashlib.sha256(statement.encode("utf-8")).hexdigest()


def is_segwit(address: str) -> bool:
    """Whether it is an address of a chain of coins (BIP 173: in either case)."""
    return address.lower().rpartition("1")[0] in MAGICS


def is_signed(*, address: str, signature: str, message: str) -> bool:
    """Whether the key behind `address` made `signature` over `message`. Never raises for what the
    bundle holds."""
    if len(signature) > SIGNATURE_CHARACTERS_MAX:
        return False
    try:
        if address.startswith("0x"):
            return _evm(address, signature, message)
        return _segwit(address, signature, message)
    except (ValueError, binascii.Error):
        return False


def is_paid(script: bytes, *, address: str) -> bool:
    """Whether an output's script is the address', or another form of the one key of a P2WPKH one:
    P2PKH of it, or P2PK (docs/adr/0022)."""
    hrp = address.rpartition("1")[0]
    version, program = bech32.decode(hrp, address) if hrp in MAGICS else (None, None)
    if version is None or program is None:
        return False
    witness = bytes(program)
    if script == bytes([0x50 + version if version else 0, len(witness)]) + witness:
        return True
    if version != 0 or len(witness) != KEY_HASH_BYTES:
        return False
    if script == b"\x76\xa9\x14" + witness + b"\x88\xac":
        return True
    key = script[1:-1]
    if script[-1:] != b"\xac" or script[:1] != bytes([len(key)]) or len(key) not in (33, 65):
        return False
    compressed = key if len(key) == 33 else bytes([2 + (key[64] & 1)]) + key[1:33]
    return bytes(hashes.hash160(compressed)) == witness


def _segwit(address: str, signature: str, message: str) -> bool:
    hrp = address.rpartition("1")[0]
    magic = MAGICS.get(hrp)
    raw = base64.b64decode(signature, validate=True)
    if magic is None or len(raw) != 65 or raw[0] not in SEGWIT_HEADERS:
        return False
    text = message.encode("ascii")
    content = bytes([len(magic)]) + magic + bytes([len(text)]) + text
    digest = hashlib.sha256(hashlib.sha256(content).digest()).digest()
    key = _recovered(raw[1:], raw[0] - SEGWIT_HEADERS.start, digest).format(compressed=True)
    version, program = bech32.decode(hrp, address)
    if version != 0 or program is None:
        return False
    return bytes(program) == bytes(hashes.hash160(key))


def _evm(address: str, signature: str, message: str) -> bool:
    raw = bytes.fromhex(signature.removeprefix("0x"))
    if len(raw) != 65 or raw[64] not in EVM_VS:
        return False
    text = message.encode("ascii")
    digest = keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)
    key = _recovered(raw[:64], raw[64] - EVM_VS[0], digest).format(compressed=False)
    return keccak(key[1:])[-20:].hex() == address[2:].lower()


def _recovered(pair: bytes, parity: int, digest: bytes) -> PublicKey:
    found: PublicKey = PublicKey.from_signature_and_message(
        pair + bytes([parity]), digest, hasher=None
    )
    return found
