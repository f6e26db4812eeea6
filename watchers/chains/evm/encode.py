"""Headers, txs and receipts of a node's JSON as the bytes that the chain hashes.

Pure. RLP lists of the Yellow Paper and of EIP-155, 1559, 2718, 2930, 4399, 4788, 4844, 4895, 7685
and 7702. What this version does not know raises UnknownShape: such a block can be followed, but
nothing of it can be proven. Layer-2 types (Optimism's 0x7e, Arbitrum's 0x64 to 0x6a) are unknown.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlp.codec import encode_raw  # type: ignore[import-untyped]

from watchers.chains.evm import decode

Raw = Mapping[str, object]
EIP155_V = 35  # v = chain id * 2 + 35 + parity
NUMBER_LENGTH_MAX = 66  # 0x and 256 bits
Encoder = Callable[[object, str], Any]


class UnknownShape(ValueError):
    """A field is missing, or a type is not known: says which."""


def number(value: object, what: str) -> bytes:
    """A QUANTITY as RLP wants it: big-endian without leading zeros.

    Some nodes pad `r` and `s` to 32 bytes: leading zeros are read here.
    """
    if not isinstance(value, str) or not 3 <= len(value) <= NUMBER_LENGTH_MAX:
        raise UnknownShape(f"{what} is missing or no number")
    found = _bytes(value if len(value) % 2 == 0 else f"{value[:2]}0{value[2:]}")
    if found is None:
        raise UnknownShape(f"{what} is missing or no number")
    return found.lstrip(b"\0")


def data(value: object, what: str) -> bytes:
    """Unformatted DATA."""
    if value is None:
        raise UnknownShape(f"{what} is missing")
    found = _bytes(value) if isinstance(value, str) else None
    if found is None:
        raise UnknownShape(f"{what} is no data")
    return found


def _bytes(text: str) -> bytes | None:
    """Of hex behind 0x; None for anything else. The parser of bytes skips spaces, which the length
    tells; a pattern over each of some hundred fields of a block takes three times as long."""
    if text[:2] not in ("0x", "0X"):
        return None
    try:
        found = bytes.fromhex(text[2:])
    except ValueError:
        return None
    return found if 2 * len(found) + 2 == len(text) else None


def _receiver(value: object, what: str) -> bytes:
    return b"" if value is None else data(value, what)


def _list(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise UnknownShape(f"{what} is missing")
    return value


def _access_list(value: object, what: str) -> list[Any]:
    """EIP-2930."""
    found = []
    for item in _list(value, what):
        entry = decode.mapping(item, what)
        keys = [data(key, "storage key") for key in _list(entry.get("storageKeys"), "storageKeys")]
        found.append([data(entry.get("address"), "address"), keys])
    return found


def _hashes(value: object, what: str) -> list[bytes]:
    return [data(item, what) for item in _list(value, what)]


def _authorizations(value: object, what: str) -> list[Any]:
    """EIP-7702."""
    found = []
    for item in _list(value, what):
        entry = decode.mapping(item, what)
        parity = entry.get("yParity", entry.get("v"))
        found.append(
            [
                number(entry.get("chainId"), "chainId"),
                data(entry.get("address"), "address"),
                number(entry.get("nonce"), "nonce"),
                number(parity, "yParity"),
                number(entry.get("r"), "r"),
                number(entry.get("s"), "s"),
            ]
        )
    return found


Fields = tuple[tuple[str, Encoder], ...]

HEADER: Fields = (
    ("parentHash", data),
    ("sha3Uncles", data),
    ("miner", data),
    ("stateRoot", data),
    ("transactionsRoot", data),
    ("receiptsRoot", data),
    ("logsBloom", data),
    ("difficulty", number),
    ("number", number),
    ("gasLimit", number),
    ("gasUsed", number),
    ("timestamp", number),
    ("extraData", data),
    ("mixHash", data),
    ("nonce", data),
)
HEADER_TAIL: Fields = (
    ("baseFeePerGas", number),  # London, EIP-1559
    ("withdrawalsRoot", data),  # Shanghai, EIP-4895
    ("blobGasUsed", number),  # Cancun, EIP-4844
    ("excessBlobGas", number),
    ("parentBeaconBlockRoot", data),  # Cancun, EIP-4788
    ("requestsHash", data),  # Prague, EIP-7685
)
NO_HEADER = frozenset({"hash", "size", "totalDifficulty", "transactions", "uncles", "withdrawals"})
"""Members of a block answer that are no part of the header."""

_CALL: Fields = (("to", _receiver), ("value", number), ("input", data))
_FEES: Fields = (("maxPriorityFeePerGas", number), ("maxFeePerGas", number), ("gas", number))
_ID: Fields = (("chainId", number), ("nonce", number))
_ACCESS: Fields = (("accessList", _access_list),)
TXS: Mapping[int, Fields] = {
    0: (("nonce", number), ("gasPrice", number), ("gas", number), *_CALL),
    1: (*_ID, ("gasPrice", number), ("gas", number), *_CALL, *_ACCESS),
    2: (*_ID, *_FEES, *_CALL, *_ACCESS),
    3: (
        *_ID,
        *_FEES,
        *_CALL,
        *_ACCESS,
        ("maxFeePerBlobGas", number),
        ("blobVersionedHashes", _hashes),
    ),
    4: (*_ID, *_FEES, *_CALL, *_ACCESS, ("authorizationList", _authorizations)),
}
"""The signed fields of each type of tx; the signature follows."""


def header(raw: Raw) -> bytes:
    """The RLP of a header, as long as the fork that its fields show."""
    tail = 0
    while tail < len(HEADER_TAIL) and raw.get(HEADER_TAIL[tail][0]) is not None:
        tail += 1
    fields = (*HEADER, *HEADER_TAIL[:tail])
    return bytes(encode_raw([encode(raw.get(name), name) for name, encode in fields]))


def strange_members(raw: Raw) -> list[str]:
    """Members of a block answer that this version does not know, or that leave a gap."""
    names = [name for name, _ in (*HEADER, *HEADER_TAIL)]
    known = {*names, *NO_HEADER}
    tail = [raw.get(name) is not None for name, _ in HEADER_TAIL]
    gaps = [] if tail == sorted(tail, reverse=True) else ["a gap"]
    return [name for name, value in raw.items() if name not in known and value is not None] + gaps


def kind(raw: Raw) -> int:
    """The EIP-2718 type of a tx or receipt; legacy where none is named."""
    found = 0 if raw.get("type") is None else decode.quantity(raw.get("type"), "type")
    if found not in TXS:
        raise UnknownShape(f"type {found:#x} is not known")
    return found


def tx(raw: Raw) -> bytes:
    """A signed tx as its hash covers it (EIP-2718 envelope, blobs left out as in a block)."""
    type_ = kind(raw)
    return _tx(raw, type_, _fields(raw, TXS[type_]))


def signed(raw: Raw) -> tuple[bytes, bytes]:
    """What a tx's sender signed, and the 65-byte signature (r, s, recovery id).

    Raises UnknownShape for a tx that nobody signed (system txs of Polygon and the like).
    """
    type_ = kind(raw)
    return _signed(raw, type_, _fields(raw, TXS[type_]))


def tx_and_signed(raw: Raw) -> tuple[bytes, tuple[bytes, bytes]]:
    """`tx` and `signed` of one tx, its fields read once."""
    type_ = kind(raw)
    fields = _fields(raw, TXS[type_])
    return _tx(raw, type_, fields), _signed(raw, type_, fields)


def _tx(raw: Raw, type_: int, fields: list[Any]) -> bytes:
    parity = raw.get("v") if type_ == 0 else raw.get("yParity", raw.get("v"))
    signature = [
        number(parity, "v"),
        number(raw.get("r"), "r"),
        number(raw.get("s"), "s"),
    ]
    return _envelope(type_, [*fields, *signature])


def _signed(raw: Raw, type_: int, fields: list[Any]) -> tuple[bytes, bytes]:
    r, s = number(raw.get("r"), "r"), number(raw.get("s"), "s")
    if not r and not s:
        raise UnknownShape("a tx without a signature")
    if type_ != 0:
        parity = int.from_bytes(number(raw.get("yParity", raw.get("v")), "yParity"), "big")
    else:
        v = int.from_bytes(number(raw.get("v"), "v"), "big")
        parity = (v - 27 if v < EIP155_V else v - EIP155_V) % 2
        if v >= EIP155_V:
            chain_id = (v - EIP155_V) // 2
            ending = [chain_id.to_bytes((chain_id.bit_length() + 7) // 8, "big"), b"", b""]
            fields = [*fields, *ending]
    signature = r.rjust(32, b"\0") + s.rjust(32, b"\0") + bytes([parity & 0xFF])
    return _envelope(type_, fields), signature


def _fields(raw: Raw, fields: Fields) -> list[Any]:
    return [encode(raw.get(name), name) for name, encode in fields]


def receipt(raw: Raw) -> bytes:
    """A receipt as the receipts trie holds it (EIP-658, EIP-2718)."""
    logs = []
    for item in _list(raw.get("logs"), "logs"):
        log = decode.mapping(item, "log")
        topics = _hashes(log.get("topics"), "topics")
        logs.append([data(log.get("address"), "address"), topics, data(log.get("data"), "data")])
    return _envelope(
        kind(raw),
        [
            number(raw.get("status"), "status"),
            number(raw.get("cumulativeGasUsed"), "cumulativeGasUsed"),
            data(raw.get("logsBloom"), "logsBloom"),
            logs,
        ],
    )


def withdrawal(raw: Raw) -> bytes:
    """A withdrawal of the beacon chain (EIP-4895)."""
    return bytes(
        encode_raw(
            [
                number(raw.get("index"), "index"),
                number(raw.get("validatorIndex"), "validatorIndex"),
                data(raw.get("address"), "address"),
                number(raw.get("amount"), "amount"),
            ]
        )
    )


def _envelope(type_: int, fields: list[Any]) -> bytes:
    payload = bytes(encode_raw(fields))
    return payload if type_ == 0 else bytes([type_]) + payload
