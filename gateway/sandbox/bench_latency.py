"""The benchmark `deposits.latency`: from the node having a block to the PAM having the webhook.

Real bitcoind, watcher and webhooks roles; the receiver is the sample PAM, signature check included.
The clock of a deposit starts before the node is told to mine its block, so the making of the block
is in the figure, and ends when the PAM takes `deposit.provisional` of it. Blocks come at changing
places of the poll interval. The floor is the time allowed: the poll interval plus 250 ms.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web

from config.clock import Clock
from config.registry import load_registry
from config.settings import load_settings
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_catchup import issue_to, program_of, reached
from gateway.sandbox.bench_house import (
    BenchFailed,
    BenchHouse,
    bench_house,
    p99,
    process,
)
from gateway.sandbox.nodes import Bitcoind, free_port
from gateway.sandbox.postgres import EmbeddedPostgres
from gateway.sandbox.sample_pam import SamplePam

BLOCKS = 26
WARM = 1  # blocks that start connections and caches
DEPOSITS = 10  # per block
AMOUNT = "0.01"  # playable at one confirmation
ALLOWED_SECONDS = 0.25  # beyond the poll interval
GOLDEN = 0.618  # successive multiples spread evenly over the poll interval
SECONDS_MAX = 30.0
POLL_SECONDS = 0.01


@dataclass(slots=True)
class TimedPam(SamplePam):
    """The sample PAM that also notes when a deposit became playable, in monotonic seconds."""

    now_seconds: Callable[[], float] = field(kw_only=True)
    playable_at_seconds: dict[str, float] = field(default_factory=dict)
    txid_of: dict[str, str] = field(default_factory=dict)

    def take(self, webhook_id: str, event: dict[str, Any]) -> None:
        """Take the event; the first one that says `provisional` counts."""
        SamplePam.take(self, webhook_id, event)
        thing = event["object"]
        if event["type"].startswith("deposit.") and thing["state"] == "provisional":
            self.playable_at_seconds.setdefault(thing["id"], self.now_seconds())
            self.txid_of[thing["id"]] = thing["txid"]


async def bench_latency(server: EmbeddedPostgres) -> BenchResult:
    """Milliseconds that 99 of 100 deposits stay below; the ratio is allowed time / figure."""
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with (
            Bitcoind(program_of("bitcoind"), Path(folder) / "btc") as node,
            bench_house(server, "cage_bench_latency", pool_rows=0, node_url=node.url) as house,
            _pam(Path(folder), house.clock) as (pam, port),
        ):
            await node.ensure_funds()
            addresses = [await node.new_address() for _ in range(DEPOSITS)]
            await issue_to(house, "btc", addresses)
            async with house.role("api"), house.client(house.api_port) as client:
                url = f"http://127.0.0.1:{port}/webhooks"
                answer = await client.post("/v1/webhook_endpoints", {"url": url})
                pam.secret_file.write_text(f"{answer['secret']}\n", encoding="ascii")
            async with (
                house.role("webhooks"),
                process("-m", "watchers", "btc", "--config", str(house.config)),
            ):
                await reached(house, "btc", await node.height())
                seconds = await _measure(house, node, pam, addresses)
            return _result(seconds, allowed=_poll_seconds(house) + ALLOWED_SECONDS)


def _result(seconds: list[float], *, allowed: float) -> BenchResult:
    worst = p99(seconds)
    return BenchResult(
        name="deposits.latency",
        figure=1_000 * worst,
        unit="ms p99",
        floor=1_000 * allowed,
        ratio=allowed / worst,
        peak_rss_mb=peak_rss_mb(),
    )


@asynccontextmanager
async def _pam(folder: Path, clock: Clock) -> AsyncIterator[tuple[TimedPam, int]]:
    secrets = folder / "secrets"
    secrets.touch(mode=0o600)
    pam = TimedPam(secret_file=secrets, now_seconds=clock.monotonic_seconds)
    runner = web.AppRunner(pam.app(), access_log=None)
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield pam, port
    finally:
        await runner.cleanup()


async def _measure(
    house: BenchHouse, node: Bitcoind, pam: TimedPam, addresses: list[str]
) -> list[float]:
    """Seconds of each deposit, in no order."""
    poll_seconds = _poll_seconds(house)
    mined_at_seconds: dict[str, float] = {}
    for number in range(WARM + BLOCKS):
        txid = await node.send_many(dict.fromkeys(addresses, AMOUNT))
        await house.clock.sleep(poll_seconds * (1 + number * GOLDEN % 1))
        mined_at_seconds[txid] = house.clock.monotonic_seconds()
        await node.mine()
        await _taken(house.clock, pam, (number + 1) * DEPOSITS)
        if number < WARM:
            mined_at_seconds.clear()
    return [
        at_seconds - mined_at_seconds[txid]
        for deposit_id, at_seconds in pam.playable_at_seconds.items()
        if (txid := pam.txid_of[deposit_id]) in mined_at_seconds
    ]


async def _taken(clock: Clock, pam: TimedPam, count: int) -> None:
    try:
        async with asyncio.timeout(SECONDS_MAX):
            while len(pam.playable_at_seconds) < count:
                await clock.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise BenchFailed(f"not {count} deposits told: {pam.stats()}") from error


def _poll_seconds(house: BenchHouse) -> float:
    return load_registry(load_settings(house.config)).chains["btc"].poll_seconds
