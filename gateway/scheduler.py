"""The clock of the house: ticks that wake loops, never the work itself.

Owns which loop is woken how often. A tick is a NOTIFY sent under the scheduler's lease, so that of
several schedulers one speaks (P14); the loop that hears it owns the work. Loops of upkeep
that belong to no other role (folding balances, partitions ahead, old nonces and sums of limits,
the question for a comparison, and whether it was made) live here too, and also poll; so does the
sealer of the logs. It moves no money and holds no key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlalchemy.exc import DBAPIError

from config.breaker_policy import BreakerPolicy
from config.clock import Clock, SystemClock, Waker
from config.database import Database, Uow, async_url, is_lock_timeout
from config.ids import Ids, SystemIds
from config.logs import get_logger
from config.process import run_until_stopped
from config.registry import load_registry
from config.settings import Settings
from gateway import books_watch, day_closes, sealing
from gateway import scheduler_store as store
from gateway.comparison_watch import ComparisonWatch
from gateway.leases import Lease, LeaseLost, hold
from gateway.payouts import limits
from gateway.sealing import Sealer
from gateway.webhooks.listen_store import Listener

FOLD_ACCOUNTS = 500  # accounts per pass; the next pass takes the rest
PARTITION_MONTHS = 3  # months ahead, so that a month of silence does no harm
NONCES_MAX = 10_000  # rows per pass
LIMIT_USAGE_MAX = 10_000  # rows per pass
RESTART_SECONDS = 1.0  # after the sealer failed, the database being away, say
MISSED_TICK_SECONDS = 30  # a tick later than this is left out: the next one does the same

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A hint on one channel, every so often."""

    channel: str
    every_seconds: int


TICKS = (
    Tick(channel="cage_payouts", every_seconds=15),  # valid_until, time limits of CONTRACT 5
    Tick(channel="cage_fold", every_seconds=5),
    Tick(channel="cage_nonces", every_seconds=60),
    Tick(channel="cage_limits", every_seconds=3_600),
    # Not in step with what reads the whole journal each hour: a new month waits for its table.
    Tick(channel="cage_partitions", every_seconds=700),
    Tick(channel="cage_books", every_seconds=60),  # totals
    Tick(channel="cage_reconcile", every_seconds=3_600),  # every entry
    Tick(channel="cage_close", every_seconds=600),
    Tick(channel="cage_compare", every_seconds=3_600),  # the signer's log against the books
    Tick(channel="cage_compared", every_seconds=60),  # whether somebody does
)


