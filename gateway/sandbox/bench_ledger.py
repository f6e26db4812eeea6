"""The benchmark `ledger.post`: postings per second against `pgbench -N` on the same server.

pgbench is the client of both, eight connections on two threads, so that only the statements differ;
they run in turns, so that a busy machine slows both. Ours is one prepared call of `ledger.post`
per posting on 2,000 checked accounts, with the scheduler's fold beside it, at its pace.
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile

from config.clock import Clock, SystemClock
from config.ids import SystemIds
from config.migrate import migrate
from gateway.sandbox import bench_ledger_store
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_ledger_store import Poster
from gateway.sandbox.postgres import EmbeddedPostgres, ensure_database
from gateway.scheduler import FOLD_ACCOUNTS

ACCOUNTS = 2_000
CLIENTS = 8
PROCESSES = 2
ROUNDS = 3
ROUND_SECONDS = 11  # the fold runs twice in it
FOLD_EVERY_SECONDS = 5.0
OPENING_BALANCE = 1_000_000_000
LINES_PER_FUNDING = 500
BRAND = "bench"
ASSET = "btc:BTC"
_LOAD = ("-c", str(CLIENTS), "-j", str(PROCESSES), "-T", str(ROUND_SECONDS))


class BenchFailed(RuntimeError):
    """A benchmark could not run, or its books were wrong afterwards; the message says why."""


async def bench_ledger_post(server: EmbeddedPostgres) -> BenchResult:
    """Postings per second; the floor is `pgbench -N -c 8 -j 2` on the same server."""
    pgbench = pgbench_of(server)
    floor_url = await ensure_database(server, "cage_bench_floor")
    url = await ensure_database(server, "cage_bench_ledger")
    await migrate(url)
    await output(pgbench, "-i", "-q", floor_url)
    await fund(url)
    floors, figures = [], []
    for _ in range(ROUNDS):
        floors.append(await pgbench_tps(pgbench, floor_url))
        figures.append(await _figure(pgbench, url))
    await check(url)
    figure, floor = median(figures), median(floors)
    return BenchResult(
        name="ledger.post",
        figure=figure,
        unit="postings/s",
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=peak_rss_mb(),
    )


def pgbench_of(server: EmbeddedPostgres) -> Path:
    """The program pgbench. Raises BenchFailed when there is none."""
    beside = server.binaries / "pgbench"
    found = str(beside) if beside.exists() else shutil.which("pgbench")
    if found is None:
        raise BenchFailed("pgbench is neither beside the server nor on PATH")
    return Path(found)


async def output(program: Path | str, *arguments: str, timeout_seconds: float = 120.0) -> str:
    """What a program prints. Raises BenchFailed with the end of its errors when it fails."""
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PGOPTIONS": "-c cage.brand=*"},  # all brands, as a daemon sees them
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


async def pgbench_tps(pgbench: Path, url: str) -> float:
    """One round of the floor, in transactions per second."""
    return _tps(await output(pgbench, "-N", *_LOAD, url))


async def _figure(pgbench: Path, url: str) -> float:
    """One round: the same client with our one statement, prepared as asyncpg does it, and the fold
    beside it."""
    script = bench_ledger_store.script(accounts=ACCOUNTS, brand=BRAND, asset=ASSET)
    async with fold_beside(url):
        with NamedTemporaryFile("w", suffix=".sql", encoding="ascii") as file:
            file.write(script)
            file.flush()
            ids = bench_ledger_store.variables(start=_milliseconds(SystemClock()) << 20)
            text = await output(pgbench, "-n", "-M", "prepared", "-f", file.name, *ids, *_LOAD, url)
        return _tps(text)


@asynccontextmanager
async def fold_beside(url: str) -> AsyncIterator[None]:
    """The scheduler's fold at its pace, for as long as the block lasts."""
    folder = asyncio.create_task(_fold(url, SystemClock()))
    try:
        yield
    finally:
        folder.cancel()
        await asyncio.gather(folder, return_exceptions=True)


def _milliseconds(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1000)


def _tps(text: str) -> float:
    match = re.search(r"tps = ([0-9.]+)", text)
    if match is None:
        raise BenchFailed("pgbench printed no tps")
    return float(match.group(1))


async def _fold(url: str, clock: Clock) -> None:
    poster = await Poster.open(url)
    try:
        while True:
            await clock.sleep(FOLD_EVERY_SECONDS)
            await poster.fold(FOLD_ACCOUNTS)
    finally:
        await poster.close()


async def fund(url: str) -> None:
    """Give every account its opening balance."""
    clock = SystemClock()
    ids = SystemIds(clock)
    poster = await Poster.open(url)
    try:
        for start in range(0, ACCOUNTS, LINES_PER_FUNDING):
            players = [f"{start + index}" for index in range(LINES_PER_FUNDING)]
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


async def check(url: str) -> None:
    """Transfers between players leave their sum as it was."""
    poster = await Poster.open(url)
    try:
        _, balance = await poster.totals()
    finally:
        await poster.close()
    if balance != ACCOUNTS * OPENING_BALANCE:
        raise BenchFailed(f"the books are wrong after the run: {balance}")
