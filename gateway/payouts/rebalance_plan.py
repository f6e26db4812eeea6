"""What would bring hot wallets back into their bands, less what payouts already wait for.

Reads books, bands and open rebalances, and decides nothing: the API shows and proposes it, the
payouts step proposes an overflow for the system. Amounts in minor units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from config.database import Uow
from config.registry import Registry
from config.treasury_policy import Band
from gateway.payouts import rebalances_store, store
from gateway.payouts.rebalances import Direction
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.payouts.withdrawals import State
from ledger import accounts, balances
from watchers import addresses
from watchers.addresses import AddressRole, AddressRow

TAKEN: Final = (
    State.QUEUED,
    State.WAITING_LIQUIDITY,
    State.PLANNED,
    State.SIGNED,
    State.BROADCASTING,
    State.UNCERTAIN,
    State.SENT,
    State.CONFIRMING,
    State.CANCELLING,
)
"""Payouts that hot value must still cover; it leaves custody when they are completed."""

BELOW_MIN: Final = "below_min"
ABOVE_MAX: Final = "above_max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One hot wallet outside its band. `open` is what is asked for already."""

    network: str
    asset: str
    direction: Direction
    amount_minor: int
    held_minor: int
    taken_minor: int
    reason: str
    open: RebalanceRow | None


async def needs(uow: Uow, registry: Registry) -> list[Need]:
    """Every hot wallet outside its band, by asset."""
    taken: dict[str, Mapping[str, int]] = {}
    found = []
    for asset, band in sorted(registry.policy.bands.items()):
        network = asset.partition(":")[0]
        if network not in taken:
            taken[network] = await store.committed(
                uow, network=network, states=[state.value for state in TAKEN]
            )
        need = await _need(uow, asset, band, taken_minor=taken[network].get(asset, 0))
        if need is not None:
            found.append(need)
    return found


async def cold_address(uow: Uow, registry: Registry, network: str) -> AddressRow | None:
    """Where hot value of a network goes, once the watcher knows it as ours."""
    cold = registry.settings.cold.get(network)
    if cold is None:
        return None
    rows = await addresses.by_role(uow, network=network, roles=(AddressRole.COLD,))
    return next((row for row in rows if row.address.lower() == cold.address.lower()), None)


async def _need(uow: Uow, asset: str, band: Band, *, taken_minor: int) -> Need | None:
    network = asset.partition(":")[0]
    held = await balances.balance(uow, accounts.custody(network, "hot", asset))
    free = held - taken_minor
    if band.min_minor <= free <= band.max_minor:
        return None
    direction = Direction.COLD_TO_HOT if free < band.min_minor else Direction.HOT_TO_COLD
    rows = await rebalances_store.open_of(uow, asset=asset, direction=direction.value, limit=1)
    return Need(
        network=network,
        asset=asset,
        direction=direction,
        amount_minor=abs(band.target_minor - free),
        held_minor=held,
        taken_minor=taken_minor,
        reason=BELOW_MIN if direction is Direction.COLD_TO_HOT else ABOVE_MAX,
        open=rows[0] if rows else None,
    )
