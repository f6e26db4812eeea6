"""The benchmark `ledger.reconcile`: the books side of a comparison, and its chain side apart.

Books: `check_books` (every entry) and `book_at` (custody at a block) of 1,000,000 postings on 2,000
players, a block for each hundred; the floor is one bare sum over the same entries. Chain: balances
of 100,000 addresses at a block hash on anvil, against a bare client that asks the same in batches
of the same size and reads nothing of the answers.
"""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from config.assets import load_assets
from config.chains import load_chains
from config.clock import SystemClock
from config.database import Database, async_url
from config.migrate import migrate
from config.settings import NetworkSettings, Settings
from gateway.sandbox import bench_reconcile_store as store
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_ledger import BenchFailed
from gateway.sandbox.nodes import Anvil
from gateway.sandbox.postgres import EmbeddedPostgres, ensure_database
from gateway.sandbox.provision import provision
from gateway.sandbox.rpc import JsonRpc
from ledger import reconcile
from watchers.registry import build_chain

POSTINGS = 1_000_000
PLAYERS = 2_000
PER_BLOCK = 100
ADDRESSES = 100_000
ROUNDS = 3  # of the books; the chain side is asked once
KEYS_PER_CALL = 200  # as the comparison asks
ASSET = "btc:BTC"
UNPACED = 10**9  # calls per second: the node is the limit, not our manners


async def bench_reconcile(server: EmbeddedPostgres) -> BenchResult:
    """Seconds of the books side, the best of three; `chain_seconds` of the chain side."""
    url = await ensure_database(server, "cage_bench_reconcile")
    await migrate(url)
    await store.fill(url, postings=POSTINGS, players=PLAYERS, per_block=PER_BLOCK, asset=ASSET)
    figure, floor, parts = await _books(url)
    books_rss_mb = peak_rss_mb()
    chain, bare = await _chain()
    return BenchResult(
        name="ledger.reconcile",
        figure=figure * 1000,
        unit="ms",
        floor=floor * 1000,
        ratio=floor / figure,
        peak_rss_mb=books_rss_mb,
        more={**parts, "chain_seconds": chain, "chain_bare_seconds": bare},
    )


async def _books(url: str) -> tuple[float, float, dict[str, float]]:
    """(seconds of both questions, of the bare sum, each question by itself), the best of each."""
    clock = SystemClock()
    database = Database(async_url(url), pool_size=1)
    checks, tells, floors = [], [], []
    try:
        for _ in range(ROUNDS):
            floors.append(await store.bare_sum(url))
            started = clock.monotonic_seconds()
            async with database.snapshot() as uow:
                if await reconcile.check_books(uow):
                    raise BenchFailed("the books that were filled contradict themselves")
            checked = clock.monotonic_seconds()
            async with database.snapshot() as uow:
                found = await reconcile.book_at(uow, network="btc", height=POSTINGS // PER_BLOCK)
            tells.append(clock.monotonic_seconds() - checked)
            checks.append(checked - started)
            if [item.balance_minor for item in found] != [POSTINGS]:
                raise BenchFailed(f"custody is not what was booked: {found}")
    finally:
        await database.close()
    parts = {"check_seconds": min(checks), "book_at_seconds": min(tells)}
    return min(checks) + min(tells), min(floors), parts


async def _chain() -> tuple[float, float]:
    """Seconds of our reader and of a bare client."""
    programs = provision(["anvil"], progress=lambda line: None).programs
    if "anvil" not in programs:
        raise BenchFailed("ledger.reconcile needs an anvil: name one in ANVIL")
    clock = SystemClock()
    settings = Settings(networks={"eth": NetworkSettings(chain="dev")})
    spec = load_chains(settings)["eth"]
    assets = load_assets(settings, {"eth": spec}).values()
    keys = [
        f"0x{hashlib.sha256(str(index).encode()).hexdigest()[:40]}" for index in range(ADDRESSES)
    ]
    pages = [keys[start : start + KEYS_PER_CALL] for start in range(0, ADDRESSES, KEYS_PER_CALL)]
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with Anvil(programs["anvil"], Path(folder) / "eth") as node:
            await node.mine()
            chain = build_chain(
                spec, [node.url], assets, timeout_seconds=30.0, calls_per_second=UNPACED
            )
            try:
                tip = await chain.reader.tip()
                started = clock.monotonic_seconds()
                for page in pages:
                    await chain.reader.holdings(page, "eth:ETH", block_hash=tip.hash)
                half = clock.monotonic_seconds()
                async with JsonRpc(node.url) as client:
                    for page in pages:
                        at = {"blockHash": tip.hash}
                        answer = await client.batch("eth_getBalance", [[key, at] for key in page])
                        if answer.count(b'"result"') != len(page):
                            raise BenchFailed(f"anvil did not answer: {answer[:200]!r}")
                return half - started, clock.monotonic_seconds() - half
            finally:
                await chain.close()
