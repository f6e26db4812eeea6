"""The benchmark `watch.block`: deposits per second of a watcher that catches up on full blocks.

Blocks of a real bitcoind are mined while no watcher runs; then the real role starts and is timed
from its first block to its last. The floor fetches the same blocks from the same node and commits
one bare row per deposit.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from config.registry import load_registry
from config.settings import load_settings
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_api_store import BareTable, block_progress, issue_addresses
from gateway.sandbox.bench_house import BRAND, BenchFailed, BenchHouse, bench_house, process
from gateway.sandbox.nodes import Bitcoind
from gateway.sandbox.postgres import EmbeddedPostgres
from gateway.sandbox.provision import provision
from watchers.registry import build_codec

BLOCKS = 8
DEPOSITS = 100  # per block
AMOUNT = "0.01"
SECONDS_MAX = 120.0
POLL_SECONDS = 0.02


async def bench_block(server: EmbeddedPostgres) -> BenchResult:
    """Deposits per second; each is recorded, credited or waiting, told, and in the books."""
    programs = provision(["bitcoind"], progress=lambda line: None).programs
    if "bitcoind" not in programs:
        raise BenchFailed("watch.block needs a bitcoind: name one in BITCOIND")
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with Bitcoind(programs["bitcoind"], Path(folder) / "btc") as node:
            await node.ensure_funds()
            async with bench_house(
                server, "cage_bench_watch", pool_rows=1, node_url=node.url
            ) as house:
                return await _measure(house, node)


async def _measure(house: BenchHouse, node: Bitcoind) -> BenchResult:
    addresses = [await node.new_address() for _ in range(DEPOSITS)]
    await _issue(house, addresses)
    first_height = await node.height()
    async with process("-m", "watchers", "btc", "--config", str(house.config)):
        await _reached(house, first_height)
    hashes = []
    for _ in range(BLOCKS):
        await node.send_many({address: AMOUNT for address in addresses})
        hashes += await node.mine()
    floor = await _floor(house, node, hashes)
    async with process("-m", "watchers", "btc", "--config", str(house.config)):
        await _reached(house, first_height + 1)
        start_seconds = house.clock.monotonic_seconds()
        before, _ = await block_progress(house.url)
        await _reached(house, first_height + BLOCKS)
        seconds = house.clock.monotonic_seconds() - start_seconds
        _, deposits = await block_progress(house.url)
    if deposits != BLOCKS * DEPOSITS:
        raise BenchFailed(f"{deposits} deposits, not {BLOCKS * DEPOSITS}")
    figure = (first_height + BLOCKS - before) * DEPOSITS / seconds
    return BenchResult(
        name="watch.block",
        figure=figure,
        unit="deposits/s",
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=peak_rss_mb(),
    )


async def _issue(house: BenchHouse, addresses: list[str]) -> None:
    registry = load_registry(load_settings(house.config))
    codec = build_codec(registry.chains["btc"], registry.assets.values())
    await issue_addresses(
        house.url,
        brand=BRAND,
        keys=[codec.parse(address).key for address in addresses],
        addresses=addresses,
        at=house.clock.now(),
    )


async def _reached(house: BenchHouse, height: int) -> None:
    until_seconds = house.clock.monotonic_seconds() + SECONDS_MAX
    while (await block_progress(house.url))[0] < height:
        if house.clock.monotonic_seconds() > until_seconds:
            raise BenchFailed(f"the watcher did not reach {height} within {SECONDS_MAX:g} s")
        await house.clock.sleep(POLL_SECONDS)


async def _floor(house: BenchHouse, node: Bitcoind, hashes: list[str]) -> float:
    table = await BareTable.open(house.url, size=1)
    start_seconds = house.clock.monotonic_seconds()
    count = 0
    try:
        for name in hashes:
            block = await node.rpc("getblock", name, 2)
            outputs = [out for tx in block["tx"] for out in tx["vout"]]
            for out in outputs[:DEPOSITS]:
                await table.insert(str(out["scriptPubKey"]["hex"]).encode())
                count += 1
    finally:
        await table.close()
    return count / (house.clock.monotonic_seconds() - start_seconds)
