"""Blocks of our chain looked at again, because people asked for a range of them (docs/adr/0019).

Owns `chain.rescans`. A block of a range takes the road of a new one: agreed by the nodes, verified,
compared with balances, matched by `effects.record`, under the follower's fence. What is recorded
stays as it is, so a range may be asked for again without end; what is found is settled by its
heights like everything else. Ranges below the first block that was followed are joined to our chain
by parent hashes first. No node's failure ends a rescan: it waits, with an alarm, and goes on.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from uuid import UUID

from sqlalchemy import RowMapping

from config import alarm_store
from config.clock import Clock
from config.database import Database, Uow
from config.ids import Ids
from config.logs import get_logger
from watchers import changed_effects, effects, recorded, runs, second_pass
from watchers import rescan_store as store
from watchers import store as chain_store
from watchers.address_filter import AddressFilter
from watchers.ahead import Ahead
from watchers.chain import Block, BlockRef, ChainReader
from watchers.code_checks import CodeChecks
from watchers.errors import LeaseLost, NodeError, NodeUnavailable, RescanEnded
from watchers.evidence import span
from watchers.network import Network
from watchers.recorded import Contradiction
from watchers.token_checks import Look, look, record

log = get_logger("watchers.rescans")

BLOCKS_PER_LOOK = 16  # then new blocks have their turn
HEADERS_PER_LOOK = 200
RANGE_BLOCKS_MAX = 1_000_000  # of one rescan; more is asked for in parts
RUNNING_MAX = 10  # of one network
WAITING_ALARM, FAILED_ALARM, WITHHELD_ALARM = "rescan_waiting", "rescan_failed", "rescan_withheld"
TEXT_LENGTH_MAX = 500  # characters of a cause

Hold = Callable[[Uow], Awaitable[int]]
"""Locks the follower's cursor under its fence; the height."""


class RescanState(StrEnum):
    """Where a rescan stands."""

    RUNNING = "running"
    """Blocks are left, or a node or the follower is waited for."""
    DONE = "done"
    """Every block of the range was looked at."""
    FAILED = "failed"
    """A block contradicts what is recorded; people look."""
    CANCELLED = "cancelled"
    """A person ended it; what it found stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RescanRow:
    """A range of heights, both ends included; every block below `next_height` was looked at.

    `found` counts deposits, inflows and own txs that were not recorded before; `withheld` what may
    be in the books already as an unexplained inflow.
    """

    id: UUID
    network: str
    from_height: int
    to_height: int
    next_height: int
    state: RescanState
    found: int
    withheld: int
    waits_for: str | None
    failure: str | None
    asked_by: str
    reason: str
    cancelled_by: str | None
    cancel_reason: str | None
    created_at: datetime
    finished_at: datetime | None


async def ask(
    uow: Uow,
    *,
    network: str,
    from_height: int,
    to_height: int,
    asked_by: str,
    reason: str,
    ids: Ids,
    at: datetime,
) -> RescanRow:
    """Ask for a range. Whether it may be asked for is the caller's question."""
    rescan_id = ids.new_id()
    await store.insert(
        uow,
        rescan_id=rescan_id,
        network=network,
        from_height=from_height,
        to_height=to_height,
        asked_by=asked_by,
        reason=reason,
        at=at,
    )
    row = await store.get(uow, rescan_id)
    if row is None:
        raise RuntimeError("a rescan is not where it was just written")
    return _row(row)


async def cancel(
    uow: Uow, *, rescan_id: UUID, network: str, cancelled_by: str, reason: str, at: datetime
) -> RescanRow | None:
    """End a rescan before it is done; it answers as it stands, None when there is none of this
    network. What it found stays, and the piece in work is given up whole."""
    ended = await store.cancel(
        uow,
        rescan_id=rescan_id,
        network=network,
        cancelled_by=cancelled_by,
        reason=reason,
        at=at,
    )
    if ended is not None:
        await alarm_store.clear(
            uow, kinds=[WAITING_ALARM], network=network, objects=[rescan_id], at=at
        )
        log.info("rescan.cancelled", network=network, rescan_id=str(rescan_id))
        return _row(ended)
    row = await store.get(uow, rescan_id)
    return None if row is None or row["network"] != network else _row(row)


async def find(
    uow: Uow, *, network: str, before: UUID | None = None, limit: int = 100
) -> list[RescanRow]:
    """Rescans of a network, newest first; `before` is the id that ended the last page."""
    rows = await store.find(uow, network=network, before=before, limit=limit)
    return [_row(row) for row in rows]


async def running(uow: Uow, *, network: str) -> list[RescanRow]:
    """Rescans of a network that have not ended, oldest first."""
    return [_row(row) for row in await store.running(uow, network=network)]


