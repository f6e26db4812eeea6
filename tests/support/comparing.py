"""The cycle of the reconciliation as a check of every other test: books and chain agree (L12)."""

from typing import TYPE_CHECKING

from ledger.accounts import custody
from watchers import breaks, reconcile_chain
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
    network = network_of(house)
    held = await reconcile_chain.holdings_at(house.database, house.chain, network)
    if held.breaks:
        raise AssertionError(f"a break at {held.height}: {held.breaks}")
    native = network.spec.native_asset
    code = custody(network.name, "hot", native).code
    async with house.database.unit_of_work() as uow:
        fees = await breaks.unposted_fees(uow, network, held, code, native)
    if fees:
        raise AssertionError(f"fees that would explain a theft away: {fees}")


async def cycle(house: "Payouts") -> None:
    """What the watcher does at each block, where a test planted nothing that the books lack."""
    if house.is_compared:
        await no_breaks(house)
