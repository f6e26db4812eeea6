"""A watcher over several nodes of one simulated chain, with the loop that credits."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config.clock import Waker
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pools import RULES, View, agreed
from tests.support.simchain import SimUtxo, sim_utxo
from tests.support.watching import Watch, watching
from watchers import health
from watchers.agreed_chain import AgreedChain
from watchers.judge import Rules
from watchers.loops import FollowLoop
from watchers.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBench:
    """A watcher over several nodes of one simulated chain, with its loop."""

    sim: SimUtxo
    views: list[View]
    chain: AgreedChain
    watch: Watch
    loop: FollowLoop
    metrics: Metrics
    clock: ManualClock

    async def round(self, times: int = 1) -> None:
        """Look at every node, then one round of the loop, to the tip."""
        for _ in range(times):
            self.clock.advance(1)
            await self.chain.pool.look_all()
            while await self.loop.look() == 0.0:
                pass

    async def nodes(self) -> list[tuple[str, str]]:
        """(label, state) of every node as the API tells it."""
        async with self.watch.as_api.unit_of_work() as uow:
            return [(item.label, item.state.value) for item in await health.node_status(uow)]

    async def alarms(self) -> list[tuple[str, str]]:
        """(kind, detail) of open alarms."""
        async with self.watch.as_watcher.unit_of_work() as uow:
            result = await uow.execute(
                "SELECT kind, detail FROM gateway.alarms WHERE cleared_at IS NULL ORDER BY kind"
            )
            return [(row.kind, row.detail) for row in result]

    async def status(self) -> health.NetworkStatus:
        """The network's health."""
        async with self.watch.as_api.unit_of_work() as uow:
            (found,) = await health.network_status(uow)
        return found


Pooled = Callable[[int, int], Awaitable[PoolBench]]
"""Opens a bench of so many nodes of which so many must agree, for the length of the test."""


@asynccontextmanager
async def pool_bench(
    count: int,
    quorum: int,
    *,
    database: TestDatabase,
    clock: ManualClock,
    ids: SequentialIds,
    rules: Rules = RULES,
) -> AsyncIterator[PoolBench]:
    """`count` honest nodes of which `quorum` must agree; nothing is followed yet."""
    sim, _ = sim_utxo()
    views = [View(sim) for _ in range(count)]
    chain = agreed(sim, views, quorum=quorum, clock=clock, rules=rules)
    async with watching(chain, database, clock=clock, ids=ids, absence_blocks=5) as watch:
        metrics = Metrics("btc")
        loop = FollowLoop(
            follower=watch.follower,
            chain=chain,
            network=watch.network,
            database=watch.as_watcher,
            clock=clock,
            waker=Waker(poll_seconds=0.1),
            metrics=metrics,
            pool=chain.pool,
        )
        try:
            yield PoolBench(
                sim=sim,
                views=views,
                chain=chain,
                watch=watch,
                loop=loop,
                metrics=metrics,
                clock=clock,
            )
        finally:
            await chain.close()
