"""Wiring of the payout role: per network a lane, a pool verifier and a fetcher of statements about
addresses; one delivery of voids, one maker of proofs of reserves.

Owns construction and shutdown. A network whose lane fails is started again alone; the others do
not notice. SIGTERM cancels the tasks: every step is committed, or continued by the next process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from config.clock import Clock, SystemClock, Waker
from config.database import Database, async_url
from config.ids import Ids, SystemIds
from config.logs import get_logger
from config.process import run_until_stopped
from config.registry import Registry, load_registry
from config.settings import Settings
from gateway.leases import Lease, give_back
from gateway.payouts.attestations import AttestationFetch
from gateway.payouts.context import Lane, Signer
from gateway.payouts.crash import Crash, crash_from, no_crash
from gateway.payouts.lane import PayoutLane
from gateway.payouts.pool_verifier import RESERVE_ROWS, PoolVerifier
from gateway.payouts.proving import Proving
from gateway.payouts.signer_client import SignerClient
from gateway.payouts.voids import VoidDelivery
from gateway.treasury.watch import LOOK_SECONDS, TreasuryWatch
from gateway.webhooks.listen_store import Listener
from watchers.chain import Chain
from watchers.node_pardons import PardonLoop
from watchers.registry import build_agreed_chain

RESTART_SECONDS = 5.0  # a network that failed is tried again after this
CHANNELS = ("cage_events", "cage_outgoing", "cage_payouts")  # hints; every loop also polls

log = get_logger(__name__)


class WakeAll(Waker):
    """Passes one hint on to every loop."""

    def __init__(self, wakers: Iterable[Waker]) -> None:
        super().__init__(poll_seconds=1.0)
        self._wakers = tuple(wakers)

    def wake(self) -> None:
        """Wake every loop."""
        for waker in self._wakers:
            waker.wake()


async def run_payouts(settings: Settings) -> None:
    """Run the payouts of every enabled network until SIGTERM or SIGINT."""
    registry = load_registry(settings)
    clock = SystemClock(offset_seconds=float(settings.test_clock_offset_seconds))
    database = Database(
        async_url(settings.role_url("gateway_payouts")),
        pool_size=settings.database.pool_size,
        application_name="cage payouts",
    )
    role = PayoutRole(registry, database=database, clock=clock, ids=SystemIds(clock))
    try:
        await run_until_stopped(role.run, database=database, clock=clock)
    finally:
        await database.close()
        log.info("payouts.stopped")


def build_lane(
    network: str,
    registry: Registry,
    *,
    database: Database,
    chain: Chain,
    signer: Signer,
    clock: Clock,
    ids: Ids,
    crash: Crash = no_crash,
) -> Lane:
    """The parts of one network's lane under a fresh lease holder."""
    return Lane(
        spec=registry.chains[network],
        registry=registry,
        chain=chain,
        database=database,
        lease=Lease(name=f"payouts:{network}", holder=f"payouts-{ids.new_id()}"),
        signer=signer,
        clock=clock,
        ids=ids,
        crash=crash,
    )


