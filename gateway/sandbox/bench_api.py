"""The benchmarks of the API, against a bare handler with one insert.

Both servers are one process each and get the same signed bytes from the same 64 clients, in
turns. Requests are signed before the watch starts: the figure is the server's. Half of what that
handler does is asked of the API; the one of latency sends at half of that half, whatever is
answered, and its floor is the time allowed.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from typing import Any

from config.database import Database, async_url
from gateway.client import SignedRequest
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_api_store import analyse
from gateway.sandbox.bench_house import (
    BRAND,
    BenchHouse,
    bench_house,
    drive,
    p99,
    pace,
    process,
    wait_up,
)
from gateway.sandbox.nodes import free_port
from gateway.sandbox.postgres import EmbeddedPostgres
from ledger import journal
from ledger.accounts import clearing, custody
from ledger.journal import Posting, credit, debit

REQUESTS = 600  # per round
ROUNDS = 3
ASSET = "btc:BTC"
DESTINATION = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # a public vector of BIP 173
CLEARING_MINOR = 10**15
ALLOWED_SECONDS = 0.05  # to answer an order
ASKED_SHARE = 0.5  # of what the floor does

Sign = Callable[[BenchHouse, int], SignedRequest]


async def bench_addresses(server: EmbeddedPostgres) -> BenchResult:
    """New deposit addresses per second, each for a new player."""
    async with bench_house(
        server, "cage_bench_addresses", pool_rows=REQUESTS * (ROUNDS + 1)
    ) as house:
        return await _measure(house, "api.addresses", "addresses/s", _address)


async def bench_withdrawals(server: EmbeddedPostgres) -> BenchResult:
    """Accepted withdrawals per second, each reserved from one brand's clearing."""
    async with bench_house(server, "cage_bench_withdrawals", pool_rows=1) as house:
        await fund(house)
        return await _measure(house, "api.withdrawals", "withdrawals/s", order)


async def bench_withdrawal_latency(server: EmbeddedPostgres) -> BenchResult:
    """Milliseconds that 99 of 100 orders stay below at half of the rate that is asked, the median
    of the rounds; the ratio is allowed time / figure."""
    figures = []
    async with bench_house(server, "cage_bench_order_latency", pool_rows=1) as house:
        await fund(house)
        async with _both(house) as floor_port:
            await _use(house, floor_port, order)
            for number in range(1, ROUNDS + 1):
                first = number * REQUESTS
                signed = [order(house, each) for each in range(first, first + REQUESTS)]
                rate = await drive(house, floor_port, signed)
                asked = rate * ASKED_SHARE
                seconds = await pace(house, house.api_port, signed, per_second=asked / 2)
                figures.append(p99(seconds))
    return BenchResult(
        name="api.withdrawals.latency",
        figure=1_000 * median(figures),
        unit="ms p99",
        floor=1_000 * ALLOWED_SECONDS,
        ratio=ALLOWED_SECONDS / median(figures),
        peak_rss_mb=peak_rss_mb(),
    )


@asynccontextmanager
async def _both(house: BenchHouse) -> AsyncIterator[int]:
    """The API and the floor beside it, up; the port of the floor."""
    port = free_port()
    floor = process("-m", "gateway.sandbox.bench_floor", house.url, str(port))
    async with house.role("api"), floor:
        await wait_up(f"http://127.0.0.1:{port}/health/live", house.clock)
        yield port


async def _measure(house: BenchHouse, name: str, unit: str, sign: Sign) -> BenchResult:
    floors, figures = [], []
    async with _both(house) as floor_port:
        await _use(house, floor_port, sign)
        for number in range(1, ROUNDS + 1):
            first = number * REQUESTS
            signed = [sign(house, each) for each in range(first, first + REQUESTS)]
            floors.append(await drive(house, floor_port, signed))
            figures.append(await drive(house, house.api_port, signed))
    figure, floor = median(figures), median(floors)
    return BenchResult(
        name=name,
        figure=figure,
        unit=unit,
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=peak_rss_mb(),
    )


async def _use(house: BenchHouse, floor_port: int, sign: Sign) -> None:
    """A round of both that nobody counts, then what autovacuum does of tables that have grown."""
    signed = [sign(house, each) for each in range(REQUESTS)]
    await drive(house, floor_port, signed)
    await drive(house, house.api_port, signed)
    await analyse(house.url)


def _post(
    house: BenchHouse, path: str, body: dict[str, Any], *, key: str | None = None
) -> SignedRequest:
    data = json.dumps(body).encode()
    signer = house.client(house.api_port).signer
    return signer.sign("POST", path, body=data, idempotency_key=key)


def _address(house: BenchHouse, number: int) -> SignedRequest:
    return _post(house, f"/v1/players/p{number}/addresses", {"network": "btc"})


def order(house: BenchHouse, number: int) -> SignedRequest:
    """A signed withdrawal of 0.001 BTC of a player of its own."""
    body = {
        "request_id": f"r{number}",
        "player_id": f"p{number}",
        "asset": ASSET,
        "address": DESTINATION,
        "amount": "0.001",
        "pam_balance": "0",
    }
    return _post(house, "/v1/withdrawals", body, key=f"k{number}")


async def fund(house: BenchHouse) -> None:
    """Give the brand more clearing than any bench reserves."""
    posting = Posting(
        reference="bench:fund",
        kind="bench",
        entries=(
            debit(custody("btc", "hot", ASSET), CLEARING_MINOR),
            credit(clearing(BRAND, ASSET), CLEARING_MINOR),
        ),
    )
    database = Database(async_url(house.url), pool_size=1)
    try:
        write = partial(
            journal.post, posting=posting, posting_id=house.ids.new_id(), at=house.clock.now()
        )
        await database.run(write)
    finally:
        await database.close()
