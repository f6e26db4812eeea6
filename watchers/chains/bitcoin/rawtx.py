"""Raw transactions: reduce to the form that any BIP 144 parser reads, and compute txids.

Pure. Litecoin nodes serialise some txs with an MWEB part (flag 0x08, LIP 0003); that part is not
in the txid and breaks PSBT parsers, so it is cut out here.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

MWEB_FLAG = 0x08
WITNESS_FLAG = 0x01
WIDTHS = {0xFD: 2, 0xFE: 4, 0xFF: 8}  # bytes behind the first one of a compact size
WIDE = min(WIDTHS)

from_bytes = int.from_bytes


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


def double_sha256(data: bytes) -> bytes:
    """SHA-256 twice, as Bitcoin hashes txs and blocks."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def reduce(data: bytes) -> RawTx:
    """`data` without its MWEB part, and its txid. Raises BadRawTx."""
    try:
        return _reduce(data)
    except IndexError as error:
        raise BadRawTx("truncated") from error


def virtual_size(data: bytes) -> int:
    """Virtual bytes of a tx (BIP 141), rounded up. Raises BadRawTx."""
    data = reduce(data).data
    start = 6 if data[4] == 0 and len(data) > 6 and data[5] else 4
    _, body = _inputs(data, start)
    _, end = _outputs(data, body)
    stripped = 4 + (end - start) + 4
    return -(-(3 * stripped + len(data)) // 4)


def _reduce(data: bytes) -> RawTx:
    """Written out, as thousands of txs wait in a block. An offset may run past the end (slices do
    not raise there): a count is read behind each, and the end is checked at last."""
    flags, start = 0, 4
    if data[4] == 0 and len(data) > 6 and data[5]:
        flags, start = data[5], 6
    if flags & ~(MWEB_FLAG | WITNESS_FLAG):
        raise BadRawTx(f"unknown flags {flags:#x}")
    inputs, at = _inputs(data, start)
    outputs, body_end = _outputs(data, at)
    at = _skip_witnesses(data, body_end, len(inputs)) if flags & WITNESS_FLAG else body_end
    if len(data) - at < 4:
        raise BadRawTx("truncated")
    if not flags & MWEB_FLAG and len(data) - at != 4:
        raise BadRawTx("bytes after the tx")
    stripped = data[:4] + data[start:body_end] + data[-4:]
    if flags & MWEB_FLAG:
        marker = b"\x00\x01" if flags & WITNESS_FLAG else b""
        data = data[:4] + marker + data[start:at] + data[-4:]
    return RawTx(
        data=data, txid=double_sha256(stripped)[::-1].hex(), inputs=inputs, outputs=outputs
    )


def _inputs(data: bytes, at: int) -> tuple[tuple[tuple[str, int], ...], int]:
    """The outpoints of a tx whose list of inputs begins at an offset, and where it ends."""
    found = []
    count, at = _count(data, at)
    for _ in range(count):
        vout = at + 32
        at = vout + 5
        size = data[at - 1]
        if size >= WIDE:
            size, at = _count(data, at - 1)
        outpoint = (data[vout - 32 : vout][::-1].hex(), from_bytes(data[vout : vout + 4], "little"))
        found.append(outpoint)
        at += size + 4  # sequence
    return tuple(found), at


def _outputs(data: bytes, at: int) -> tuple[tuple[tuple[int, str], ...], int]:
    """Values and scripts of a tx whose list of outputs begins at an offset, and where it ends."""
    found = []
    count, at = _count(data, at)
    for _ in range(count):
        value = from_bytes(data[at : at + 8], "little")
        at += 9
        size = data[at - 1]
        if size >= WIDE:
            size, at = _count(data, at - 1)
        found.append((value, data[at : at + size].hex()))
        at += size
    return tuple(found), at


def _skip_witnesses(data: bytes, at: int, inputs: int) -> int:
    for _ in range(inputs):
        count, at = _count(data, at)
        for _ in range(count):
            size = data[at]
            at += 1
            if size >= WIDE:
                size, at = _count(data, at - 1)
            at += size
    return at


def _count(data: bytes, at: int) -> tuple[int, int]:
    """A compact size and the offset behind it."""
    first = data[at]
    if first < WIDE:
        return first, at + 1
    end = at + 1 + WIDTHS[first]
    return from_bytes(data[at + 1 : end], "little"), end


class MutatedTree(ValueError):
    """Two equal siblings: the same root stands for a longer list of txs (CVE-2012-2459)."""


Levels = Sequence[Sequence[bytes]]
"""A merkle tree: leaves first, root last."""


def merkle_levels(txids: Sequence[str]) -> Levels:
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


def merkle_branch(levels: Levels, index: int) -> tuple[bytes, ...]:
    """The siblings of a leaf from the bottom up; the last one of an odd level is its own."""
    branch = []
    for level in levels[:-1]:
        sibling = index ^ 1
        branch.append(level[sibling] if sibling < len(level) else level[index])
        index >>= 1
    return tuple(branch)
