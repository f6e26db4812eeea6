"""Merkle Patricia tries: the root over a block's txs or receipts, and proofs out of it.

Pure; in memory, built once and never changed. Source: Ethereum Yellow Paper, appendix D. Only what
a block needs: keys are RLP of the index (`ordered`), values are encoded txs or receipts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eth_hash.auto import keccak
from rlp.codec import encode_raw  # type: ignore[import-untyped]

EMPTY_ROOT = keccak(b"\x80")  # of a trie without keys
HASH_BYTES = 32
VALUE_SLOT = 16

Body = list["bytes | Body"]
Item = tuple[bytes, bytes]
"""Nibbles of the key, value."""


@dataclass(slots=True)
class _Node:
    """A node as it is encoded, and the nodes below it by the nibbles that lead there."""

    body: Body
    below: "dict[bytes, _Node]" = field(default_factory=dict)
    encoded: bytes = b""

    def __post_init__(self) -> None:
        self.encoded = bytes(encode_raw(self.body))

    @property
    def reference(self) -> "bytes | Body":
        """How the node above names it: by hash, or whole where it is shorter than one."""
        return keccak(self.encoded) if len(self.encoded) >= HASH_BYTES else self.body


class Trie:
    """An immutable trie over `items`; an empty value means that there is no such key."""

    def __init__(self, items: Mapping[bytes, bytes]) -> None:
        present = sorted((_nibbles(key), value) for key, value in items.items() if value)
        self._top = _build(present, 0) if present else None

    @property
    def root(self) -> bytes:
        """The root hash."""
        return EMPTY_ROOT if self._top is None else keccak(self._top.encoded)

    def prove(self, key: bytes) -> tuple[bytes, ...]:
        """The encoded nodes from the root down to the key's value (as `eth_getProof` lists
        them: nodes shorter than a hash are inside the one above). Raises KeyError."""
        if self._top is None:
            raise KeyError(key)
        path, node = _nibbles(key), self._top
        found = [node.encoded]
        while path and node.below:
            step = next((step for step in node.below if path.startswith(step)), None)
            if step is None:
                raise KeyError(key)
            node, path = node.below[step], path[len(step) :]
            if len(node.encoded) >= HASH_BYTES:
                found.append(node.encoded)
        if not _holds(node, path):
            raise KeyError(key)
        return tuple(found)


def ordered(values: Sequence[bytes]) -> Trie:
    """The trie of a block's list: RLP of the index -> value."""
    return Trie({index_key(number): value for number, value in enumerate(values)})


def index_key(index: int) -> bytes:
    """RLP of an index: the key of a tx or receipt in its block."""
    return bytes(encode_raw(index.to_bytes((index.bit_length() + 7) // 8, "big")))


def _holds(node: _Node, path: bytes) -> bool:
    """Whether the walk ended at a value: a leaf with the rest of the path, or a branch's slot."""
    if len(node.body) == VALUE_SLOT + 1:
        return not path and bool(node.body[VALUE_SLOT])
    return not node.below and node.body[0] == _compact(path, is_leaf=True)


def _build(items: Sequence[Item], depth: int) -> _Node:
    """The node over sorted items whose first `depth` nibbles are the same."""
    if len(items) == 1:
        key, value = items[0]
        return _Node([_compact(key[depth:], is_leaf=True), value])
    shared = _shared(items[0][0], items[-1][0], depth)
    if shared:
        below = _build(items, depth + shared)
        path = items[0][0][depth : depth + shared]
        return _Node([_compact(path, is_leaf=False), below.reference], {path: below})
    return _branch(items, depth)


def _branch(items: Sequence[Item], depth: int) -> _Node:
    groups: dict[int, list[Item]] = {}
    value = b""
    for key, item in items:
        if len(key) == depth:
            value = item
        else:
            groups.setdefault(key[depth], []).append((key, item))
    below = {bytes([nibble]): _build(group, depth + 1) for nibble, group in groups.items()}
    body: Body = [*(b"" for _ in range(VALUE_SLOT)), value]
    for step, node in below.items():
        body[step[0]] = node.reference
    return _Node(body, below)


def _shared(first: bytes, last: bytes, depth: int) -> int:
    """How many nibbles past `depth` all sorted keys between first and last have in common."""
    count = 0
    for one, other in zip(first[depth:], last[depth:], strict=False):
        if one != other:
            break
        count += 1
    return count


def _nibbles(key: bytes) -> bytes:
    return bytes(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _compact(path: bytes, *, is_leaf: bool) -> bytes:
    """Hex-prefix encoding (Yellow Paper, appendix C)."""
    flag = 2 if is_leaf else 0
    odd = bytes([flag + 1]) + path if len(path) % 2 else bytes([flag, 0]) + path
    return bytes(odd[i] << 4 | odd[i + 1] for i in range(0, len(odd), 2))
