"""The cycle of the reconciliation as a check of every other test: books and chain agree (L12)."""

from typing import TYPE_CHECKING

from watchers import reconcile_chain
from watchers.network import Network

if TYPE_CHECKING:
    from tests.support.payouts import Payouts


def network_of(house: "Payouts") -> Network:
    """What the watcher knows of the house's network."""
    return Network(
        spec=house.registry.chains[house.network],
        assets=house.registry.assets,
        ids=house.ids,
        reversed_per_step_max=20,
    )


async def no_breaks(house: "Payouts") -> None:
    """At the follower's block the chain holds what the books say, to the last unit."""
    held = await reconcile_chain.holdings_at(house.database, house.chain, network_of(house))
    if held.breaks:
        raise AssertionError(f"a break at {held.height}: {held.breaks}")


async def cycle(house: "Payouts") -> None:
    """What the watcher does at each block, where a test planted nothing that the books lack."""
    if house.is_compared:
        await no_breaks(house)
