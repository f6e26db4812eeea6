"""Raw transactions: reduce to the form that any BIP 144 parser reads, and compute txids.

Pure. Litecoin nodes serialise some txs with an MWEB part (flag 0x08, LIP 0003); that part is not
in the txid and breaks PSBT parsers, so it is cut out here.
"""

import hashlib
from dataclasses import dataclass

MWEB_FLAG = 0x08
WITNESS_FLAG = 0x01


class BadRawTx(ValueError):
    """The bytes do not parse as a tx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTx:
    """Network bytes without an MWEB part, and the txid that they hash to."""

    data: bytes
    txid: str


class _Reader:
    """Offsets into the bytes of one tx; raises BadRawTx past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise BadRawTx("truncated")

    def varint(self) -> int:
        self.skip(1)
        first = self.data[self.at - 1]
        if first < 0xFD:
            return first
        width = {0xFD: 2, 0xFE: 4, 0xFF: 8}[first]
        self.skip(width)
        return int.from_bytes(self.data[self.at - width : self.at], "little")


def double_sha256(data: bytes) -> bytes:
    """SHA-256 twice, as Bitcoin hashes txs and blocks."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def reduce(data: bytes) -> RawTx:
    """`data` without its MWEB part, and its txid. Raises BadRawTx."""
    reader = _Reader(data)
    reader.skip(4)
    flags = 0
    if data[4:5] == b"\x00" and len(data) > 6 and data[5]:
        flags = data[5]
        reader.skip(2)
    if flags & ~(MWEB_FLAG | WITNESS_FLAG):
        raise BadRawTx(f"unknown flags {flags:#x}")
    body_start = reader.at
    inputs = _skip_inputs_and_outputs(reader)
    body = data[body_start : reader.at]
    witness_start = reader.at
    if flags & WITNESS_FLAG:
        _skip_witnesses(reader, inputs)
    witness = data[witness_start : reader.at]
    if not flags & MWEB_FLAG and len(data) - reader.at != 4:
        raise BadRawTx("bytes after the tx")
    if len(data) - reader.at < 4:
        raise BadRawTx("truncated")
    version, locktime = data[:4], data[-4:]
    stripped = version + body + locktime
    marker = b"\x00\x01" if flags & WITNESS_FLAG else b""
    return RawTx(
        data=version + marker + body + witness + locktime,
        txid=double_sha256(stripped)[::-1].hex(),
    )


def _skip_inputs_and_outputs(reader: _Reader) -> int:
    inputs = reader.varint()
    for _ in range(inputs):
        reader.skip(36)
        reader.skip(reader.varint())
        reader.skip(4)
    for _ in range(reader.varint()):
        reader.skip(8)
        reader.skip(reader.varint())
    return inputs


def _skip_witnesses(reader: _Reader, inputs: int) -> None:
    for _ in range(inputs):
        for _ in range(reader.varint()):
            reader.skip(reader.varint())


def merkle_root(txids: list[str]) -> str:
    """The merkle root of a block's txids in order, as the node displays it."""
    level = [bytes.fromhex(txid)[::-1] for txid in txids]
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        level = [double_sha256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0][::-1].hex()
