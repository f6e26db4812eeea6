"""Follows one network's tip: connects and disconnects blocks in order, each in one unit of work.

A follower that is behind connects a run of them in one (ADR 0017); a block alone is a run of one.

Owns the cursor and its lease. Position is a hash, never a height (CASES law 2): a fork is found by
walking stored headers back to the node's chain, so a reorg to the same height (D07), while nobody
watched (D08), or there and back again (D06) are one case. A node that fails, answers null or lags
never moves the cursor (N11, N18). It knows nothing of deposits: `effects.py` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from config import alarm_store
from config.clock import Clock
from config.database import Database, Uow
from config.logs import get_logger
from watchers import (
    changed_effects,
    deposit_absence,
    deposit_due,
    deposit_mempool,
    effects,
    forks,
    health,
    inflows,
    outgoing_blocks,
    rescan_store,
    rescans,
    retrace,
    runs,
    store,
    switches,
    token_checks,
)
from watchers.address_filter import AddressFilter
from watchers.ahead import RUN_BLOCKS_MAX, Ahead, fetch
from watchers.chain import Block, BlockRef, Chain
from watchers.code_checks import CodeChecks
from watchers.deposit_mempool import MempoolMemory
from watchers.deposits import DepositRow
from watchers.errors import LeaseLost, NetworkStopped, NodeUnavailable
from watchers.forks import Fork
from watchers.network import Network
from watchers.tx_looks import TxLooks

log = get_logger("watchers.follower")

LEASE_SECONDS = 10.0  # how long a killed holder is waited for; renewed by every round, fenced
BLOCKS_PER_ROUND = 1_000  # then others of the loop get their turn (or after some seconds: `Ahead`)


class Crash(Protocol):
    """Named points between two steps, for tests that kill a process there."""

    def __call__(self, point: str) -> None: ...


def no_crash(point: str) -> None:
    """Production: nothing happens at a crash point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where the follower stands under its fence; `hash` None before the first block."""

    height: int | None
    hash: str | None
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A block was connected."""

    ref: BlockRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """A block was disconnected."""

    height: int
    hash: str


Step = Connected | Disconnected


