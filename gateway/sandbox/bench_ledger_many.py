"""The benchmarks `ledger.post_many` and `ledger.post_many.one_account`: set-wise postings.

Two processes of four connections each call `journal.post_many`, as a role does: building the values
is in the figure. The floor is `pgbench -N -c 8 -j 2` on the same server; they run in turns, so that
a busy machine slows both. The short loop's fold runs beside ours.

`python -m gateway.sandbox.bench_ledger_many URL SECONDS spread|one` is one of the processes; it
prints how many postings it wrote in how many seconds.
"""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from itertools import count
from statistics import median
from uuid import UUID

from config.clock import Clock, SystemClock
from config.database import Database, async_url
from config.ids import Ids, SystemIds
from config.migrate import migrate
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_ledger import (
    ACCOUNTS,
    ASSET,
    BRAND,
    CLIENTS,
    PROCESSES,
    ROUNDS,
    check,
    fold_beside,
    fund,
    output,
    pgbench_of,
    pgbench_tps,
)
from gateway.sandbox.postgres import EmbeddedPostgres, ensure_database
from ledger import journal
from ledger.accounts import Stage, clearing, custody, player
from ledger.journal import Posting, credit, debit

BATCH = 200  # postings of one call
ROUND_SECONDS = 11
FUNDED_MINOR = 10**15
SPREAD, ONE = "spread", "one"


async def bench_post_many(server: EmbeddedPostgres) -> BenchResult:
    """Transfers between 2,000 checked accounts."""
    return await _bench(server, "ledger.post_many", SPREAD)


async def bench_one_account(server: EmbeddedPostgres) -> BenchResult:
    """Every posting takes from one brand's clearing."""
    return await _bench(server, "ledger.post_many.one_account", ONE)


async def _bench(server: EmbeddedPostgres, name: str, kind: str) -> BenchResult:
    pgbench = pgbench_of(server)
    floor_url = await ensure_database(server, "cage_bench_floor")
    url = await ensure_database(server, f"cage_bench_ledger_many_{kind}")
    await migrate(url)
    await output(pgbench, "-i", "-q", floor_url)
    await fund(url)
    if kind == ONE:
        await _fund_clearing(url)
    floors, figures = [], []
    for _ in range(ROUNDS):
        floors.append(await pgbench_tps(pgbench, floor_url))
        figures.append(await _figure(url, kind))
    if kind == SPREAD:
        await check(url)
    figure, floor = median(figures), median(floors)
    return BenchResult(
        name=name,
        figure=figure,
        unit="postings/s",
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=peak_rss_mb(),
    )


async def _figure(url: str, kind: str) -> float:
    """Postings per second of all processes together; each measures its own seconds."""
    arguments = ("-m", "gateway.sandbox.bench_ledger_many", url, str(ROUND_SECONDS), kind)
    async with fold_beside(url):
        texts = await asyncio.gather(
            *(output(sys.executable, *arguments) for _ in range(PROCESSES))
        )
    return sum(int(text.split()[0]) / float(text.split()[1]) for text in texts)


async def _fund_clearing(url: str) -> None:
    clock = SystemClock()
    entries = (
        debit(custody("btc", "hot", ASSET), FUNDED_MINOR),
        credit(clearing(BRAND, ASSET), FUNDED_MINOR),
    )
    posting = Posting(reference="bench:fund:clearing", kind="bench", entries=entries)
    database = Database(async_url(url), pool_size=1)
    try:
        posting_id = SystemIds(clock).new_id()
        await database.run(
            partial(journal.post, posting=posting, posting_id=posting_id, at=clock.now())
        )
    finally:
        await database.close()


def _batch(first: int, kind: str, ids: Ids) -> list[tuple[UUID, Posting]]:
    """BATCH postings; `first` spreads them over the accounts, every posting has its own."""
    batch = []
    for number in range(first, first + BATCH):
        posting_id = ids.new_id()
        target = player(BRAND, str(number * 7919 % ACCOUNTS), Stage.PROVISIONAL, ASSET)
        source = (
            clearing(BRAND, ASSET)
            if kind == ONE
            else player(BRAND, str((number * 7919 + 1) % ACCOUNTS), Stage.PROVISIONAL, ASSET)
        )
        entries = (debit(source, 1 + number % 100), credit(target, 1 + number % 100))
        posting = Posting(reference=f"bench:{posting_id}", kind="bench", entries=entries)
        batch.append((posting_id, posting))
    return batch


async def _work(url: str, seconds: float, kind: str, clock: Clock) -> tuple[int, float]:
    """Post for `seconds` over CLIENTS / PROCESSES connections: (postings, seconds)."""
    connections = CLIENTS // PROCESSES
    ids = SystemIds(clock)
    database = Database(async_url(url), pool_size=connections)
    firsts = count(int.from_bytes(ids.token_bytes(2), "big") * BATCH, BATCH)
    done = 0
    start_seconds = clock.monotonic_seconds()

    async def one() -> None:
        nonlocal done
        while clock.monotonic_seconds() - start_seconds < seconds:
            batch = _batch(next(firsts), kind, ids)
            await database.run(partial(journal.post_many, postings=batch, at=clock.now()))
            done += BATCH

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(one())
    finally:
        await database.close()
    return done, clock.monotonic_seconds() - start_seconds


def main(arguments: Sequence[str]) -> None:
    """One process of the benchmark."""
    url, seconds, kind = arguments
    done, took_seconds = asyncio.run(_work(url, float(seconds), kind, SystemClock()))
    sys.stdout.write(f"{done} {took_seconds}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