class PayoutRole:
    """All networks of one process."""

    def __init__(self, registry: Registry, *, database: Database, clock: Clock, ids: Ids) -> None:
        settings = registry.settings
        self._registry = registry
        self._database = database
        self._clock = clock
        self._ids = ids
        once = settings.crash_once_file
        self._crash = crash_from(
            crash_at=settings.crash_at, once_file=None if once is None else settings.path(once)
        )
        self._signer = SignerClient(
            settings.path(settings.signer.socket), timeout_seconds=settings.signer.timeout_seconds
        )
        self._voids = VoidDelivery(database=database, signer=self._signer, clock=clock, ids=ids)
        self._proving = Proving(
            registry, database=database, signer=self._signer, clock=clock, ids=ids
        )

    async def run(self) -> None:
        """Run until cancelled."""
        settings = self._registry.settings
        wakers: list[Waker] = []

        async with asyncio.TaskGroup() as group:
            for network in self._registry.chains:
                lane_waker, pool_waker, attest_waker = (
                    Waker(poll_seconds=settings.payouts.poll_seconds) for _ in range(3)
                )
                wakers.append(lane_waker)  # the pool only polls: no event speaks of it
                for runner in (
                    partial(self._lane, network, lane_waker),
                    partial(self._verifier, network, pool_waker),
                    partial(self._attestations, network, attest_waker),
                ):
                    group.create_task(self._supervise(network, runner), name=f"payouts {network}")
                watch = partial(self._treasury, network)
                group.create_task(self._supervise(network, watch), name=f"treasury {network}")
            void_waker = Waker(poll_seconds=settings.payouts.poll_seconds)
            wakers.append(void_waker)
            group.create_task(self._supervise("*", partial(self._voids.run, void_waker)))
            proof_waker = Waker(poll_seconds=settings.payouts.poll_seconds)
            group.create_task(self._supervise("*", partial(self._proving.run, proof_waker)))
            listener = Listener(
                settings.role_url("gateway_payouts"),
                channels=dict.fromkeys(CHANNELS, WakeAll(wakers)),
                clock=self._clock,
            )
            group.create_task(listener.run(), name="listener")
            log.info("payouts.started", networks=list(self._registry.chains))

    async def _supervise(self, network: str, work: Callable[[], Awaitable[None]]) -> None:
        """A network that fails is started again; nothing of it reaches the others."""
        while True:
            try:
                await work()
            except Exception:  # the supervisor of the loops
                log.exception("payouts.network_failed", network=network)
            await self._clock.sleep(RESTART_SECONDS)

    async def _verifier(self, network: str, waker: Waker) -> None:
        verifier = PoolVerifier(
            network,
            database=self._database,
            signer=self._signer,
            clock=self._clock,
            ids=self._ids,
            brands=tuple(self._registry.settings.brands),
            # A small deployment keeps a small pool; the watcher fills it well before the alarm.
            reserve=min(RESERVE_ROWS, self._registry.settings.pool.low * 2 // 3),
        )
        await verifier.run(waker)

    async def _attestations(self, network: str, waker: Waker) -> None:
        fetch = AttestationFetch(
            network,
            caip2=self._registry.chains[network].caip2,
            database=self._database,
            signer=self._signer,
            clock=self._clock,
            ids=self._ids,
        )
        await fetch.run(waker)

    async def _lane(self, network: str, waker: Waker) -> None:
        node_settings = self._registry.settings.networks[network]
        chain = build_agreed_chain(
            self._registry.chains[network],
            [node.url_with_credentials() for node in node_settings.nodes],
            self._registry.assets.values(),
            quorum=node_settings.quorum,
            clock=self._clock,
            timeout_seconds=node_settings.request_timeout_seconds,
            calls_per_second=node_settings.calls_per_second,
        )
        lane = build_lane(
            network,
            self._registry,
            database=self._database,
            chain=chain,
            signer=self._signer,
            clock=self._clock,
            ids=self._ids,
            crash=self._crash,
        )
        pardons = PardonLoop(
            pool=chain.pool, network=network, database=self._database, clock=self._clock
        )
        try:
            await chain.reader.check_identity()  # another chain behind the URL is refused (N02)
            async with asyncio.TaskGroup() as group:
                told = group.create_task(self._supervise(network, pardons.run))
                await PayoutLane(lane).run(waker)
                told.cancel()
        finally:
            await give_back(self._database, lane.lease)
            await chain.close()

    async def _treasury(self, network: str) -> None:
        watch = TreasuryWatch(
            network, self._registry, database=self._database, clock=self._clock, ids=self._ids
        )
        try:
            await watch.run(Waker(poll_seconds=LOOK_SECONDS))
        finally:
            await give_back(self._database, watch.lease)
