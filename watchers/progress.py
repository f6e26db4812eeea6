"""Sees a watcher that lives and does not follow (P39).

Owns one judgement: this process holds the network's lease, the nodes agree on a tip that is not on
the chain that we follow, and for too long nothing was connected. Compared by hash, for a height may
stand while the chain changes; nodes that are merely behind us are no reason to move. It asks beside
the loop that may hang, and mends nothing: the process ends, and whoever starts it again gives it
new connections and tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from config.clock import Clock
from config.database import AWAY, Database, is_away
from config.logs import get_logger
from watchers import store
from watchers.chain import ChainReader
from watchers.errors import NodeError, NoProgress

LOOK_SECONDS = 15.0
PATIENCE_SECONDS = 300.0  # above every time limit of one round together

log = get_logger("watchers.progress")


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last connected block, and since when it is the last."""

    block_hash: str | None
    since_seconds: float


class ProgressWatch:
    """Ends the watcher by raising NoProgress."""

    def __init__(
        self,
        *,
        network: str,
        reader: ChainReader,
        database: Database,
        clock: Clock,
        is_following: Callable[[], bool],
    ) -> None:
        self._network = network
        self._reader = reader
        self._database = database
        self._clock = clock
        self._is_following = is_following
        self._seen: _Seen | None = None

    async def run(self) -> None:
        """Look until cancelled. Raises NoProgress."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except NodeError as error:  # without an agreed tip nobody can follow
                log.info("progress.no_tip", network=self._network, error=type(error).__name__)
                self._seen = None
            except AWAY as error:
                if not is_away(error):
                    raise
                self._seen = None

    async def look(self) -> None:
        """One look. Raises NoProgress when nothing was connected for too long."""
        if not self._is_following():
            self._seen = None
            return
        tip = await self._reader.tip()
        async with self._database.unit_of_work() as uow:
            row = await store.cursor(uow, self._network)
            is_behind = await store.is_canonical(uow, network=self._network, block_hash=tip.hash)
        now_seconds = self._clock.monotonic_seconds()
        if row is None or row["stopped_reason"] is not None or is_behind:
            self._seen = None
            return
        if self._seen is None or self._seen.block_hash != row["hash"]:
            self._seen = _Seen(row["hash"], now_seconds)
            return
        stood_seconds = now_seconds - self._seen.since_seconds
        if stood_seconds >= PATIENCE_SECONDS:
            raise NoProgress(
                f"{self._network}: nothing was connected for {stood_seconds:.0f} s after block "
                f"{row['hash']}, and the nodes are at {tip.hash}"
            )