class Scheduler:
    """One process; of several, the holder of the lease ticks and works."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        breakers: BreakerPolicy | None = None,
        networks: Sequence[str] = (),
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._breakers = breakers or BreakerPolicy()
        self._networks = networks
        self._comparisons = ComparisonWatch(networks=networks, ids=ids)
        self._lease = Lease(name="scheduler", holder=f"scheduler-{ids.new_id()}")
        # The steps of each loop's pass, each in a unit of work of its own.
        self.upkeep: dict[str, Sequence[Callable[[Uow], Awaitable[int]]]] = {
            "cage_fold": (partial(store.fold, limit=FOLD_ACCOUNTS),),
            "cage_nonces": (self._prune_nonces,),
            "cage_limits": (self._prune_limit_usage,),
            "cage_partitions": tuple(
                partial(self._make_months, table) for table in store.MONTHLY_TABLES
            ),
            "cage_compare": (self._ask_comparison,),
            "cage_compared": (self._watch_comparisons,),
            "cage_books": (partial(self._check_books, is_whole=False),),
            "cage_reconcile": (partial(self._check_books, is_whole=True),),
            "cage_close": (self._close_day,),
        }

    async def run(
        self, url: str, *, ticks: Sequence[Tick] = TICKS, sealer: Sealer | None = None
    ) -> None:
        """Tick, keep house and seal until cancelled. `url` is where the listener connects."""
        wakers = {
            tick.channel: Waker(poll_seconds=float(2 * tick.every_seconds))
            for tick in ticks
            if tick.channel in self.upkeep
        }
        channels = wakers | ({sealing.CHANNEL: sealer.waker} if sealer else {})
        timer = AsyncIOScheduler(timezone=UTC)
        for tick in ticks:
            timer.add_job(
                self.tick,
                "interval",
                args=[tick.channel],
                seconds=tick.every_seconds,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=MISSED_TICK_SECONDS,
            )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(Listener(url, channels=channels, clock=self._clock).run())
                for channel, waker in wakers.items():
                    group.create_task(self._keep_house(channel, waker), name=channel)
                if sealer is not None:
                    group.create_task(self._seal(sealer), name="sealer")
                timer.start()
                log.info("scheduler.started", channels=[tick.channel for tick in ticks])
        finally:
            if timer.running:
                timer.shutdown(wait=False)

    async def tick(self, channel: str) -> bool:
        """Send one hint, if this process holds the lease; says whether it did."""
        try:
            if not await hold(self._database, self._lease):
                return False
            async with self._database.unit_of_work() as uow:
                await self._lease.check(uow)
                await store.hint(uow, channel)
        except (LeaseLost, DBAPIError, OSError, TimeoutError) as error:
            log.warning("scheduler.tick_missed", channel=channel, error=type(error).__name__)
            return False
        return True

    async def work(self, channel: str) -> int:
        """One pass of a loop of upkeep; raises LeaseLost when another instance does it. A step that
        waits too long for a lock is left to the next pass, and holds up no other."""
        done = 0
        for step in self.upkeep[channel]:
            try:
                async with self._database.unit_of_work() as uow:
                    await self._lease.check(uow)
                    done += await step(uow)
            except DBAPIError as error:
                if not is_lock_timeout(error):
                    raise
                log.warning("scheduler.waited_too_long", channel=channel, detail=str(error.orig))
        return done

    async def _keep_house(self, channel: str, waker: Waker) -> None:
        while True:
            await waker.wait()
            try:
                done = await self.work(channel)
                if done:
                    log.debug("scheduler.upkeep", channel=channel, done=done)
            except LeaseLost:
                pass  # another scheduler has it, or the next tick takes the lease
            except Exception:  # the supervisor of the loop
                log.exception("scheduler.upkeep_failed", channel=channel)

    async def _seal(self, sealer: Sealer) -> None:
        while True:
            try:
                await sealer.run()
            except Exception:  # the supervisor of the loop
                log.exception("scheduler.sealer_failed")
            await self._clock.sleep(RESTART_SECONDS)

    async def _prune_nonces(self, uow: Uow) -> int:
        return await store.prune_nonces(uow, at=self._clock.now(), limit=NONCES_MAX)

    async def _prune_limit_usage(self, uow: Uow) -> int:
        before = limits.first_hour_kept(self._clock.now())
        return await store.prune_limit_usage(uow, before_hour=before, limit=LIMIT_USAGE_MAX)

    async def _check_books(self, uow: Uow, *, is_whole: bool) -> int:
        return await books_watch.look(
            uow, policy=self._breakers, is_whole=is_whole, ids=self._ids, at=self._clock.now()
        )

    async def _close_day(self, uow: Uow) -> int:
        """One day per pass, so that a long absence is caught up with day by day."""
        at = self._clock.now()
        day = await day_closes.next_day(uow, at=at)
        if day is None:
            return 0
        await day_closes.close(
            uow, day=day, networks=self._networks, closed_by="scheduler", ids=self._ids, at=at
        )
        return 1

    async def _ask_comparison(self, uow: Uow) -> int:
        """Payouts compares: it alone may talk to the signer."""
        return await store.ask_comparison(uow, at=self._clock.now())

    async def _watch_comparisons(self, uow: Uow) -> int:
        return await self._comparisons.look(uow, at=self._clock.now())

    async def _make_months(self, table: str, uow: Uow) -> int:
        return await store.make_months(uow, table, at=self._clock.now(), months=PARTITION_MONTHS)


async def run_scheduler(settings: Settings) -> None:
    """Run the scheduler until SIGTERM or SIGINT."""
    clock = SystemClock(offset_seconds=float(settings.test_clock_offset_seconds))
    url = settings.role_url("scheduler")
    database = Database(async_url(url), pool_size=3, application_name="cage scheduler")
    ids = SystemIds(clock)
    registry = load_registry(settings)
    scheduler = Scheduler(
        database=database,
        clock=clock,
        ids=ids,
        breakers=registry.policy.breakers,
        networks=sorted(registry.chains),
    )
    sealer = Sealer(
        database=database,
        clock=clock,
        ids=ids,
        waker=Waker(poll_seconds=sealing.POLL_SECONDS),
        anchor_file=settings.path(settings.audit.anchor_file),
    )
    try:
        await run_until_stopped(
            partial(scheduler.run, url, sealer=sealer), database=database, clock=clock
        )
    finally:
        await database.close()
        log.info("scheduler.stopped")
