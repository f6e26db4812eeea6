"""The end of a bar that two people decide on: a node that lied may count again before its time.

Owns `chain.node_pardons` and the loop that tells a process' pool of them. A pardon ends the time
and nothing else: the node still gives its honest looks in a row, among them the block that it lied
about, and its next lie is barred again, for longer. Who may decide is the caller's question.
"""

from dataclasses import dataclass
from datetime import datetime

from config.clock import Clock
from config.database import Database, Uow
from config.ids import Ids
from ledger import outbox
from watchers import health
from watchers import node_pardon_store as store
from watchers.nodes import NodePool

POLL_SECONDS = 5.0  # while a node is barred; nobody waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """A node that counts for nothing yet, and why. `lies`: how often it was caught."""

    network: str
    label: str
    cause: str
    lies: int
    barred_at: datetime
    barred_until: datetime


async def barred(uow: Uow, *, network: str, label: str, at: datetime) -> Barred | None:
    """The node, held until the commit so that one decision about it is made at a time; None when it
    is not barred (any more), or two people have ended it and no watcher has looked since."""
    await store.hold(uow, network=network, label=label)
    row = await store.barred_node(uow, network=network, label=label, at=at)
    if row is None:
        return None
    return Barred(
        network=network,
        label=label,
        cause=row["cause"],
        lies=await health.lies(uow, network=network, label=label),
        barred_at=row["barred_at"],
        barred_until=row["barred_until"],
    )


async def grant(
    uow: Uow,
    node: Barred,
    *,
    reason: str,
    proposed_by: str,
    approved_by: str,
    ids: Ids,
    at: datetime,
) -> None:
    """Two people agreed: written down, and told on the operator's stream."""
    pardon_id = ids.new_id()
    await store.insert(
        uow,
        {
            "id": pardon_id,
            "network": node.network,
            "label": node.label,
            "reason": reason,
            "proposed_by": proposed_by,
            "approved_by": approved_by,
            "at": at,
        },
    )
    await outbox.append(
        uow,
        event_id=ids.new_id(),
        brand=None,
        type="node.pardoned",
        object_kind="node_pardon",
        object_id=pardon_id,
        object_version=1,
        previous_state=None,
        snapshot={
            "id": str(pardon_id),
            "version": 1,
            "brand": "operator",
            "network": node.network,
            "node": node.label,
            "reason": reason,
            "lies": node.lies,
            "barred_until": node.barred_until.isoformat(),
            "proposed_by": proposed_by,
            "approved_by": approved_by,
        },
        at=at,
    )


class PardonLoop:
    """Tells the pool of one process what two people decided. It writes nothing and needs no lease:
    a standby and the payouts judge the nodes by themselves, too."""

    def __init__(self, *, pool: NodePool, network: str, database: Database, clock: Clock) -> None:
        self._pool = pool
        self._network = network
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """Once; without a barred node there is nothing to ask."""
        labels = [item.label for item in self._pool.records if item.barred_at is not None]
        if not labels:
            return
        async with self._database.unit_of_work() as uow:
            found = await store.newest(uow, network=self._network, labels=labels)
        self._pool.pardon(found)
