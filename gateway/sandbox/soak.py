"""`cage drill soak`: a watcher follows many blocks beside many addresses, and must not grow.

Owns the load and the verdict: memory and open files of the real watcher's process, sampled after
every stretch of blocks; what it has in the last quarter may be at most five per cent above the
second quarter's (P37). The first quarter fills caches and is not judged.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console

from config.errors import ConfigError
from gateway.sandbox.bench_catchup import (
    Shape,
    fill_bitcoin,
    issue_to,
    program_of,
    reached,
    scripts_of,
)
from gateway.sandbox.bench_coins import free_coins
from gateway.sandbox.bench_house import BRAND, BenchFailed, bench_house, process
from gateway.sandbox.bench_watch_store import issue_many
from gateway.sandbox.nodes import Bitcoind
from gateway.sandbox.postgres import EmbeddedPostgres, start_postgres

GROWTH_MAX_PERCENT = 5
SAMPLES = 40
TXS = 4
INDEXES_LEFT = 10_000  # for the addresses that are paid
DEPOSITS = 1  # of each block's txs


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A process after so many blocks."""

    blocks: int
    rss_kb: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakResult:
    """What the watcher held in the second and in the last quarter of its blocks (medians)."""

    blocks: int
    addresses: int
    rss_kb: tuple[int, int]
    files: tuple[int, int]

    @property
    def is_flat(self) -> bool:
        """Whether neither grew by more than is allowed."""
        return all(
            late * 100 <= early * (100 + GROWTH_MAX_PERCENT)
            for early, late in (self.rss_kb, self.files)
        )


def judged(samples: Sequence[Sample], *, addresses: int) -> SoakResult:
    """The quarters of a run, compared. Pure; at least four samples."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    return SoakResult(
        blocks=samples[-1].blocks,
        addresses=addresses,
        rss_kb=(_middle([it.rss_kb for it in early]), _middle([it.rss_kb for it in late])),
        files=(_middle([it.files for it in early]), _middle([it.files for it in late])),
    )


def _middle(values: Sequence[int]) -> int:
    return int(median(values))


def sample_of(pid: int, *, blocks: int) -> Sample:
    """Resident memory and open files of a process (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return Sample(
        blocks=blocks, rss_kb=int(rss.split()[1]), files=len(os.listdir(f"/proc/{pid}/fd"))
    )


async def soak(
    server: EmbeddedPostgres,
    database: str,
    *,
    blocks: int,
    addresses: int,
    step: Callable[[Sample], None],
) -> SoakResult:
    """Follow `blocks` blocks in stretches on a bitcoind of its own. Raises BenchFailed."""
    stretch = max(1, blocks // SAMPLES)
    with TemporaryDirectory(prefix="cagesoak") as folder:
        async with (
            Bitcoind(program_of("bitcoind"), Path(folder) / "btc") as node,
            bench_house(server, database, pool_rows=0, node_url=node.url) as house,
        ):
            await node.ensure_funds()
            at = house.clock.now()
            await issue_many(house.url, brand=BRAND, count=addresses, at=at, above=INDEXES_LEFT)
            ours = [await node.new_address() for _ in range(DEPOSITS)]
            await issue_to(house, "btc", ours)
            coins = await free_coins(node, stretch * SAMPLES * TXS)
            shape = Shape(blocks=stretch, txs=TXS, deposits=DEPOSITS)
            scripts = scripts_of(house, ours)
            start = await node.height()
            samples: list[Sample] = []
            command = ("-m", "watchers", "btc", "--config", str(house.config))
            async with process(*command) as watcher:
                for number in range(SAMPLES):
                    part = coins[number * stretch * TXS : (number + 1) * stretch * TXS]
                    await fill_bitcoin(node, part, scripts, shape)
                    done = (number + 1) * stretch
                    await reached(house, "btc", start + done)
                    samples.append(sample_of(watcher.pid, blocks=done))
                    step(samples[-1])
    return judged(samples, addresses=addresses)


def run_soak(*, blocks: int, addresses: int, as_json: bool) -> int:
    """The command: 0 when it was flat, 1 otherwise."""
    console = Console(stderr=True, highlight=False)

    def told(found: Sample) -> None:
        console.print(f"{found.blocks} blocks: {found.rss_kb / 1024:.1f} MB, {found.files} files")

    with TemporaryDirectory(prefix="cagesoak") as folder:
        server = start_postgres(Path(folder) / "pg")
        try:
            result = asyncio.run(
                soak(server, "cage_soak", blocks=blocks, addresses=addresses, step=told)
            )
        except (BenchFailed, ConfigError) as error:
            console.print(f"[red bold]cage drill: {error}[/]")
            return 1
        finally:
            server.stop()
    if as_json:
        sys.stdout.write(json.dumps({"ok": result.is_flat} | asdict(result)) + "\n")
    else:
        words = "flat" if result.is_flat else f"GREW by more than {GROWTH_MAX_PERCENT} %"
        console.print(
            f"[bold]{words}[/]: {result.rss_kb[0] / 1024:.1f} to {result.rss_kb[1] / 1024:.1f} MB, "
            f"{result.files[0]} to {result.files[1]} files, {result.blocks} blocks beside "
            f"{result.addresses} addresses"
        )
    return 0 if result.is_flat else 1
