"""A Merkle tree that adds up: each node carries the sum of the amounts below it (docs/adr/0036).

Pure. The shape is that of RFC 9162 2.1.1 (no padding, no leaf twice, a node without a sibling goes
up as it is); a parent commits to each child's own sum, never only to their total, as otherwise two
owners could be shown different splits of one total. Verifiers are written from the document, not
from this module.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ledger.errors import SumTreeError

SUM_BYTES = 32
SUM_MAX = (1 << 128) - 1
"""No sum may pass it, so that none can wrap in 32 bytes or in anybody's 256-bit arithmetic."""
SALT_BYTES = 32
LEAF_VERSION = "cage-leaf/1"
EMPTY_HASH = hashlib.sha256(b"").digest()  # RFC 9162 2.1.1: the tree without leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A hash and the sum of what stands below it, minor units."""

    hash: bytes
    sum_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What a leaf stands for. `player_id` is empty for a leaf of the brand or the house itself."""

    asset: str
    kind: str
    brand: str
    player_id: str
    amount_minor: int


def leaf(owed: Owed, *, salt: bytes) -> Node:
    """The leaf of one claim; raises SumTreeError for an amount that no tree may hold.

    The hash binds the owner's identity, so that one leaf never serves two owners of equal amounts;
    the salt keeps everybody else from guessing it.
    """
    _check_amount(owed.amount_minor)
    if len(salt) != SALT_BYTES:
        raise SumTreeError(f"a salt of {SALT_BYTES} bytes is required")
    fields = (owed.asset, owed.kind, owed.brand, owed.player_id, str(owed.amount_minor))
    if any("\n" in field for field in fields):
        raise SumTreeError("a field of a leaf has no line break")
    text = "\n".join((LEAF_VERSION, salt.hex(), *fields))
    return Node(
        hash=hashlib.sha256(b"\x00" + text.encode("utf-8")).digest(), sum_minor=owed.amount_minor
    )


def parent(left: Node, right: Node) -> Node:
    """The node above two; raises SumTreeError when the sum is too large."""
    total = left.sum_minor + right.sum_minor
    if total > SUM_MAX:
        raise SumTreeError("the sum is too large")
    content = b"\x01" + b"".join(
        node.sum_minor.to_bytes(SUM_BYTES, "big") + node.hash for node in (left, right)
    )
    return Node(hash=hashlib.sha256(content).digest(), sum_minor=total)


class SumTree:
    """All levels of one tree. Leaves stand in the order of their hashes, each once."""

    def __init__(self, leaves: Sequence[Node]) -> None:
        """Raises SumTreeError for leaves out of order, equal leaves, and amounts out of range."""
        for node in leaves:
            _check_amount(node.sum_minor)
        for before, after in pairwise(leaves):
            if before.hash >= after.hash:
                raise SumTreeError("leaves stand in the order of their hashes, each once")
        self._levels: list[list[Node]] = [list(leaves)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_above(self._levels[-1]))

    @property
    def leaves(self) -> Sequence[Node]:
        """In their order."""
        return self._levels[0]

    @property
    def count(self) -> int:
        """How many leaves."""
        return len(self._levels[0])

    @property
    def root(self) -> Node:
        """The root; of no leaves it is the hash of nothing and zero."""
        top = self._levels[-1]
        return top[0] if top else Node(hash=EMPTY_HASH, sum_minor=0)

    def path(self, index: int) -> list[Node]:
        """The siblings of a leaf, from the leaf up (RFC 9162 2.1.3.1)."""
        if not 0 <= index < self.count:
            raise SumTreeError("there is no such leaf")
        siblings = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                siblings.append(level[sibling])
            index >>= 1
        return siblings


def _above(level: Sequence[Node]) -> list[Node]:
    pairs = [parent(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs


def _check_amount(amount_minor: int) -> None:
    """A claim of nothing proves nothing and only hides how many there are; less would pay for
    another's (the negative leaf)."""
    if not 0 < amount_minor <= SUM_MAX:
        raise SumTreeError("an amount above zero, of at most 128 bits, is required")
