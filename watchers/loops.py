"""The loops of one watcher process: follow, sample fees, fill the address pool, answer probes.

Owns their pace and their supervision. Each loop may die at any line: the next round continues from
rows. Loops other than `FollowLoop` need no lease, because what they write is idempotent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from config import alarm_store
from config.chains import Family
from config.clock import Clock, Waker
from config.database import Database, is_away
from config.errors import ConfigError
from config.logs import get_logger, redact_text
from config.settings import Settings
from ledger.errors import (
    BooksDoNotMatch,
    ForeignAccount,
    IllegalTransition,
    InsufficientFunds,
    ReferenceConflict,
    UnbalancedPosting,
)
from watchers import (
    account_balances,
    addresses,
    batch_contract,
    cold,
    fees,
    health,
    nonces,
    pool,
    probes,
)
from watchers.chain import Chain
from watchers.errors import (
    LeaseLost,
    NetworkStopped,
    NodeError,
    NodesDisagree,
    ReorgTooDeep,
    UnknownAttempt,
    UnsupportedOperation,
)
from watchers.follower import Connected, Disconnected, Follower, Position, Step
from watchers.metrics import Metrics
from watchers.network import Network
from watchers.nodes import NodePool
from watchers.polling import MempoolPace, PollPace

log = get_logger("watchers.loops")

BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_LAST_SECONDS = 15.0  # a node that is back is found within this time
STOPPED_POLL_SECONDS = 10.0  # a person clears `stopped_reason`; nothing else goes on
FEE_POLL_SECONDS = 10.0  # quotes older than a minute are refused by payouts
POOL_POLL_SECONDS = 5.0
PROBE_POLL_SECONDS = 1.0  # a person waits
DROP_LEASE_TIMEOUT_SECONDS = 5.0

BROKEN_INVARIANTS = (
    BooksDoNotMatch,
    ForeignAccount,
    IllegalTransition,
    InsufficientFunds,
    ReferenceConflict,
    UnbalancedPosting,
    UnknownAttempt,
    UnsupportedOperation,
)
"""What a second look does not mend: the network stops for a person rather than go on wrong."""

AlarmRaiser = Callable[[str, Exception], Awaitable[None]]


async def supervise(
    name: str,
    run: Callable[[], Awaitable[None]],
    *,
    clock: Clock,
    network: str,
    alarm: AlarmRaiser,
) -> None:
    """Run a loop for ever: an unexpected error is told and the loop restarts with backoff."""
    delay = BACKOFF_FIRST_SECONDS
    while True:
        started = clock.monotonic_seconds()
        try:
            await run()
            return
        except Exception as error:  # the one place: the supervisor of a loop (HOUSE 11)
            log.exception("loop.failed", loop=name, network=network)
            failure = error
        try:
            await alarm(name, failure)
        except Exception:  # mostly the database itself; the log has both
            log.exception("alarm.not_raised", loop=name, network=network)
        lived = clock.monotonic_seconds() - started
        delay = BACKOFF_FIRST_SECONDS if lived > BACKOFF_LAST_SECONDS else delay
        await clock.sleep(delay)
        delay = min(delay * 2, BACKOFF_LAST_SECONDS)


def alarm_of(database: Database, network: Network, *, clock: Clock) -> AlarmRaiser:
    """Raises the alarm `loop_failed` of a network, once while it is open."""

    async def raise_alarm(loop: str, error: Exception) -> None:
        async with database.unit_of_work() as uow:
            await alarm_store.raise_alarm(
                uow,
                alarm_id=network.ids.new_id(),
                kind="loop_failed",
                network=network.name,
                detail=f"{loop}: {_told(error)}",
                at=clock.now(),
            )

    return raise_alarm


def _told(error: Exception) -> str:
    """An error as people may read it: no credentials, no statement with its parameters."""
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return redact_text(f"{type(error).__name__}: {text}")[: health.ERROR_LENGTH_MAX]


async def look_beside(
    follower: Follower, position: Position, *, pace: MempoolPace, clock: Clock
) -> None:
    """At the tip: the mempool, and what is absent however the mempool fares; then its error."""
    seen: object = None
    from_seconds = clock.monotonic_seconds()
    if pace.is_due(at_seconds=from_seconds):
        (seen,) = await asyncio.gather(follower.observe_mempool(position), return_exceptions=True)
        pace.looked(from_seconds=from_seconds, to_seconds=clock.monotonic_seconds())
    await follower.reverse_absent(position)
    if isinstance(seen, BaseException):
        raise seen


class FollowLoop:
    """Blocks, mempool and absence, under the network's lease; health after every look."""

    def __init__(
        self,
        *,
        follower: Follower,
        chain: Chain,
        network: Network,
        database: Database,
        clock: Clock,
        waker: Waker,
        metrics: Metrics,
        pool: NodePool | None = None,
    ) -> None:
        self._follower = follower
        self._chain = chain
        self._network = network
        self._database = database
        self._clock = clock
        self._waker = waker
        self._pool = pool
        self._fence: int | None = None
        self._pace = PollPace(poll_seconds=network.spec.poll_seconds)
        self._mempool_pace = MempoolPace()
        self._metrics = metrics
        self._is_identified = False

    @property
    def is_following(self) -> bool:
        """Whether this process held the lease at its last look."""
        return self._fence is not None

    async def run(self) -> None:
        """Follow until cancelled; the lease is dropped at the end."""
        try:
            while True:
                delay = await self.run_once()
                if delay is None:
                    await self._waker.wait(self._pace.wait_seconds)
                elif delay > 0:
                    await self._clock.sleep(delay)
        finally:
            await self._give_up()

    async def run_once(self) -> float | None:
        """One look; a failure that nobody foresaw makes the network unhealthy, then goes on up."""
        try:
            return await self.look()
        except Exception as error:  # supervised above; here only told
            self._is_identified = False
            if not is_away(error):
                await self._tell_health(error=error)
            raise

    async def look(self) -> float | None:
        """One round; returns seconds to wait, or None for the usual poll."""
        try:
            position = await self._follower.take_lease()
            if position is None:
                self._fence = None
                return None  # another instance follows: stand by
            await self._take_over(position)
            return await self._round(position)
        except LeaseLost as error:
            log.warning("lease.lost", network=self._network.name, detail=str(error))
            return None
        except NodeError as error:
            self._is_identified = False
            await self._tell_health(error=error)
            return min(BACKOFF_LAST_SECONDS, self._network.spec.poll_seconds * 2)
        except NetworkStopped as error:
            # What stands stopped is not stopped again: two people may start it in this moment.
            if isinstance(error, ReorgTooDeep):
                await self._follower.stop(str(error))
            await self._tell_health(error=error)
            return STOPPED_POLL_SECONDS
        except BROKEN_INVARIANTS as error:
            log.exception("network.invariant_broken", network=self._network.name)
            await self._follower.stop(_told(error), kind="invariant_broken")
            await self._tell_health(error=error)
            return STOPPED_POLL_SECONDS

    async def _round(self, position: Position) -> float | None:
        if not self._is_identified:
            await self._chain.reader.check_identity()
            await self._start_nonces()
            self._is_identified = True
        steps = await self._follower.follow(position)
        self._count(steps)
        if steps:
            self._pace.blocks_came(len(steps), at_seconds=self._clock.monotonic_seconds())
        if any(isinstance(step, Disconnected) for step in steps):
            await self._tell_reorg(steps)
        if not steps:  # catch up before looking at anything else
            if self._pool is not None:
                self._pool.accept_branch()
            await look_beside(self._follower, position, pace=self._mempool_pace, clock=self._clock)
        is_more = not steps and await self._follower.rescan(position)
        await self._tell_health(height=_height_after(position, steps))
        return 0.0 if steps or is_more else None

    async def _take_over(self, position: Position) -> None:
        """At a new fence: what the last holder of the lease knew of the nodes."""
        if self._fence == position.fence:
            return
        if self._pool is not None:
            async with self._database.unit_of_work() as uow:
                known = await health.stored_nodes(uow, self._network.name)
            self._pool.restore(known)
        self._fence = position.fence

    async def _start_nonces(self) -> None:
        """Accounts that were used before this database begin at their mined count."""
        if self._network.family is not Family.EVM:
            return
        async with self._database.unit_of_work() as uow:
            own = await addresses.by_role(
                uow, network=self._network.name, roles=account_balances.ROLES
            )
        for address in (item for item in own if item.scheme != batch_contract.SCHEME):
            count = await self._chain.reader.account_nonce(address.key)
            async with self._database.unit_of_work() as uow:
                await nonces.at_least(
                    uow,
                    network=self._network.name,
                    sender_key=address.key,
                    mined_count=count,
                )

    def _count(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Connected):
                self._metrics.connected(step.ref.height)
            else:
                self._metrics.disconnected()

    async def _tell_reorg(self, steps: list[Step]) -> None:
        gone = [step for step in steps if isinstance(step, Disconnected)]
        at = self._clock.now()
        async with self._database.unit_of_work() as uow:
            await health.append_network_event(
                uow,
                event_id=self._network.ids.new_id(),
                network=self._network.name,
                type="network.reorg",
                detail={
                    "depth_blocks": len(gone),
                    "height": gone[0].height,
                    "hash": gone[0].hash,
                },
                at=at,
            )

    async def _tell_health(
        self, *, height: int | None = None, error: Exception | None = None
    ) -> None:
        tip = None if error is not None else await self._chain.reader.tip()
        pool = self._pool
        agreeing = 1 if pool is None else pool.agreeing()
        seen = health.Observation(
            network=self._network.name,
            tip_height=None if tip is None else tip.height,
            tip_hash=None if tip is None else tip.hash,
            height=height,
            nodes_total=1 if pool is None else len(pool.nodes),
            nodes_agreeing=agreeing if error is None or pool is not None else 0,
            error=None if error is None else _told(error),
        )
        at = self._clock.now()
        async with self._database.unit_of_work() as uow:
            await health.observe(uow, seen, ids=self._network.ids, at=at)
            if pool is not None and self._fence is not None:
                await health.keep_nodes(
                    uow,
                    self._nodes_seen(pool, error),
                    fence=self._fence,
                    ids=self._network.ids,
                    at=at,
                )
        self._metrics.healthy(is_healthy=error is None)
        if pool is not None:
            self._metrics.nodes(pool.records, agreeing=agreeing)
        if error is not None:
            log.warning("network.degraded", network=self._network.name, error=seen.error)

    def _nodes_seen(self, pool: NodePool, error: Exception | None) -> health.NodesSeen:
        """A chain split heals by itself and is told after a block's time; two accounts of one
        block never are alike by chance."""
        disagreement = pool.disagreement(after_seconds=self._network.spec.block_seconds)
        if disagreement is None and isinstance(error, NodesDisagree) and pool.split is None:
            disagreement = str(error)
        return health.NodesSeen(
            network=self._network.name,
            records=pool.records,
            disagreement=disagreement,
            is_halted=pool.halted(),
        )

    async def _give_up(self) -> None:
        """A lease that cannot be dropped runs out by itself."""
        try:
            async with asyncio.timeout(DROP_LEASE_TIMEOUT_SECONDS):
                await self._follower.drop_lease()
        except (TimeoutError, DBAPIError) as error:
            log.warning("lease.kept", network=self._network.name, error=type(error).__name__)


