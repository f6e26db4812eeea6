"""The second pass (N04): before a block makes anything final, another node is asked for it too.

Owns `chain.second_looks`. What k nodes gave is credited at the usual depth; here one that was not
among them tells the same block again, one block before the first full tier. When it differs in
what pays us, nobody can say who is right: crediting stops and people look. It is one more wall, no
gate: where no other node answers, or the follower catches up faster, deposits still become final.
"""

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import RowMapping

from config import alarm_store
from config.clock import Clock
from config.database import Database, Uow
from config.logs import get_logger
from watchers import second_pass_store as store
from watchers import switches
from watchers.agreement import is_traced
from watchers.chain import Block, Transfer
from watchers.errors import NodeError, NodeUnavailable
from watchers.network import Network
from watchers.nodes import Node, NodePool

log = get_logger("watchers.second_pass")

BLOCKS_PER_PASS = 20  # whole blocks asked for in one pass, whatever is due
POLL_SECONDS_MIN = 1.0
POSTPONE_SECONDS = 60.0  # a block that no other node could give is asked for again after this
BLOCK_TIMEOUTS = 3  # a block is several calls and a large answer
ALARM = "node_disagreement"
ACTOR = "watchers.second_pass"


async def remember(
    uow: Uow,
    network: Network,
    blocks: Sequence[Block],
    own_keys: Collection[str],
    *,
    at: datetime,
) -> None:
    """Ask for a second look at blocks that connect, in their unit of work.

    `own_keys` holds every own key that they pay as they were given. Nothing is remembered of
    what every configured node gave already, or one reader alone.
    """
    rows = []
    for block in blocks:
        agreement = block.agreement
        if agreement is None or len(agreement.given_by) >= agreement.nodes:
            continue
        digest, payments = paid(agreement.transfers, own_keys)
        rows.append(
            {
                "network": network.name,
                "block_hash": block.ref.hash,
                "height": block.ref.height,
                "final_at": block.ref.height + _least_full_depth(network) - 1,
                "given_by": list(agreement.given_by),
                "digest": digest,
                "payments": payments,
                "at": at,
            }
        )
    if rows:
        await store.remember(uow, rows)


def paid(transfers: Iterable[Transfer], own_keys: Collection[str]) -> tuple[str, int]:
    """What transfers pay to own keys: SHA-256 over each in order, and how many they are.

    Traced value is left out, as not every node can trace.
    """
    rows = sorted(
        repr((item.txid, item.position, item.asset, item.to_key, item.amount_minor))
        for item in transfers
        if item.to_key in own_keys and item.amount_minor > 0 and not is_traced(item)
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest(), len(rows)


def _least_full_depth(network: Network) -> int:
    """The fewest confirmations that make anything of this network final by its registry."""
    assets = [item for item in network.assets.values() if item.network == network.name]
    return min([network.spec.full_depth, *(t.full_depth for item in assets for t in item.tiers)])


class SecondPass:
    """Asks another node for the blocks that are due, a bounded number at a time.

    What is to do is in rows: it goes on after a crash, and two instances do no harm.
    """

    def __init__(
        self, *, pool: NodePool, network: Network, database: Database, clock: Clock
    ) -> None:
        self._pool = pool
        self._network = network
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled; with one node there is nobody to ask."""
        if len(self._pool.nodes) < 2:
            return
        while True:
            await self.pass_once()
            await self._clock.sleep(max(self._network.spec.poll_seconds, POLL_SECONDS_MIN))

    async def pass_once(self) -> int:
        """One pass; how many blocks were compared."""
        async with self._database.unit_of_work() as uow:
            await store.forget_stale(uow, network=self._network.name)
            rows = await store.due(
                uow, network=self._network.name, at=self._clock.now(), limit=BLOCKS_PER_PASS
            )
        if not rows:
            return 0
        try:
            healthy = await self._pool.healthy()
        except NodeUnavailable as error:
            log.warning("second_pass.no_nodes", network=self._network.name, error=str(error))
            return 0
        compared = 0
        for row in rows:
            compared += await self._look(row, healthy)
        return compared

    async def _look(self, row: RowMapping, healthy: Sequence[Node]) -> bool:
        """One block; False when nobody could be asked."""
        others = [node for node in healthy if node.label not in row["given_by"]]
        found = await self._ask(others, row["block_hash"])
        if found is None:
            await self._nobody(row)
            return False
        label, block = found
        told = [item for item in block.transfers if item.amount_minor > 0]
        async with self._database.unit_of_work() as uow:
            keys = await store.keys_before(
                uow,
                network=self._network.name,
                keys={item.to_key for item in told},
                at=row["connected_at"],
            )
        # A full block takes over 10 ms to compare (HOUSE 11).
        digest, payments = await asyncio.to_thread(paid, told, keys)
        async with self._database.unit_of_work() as uow:
            if digest == row["digest"]:
                await store.done(
                    uow,
                    network=self._network.name,
                    block_hash=row["block_hash"],
                    connected_at=row["connected_at"],
                )
            else:
                await self._stop(uow, row, label, payments)
        return True

    async def _ask(self, nodes: Sequence[Node], block_hash: str) -> tuple[str, Block] | None:
        """The first answer of these nodes; who fails or lies is told to the pool."""
        for node in nodes:
            try:
                async with asyncio.timeout(self._pool.timeout_seconds * BLOCK_TIMEOUTS):
                    return node.label, await node.chain.reader.block(block_hash)
            except NodeError as error:
                self._pool.note_error(node.label, error)
                log.warning("second_pass.failed", node=node.label, error=str(error))
            except TimeoutError:
                log.warning("second_pass.failed", node=node.label, error="no answer in time")
        return None

    async def _nobody(self, row: RowMapping) -> None:
        """Later, unless no node is left in the configuration that did not give the block."""
        is_somebody = {node.label for node in self._pool.nodes} - set(row["given_by"])
        name, block_hash = self._network.name, row["block_hash"]
        async with self._database.unit_of_work() as uow:
            if is_somebody:
                until = self._clock.now() + timedelta(seconds=POSTPONE_SECONDS)
                await store.postpone(uow, network=name, block_hash=block_hash, until=until)
            else:
                await store.done(
                    uow, network=name, block_hash=block_hash, connected_at=row["connected_at"]
                )

    async def _stop(self, uow: Uow, row: RowMapping, label: str, payments: int) -> None:
        """Nodes differ about our money: tell people, and credit nothing until they looked.

        The alarm is the block's own, so that no later agreement of the nodes closes it.
        """
        name, at = self._network.name, self._clock.now()
        if not await store.mark_different(uow, network=name, block_hash=row["block_hash"]):
            return
        given = ", ".join(row["given_by"])
        detail = (
            f"block {row['height']} {row['block_hash']}: {given} told {row['payments']} payments "
            f"to us, {label} tells {payments}, and they are not the same"
        )
        await alarm_store.raise_alarm(
            uow,
            alarm_id=self._network.ids.new_id(),
            kind=ALARM,
            network=name,
            object_id=uuid5(NAMESPACE_URL, f"{name}/block/{row['block_hash']}"),
            detail=detail,
            at=at,
        )
        await switches.open_breaker(
            uow,
            scope=switches.network_scope(name),
            action=switches.Action.CREDIT,
            reason=f"nodes differ about what block {row['block_hash']} pays us",
            actor=ACTOR,
            ids=self._network.ids,
            at=at,
        )
        log.error("second_pass.differs", network=name, block=row["block_hash"], node=label)
