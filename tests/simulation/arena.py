"""What a walk asks of the outside world: miners, strangers who pay, and the truth on chain."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol

from config.settings import AssetSettings
from tests.simulation.lies import Lie
from tests.support.proxy import LyingNode

Between = Callable[[], Awaitable[None]]
"""What the watcher does while the chain is on its other branch."""


class CannotBe(Exception):
    """The world has nothing to do this step with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What the chain says that an address got: one output, value or log. `amount_minor` > 0."""

    txid: str
    position: str
    asset: str
    address: str
    amount_minor: int


class Arena(Protocol):
    """One real node and everybody who uses it, except the house."""

    network: str
    url: str
    can_replace: bool
    assets: Mapping[str, AssetSettings]
    lies: Mapping[str, Lie]

    async def begin(self) -> None:
        """Before a walk."""
        ...

    async def end(self) -> None:
        """After a walk: nothing waits, and no reorg of the next one reaches into this one."""
        ...

    async def height(self) -> int:
        """The height of the tip."""
        ...

    async def pay(self, dice: Random, addresses: Collection[str]) -> None:
        """One to three payments to some of these addresses."""
        ...

    async def mine(self, count: int = 1) -> None:
        """Mine everything that waits."""
        ...

    async def mine_some(self, dice: Random) -> None:
        """Mine one block with some of what waits."""
        ...

    async def reorg_remine(self, dice: Random, depth: int) -> None:
        """Lose `depth` blocks; their txs are mined in other blocks and in another order."""
        ...

    async def reorg_drop(self, dice: Random, depth: int) -> None:
        """Lose `depth` blocks for a branch without their txs."""
        ...

    async def reorg_conflict(self, dice: Random, depth: int) -> None:
        """Lose `depth` blocks and mine a conflict of a payment that was in them."""
        ...

    async def there_and_back(self, dice: Random, depth: int, between: Between) -> None:
        """Lose `depth` blocks, be looked at, and come back to them."""
        ...

    async def double_spend(self, dice: Random) -> None:
        """Mine a conflict of a waiting payment."""
        ...

    async def replace(self, dice: Random) -> None:
        """Replace a waiting payment, not mined yet."""
        ...

    async def revive(self, dice: Random) -> None:
        """Broadcast lost payments again."""
        ...

    async def clear(self) -> None:
        """Take from the mempool what can never be mined."""
        ...

    def hide_bodies(self, node: LyingNode) -> None:
        """Headers are told, blocks are not."""
        ...

    async def truth(self, addresses: Collection[str], *, above: int) -> list[Paid]:
        """What these addresses got in the canonical blocks above a height, by the node's JSON."""
        ...

    async def holds(self, addresses: Collection[str]) -> Mapping[str, int]:
        """What these addresses hold in all now, by asset, as the node itself sums it up."""
        ...