def _height_after(position: Position, steps: list[Step]) -> int | None:
    """Where a round ended."""
    if not steps:
        return position.height
    last = steps[-1]
    return last.ref.height if isinstance(last, Connected) else last.height - 1


class FeeLoop:
    """Samples the node's fee quotes into a table."""

    def __init__(self, *, chain: Chain, network: Network, database: Database, clock: Clock) -> None:
        self._chain = chain
        self._network = network
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await self.sample()
            await self._clock.sleep(FEE_POLL_SECONDS)

    async def sample(self) -> bool:
        """One quote; False when the node gave none."""
        try:
            quote = await self._chain.writer.fee_quote()
        except NodeError as error:
            log.warning("fees.unknown", network=self._network.name, error=str(error))
            return False
        async with self._database.unit_of_work() as uow:
            await fees.record(uow, network=self._network.name, quote=quote, at=self._clock.now())
        return True


class PoolLoop:
    """Keeps the address pool filled; waits for the public keys where they are not there yet."""

    def __init__(
        self,
        *,
        chain: Chain,
        network: Network,
        settings: Settings,
        database: Database,
        clock: Clock,
    ) -> None:
        self._chain = chain
        self._network = network
        self._settings = settings
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Top up until cancelled."""
        while True:
            await self.top_up()
            await self._clock.sleep(POOL_POLL_SECONDS)

    async def top_up(self) -> int:
        """One round; 0 while the public keys are missing."""
        await self._watch_cold()
        path: Path = self._settings.path(self._settings.keys.xpubs_file)
        try:
            xpubs = pool.load_xpubs(path, self._network.name)
            rows = pool.branches(self._settings, self._network, xpubs)
        except ConfigError as error:
            log.warning("pool.no_keys", network=self._network.name, error=str(error))
            return 0
        written = await pool.top_up(
            self._database, self._chain.codec, self._network, rows, clock=self._clock
        )
        try:
            await batch_contract.register(
                self._database, self._chain, self._network, clock=self._clock
            )
        except NodeError as error:
            log.warning("batch_contract.unseen", network=self._network.name, error=str(error))
        return written

    async def _watch_cold(self) -> None:
        name = self._network.name
        try:
            await cold.register(
                self._database, self._network, self._settings.cold.get(name), clock=self._clock
            )
        except ConfigError as error:
            log.error("cold.not_watched", network=name, error=str(error))


class ProbeLoop:
    """Answers questions of processes that have no node."""

    def __init__(self, *, chain: Chain, network: Network, database: Database, clock: Clock) -> None:
        self._chain = chain
        self._network = network
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await probes.answer_all(self._database, self._chain, self._network, clock=self._clock)
            await self._clock.sleep(PROBE_POLL_SECONDS)
