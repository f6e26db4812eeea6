"""Scripts that pay the same public key as an issued P2WPKH address, but are another address (D26).

Pure. P2PKH names the hash of the key, P2PK the key itself: both lead to the issued script. What
only names a hash of something else (P2SH-P2WPKH, P2WSH, P2TR, P2PKH of the key written long)
leads nowhere, see docs/adr/0022.
"""

from collections.abc import Iterable

from embit import hashes

FIELD = 2**256 - 2**32 - 977  # SEC 2, secp256k1: y^2 = x^3 + 7 over this field
P2PKH_LENGTH = 50  # hex digits: OP_DUP OP_HASH160 <20> OP_EQUALVERIFY OP_CHECKSIG
P2PK_LENGTH = 70  # hex digits: <33> OP_CHECKSIG
P2PK_LONG_LENGTH = 134  # hex digits: <65> OP_CHECKSIG
LENGTHS = frozenset({P2PKH_LENGTH, P2PK_LENGTH, P2PK_LONG_LENGTH})


def issued_keys(scripts: Iterable[str]) -> dict[str, str]:
    """Of many scripts those that tell, with what `issued_key` says of each."""
    found: dict[str, str] = {}
    for script in scripts:
        if len(script) in LENGTHS and (key := issued_key(script)) is not None:
            found[script] = key
    return found


def issued_key(script: str) -> str | None:
    """The scriptPubKey of the P2WPKH address (BIP 84) that the same key has, in hex; None for any
    other script, that of a P2WPKH address itself included. Never raises for hex."""
    length = len(script)
    if length == P2PKH_LENGTH:
        if script.startswith("76a914") and script.endswith("88ac"):
            return "0014" + script[6:46]
        return None
    if length == P2PK_LENGTH and script.endswith("ac") and script.startswith(("2102", "2103")):
        return _of_public(bytes.fromhex(script[2:68]))
    if length == P2PK_LONG_LENGTH and script.endswith("ac") and script.startswith("4104"):
        x, y = int(script[4:68], 16), int(script[68:132], 16)
        # A pair off the curve has our hash as well, if x is ours, and nobody can ever spend it.
        if y >= FIELD or (y * y - x * x * x - 7) % FIELD:
            return None
        return _of_public(bytes([2 + y % 2]) + x.to_bytes(32, "big"))
    return None


def _of_public(public: bytes) -> str:
    return "0014" + bytes(hashes.hash160(public)).hex()
