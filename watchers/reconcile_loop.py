"""The cycle: books against chain every so many blocks, for ever (L12).

Owns the pace only. It needs no lease: of two watchers that compare the same block one is kept, and
rows say how far any of them came.
"""

from config.clock import Clock
from config.database import Database
from config.logs import get_logger
from watchers import reconciliations, store
from watchers.chain import Chain
from watchers.errors import NodeError
from watchers.metrics import Metrics
from watchers.network import Network
from watchers.reconciliations import Trigger

log = get_logger("watchers.reconcile_loop")

POLL_SECONDS = 1.0
AFTER_FAILURE_SECONDS = 15.0
REST = 4  # a comparison that takes long is not the only work: rest so many times its own time


class ReconcileLoop:
    """Compares a network's books with its chain, cycle after cycle."""

    def __init__(
        self,
        *,
        chain: Chain,
        network: Network,
        database: Database,
        clock: Clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._chain = chain
        self._network = network
        self._database = database
        self._clock = clock
        self._metrics = metrics

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            started = self._clock.monotonic_seconds()
            try:
                is_done = await self.look()
            except NodeError as error:
                log.warning("reconcile.no_answer", network=self._network.name, error=str(error))
                await self._clock.sleep(AFTER_FAILURE_SECONDS)
                continue
            took = self._clock.monotonic_seconds() - started
            await self._clock.sleep(max(POLL_SECONDS, REST * took) if is_done else POLL_SECONDS)

    async def look(self) -> bool:
        """One cycle where one is due; says whether it was. Raises NodeError."""
        if not await self._is_due():
            return False
        started = self._clock.monotonic_seconds()
        run, _ = await reconciliations.compare(
            self._database, self._chain, self._network, clock=self._clock, trigger=Trigger.CYCLE
        )
        if self._metrics is not None and run.height is not None:
            self._metrics.compared(
                run.height,
                breaks=len(run.breaks),
                seconds=self._clock.monotonic_seconds() - started,
            )
        return True

    async def _is_due(self) -> bool:
        """So many blocks after the newest comparison, or where that one's block is gone."""
        async with self._database.unit_of_work() as uow:
            cursor = await store.cursor(uow, self._network.name)
            newest = await reconciliations.newest(uow, self._network.name)
            if cursor is None or cursor["hash"] is None:
                return False
            if newest is None or newest.height is None or newest.block_hash is None:
                return True
            if cursor["hash"] == newest.block_hash:
                return False
            if int(cursor["height"]) - newest.height >= self._network.spec.reconcile_blocks:
                return True
            return not await store.is_canonical(
                uow, network=self._network.name, block_hash=newest.block_hash
            )
