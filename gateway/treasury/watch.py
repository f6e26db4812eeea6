"""The loop that looks at one network's wallets: history, bands, and the refill request.

Owns the order of those and the lease under which one of several instances works. It asks no node
and no signer, so that a lane that stands still is watched all the same.
"""

from datetime import datetime
from typing import Final

from config.clock import Clock, Waker
from config.database import AWAY, Database, Uow
from config.ids import Ids
from config.logs import get_logger
from config.registry import Registry
from gateway.leases import Lease, LeaseLost, hold
from gateway.treasury import bands, flows, outlook, positions, refill
from gateway.treasury.bands import BandState
from gateway.treasury.outlook import Need
from gateway.treasury.positions import BandPosition
from ledger import lifecycle
from ledger.errors import StaleState

LOOK_SECONDS: Final = 15.0
WATCH_LEASE_SECONDS: Final = 45  # three looks
PASSES_MAX: Final = 4  # of an old history per look: four weeks
ACTOR: Final = "treasury"

log = get_logger(__name__)


class TreasuryWatch:
    """One network; any number of instances may run, one at a time works."""

    def __init__(
        self, network: str, registry: Registry, *, database: Database, clock: Clock, ids: Ids
    ) -> None:
        self._network = network
        self._registry = registry
        self._database = database
        self._clock = clock
        self._ids = ids
        self._needs: dict[str, tuple[int, Need]] = {}  # asset -> (hour, what it will take)
        self.lease = Lease(
            name=f"treasury:{network}",
            holder=f"treasury-{ids.new_id()}",
            seconds=WATCH_LEASE_SECONDS,
        )

    async def run(self, waker: Waker) -> None:
        """Look for ever; ends by cancellation."""
        while True:
            try:
                await self.look()
            except (LeaseLost, StaleState) as error:  # another instance works
                log.info("treasury.stale", network=self._network, detail=str(error))
            except AWAY as error:
                log.warning("treasury.look_delayed", network=self._network, error=repr(error)[:300])
            await waker.wait()

    async def look(self) -> bool:
        """One look; False while another instance has the lease. Raises LeaseLost, StaleState."""
        if not await hold(self._database, self.lease):
            return False
        for _ in range(PASSES_MAX):
            if not await self._database.run(self._sum_up):
                break
            self._needs.clear()  # an old history is still being caught up
        async with self._database.snapshot() as uow:
            found = await positions.read(uow, self._registry, network=self._network)
        banded = positions.by_band(found, self._registry, network=self._network)

        async def tell(uow: Uow) -> None:
            await self._tell(uow, banded)

        await self._database.run(tell)
        return True

    async def _sum_up(self, uow: Uow) -> bool:
        await self.lease.check(uow)
        assets = [asset.id for asset in self._registry.assets_of(self._network)]
        return await flows.sum_up(uow, network=self._network, assets=assets, at=self._clock.now())

    async def _tell(self, uow: Uow, banded: list[BandPosition]) -> None:
        """Crossings and requests in one unit of work: who hears of one finds the other."""
        await self.lease.check(uow)
        await lifecycle.set_actor(uow, ACTOR)
        at = self._clock.now()
        crossed = await bands.tell(
            uow,
            self._network,
            banded,
            hysteresis_permille=self._registry.policy.treasury.hysteresis_permille,
            ids=self._ids,
            at=at,
        )
        for item in crossed:
            log.info("wallet.crossed", wallet=item.name, asset=item.asset)
        told = await bands.of_network(uow, self._network)
        for item in banded:
            if item.role == "hot":
                state = told[item.role, item.asset].state
                await self._attend(uow, item, is_told_low=state is BandState.LOW, at=at)

    async def _attend(
        self, uow: Uow, item: BandPosition, *, is_told_low: bool, at: datetime
    ) -> None:
        need = await self._need(uow, item.asset, at=at)
        changed = await refill.attend(
            uow,
            self._registry,
            item,
            outlook.advice_on(item, need.by_hour, at=at),
            need,
            is_told_low=is_told_low,
            ids=self._ids,
            at=at,
        )
        if changed is not None:
            log.info("refill.changed", asset=item.asset, state=changed.state, code=changed.code)

    async def _need(self, uow: Uow, asset: str, *, at: datetime) -> Need:
        """Read once an hour: no more than that is summed up."""
        hour = flows.hour_of(at)
        if asset not in self._needs or self._needs[asset][0] != hour:
            need = await outlook.need_of(uow, self._registry, asset, at=at)
            self._needs[asset] = (hour, need)
        return self._needs[asset][1]
