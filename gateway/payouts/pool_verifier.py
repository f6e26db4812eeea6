"""Lets the signer re-derive address pool rows, so that they may be handed out (CONTRACT 8).

Owns the loop from unverified rows to verified ones, and the alarm when a brand has too few left. A
row on which watcher and signer disagree stays unverified for ever and raises an alarm: one of the
two keys is wrong. It stops no row behind it.
"""

from collections.abc import Sequence
from datetime import datetime

from config import alarm_store
from config.clock import Clock, Waker
from config.database import Database, Uow
from config.ids import Ids
from config.logs import get_logger
from gateway.payouts.context import Signer
from gateway.payouts.errors import SignerUnavailable
from signer.protocol import MAX_POOL_ROWS, PoolRow
from watchers import addresses
from watchers.addresses import AddressRow

RESERVE_ROWS = 1_000  # CONTRACT 8: what still serves with the signer down
POOL_LOW = "address_pool_low"
"""Alarm: a brand has fewer verified addresses left than the reserve."""

log = get_logger(__name__)


class PoolVerifier:
    """One network's verifier. Two at once are harmless: marking is idempotent."""

    def __init__(
        self,
        network: str,
        *,
        database: Database,
        signer: Signer,
        clock: Clock,
        ids: Ids,
        brands: Sequence[str] = (),
        reserve: int = RESERVE_ROWS,
    ) -> None:
        self._network = network
        self._brands = tuple(brands)
        self._reserve = reserve
        self._after: AddressRow | None = None  # the last row of a full page
        self._database = database
        self._signer = signer
        self._clock = clock
        self._ids = ids

    async def run(self, waker: Waker) -> None:
        """Verify for ever; a signer that is down only delays (S21)."""
        while True:
            try:
                await self.verify_batch()
                while self._after is not None:
                    await self.verify_batch()
            except SignerUnavailable as error:
                log.warning("pool.signer_unavailable", network=self._network, detail=str(error))
            await self.check_reserve()
            await waker.wait()

    async def verify_batch(self) -> int:
        """Ask about one batch; returns how many rows are verified now. Raises SignerUnavailable."""
        async with self._database.unit_of_work() as uow:
            rows = await addresses.unverified(
                uow, network=self._network, limit=MAX_POOL_ROWS, after=self._after
            )
        self._after = rows[-1] if len(rows) == MAX_POOL_ROWS else None
        if not rows:
            return 0
        agreed = await self._signer.verify_addresses(
            network=self._network,
            rows=[PoolRow(path=row.path, address=row.address) for row in rows],
        )
        good = [row.id for row, is_agreed in zip(rows, agreed, strict=True) if is_agreed]
        bad = [row for row, is_agreed in zip(rows, agreed, strict=True) if not is_agreed]
        at = self._clock.now()
        async with self._database.unit_of_work() as uow:
            await addresses.mark_verified(uow, good, at=at)
            if bad:
                await self._alarm(uow, bad, at=at)
        log.info("pool.verified", network=self._network, rows=len(good), refused=len(bad))
        return len(good)

    async def check_reserve(self) -> None:
        """One alarm while any brand has fewer verified addresses left than the reserve."""
        at = self._clock.now()
        async with self._database.unit_of_work() as uow:
            free = await addresses.reserves(
                uow, network=self._network, brands=self._brands, limit=self._reserve
            )
            low = {brand: count for brand, count in free.items() if count < self._reserve}
            if low:
                left = ", ".join(f"{brand} {count}" for brand, count in sorted(low.items()))
                await alarm_store.raise_alarm(
                    uow,
                    alarm_id=self._ids.new_id(),
                    kind=POOL_LOW,
                    network=self._network,
                    object_id=None,
                    detail=f"verified addresses left of a reserve of {self._reserve}: {left}",
                    at=at,
                )
            elif await alarm_store.is_open(uow, kind=POOL_LOW, network=self._network):
                await alarm_store.clear(uow, kinds=[POOL_LOW], network=self._network, at=at)

    async def _alarm(self, uow: Uow, rows: list[AddressRow], *, at: datetime) -> None:
        await alarm_store.raise_alarm(
            uow,
            alarm_id=self._ids.new_id(),
            kind="address_pool_mismatch",
            network=self._network,
            object_id=None,
            detail=f"the signer derives another address at {rows[0].path} ({len(rows)} rows)",
            at=at,
        )
