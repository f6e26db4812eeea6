"""Where the chain that we follow left the nodes' chain: our blocks that are on it no more.

Reads headers, ours and the nodes', and writes nothing. A fork below the lowest header that we keep
is walked only as far as two people named a depth, and ends at a new anchor (CASES D09).
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping

from config.clock import Clock
from config.database import Database, Uow
from watchers import rescan_store, runs, store, switches
from watchers.chain import BlockRef, ChainReader
from watchers.errors import ReorgTooDeep
from watchers.network import Network

BEYOND_FINALITY = "a reorganisation took blocks that were final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Our blocks that the nodes' chain does not have, highest first.

    `anchor`: where none of ours is on it, the nodes' headers below all of ours, highest first.
    `is_granted`: two people allowed a reorganisation as deep as they named.
    """

    stale: tuple[BlockRef, ...] = ()
    anchor: tuple[BlockRef, ...] = ()
    is_granted: bool = False


NO_FORK = Fork()


async def find(
    reader: ChainReader,
    network: Network,
    database: Database,
    *,
    height: int | None,
    block_hash: str | None,
    tip: BlockRef,
    clock: Clock,
) -> Fork:
    """Compare our chain, which ends with (`height`, `block_hash`), with the nodes'.

    A node whose tip is one of our own earlier blocks only lags: nothing is disconnected towards a
    mere prefix of what we know. Raises ReorgTooDeep, NodeUnavailable.
    """
    if height is None or block_hash is None or tip.hash == block_hash:
        return NO_FORK
    current = await reader.ref_at(height)
    if current is not None and current.hash == block_hash:
        return NO_FORK
    async with database.unit_of_work() as uow:
        limit = await switches.reorg_limit(
            uow,
            network=network.name,
            height=height,
            limit_blocks=network.spec.reorg_limit_blocks,
            at=clock.now(),
        )
        rows = await store.canonical_from(
            uow, network=network.name, low=max(0, height - limit - 1), high=height
        )
        floor = await switches.reorg_floor(uow, network=network.name, at=clock.now())
        lowest = await rescan_store.lowest(uow, network=network.name)
    if any(row["height"] == tip.height and row["hash"] == tip.hash for row in rows):
        return NO_FORK
    stale: list[BlockRef] = []
    for row in rows:
        ref = await reader.ref_at(row["height"])
        if ref is not None and ref.hash == row["hash"]:
            return Fork(stale=tuple(stale), is_granted=floor is not None)
        stale.append(_ref(row))
        if len(stale) > limit:
            break
    is_all = lowest is not None and bool(stale) and stale[-1].hash == lowest["hash"]
    is_allowed = floor is not None and floor < stale[-1].height <= tip.height
    if is_all and is_allowed and stale[-1].height > 0:
        anchor = await _anchor(reader, network, stale[-1])
        return Fork(stale=tuple(stale), anchor=anchor, is_granted=True)
    raise ReorgTooDeep(await _told(reader, network, height=height, limit=limit, lowest=lowest))


async def stop_beyond_finality(uow: Uow, network: Network, fork: Fork, *, at: datetime) -> None:
    """A reorganisation that took blocks of the deepest tier opens the network's breaker (D05, P23).

    Depth counts from the highest block that was ever followed, so that a fork in several steps is
    as deep as it is. What was final was not: nothing is credited, built, signed or sent until two
    people look. The chain is followed on. Again changes nothing.
    """
    row = await store.cursor(uow, network.name)
    if fork.is_granted or row is None:
        return
    if row["top_height"] - fork.stale[-1].height + 1 < network.finality_blocks:
        return
    await switches.open_breaker(
        uow,
        scope=switches.network_scope(network.name),
        action=switches.Action.ALL,
        reason=BEYOND_FINALITY,
        actor="watcher",
        ids=network.ids,
        at=at,
    )


async def _anchor(reader: ChainReader, network: Network, lowest: BlockRef) -> tuple[BlockRef, ...]:
    """The nodes' header below all of ours, and those below it that a later reorg may walk."""
    first = await runs.first_block(reader, tip=await reader.tip(), start_height=lowest.height - 1)
    limit = network.spec.reorg_limit_blocks
    return (first, *await runs.history(reader, first, limit_blocks=limit))


async def _told(
    reader: ChainReader,
    network: Network,
    *,
    height: int,
    limit: int,
    lowest: RowMapping | None,
) -> str:
    """Why people must decide, and by which commands (docs/OPERATIONS.md)."""
    name = network.name
    start = f"cage treasury switch network:{name} all start --accept-reorg-depth"
    if lowest is not None:
        deepest = await reader.ref_at(lowest["height"])
        if deepest is None or deepest.hash != lowest["hash"]:
            return (
                f"{name}: the fork is older than the headers that we keep, {lowest['height']} to "
                f"{height}; when the nodes are right: {start} {height - lowest['height'] + 1}, "
                f"then cage deposits rescan {name} --from the height of the fork"
            )
    return (
        f"{name}: no common block within {limit} blocks below {height}; when the nodes are "
        f"right: {start} and the depth"
    )


def _ref(row: RowMapping) -> BlockRef:
    return BlockRef(
        height=row["height"],
        hash=row["hash"],
        parent_hash=row["parent_hash"],
        time_seconds=row["time_seconds"],
    )
