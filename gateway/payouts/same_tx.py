"""Whether signed bytes are the signature of exactly these unsigned bytes.

Pure. For what the signer remembers of an attempt: it is taken over only when it is this very tx.
UTXO: the txid commits to inputs and outputs and not to witnesses (BIP 141), and all our inputs are
native segwit. EVM: the signed list is the unsigned one with three fields behind it (EIP-1559); with
authorisations, each of them has three fields behind it too (EIP-7702).
"""

import hashlib

_PSBT_MAGIC = b"psbt\xff"  # BIP 174
_UNSIGNED_TX = b"\x01\x00"  # key of length 1, type 0x00: the first of the global map
_TYPE_1559 = b"\x02"
_TYPE_7702 = b"\x04"
_AUTHORISATIONS_AT = 9  # behind the fields of EIP-1559
_SIGNATURE_FIELDS = 3  # y parity, r, s
_SHORT_TEXT = 0x80  # RLP: below is one byte itself, from here on a length
_INTEGER_BYTES_MAX = 32
_GAS_LIMIT_AT = 4
_SIGNATURE_BYTES_MAX = 1 + 33 + 33  # y parity, r, s, each with its length


def is_signature_of(unsigned: bytes, *, raw: bytes, txid: str) -> bool:
    """True when `raw` (whose txid is `txid`) signs `unsigned`; False for anything unreadable."""
    try:
        if unsigned.startswith(_PSBT_MAGIC):
            tx = unsigned_tx(unsigned)
            return hashlib.sha256(hashlib.sha256(tx).digest()).digest()[::-1].hex() == txid
        if unsigned.startswith(_TYPE_1559) and raw.startswith(_TYPE_1559):
            fields, signed = list_body(unsigned[1:]), list_body(raw[1:])
            rest = len(signed) - len(fields)
            return signed.startswith(fields) and 0 < rest <= _SIGNATURE_BYTES_MAX
        if unsigned.startswith(_TYPE_7702) and raw.startswith(_TYPE_7702):
            return _is_delegating(items(list_body(unsigned[1:])), items(list_body(raw[1:])))
    except (IndexError, ValueError):
        return False
    return False


def _is_delegating(unsigned: list[bytes], signed: list[bytes]) -> bool:
    at = _AUTHORISATIONS_AT
    given = [items(list_body(item)) for item in items(list_body(unsigned[at]))]
    taken = [items(list_body(item)) for item in items(list_body(signed[at]))]
    return (
        len(unsigned) == at + 1
        and len(signed) == len(unsigned) + _SIGNATURE_FIELDS
        and signed[:at] == unsigned[:at]
        and [item[:-_SIGNATURE_FIELDS] for item in taken] == given
    )


def gas_fields(unsigned: bytes) -> tuple[int, int, int]:
    """(max fee per gas, tip per gas, gas limit) of an unsigned EIP-1559 or EIP-7702 payload, wei.

    Raises ValueError for anything else.
    """
    if not unsigned.startswith((_TYPE_1559, _TYPE_7702)):
        raise ValueError("not an EIP-1559 payload")
    body, at, found = list_body(unsigned[1:]), 0, []
    for _ in range(_GAS_LIMIT_AT + 1):  # chain id, nonce, tip, max fee, gas limit
        first = body[at]
        size = 0 if first < _SHORT_TEXT else first - _SHORT_TEXT
        if size > _INTEGER_BYTES_MAX:
            raise ValueError("not an integer")
        found.append(first if first < _SHORT_TEXT else _integer(body[at + 1 : at + 1 + size], size))
        at += 1 + size
    return found[3], found[2], found[_GAS_LIMIT_AT]


def _integer(data: bytes, size: int) -> int:
    if len(data) != size:
        raise ValueError("cut short")
    return int.from_bytes(data, "big")


def unsigned_tx(psbt: bytes) -> bytes:
    """The unsigned tx of a PSBT v0; raises IndexError, ValueError for anything else."""
    at = len(_PSBT_MAGIC)
    if psbt[at : at + 2] != _UNSIGNED_TX:
        raise ValueError("the first global entry is not the unsigned tx")
    first, at = psbt[at + 2], at + 3
    width = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(first, 0)
    size = int.from_bytes(psbt[at : at + width], "little") if width else first
    tx = psbt[at + width : at + width + size]
    if len(tx) != size:
        raise ValueError("cut short")
    return tx


def list_body(data: bytes) -> bytes:
    """The items of one RLP list that is all of `data`."""
    first = data[0]
    if first < 0xC0:
        raise ValueError("not a list")
    width = 0 if first <= 0xF7 else first - 0xF7
    size = int.from_bytes(data[1 : 1 + width], "big") if width else first - 0xC0
    body = data[1 + width :]
    if len(body) != size:
        raise ValueError("not one list")
    return body


def items(body: bytes) -> list[bytes]:
    """The items of an RLP list's body, each with its length before it; raises ValueError."""
    found, at = list[bytes](), 0
    while at < len(body):
        end = at + _size(body[at:])
        if end > len(body):
            raise ValueError("cut short")
        found.append(body[at:end])
        at = end
    return found


def _size(data: bytes) -> int:
    """Of the item at the front, its length field included."""
    first = data[0]
    if first < _SHORT_TEXT:
        return 1
    base, long = (0xC0, 0xF7) if first >= 0xC0 else (_SHORT_TEXT, 0xB7)
    if first <= long:
        return 1 + first - base
    width = first - long
    return 1 + width + _integer(data[1 : 1 + width], width)
