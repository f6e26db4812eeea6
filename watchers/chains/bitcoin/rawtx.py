"""Raw transactions: reduce to the form that any BIP 144 parser reads, and compute txids.

Pure. Litecoin nodes serialise some txs with an MWEB part (flag 0x08, LIP 0003); that part is not
in the txid and breaks PSBT parsers, so it is cut out here.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

MWEB_FLAG = 0x08
WITNESS_FLAG = 0x01


class BadRawTx(ValueError):
    """The bytes do not parse as a tx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTx:
    """Network bytes without an MWEB part, the txid that they hash to, and what they say.

    `inputs` are outpoints (txid, vout), the null one of a coinbase included; `outputs` are
    (value in satoshi, scriptPubKey hex).
    """

    data: bytes
    txid: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[int, str], ...]


class _Reader:
    """Offsets into the bytes of one tx; raises BadRawTx past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise BadRawTx("truncated")

    def take(self, count: int) -> bytes:
        start = self.at
        self.skip(count)
        return self.data[start : self.at]

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
    inputs, outputs = _inputs(reader), _outputs(reader)
    body = data[body_start : reader.at]
    witness_start = reader.at
    if flags & WITNESS_FLAG:
        _skip_witnesses(reader, len(inputs))
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
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )


def _inputs(reader: _Reader) -> list[tuple[str, int]]:
    found = []
    for _ in range(reader.varint()):
        outpoint = reader.take(36)
        found.append((outpoint[31::-1].hex(), int.from_bytes(outpoint[32:], "little")))
        reader.skip(reader.varint())
        reader.skip(4)
    return found


def _outputs(reader: _Reader) -> list[tuple[int, str]]:
    found = []
    for _ in range(reader.varint()):
        value = int.from_bytes(reader.take(8), "little")
        found.append((value, reader.take(reader.varint()).hex()))
    return found


def _skip_witnesses(reader: _Reader, inputs: int) -> None:
    for _ in range(inputs):
        for _ in range(reader.varint()):
            reader.skip(reader.varint())


class MutatedTree(ValueError):
    """Two equal siblings: the same root stands for a longer list of txs (CVE-2012-2459)."""


def merkle_levels(txids: Sequence[str]) -> list[list[bytes]]:
    """The tree over a block's txids in order, leaves first, root last; hash byte order.

    Raises MutatedTree where two siblings that both exist are equal, as Core refuses such a block.
    """
    levels = [[bytes.fromhex(txid)[::-1] for txid in txids]]
    while len(levels[-1]) > 1:
        level = levels[-1]
        if any(level[i] == level[i + 1] for i in range(0, len(level) - 1, 2)):
            raise MutatedTree("two equal siblings in the merkle tree")
        padded = level if len(level) % 2 == 0 else [*level, level[-1]]
        levels.append([double_sha256(padded[i] + padded[i + 1]) for i in range(0, len(padded), 2)])
    return levels


def merkle_root(txids: Sequence[str]) -> str:
    """The merkle root of a block's txids in order, as the node displays it."""
    return merkle_levels(txids)[-1][0][::-1].hex()


def merkle_branch(levels: Sequence[Sequence[bytes]], index: int) -> tuple[bytes, ...]:
    """The siblings of a leaf from the bottom up; the last one of an odd level is its own."""
    branch = []
    for level in levels[:-1]:
        sibling = index ^ 1
        branch.append(level[sibling] if sibling < len(level) else level[index])
        index >>= 1
    return tuple(branch)
