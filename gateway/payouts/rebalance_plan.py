"""What would bring hot wallets back into their bands, or keep them there.

Reads wallets, bands, forecasts and open rebalances, and decides nothing: the API shows and proposes
it, the payouts step proposes an overflow for the system. It goes by the advice that the treasury's
watch goes by, so that what one direction moves is not what the other asks back. Amounts in minor
units.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.database import Uow
from config.registry import Registry
from config.treasury_policy import WalletRole
from gateway.payouts import rebalances_store
from gateway.payouts.rebalances import Direction
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.treasury import outlook, positions
from gateway.treasury.advice import Advice
from gateway.treasury.positions import BandPosition
from watchers import addresses
from watchers.addresses import AddressRole, AddressRow

HOT_TO_COLD: Final = Direction.HOT_TO_COLD.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One hot wallet that leaves its band, or will. `open` is what is asked for already."""

    network: str
    asset: str
    direction: Direction
    amount_minor: int
    reason: str
    open: RebalanceRow | None


async def needs(
    uow: Uow, registry: Registry, *, network: str | None = None, at: datetime
) -> list[Need]:
    """Every hot wallet of one network, or all, that leaves its band, by asset."""
    wallets = await positions.read(uow, registry, network=network)
    found = []
    for item in positions.by_band(wallets, registry, network=network):
        if item.role is not WalletRole.HOT:
            continue
        advice = await _advice(uow, registry, item, at=at)
        if advice is None:
            continue
        rows = await rebalances_store.open_of(
            uow, asset=item.asset, direction=advice.direction, limit=1
        )
        found.append(
            Need(
                network=item.network,
                asset=item.asset,
                direction=Direction(advice.direction),
                amount_minor=advice.amount_minor,
                reason=advice.reason.value,
                open=rows[0] if rows else None,
            )
        )
    return found


async def _advice(
    uow: Uow, registry: Registry, item: BandPosition, *, at: datetime
) -> Advice | None:
    """Nothing goes to cold that has still to arrive."""
    need = await outlook.need_of(uow, registry, item.asset, at=at)
    advice = outlook.advice_on(item, need.by_hour, at=at)
    if advice is not None and advice.direction == HOT_TO_COLD and item.incoming_minor:
        advice = outlook.advice_on(item.without_incoming(), need.by_hour, at=at)
        return advice if advice is not None and advice.direction == HOT_TO_COLD else None
    return advice


async def cold_address(uow: Uow, registry: Registry, network: str) -> AddressRow | None:
    """Where hot value of a network goes, once the watcher knows it as ours."""
    cold = registry.settings.cold.get(network)
    if cold is None:
        return None
    rows = await addresses.by_role(uow, network=network, roles=(AddressRole.COLD,))
    return next((row for row in rows if row.address.lower() == cold.address.lower()), None)
