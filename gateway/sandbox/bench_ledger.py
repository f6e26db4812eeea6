"""The benchmark `ledger.post`: postings per second against `pgbench -N` on the same server.

Both have eight clients on two processes and run in turns, so that a busy machine slows both. Our
clients call `ledger.post` with one prepared statement each, on 2,000 checked accounts; the
scheduler's fold runs beside them, as in production. Each process of ours is this module's `main`.
"""

import asyncio
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from config.clock import Clock, SystemClock
from config.ids import Ids, SystemIds
from config.migrate import migrate
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_ledger_store import Poster
from gateway.sandbox.postgres import EmbeddedPostgres, ensure_database

ACCOUNTS = 2_000
CLIENTS = 8
PROCESSES = 2
ROUNDS = 3
ROUND_SECONDS = 5
FOLD_EVERY_SECONDS = 1.0
FOLD_LIMIT = 500
OPENING_BALANCE = 1_000_000_000
LINES_PER_FUNDING = 500
BRAND = "bench"
ASSET = "btc:BTC"
STEP = 7_919  # a prime without common factor with ACCOUNTS: each client visits every account


class BenchFailed(RuntimeError):
    """A benchmark could not run, or its books were wrong afterwards; the message says why."""


async def bench_ledger_post(server: EmbeddedPostgres) -> BenchResult:
    """Postings per second; the floor is `pgbench -N -c 8 -j 2` on the same server."""
    pgbench = _pgbench(server)
    floor_url = await ensure_database(server, "cage_bench_floor")
    url = await ensure_database(server, "cage_bench_ledger")
    await migrate(url)
    await _output(pgbench, "-i", "-q", floor_url)
    await _fund(url)
    floors, figures = [], []
    for number in range(ROUNDS):
        floors.append(await _floor(pgbench, floor_url))
        figures.append(await _figure(url, number))
    await _check(url)
    figure, floor = median(figures), median(floors)
    return BenchResult(
        name="ledger.post",
        figure=figure,
        unit="postings/s",
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=peak_rss_mb(),
    )


def _pgbench(server: EmbeddedPostgres) -> Path:
    beside = server.binaries / "pgbench"
    found = str(beside) if beside.exists() else shutil.which("pgbench")
    if found is None:
        raise BenchFailed("pgbench is neither beside the server nor on PATH")
    return Path(found)


async def _output(program: Path | str, *arguments: str, timeout_seconds: float = 120.0) -> str:
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise BenchFailed(f"{Path(program).name}: {err.decode(errors='replace').strip()[-500:]}")
    return out.decode()


async def _floor(pgbench: Path, url: str) -> float:
    text = await _output(
        pgbench, "-N", "-c", str(CLIENTS), "-j", str(PROCESSES), "-T", str(ROUND_SECONDS), url
    )
    match = re.search(r"tps = ([0-9.]+)", text)
    if match is None:
        raise BenchFailed("pgbench printed no tps")
    return float(match.group(1))


async def _figure(url: str, number: int) -> float:
    """One round: the processes of clients, and the fold beside them."""
    folder = asyncio.create_task(_fold(url, SystemClock()))
    try:
        printed = await asyncio.gather(
            *(
                _output(sys.executable, "-m", __name__, url, str(number), str(process))
                for process in range(PROCESSES)
            )
        )
    finally:
        folder.cancel()
        await asyncio.gather(folder, return_exceptions=True)
    return sum(float(json.loads(text)["per_second"]) for text in printed)


async def _fold(url: str, clock: Clock) -> None:
    poster = await Poster.open(url)
    try:
        while True:
            await clock.sleep(FOLD_EVERY_SECONDS)
            await poster.fold(FOLD_LIMIT)
    finally:
        await poster.close()


async def _fund(url: str) -> None:
    clock = SystemClock()
    ids = SystemIds(clock)
    poster = await Poster.open(url)
    try:
        for start in range(0, ACCOUNTS, LINES_PER_FUNDING):
            players = [f"p{start + index}" for index in range(LINES_PER_FUNDING)]
            await poster.post(
                posting_id=ids.new_id(),
                at=clock.now(),
                reference=f"bench:fund:{start}",
                players=[None, *players],
                sides=["debit", *(["credit"] * len(players))],
                amounts=[OPENING_BALANCE * len(players), *([OPENING_BALANCE] * len(players))],
                asset=ASSET,
                brand=BRAND,
            )
        await poster.fold(2 * ACCOUNTS)
    finally:
        await poster.close()


async def _check(url: str) -> None:
    """Transfers between players leave their sum as it was."""
    poster = await Poster.open(url)
    try:
        _, balance = await poster.totals()
    finally:
        await poster.close()
    if balance != ACCOUNTS * OPENING_BALANCE:
        raise BenchFailed(f"the books are wrong after the run: {balance}")


async def _client(poster: Poster, *, name: str, offset: int, clock: Clock, ids: Ids) -> int:
    """Post until the time is over; answers how many."""
    until_seconds = clock.monotonic_seconds() + ROUND_SECONDS
    count = 0
    while clock.monotonic_seconds() < until_seconds:
        source = (offset + count * STEP) % ACCOUNTS
        target = (source + 1 + count % (ACCOUNTS - 1)) % ACCOUNTS
        await poster.post(
            posting_id=ids.new_id(),
            at=clock.now(),
            reference=f"bench:{name}:{count}",
            players=[f"p{source}", f"p{target}"],
            sides=["debit", "credit"],
            amounts=[1 + count % 100] * 2,
            asset=ASSET,
            brand=BRAND,
        )
        count += 1
    return count


async def _clients(url: str, number: int, process: int) -> float:
    clock = SystemClock()
    ids = SystemIds(clock)
    size = CLIENTS // PROCESSES
    posters = [await Poster.open(url) for _ in range(size)]
    start_seconds = clock.monotonic_seconds()
    try:
        counts = await asyncio.gather(
            *(
                _client(
                    poster,
                    name=f"{number}:{process}:{index}",
                    offset=(process * size + index) * (ACCOUNTS // CLIENTS),
                    clock=clock,
                    ids=ids,
                )
                for index, poster in enumerate(posters)
            )
        )
    finally:
        for poster in posters:
            await poster.close()
    return sum(counts) / (clock.monotonic_seconds() - start_seconds)


def main(arguments: Sequence[str]) -> None:
    """One process of clients: URL, round, process number. Prints its rate as JSON."""
    url, number, process = arguments
    import uvloop

    rate = uvloop.run(_clients(url, int(number), int(process)))
    sys.stdout.write(json.dumps({"per_second": rate}))


if __name__ == "__main__":
    main(sys.argv[1:])
