"""The API role: reads settings, builds the parts, serves until told to stop (HOUSE 2, wiring)."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from aiohttp import web

from config import collector
from config.clock import Clock, SystemClock
from config.database import Database, async_url
from config.ids import Ids, SystemIds
from config.logs import get_logger
from config.process import run_until_stopped
from config.registry import Registry, load_registry
from config.settings import Settings
from gateway.api import (
    accounting,
    addresses,
    adjustments,
    alarms,
    approvals,
    audits,
    books,
    consolidations,
    contract_setups,
    day_closes,
    deposit_decisions,
    deposit_refunds,
    deposits,
    doctor,
    events,
    forecasts,
    health,
    inflows,
    limit_policies,
    networks,
    node_pardons,
    openapi,
    order_groups,
    player_balances,
    players,
    policies,
    proofs,
    rates,
    rebalance_files,
    rebalances,
    reconciliation_breaks,
    reconciliations,
    recoveries,
    rescans,
    searches,
    statements,
    sweep_policies,
    sweeps,
    switches,
    verifications,
    wallets,
    webhook_deliveries,
    webhook_endpoints,
    withdrawal_attempts,
    withdrawal_batches,
    withdrawal_check,
    withdrawal_decisions,
    withdrawals,
)
from gateway.api.endpoint import Endpoint, Services, collect
from gateway.api.metrics import ApiMetrics
from gateway.api.rate_limit import RateLimiter, Slots
from gateway.app import ACTIVITY, IDLE_SECONDS_MAX, SlowConnections, build_app
from gateway.auth import Authenticator, KeyCache
from gateway.gathering import Gathering
from gateway.webhooks.secrets import load_key
from watchers.registry import build_codec

log = get_logger("gateway.api")

LINGERING_SECONDS = 2.0  # after an early answer; with the slow body's limit still below 15 s (A25)
SHUTDOWN_SECONDS = 10.0  # handlers that run may finish; the rest is cut off
MODULES = (
    networks,
    node_pardons,
    addresses,
    doctor,  # before `deposits`: its path would match `/v1/deposits/{id}`
    deposits,
    deposit_decisions,
    deposit_refunds,
    players,
    player_balances,
    proofs,
    withdrawals,
    withdrawal_decisions,
    withdrawal_attempts,
    withdrawal_batches,
    withdrawal_check,
    events,
    webhook_endpoints,
    webhook_deliveries,
    inflows,
    accounting,
    adjustments,
    wallets,
    forecasts,
    books,
    statements,
    verifications,
    audits,
    reconciliation_breaks,
    reconciliations,
    rescans,
    recoveries,
    contract_setups,
    day_closes,
    rebalances,
    rebalance_files,
    sweeps,
    consolidations,
    switches,
    approvals,
    alarms,
    searches,
    policies,
    limit_policies,
    sweep_policies,
    rates,
)


def endpoints() -> tuple[Endpoint, ...]:
    """Every signed operation of this release."""
    return collect(MODULES)


def build_services(
    *, settings: Settings, registry: Registry, database: Database, clock: Clock, ids: Ids
) -> Services:
    """The parts of one API process."""
    keys = KeyCache(database, clock)
    return Services(
        database=database,
        registry=registry,
        codecs={
            name: build_codec(spec, registry.assets.values())
            for name, spec in registry.chains.items()
        },
        clock=clock,
        ids=ids,
        authenticator=Authenticator(
            keys=keys, clock=clock, authorities=settings.api.accepted_authorities()
        ),
        limiter=RateLimiter(
            clock, per_second=settings.api.rate_per_second, burst=settings.api.rate_burst
        ),
        sealing_key=load_key(settings.path(settings.keys.sealed_key_file), ids),
        metrics=ApiMetrics(),
        # A batch has two units of work open: all slots together leave the pool its half.
        batches=Slots(max(1, settings.database.pool_size // 4)),
        orders=Gathering(
            order_groups.run_group,
            name=order_groups.player_of,
            group_max=order_groups.GROUP_MAX,
            waiting_max=order_groups.WAITING_MAX,
        ),
    )


class ApiServer:
    """The listener of one API process."""

    def __init__(self, services: Services, found: Sequence[Endpoint]) -> None:
        self._services = services
        app = build_app(services, found)
        health.add_routes(app, services)
        openapi.add_routes(app, found, version=_version())
        self._app = app
        # Bodies are never inflated (A24); idle connections go at once with the slow ones (A25).
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=IDLE_SECONDS_MAX,
            lingering_time=LINGERING_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self.port = 0

    async def start(self) -> None:
        """Listen; `port` is the bound one."""
        api = self._services.registry.settings.api
        await self._runner.setup()
        site = web.TCPSite(self._runner, api.host, api.port, backlog=1024)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        log.info("api.listening", host=api.host, port=self.port)

    async def run(self) -> None:
        """The loop beside the listener, until cancelled."""
        server = self._runner.server
        if server is None:
            raise RuntimeError("run() before start()")
        slow = SlowConnections(server, activity=self._app[ACTIVITY], clock=self._services.clock)
        await slow.run()

    async def stop(self) -> None:
        """Stop listening and let running handlers end; what still runs then is cut off."""
        await self._runner.cleanup()
        self._services.orders.stop()


async def run_api(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT."""
    registry = load_registry(settings)
    clock = SystemClock(offset_seconds=settings.test_clock_offset_seconds)
    ids = SystemIds(clock)
    database = Database(
        async_url(settings.role_url("gateway_api")),
        pool_size=settings.database.pool_size,
        application_name="cage-api",
    )

    async def serve() -> None:
        services = build_services(
            settings=settings, registry=registry, database=database, clock=clock, ids=ids
        )
        server = ApiServer(services, endpoints())
        await server.start()
        collector.settle()  # models and their schemas are made by now
        try:
            await server.run()
        finally:
            await server.stop()

    try:
        await run_until_stopped(serve, database=database, clock=clock)
    finally:
        await database.close()


def _version() -> str:
    try:
        return version("cage")
    except PackageNotFoundError:
        return "0.0.0"