class Rescans:
    """Works off what people asked for on one network. What is to do is in rows: it goes on after
    a crash at any line, and of two instances the fence stops one."""

    def __init__(
        self,
        *,
        reader: ChainReader,
        network: Network,
        database: Database,
        clock: Clock,
        known: AddressFilter,
        crash: Callable[[str], None],
    ) -> None:
        self._reader = reader
        self._network = network
        self._database = database
        self._clock = clock
        self._known = known
        self._crash = crash

    async def look(self, hold: Hold) -> bool:
        """A bounded piece of the oldest rescan that can go on; True when more can be done now.

        Raises LeaseLost. What a node fails with is kept with the rescan, whose turn comes again.
        """
        async with self._database.unit_of_work() as uow:
            rows = await running(uow, network=self._network.name)
        for row in rows:
            try:
                if await self._work(row, hold):
                    return True
            except NodeError as error:
                await self._wait(row, error)
            except Contradiction as error:
                await self._fail(row, error)
            except RescanEnded as error:
                log.info("rescan.ended", network=self._network.name, reason=str(error))
        return False

    async def _work(self, row: RescanRow, hold: Hold) -> bool:
        name = self._network.name
        async with self._database.unit_of_work() as uow:
            lowest = await store.lowest(uow, network=name)
            cursor = await chain_store.cursor(uow, name)
        if lowest is None or cursor is None or cursor["height"] is None:
            return False
        if row.next_height < lowest["height"]:
            await self._descend(row, lowest, hold)
            return True
        high = min(row.to_height, cursor["height"], row.next_height + BLOCKS_PER_LOOK - 1)
        if high < row.next_height:
            return False  # the follower comes by there first
        await self._scan(row, high, hold)
        return True

    async def _descend(self, row: RescanRow, lowest: RowMapping, hold: Hold) -> None:
        """Join headers below the lowest that is kept, each the parent of the one above."""
        name, below = self._network.name, lowest["parent_hash"]
        refs: list[BlockRef] = []
        last = max(row.next_height, lowest["height"] - HEADERS_PER_LOOK)
        for height in range(lowest["height"] - 1, last - 1, -1):
            ref = await self._reader.ref_at(height)
            if ref is None or (ref.height, ref.hash) != (height, below):
                raise NodeUnavailable(f"header {height} is not the parent of {height + 1} we keep")
            refs.append(ref)
            below = ref.parent_hash

        async def work(uow: Uow) -> None:
            await hold(uow)
            standing = await store.lowest(uow, network=name)
            if standing is None or standing["hash"] != lowest["hash"]:
                raise LeaseLost(f"{name}: another watcher moved the lowest header")
            await store.connect_headers(uow, network=name, refs=refs)
            await store.note_waiting(uow, rescan_id=row.id, waits_for=None)
            await self._clear(uow, row)
            self._crash("rescan.headers.before_commit")

        await self._database.run(work)
        self._crash("rescan.headers.after_commit")

    async def _scan(self, row: RescanRow, high: int, hold: Hold) -> None:
        """The next blocks up to `high`, in runs, as the follower would take them."""
        low, network = row.next_height, self._network
        async with self._database.unit_of_work() as uow:
            kept = await chain_store.canonical_from(uow, network=network.name, low=low, high=low)
        if not kept:
            raise NodeUnavailable(f"no header is kept at {low}")
        await self._known.load(self._database)
        async with Ahead(
            self._reader,
            height=low - 1,
            block_hash=kept[0]["parent_hash"],
            count=high - low + 1,
            tip_height=high,
        ) as ahead:
            place: int = low
            while blocks := await ahead.run():
                for run in runs.within_payments(blocks, self._known):
                    place = await self._record_run(row, run, place, hold)
        if place == low:
            raise NodeUnavailable(f"the nodes' block {low} does not follow the one that we keep")

    async def _record_run(
        self, row: RescanRow, run: Sequence[Block], place: int, hold: Hold
    ) -> int:
        """The place behind the run."""
        while run:
            looks = await look(
                self._database,
                self._reader,
                self._network,
                self._known,
                run,
                codes=CodeChecks(),
                clock=self._clock,
            )
            run = run[len(looks) :]
            for part in runs.until_findings(looks):
                await self._database.run(
                    partial(self._record, row=row, place=place, looks=part, hold=hold)
                )
                self._crash("rescan.after_commit")
                place = part[-1].block.ref.height + 1
        return place

    async def _record(
        self, uow: Uow, *, row: RescanRow, place: int, looks: Sequence[Look], hold: Hold
    ) -> None:
        """One run: what is missing of it, and the place of the rescan behind it."""
        height = await hold(uow)
        network, at = self._network, self._clock.now()
        refs = [item.block.ref for item in looks]
        await self._check_kept(uow, refs)
        judged = await recorded.missing(uow, network, self._known, looks)
        hashes = [ref.hash for ref in refs]
        before = await store.recorded(uow, network=network.name, hashes=hashes)
        blocks = await changed_effects.settle(
            uow, network, [item.block for item in judged.looks], at=at, only=judged.open_ids
        )
        own = await effects.record(uow, network, self._known, blocks, at=at)
        await record(uow, network, judged.looks, at=at)
        after = await store.recorded(uow, network=network.name, hashes=hashes)
        fresh = [block for block in blocks if _count(after, block) > _count(before, block)]
        await second_pass.remember(uow, network, fresh, own, at=at)
        await store.looked_at(uow, network=network.name, hashes=hashes)
        if judged.withheld:
            await self._alarm(uow, row, WITHHELD_ALARM, judged.told(), at=at)
        following = refs[-1].height + 1
        is_moved = await store.advance(
            uow,
            rescan_id=row.id,
            current=place,
            following=following,
            to_height=await self._end(uow, row, fresh, height=height),
            found=sum(after.values()) - sum(before.values()),
            withheld=judged.withheld,
            at=at,
        )
        if not is_moved:
            standing = await store.get(uow, row.id)
            if standing is not None and standing["state"] == RescanState.CANCELLED:
                raise RescanEnded(f"rescan of {row.from_height} to {row.to_height} was cancelled")
            raise LeaseLost(f"{network.name}: another watcher moved the rescan")
        await self._clear(uow, row)
        self._crash("rescan.before_commit")

    async def _check_kept(self, uow: Uow, refs: Sequence[BlockRef]) -> None:
        """Only blocks of the chain of headers that we keep are looked at."""
        kept = await chain_store.canonical_from(
            uow, network=self._network.name, low=refs[0].height, high=refs[-1].height
        )
        if [item["hash"] for item in kept] != [ref.hash for ref in reversed(refs)]:
            raise NodeUnavailable(
                f"blocks {refs[0].height} to {refs[-1].height} of the nodes are not those that "
                "we keep"
            )

    async def _end(self, uow: Uow, row: RescanRow, fresh: Sequence[Block], *, height: int) -> int:
        """Where the rescan ends: further up when it found something, so that the headers which
        prove it are kept, and that coins which a later block spends are not taken for spendable."""
        standing = await store.get(uow, row.id)
        high = row.to_height if standing is None else int(standing["to_height"])
        if not fresh:
            return high
        if any(block.spends for block in fresh):
            return max(high, height)
        last = fresh[-1].ref.height + span(self._network, is_coinbase=False) - 1
        return max(high, min(height, last))

    async def _wait(self, row: RescanRow, error: NodeError) -> None:
        text = f"{type(error).__name__}: {error}"[:TEXT_LENGTH_MAX]
        log.warning("rescan.waits", network=self._network.name, error=text)
        async with self._database.unit_of_work() as uow:
            if await store.note_waiting(uow, rescan_id=row.id, waits_for=text):
                await self._alarm(uow, row, WAITING_ALARM, text, at=self._clock.now())

    async def _fail(self, row: RescanRow, error: Contradiction) -> None:
        """The place is read again: earlier runs of the same look are committed."""
        at, text = self._clock.now(), str(error)[:TEXT_LENGTH_MAX]
        log.error("rescan.failed", network=self._network.name, error=text)
        async with self._database.unit_of_work() as uow:
            standing = await store.get(uow, row.id)
            place = row.next_height if standing is None else int(standing["next_height"])
            if await store.fail(uow, rescan_id=row.id, current=place, failure=text, at=at):
                await self._clear(uow, row)
                await self._alarm(uow, row, FAILED_ALARM, text, at=at)

    async def _alarm(
        self, uow: Uow, row: RescanRow, kind: str, detail: str, *, at: datetime
    ) -> None:
        await alarm_store.raise_alarm(
            uow,
            alarm_id=self._network.ids.new_id(),
            kind=kind,
            network=self._network.name,
            object_id=row.id,
            detail=f"rescan of {row.from_height} to {row.to_height}: {detail}",
            at=at,
        )

    async def _clear(self, uow: Uow, row: RescanRow) -> None:
        await alarm_store.clear(
            uow,
            kinds=[WAITING_ALARM],
            network=self._network.name,
            objects=[row.id],
            at=self._clock.now(),
        )


def _count(counts: dict[str, int], block: Block) -> int:
    return counts.get(block.ref.hash, 0)


def _row(row: RowMapping) -> RescanRow:
    return RescanRow(**{**row, "state": RescanState(row["state"])})
