"""Books that wait for their comparison with the signer's log, and nobody who makes it.

Each start of PostgreSQL, like a restore, leaves every network uncompared: until its lane has
looked, no withdrawal is cancelled there and no unknown request is answered 404 (CONTRACT 3, P09).
That takes seconds while payouts and the signer run. Owns only the alarm for longer than that, also
for the hourly comparison; the lane compares.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from config import alarm_store
from config.database import Uow
from config.ids import Ids
from config.logs import get_logger
from gateway.payouts import recovery_store
from gateway.payouts.recovery_store import Waiting

PATIENCE: Final = timedelta(minutes=5)
FORGET_AFTER: Final = timedelta(minutes=5)
"""A process that has not looked for this long (another one had the lease) begins anew."""

SIGNER_NOT_COMPARED: Final = "signer_not_compared"
"""Alarm: the books of a network have not been held against the signer's log for minutes."""

log = get_logger(__name__)


class ComparisonWatch:
    """The look of one process, about once a minute. It remembers since when it has seen a network
    wait; a new process counts anew, so that its alarm is late by PATIENCE at most."""

    def __init__(self, *, networks: Sequence[str], ids: Ids) -> None:
        self._networks = tuple(networks)
        self._ids = ids
        self._since: dict[str, datetime] = {}
        self._looked_at: datetime | None = None

    async def look(self, uow: Uow, *, at: datetime) -> int:
        """Raise or end the alarms; how many networks wait too long."""
        if self._looked_at is not None and at - self._looked_at > FORGET_AFTER:
            self._since.clear()
        self._looked_at = at
        waiting = {item.network: item for item in await recovery_store.waiting(uow, self._networks)}
        late = 0
        for network in self._networks:
            if network not in waiting:
                self._since.pop(network, None)
                await alarm_store.clear(uow, kinds=[SIGNER_NOT_COMPARED], network=network, at=at)
            elif at - self._waits_since(waiting[network], at) >= PATIENCE:
                late += 1
                await self._alarm(uow, waiting[network], at)
        return late

    def _waits_since(self, item: Waiting, at: datetime) -> datetime:
        if item.is_of_this_life and item.asked_at is not None:
            self._since.pop(item.network, None)
            return item.asked_at
        return self._since.setdefault(item.network, at)

    async def _alarm(self, uow: Uow, item: Waiting, at: datetime) -> None:
        detail = (
            f"the comparison asked for at {item.asked_at} was not made"
            if item.is_of_this_life
            else "not since the database was started or restored: cancels and questions for "
            "unknown requests are answered 503"
        )
        log.error("signer.not_compared", network=item.network, detail=detail)
        await alarm_store.raise_alarm(
            uow,
            alarm_id=self._ids.new_id(),
            kind=SIGNER_NOT_COMPARED,
            network=item.network,
            detail=detail,
            at=at,
        )
