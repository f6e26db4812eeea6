"""What a node's whole set of unspent outputs holds for some keys: the port and its values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from watchers.chain import Outpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class UnspentCoin:
    """An unspent output to one of the keys asked for; in the block at `height`."""

    outpoint: Outpoint
    key: str
    amount_minor: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnspentSet:
    """Every one of them as of a block."""

    height: int
    block_hash: str
    coins: tuple[UnspentCoin, ...]


class UnspentReader(Protocol):
    """One node's own set (UTXO chains). It reads all of it for each call: minutes on a main
    chain."""

    async def unspent(self, keys: Sequence[str]) -> UnspentSet:
        """What lies at these keys. `NodeUnavailable` where the node is at it for somebody else."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...
