"""The benchmark `webhooks.deliver`: signed deliveries per second of the webhooks role.

Orders are placed through the API while no webhooks role runs; then the real role starts, numbers
their events and delivers them to one endpoint. The receiver is the bare handler with one insert,
and the floor is eight bare clients that send it as many bodies.
"""

from gateway.client import SignedRequest
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_api import fund, order
from gateway.sandbox.bench_api_store import count_delivered
from gateway.sandbox.bench_house import (
    BenchFailed,
    BenchHouse,
    bench_house,
    drive,
    process,
    wait_up,
)
from gateway.sandbox.nodes import free_port
from gateway.sandbox.postgres import EmbeddedPostgres

ORDERS = 300
EVENTS = 3 * ORDERS  # received, reserved, queued
SECONDS_MAX = 120.0
POLL_SECONDS = 0.05


async def bench_deliver(server: EmbeddedPostgres) -> BenchResult:
    """Deliveries per second, from the first one that is done to the last."""
    receiver_port = free_port()
    async with (
        bench_house(server, "cage_bench_webhooks", pool_rows=1) as house,
        process("-m", "gateway.sandbox.bench_floor", house.url, str(receiver_port)),
    ):
        await wait_up(f"http://127.0.0.1:{receiver_port}/health/live", house.clock)
        await fund(house)
        orders = [order(house, number) for number in range(ORDERS)]
        async with house.role("api"):
            await _subscribe(house, receiver_port)
            await drive(house, house.api_port, orders)
        floor = await drive(house, receiver_port, _bare(orders))
        async with house.role("webhooks"):
            figure = await _rate(house)
    return BenchResult(
        name="webhooks.deliver",
        figure=figure,
        unit="deliveries/s",
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=peak_rss_mb(),
    )


def _bare(orders: list[SignedRequest]) -> list[SignedRequest]:
    return [each for each in orders for _ in range(EVENTS // ORDERS)]


async def _subscribe(house: BenchHouse, port: int) -> None:
    async with house.client(house.api_port) as client:
        await client.post("/v1/webhook_endpoints", {"url": f"http://127.0.0.1:{port}/hook"})


async def _rate(house: BenchHouse) -> float:
    """Watch the deliveries; raises BenchFailed when they do not end."""
    until_seconds = house.clock.monotonic_seconds() + SECONDS_MAX
    first = 0
    first_seconds = 0.0
    while house.clock.monotonic_seconds() < until_seconds:
        done = await count_delivered(house.url)
        if done >= EVENTS:
            return (done - first) / (house.clock.monotonic_seconds() - first_seconds)
        if first == 0 and done > 0:
            first, first_seconds = done, house.clock.monotonic_seconds()
        await house.clock.sleep(POLL_SECONDS)
    raise BenchFailed(f"fewer than {EVENTS} deliveries within {SECONDS_MAX:g} s")
