"""The `webhooks` role: wires listener, sequencer and relay of one process (composition root)."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from config.clock import Clock, SystemClock, Waker
from config.database import Database, async_url
from config.ids import SystemIds
from config.logs import get_logger
from config.process import run_until_stopped
from config.registry import Registry, load_registry
from config.settings import Settings
from gateway.api.wire import WireContext
from gateway.webhooks.connector import WebhookClient
from gateway.webhooks.delivery import Schedule
from gateway.webhooks.listen_store import Listener
from gateway.webhooks.rate_source import RateLoop, SourceClient
from gateway.webhooks.relay import Relay
from gateway.webhooks.secrets import load_key
from gateway.webhooks.sequencer import Sequencer
from gateway.webhooks.store import EVENTS_CHANNEL, FEED_CHANNEL

SEQUENCER_POLL_SECONDS = 0.5  # when a notification was lost
RELAY_POLL_SECONDS = 0.5  # also how late a retry may be
RESTART_SECONDS = 1.0  # after a loop failed, the database being away, say

log = get_logger("gateway.webhooks")


async def run_webhooks(settings: Settings) -> None:
    """Number events and deliver webhooks until SIGTERM or SIGINT.

    Raises ConfigError, UnsafeEnvironment or SecretUnreadable when the process must not start.
    """
    registry = load_registry(settings)
    clock = SystemClock(offset_seconds=settings.test_clock_offset_seconds)
    database = Database(
        async_url(settings.role_url("gateway_webhooks")),
        pool_size=settings.database.pool_size,
        application_name="cage webhooks",
    )
    try:
        await run_until_stopped(
            lambda: _work(registry, database, clock), database=database, clock=clock
        )
    finally:
        await database.close()
        log.info("webhooks.stopped")


async def _work(registry: Registry, database: Database, clock: Clock) -> None:
    settings = registry.settings
    ids = SystemIds(clock)
    numbering = Waker(poll_seconds=SEQUENCER_POLL_SECONDS)
    delivering = Waker(poll_seconds=RELAY_POLL_SECONDS)
    sequencer = Sequencer(
        database=database,
        clock=clock,
        ids=ids,
        context=WireContext(assets=registry.assets, livemode=settings.livemode),
        waker=numbering,
    )
    listener = Listener(
        settings.role_url("gateway_webhooks"),
        channels={EVENTS_CHANNEL: numbering, FEED_CHANNEL: delivering},
        clock=clock,
    )
    async with WebhookClient(
        allow_hosts=settings.webhooks.allow_hosts,
        timeout_seconds=settings.webhooks.timeout_seconds,
    ) as poster:
        relay = Relay(
            database=database,
            clock=clock,
            ids=ids,
            poster=poster,
            key=load_key(settings.path(settings.keys.sealed_key_file), ids),
            schedule=Schedule.from_settings(settings.webhooks),
            livemode=settings.livemode,
            waker=delivering,
        )
        log.info("webhooks.started")
        async with asyncio.TaskGroup() as group:
            if registry.policy.rate_source.url:
                group.create_task(
                    run_always("rates", partial(_read_rates, registry, database, clock), clock)
                )
            group.create_task(run_always("listener", listener.run, clock))
            group.create_task(run_always("sequencer", sequencer.run, clock))
            group.create_task(run_always("relay", relay.run, clock))


async def _read_rates(registry: Registry, database: Database, clock: Clock) -> None:
    source = registry.policy.rate_source
    async with SourceClient(timeout_seconds=source.timeout_seconds) as fetcher:
        await RateLoop(
            source=source,
            reference=registry.policy.reference,
            fetcher=fetcher,
            database=database,
            clock=clock,
            ids=SystemIds(clock),
        ).run()


async def run_always(name: str, loop: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Supervise one loop: whatever ends it is logged, and it starts again."""
    while True:
        try:
            await loop()
        except Exception as error:
            log.error("webhooks.loop_failed", loop=name, error=type(error).__name__, exc_info=True)
        await clock.sleep(RESTART_SECONDS)
