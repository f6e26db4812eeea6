"""`/health/live`, `/health/ready`, `/metrics`: unsigned, without secrets."""

from datetime import timedelta

from aiohttp import web

from gateway.api import health_store
from gateway.api.dispatch import json_response
from gateway.api.endpoint import Services
from gateway.api.wire_resources import Health, NetworkHealth
from gateway.payouts import sweeps_store
from gateway.treasury import bands
from watchers import health

STALE_AFTER_SECONDS = 30.0
STALE_AFTER_POLLS = 10


def add_routes(app: web.Application, services: Services) -> None:
    """Add the operations routes; they need no signature (CONTRACT 3)."""

    async def live(_request: web.Request) -> web.Response:
        return json_response(Health(status="live", networks=[]))

    async def ready(_request: web.Request) -> web.Response:
        networks = await _networks(services)
        is_ready = all(network.is_ready for network in networks)
        body = Health(status="ready" if is_ready else "degraded", networks=networks)
        return json_response(body, status=200 if is_ready else 503)

    async def metrics(_request: web.Request) -> web.Response:
        await _measure(services)
        return web.Response(
            body=services.metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/metrics", metrics)


async def _networks(services: Services) -> list[NetworkHealth]:
    """Each configured network; a database that does not answer becomes a 503 above."""
    async with services.database.unit_of_work() as uow:
        found = {status.network: status for status in await health.network_status(uow)}
    networks = []
    for name in services.registry.chains:
        status = found.get(name)
        if status is None:
            reason: str | None = "not watched yet"
        elif status.stopped_reason:
            reason = "stopped"
        else:
            reason = None if status.is_healthy else "degraded"
        if status is not None and reason is None and _is_stale(services, status):
            reason = "stale"
        networks.append(NetworkHealth(network=name, is_ready=reason is None, reason=reason))
    return networks


def _is_stale(services: Services, status: health.NetworkStatus) -> bool:
    """Whether nobody has looked at the network for a while: healthy is what it was then."""
    spec = services.registry.chains.get(status.network)
    polls_seconds = 0.0 if spec is None else STALE_AFTER_POLLS * spec.poll_seconds
    limit = timedelta(seconds=max(STALE_AFTER_SECONDS, polls_seconds))
    return services.clock.now() - status.observed_at > limit


async def _measure(services: Services) -> None:
    metrics = services.metrics
    async with services.database.unit_of_work() as uow:
        for status in await health.network_status(uow):
            is_healthy = status.is_healthy and not _is_stale(services, status)
            metrics.network_healthy.labels(status.network).set(int(is_healthy))
            metrics.network_lag_blocks.labels(status.network).set(status.lag_blocks or 0)
        counts = await health_store.open_withdrawals(uow)
        alarms = await health_store.open_alarms(uow)
        banded = await bands.of_network(uow)
        waiting = await sweeps_store.totals(uow)
    metrics.withdrawals_open.clear()
    for state, count in counts.items():
        metrics.withdrawals_open.labels(state).set(count)
    metrics.wallet_band.clear()
    for row in banded.values():
        for state in bands.BandState:
            place = (row.asset.partition(":")[0], row.role.value, row.asset, state.value)
            metrics.wallet_band.labels(*place).set(int(state is row.state))
    metrics.alarms_open.set(alarms)
    metrics.sweeps_open.clear()
    for total in waiting:
        metrics.sweeps_open.labels(total["asset"], total["state"]).set(total["count"])