class Follower:
    """The follower of one network. `start_height` None: begin at the tip of the first run."""

    def __init__(
        self,
        *,
        chain: Chain,
        network: Network,
        database: Database,
        clock: Clock,
        holder: str,
        start_height: int | None,
        crash: Crash = no_crash,
        run_blocks_max: int = RUN_BLOCKS_MAX,
    ) -> None:
        self._chain = chain
        self._network = network
        self._database = database
        self._clock = clock
        self._holder = holder
        self._start_height = start_height
        self._crash = crash
        self._run_blocks_max = run_blocks_max
        self._finalised: int | None = None
        self._known = AddressFilter(network.name)
        self._mempool = MempoolMemory()
        self._tx_looks = TxLooks(chain.reader)
        self._codes = CodeChecks()
        self._retrace = retrace.Retrace(
            reader=chain.reader, network=network, database=database, clock=clock
        )
        self._rescans = rescans.Rescans(
            reader=chain.reader,
            network=network,
            database=database,
            clock=clock,
            known=self._known,
            crash=crash,
        )

    async def take_lease(self) -> Position | None:
        """Take or renew the lease; None while another instance holds it.

        Raises NetworkStopped while the network waits for a person (D09).
        """
        async with self._database.unit_of_work() as uow:
            row = await store.take_lease(
                uow,
                network=self._network.name,
                holder=self._holder,
                seconds=LEASE_SECONDS,
                at=self._clock.now(),
            )
        if row is None:
            return None
        if row["stopped_reason"] is not None:
            raise NetworkStopped(row["stopped_reason"])
        return Position(height=row["height"], hash=row["hash"], fence=row["fence"])

    async def drop_lease(self) -> None:
        """Let a standby follow at once."""
        async with self._database.unit_of_work() as uow:
            await store.drop_lease(uow, network=self._network.name, holder=self._holder)

    async def follow(self, position: Position) -> list[Step]:
        """Move towards the node's tip, for a round at most; returns what was done.

        Raises NodeUnavailable (try again; absence does not count meanwhile), LeaseLost,
        ReorgTooDeep (stop the network).
        """
        try:
            return await self._follow(position)
        except NodeUnavailable:
            async with self._database.unit_of_work() as uow:
                await store.set_degraded(uow, network=self._network.name, fence=position.fence)
            raise

    async def _follow(self, position: Position) -> list[Step]:
        reader = self._chain.reader
        await self._known.load(self._database)
        tip = await reader.tip()
        finalised = await reader.finalised_height()
        steps: list[Step] = []
        if position.hash is None:
            first = await runs.first_block(reader, tip=tip, start_height=self._start_height)
            limit = self._network.spec.reorg_limit_blocks
            history = await runs.history(reader, first, limit_blocks=limit)
            block = await fetch(reader, first)
            position = await self._connect(position, [block], finalised, history=history)
            steps.append(Connected(ref=first))
        fork = await self._fork(position, tip)
        for stale in fork.stale:
            position = await self._disconnect(position, stale, fork)
            steps.append(Disconnected(height=stale.height, hash=stale.hash))
        count = BLOCKS_PER_ROUND - len(steps)
        async with Ahead(
            reader,
            height=position.height,
            block_hash=position.hash,
            count=count,
            tip_height=tip.height,
            run_blocks_max=self._run_blocks_max,
        ) as ahead:
            while blocks := await ahead.run():
                for run in runs.within_payments(blocks, self._known):
                    position = await self._connect(position, run, finalised)
                steps += [Connected(ref=block.ref) for block in blocks]
        if not steps and finalised != self._finalised:
            await self._settle(position, finalised)
        self._finalised = finalised
        await self._settle_rest(position, finalised)
        return steps

    async def _fork(self, position: Position, tip: BlockRef) -> Fork:
        return await forks.find(
            self._chain.reader,
            self._network,
            self._database,
            height=position.height,
            block_hash=position.hash,
            tip=tip,
            clock=self._clock,
        )

    async def _settle(self, position: Position, finalised: int | None) -> None:
        """No new block, but the chain's own finality moved."""
        at = self._clock.now()

        async def work(uow: Uow) -> None:
            height = await self._hold(uow, position)
            if finalised is not None:
                await store.set_finalised(uow, network=self._network.name, height=finalised)
            await effects.settle_due(
                uow, self._network, height=height, finalised_height=finalised, at=at
            )

        await self._database.run(work)

    async def _settle_rest(
        self, position: Position, finalised: int | None, *, since: int | None = None
    ) -> None:
        """Pages that a run left, which began at height `since`, and what a start, a grant or free
        room makes due (D28)."""
        at = self._clock.now()
        after: UUID | None = deposit_due.FIRST
        while after is not None:

            async def work(uow: Uow, page: UUID = after) -> UUID | None:
                height = await self._hold(uow, position)
                final_below = self._network.final_below(height=height, finalised_height=finalised)
                tip = deposit_due.Tip(height=height, final_below=final_below, since=since)
                is_left = await self._settle_house(uow, tip, at=at)
                following = await deposit_due.settle_rest(
                    uow, self._network, tip, after=page, at=at
                )
                self._crash("settle.before_commit")
                return deposit_due.FIRST if following is None and is_left else following

            after = await self._database.run(work)
            self._crash("settle.after_commit")

    async def _settle_house(self, uow: Uow, tip: deposit_due.Tip, *, at: datetime) -> bool:
        """A page of own transactions and of inflows; True when there may be more of them."""
        network = self._network
        due = {"height": tip.height, "final_below": tip.final_below}
        is_left = await outgoing_blocks.settle_due(uow, network, **due, at=at)
        is_inflow_left = await inflows.book_due(
            uow, family=network.family, network=network.name, **due, ids=network.ids, at=at
        )
        return is_left or is_inflow_left

    async def observe_mempool(self, position: Position) -> int:
        """Record what the node's mempool pays to players; returns how many deposits are new.

        A flood is worked off over several looks; blocks come first in between (D29).
        """
        self._mempool.add(await self._chain.reader.mempool())
        at = self._clock.now()
        await deposit_mempool.leave_stuck(self._database, self._network, self._mempool, at=at)
        txs = self._mempool.batch()
        if not txs:
            return 0

        async def work(uow: Uow) -> int:
            height = await self._hold(uow, position)
            count = await effects.observe_mempool(
                uow,
                self._network,
                self._known,
                txs,
                spends=self._mempool.spends,
                height=height,
                at=at,
            )
            self._crash("mempool.before_commit")
            return count

        with self._mempool.handling(txs):
            count = await self._database.run(work)
        self._crash("mempool.after_commit")
        return count

    async def rescan(self, position: Position) -> bool:
        """A piece of what people want looked at again; True when more can be done now."""
        if position.hash is None:
            return False
        return await self._rescans.look(lambda uow: self._hold(uow, position))

    async def reverse_absent(self, position: Position) -> int:
        """Drop and reverse deposits that neither chain nor mempool had for T blocks."""
        await self._retrace.look(lambda uow: self._hold(uow, position))
        await self._look_for_unconfirmed(position)
        absent = [] if position.height is None else await self._absent(position.height)
        if not absent:
            return 0
        at = self._clock.now()

        async def work(uow: Uow) -> int:
            height = await self._hold(uow, position)
            count = await deposit_absence.reverse(uow, self._network, absent, height=height, at=at)
            self._crash("absence.before_commit")
            return count

        count = await self._database.run(work)
        self._crash("absence.after_commit")
        return count

    async def _look_for_unconfirmed(self, position: Position) -> None:
        """Ask for the txs of detected deposits, a few at a look; drop what is gone for T."""
        if position.height is None:
            return
        at = self._clock.now()
        async with self._database.unit_of_work() as uow:
            cursor = await store.cursor(uow, self._network.name)
            txids = await deposit_mempool.to_check(uow, self._network, height=position.height)
        degraded_at = None if cursor is None else cursor["degraded_at_height"]
        places = await self._tx_looks.places(txids)
        if not places and degraded_at is None:
            return

        async def work(uow: Uow) -> None:
            height = await self._hold(uow, position)
            if degraded_at is not None:
                await deposit_mempool.resume_count(
                    uow, self._network, height=height, degraded_at=degraded_at
                )
            await deposit_mempool.note_places(uow, self._network, places, height=height, at=at)
            self._crash("absence.before_commit")

        await self._database.run(work)
        self._crash("absence.after_commit")

    async def _absent(self, height: int) -> list[DepositRow]:
        """Of every due deposit those that the node does not know: one behind many that still
        wait in the mempool is reached."""
        due = deposit_absence.due(self._database, self._network, height=height)
        return await self._tx_looks.absent([item async for item in due], height=height)

    async def _hold(self, uow: Uow, position: Position) -> int:
        """Lock the cursor for work beside the blocks; the height under our fence."""
        row = await store.lock_cursor(
            uow,
            network=self._network.name,
            fence=position.fence,
            lease_seconds=LEASE_SECONDS,
        )
        if row is None or row["hash"] is None or row["stopped_reason"] is not None:
            raise LeaseLost(f"{self._network.name}: the cursor is not ours")
        return int(row["height"])

    async def _connect(
        self,
        position: Position,
        run: Sequence[Block],
        finalised: int | None,
        *,
        history: Sequence[BlockRef] = (),
    ) -> Position:
        """Connect a run; a block that contradicts itself ends a unit of work, so that the breaker
        which it opens stops the next one's credits."""
        while run:
            looks = await token_checks.look(
                self._database,
                self._chain.reader,
                self._network,
                self._known,
                run,
                codes=self._codes,
                clock=self._clock,
            )
            run = run[len(looks) :]
            for part in runs.until_findings(looks):
                position = await self._connect_part(position, part, finalised, history=history)
                history = ()
        return position

    async def _connect_part(
        self,
        position: Position,
        looks: Sequence[token_checks.Look],
        finalised: int | None,
        *,
        history: Sequence[BlockRef],
    ) -> Position:
        at = self._clock.now()
        ref = looks[-1].block.ref

        async def work(uow: Uow) -> bool:
            await self._move(uow, position, height=ref.height, block_hash=ref.hash)
            if finalised is not None:
                await store.set_finalised(uow, network=self._network.name, height=finalised)
            if history:
                await store.connect_blocks(uow, network=self._network.name, refs=history)
            seen = [look.block for look in looks]
            blocks = await changed_effects.settle(uow, self._network, seen, at=at)
            is_left = await effects.connect(
                uow, self._network, self._known, blocks, finalised_height=finalised, at=at
            )
            await token_checks.record(uow, self._network, looks, at=at)
            self._crash("block.before_commit")
            return is_left

        is_left = await self._database.run(work)
        self._crash("block.after_commit")
        count, name = len(looks), self._network.name
        log.debug("block.connected", network=name, height=ref.height, hash=ref.hash, blocks=count)
        position = Position(height=ref.height, hash=ref.hash, fence=position.fence)
        if is_left:  # now: to the next run it would be due at once, without its first tier
            await self._settle_rest(position, finalised, since=looks[0].block.ref.height)
        return position

    async def _disconnect(self, position: Position, stale: BlockRef, fork: Fork) -> Position:
        at = self._clock.now()
        is_last = stale is fork.stale[-1]
        anchor = fork.anchor if is_last else ()
        height, block_hash = stale.height - 1, anchor[0].hash if anchor else stale.parent_hash

        async def work(uow: Uow) -> None:
            await self._move(uow, position, height=height, block_hash=block_hash)
            await effects.disconnect(
                uow, self._network, block_hash=stale.hash, height=stale.height, at=at
            )
            if anchor:  # nobody has looked at the blocks of these
                await rescan_store.connect_headers(uow, network=self._network.name, refs=anchor)
            await forks.stop_beyond_finality(uow, self._network, fork, at=at)
            if is_last:  # what two people allowed is used up with the block that ends it
                await switches.end_reorg(uow, network=self._network.name, at=at)
            self._crash("reorg.before_commit")

        await self._database.run(work)
        self._crash("reorg.after_commit")
        name = self._network.name
        log.warning("block.disconnected", network=name, height=stale.height, hash=stale.hash)
        return Position(height=height, hash=block_hash, fence=position.fence)

    async def _move(self, uow: Uow, position: Position, *, height: int, block_hash: str) -> None:
        """First in the unit of work: a second watcher waits here and then finds it moved."""
        is_ours = await store.move_cursor(
            uow,
            network=self._network.name,
            expected_hash=position.hash,
            fence=position.fence,
            height=height,
            block_hash=block_hash,
            at=self._clock.now(),
            lease_seconds=LEASE_SECONDS,
        )
        if not is_ours:
            raise LeaseLost(f"{self._network.name}: another watcher moved the cursor")

    async def stop(self, reason: str, *, kind: str = "reorg_too_deep") -> None:
        """Stop the network loudly: alarm, event, and a cursor that nobody moves (D05, D09).

        `kind` names the alarm; only a reorg has an event of its own, health tells the rest.
        """
        at = self._clock.now()
        name, ids = self._network.name, self._network.ids
        async with self._database.unit_of_work() as uow:
            if not await store.stop(uow, network=name, reason=reason, at=at):
                return
            await alarm_store.raise_alarm(
                uow,
                alarm_id=ids.new_id(),
                kind=kind,
                network=name,
                detail=reason,
                at=at,
            )
            await switches.open_breaker(
                uow,
                scope=switches.network_scope(name),
                action=switches.Action.ALL,
                reason=reason,
                actor="watcher",
                ids=ids,
                at=at,
            )
            if kind == "reorg_too_deep":
                await health.append_network_event(
                    uow,
                    event_id=ids.new_id(),
                    network=name,
                    type="network.reorg",
                    detail={"reason": reason, "is_stopped": 1},
                    at=at,
                )
        log.error("network.stopped", network=name, reason=reason)
