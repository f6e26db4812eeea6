"""The benchmarks `watch.match` and `deposits.credit`: blocks in hand to effects committed.

The watcher's part runs in a process of its own (`watchers/bench.py`): its memory is its own.
"""

import asyncio
import json
import sys
from statistics import median
from typing import Any

from gateway.sandbox.bench import BenchResult
from gateway.sandbox.bench_api_store import BareTable
from gateway.sandbox.bench_house import BRAND, BenchFailed, BenchHouse, bench_house
from gateway.sandbox.bench_watch_store import issue_many
from gateway.sandbox.postgres import EmbeddedPostgres

MANY, FEW = 10_000_000, 1_000  # issued addresses
DEPOSITS = 2_000  # of one block
RUN_SECONDS_MAX = 300.0


async def bench_match(server: EmbeddedPostgres) -> BenchResult:
    """Milliseconds of a block of 3,000 txs and 10,000 outputs against ten million addresses; the
    floor is the same against a thousand, and the ratio may be 1.3."""
    found = []
    for count in (FEW, MANY):
        async with bench_house(server, f"cage_bench_match_{count}", pool_rows=0) as house:
            await issue_many(house.url, brand=BRAND, count=count, at=house.clock.now())
            found.append(await _watch(house, "match"))
    few, many = (1_000 * median(item["seconds"]) for item in found)
    return BenchResult(
        name="watch.match",
        figure=many,
        unit="ms/block",
        floor=few,
        ratio=many / few,
        peak_rss_mb=found[1]["peak_rss_mb"],
    )


async def bench_credit(server: EmbeddedPostgres) -> BenchResult:
    """Deposits per second of blocks of 2,000: provisional, in the books, told. The floor commits
    one bare row per deposit."""
    async with bench_house(server, "cage_bench_credit", pool_rows=0) as house:
        await issue_many(house.url, brand=BRAND, count=DEPOSITS, at=house.clock.now())
        found = await _watch(house, "credit")
        floor = await _floor(house)
    figure = DEPOSITS / median(found["seconds"])
    return BenchResult(
        name="deposits.credit",
        figure=figure,
        unit="deposits/s",
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=found["peak_rss_mb"],
    )


async def _watch(house: BenchHouse, kind: str) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "watchers.bench",
        kind,
        "--config",
        str(house.config),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(RUN_SECONDS_MAX):
        output, _ = await child.communicate()
    if child.returncode != 0:
        raise BenchFailed(f"the watcher's part of {kind} ended with {child.returncode}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


async def _floor(house: BenchHouse) -> float:
    table = await BareTable.open(house.url, size=1)
    start_seconds = house.clock.monotonic_seconds()
    try:
        for number in range(DEPOSITS):
            await table.insert(str(number).encode())
    finally:
        await table.close()
    return DEPOSITS / (house.clock.monotonic_seconds() - start_seconds)
