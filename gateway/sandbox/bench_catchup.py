"""The benchmarks `watch.catchup.btc` and `watch.catchup.evm`: blocks per second of one watcher.

Blocks of a real node are mined while no watcher runs; then the real role starts and is timed from
its first block to its last. The floor is a bare client that makes the calls of the reader for the
same blocks, one after the other, and throws the parsed JSON away.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from config.clock import SystemClock
from config.registry import load_registry
from config.settings import load_settings
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_api_store import block_progress, issue_addresses
from gateway.sandbox.bench_house import BRAND, BenchFailed, BenchHouse, bench_house, process
from gateway.sandbox.nodes import Anvil, Bitcoind, DevNode
from gateway.sandbox.postgres import EmbeddedPostgres
from gateway.sandbox.provision import provision
from watchers.registry import build_codec

BLOCKS = 200
TXS = 40  # per block
DEPOSITS = 4  # of them pay us
FLOOR_ROUNDS = 3
AMOUNT = "0.01"  # BTC
AMOUNT_WEI = 10**16
STRANGER = "0x00000000000000000000000000000000000b0b01"
SECONDS_MAX = 300.0
POLL_SECONDS = 0.01

Ask = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """Blocks of a node that wait for the watcher: those above `before`, and how to ask for one."""

    network: str
    node: DevNode
    before: int
    ask: Ask


async def bench_btc(server: EmbeddedPostgres) -> BenchResult:
    """Blocks per second over bitcoind."""
    program = program_of("bitcoind")
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with (
            Bitcoind(program, Path(folder) / "btc") as node,
            bench_house(server, "cage_bench_catchup_btc", pool_rows=0, node_url=node.url) as house,
        ):
            await node.ensure_funds()
            await _spread_coins(node)
            ours = [await node.new_address() for _ in range(DEPOSITS)]
            await issue_to(house, "btc", ours)
            before = await node.height()
            await _warm(house, "btc", before)
            await _fill_bitcoin(node, ours)
            chain = _Chain(
                network="btc", node=node, before=before, ask=lambda at: _ask_bitcoin(node, at)
            )
            return await _measure(house, chain)


async def bench_evm(server: EmbeddedPostgres) -> BenchResult:
    """Blocks per second over anvil."""
    program = program_of("anvil")
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with (
            Anvil(program, Path(folder) / "eth") as node,
            bench_house(
                server, "cage_bench_catchup_evm", pool_rows=0, network="eth", node_url=node.url
            ) as house,
        ):
            ours = [f"0x{number:040x}" for number in range(0xCA6E0001, 0xCA6E0001 + DEPOSITS)]
            await issue_to(house, "eth", ours)
            before = await node.height()
            await _warm(house, "eth", before)
            await _fill_evm(node, ours)
            chain = _Chain(
                network="eth", node=node, before=before, ask=lambda at: _ask_evm(node, at)
            )
            return await _measure(house, chain)


def program_of(name: str) -> Path:
    """A node's program. Raises BenchFailed when it cannot be had."""
    programs: Mapping[str, Path] = provision([name], progress=lambda line: None).programs
    if name not in programs:
        raise BenchFailed(f"this benchmark needs {name}")
    return programs[name]


async def _measure(house: BenchHouse, chain: _Chain) -> BenchResult:
    floors = [await _floor(chain)]
    figure = await _catch_up(house, chain)
    floors += [await _floor(chain) for _ in range(FLOOR_ROUNDS - 1)]
    floor = median(floors)
    return BenchResult(
        name="watch.catchup." + ("btc" if chain.network == "btc" else "evm"),
        figure=figure,
        unit="blocks/s",
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=peak_rss_mb(),
    )


async def _warm(house: BenchHouse, network: str, height: int) -> None:
    """The watcher's first start: what lies below is not measured."""
    async with process("-m", "watchers", network, "--config", str(house.config)):
        await reached(house, network, height)


async def _catch_up(house: BenchHouse, chain: _Chain) -> float:
    async with process("-m", "watchers", chain.network, "--config", str(house.config)):
        first = await reached(house, chain.network, chain.before + 1)
        start_seconds = house.clock.monotonic_seconds()
        await reached(house, chain.network, chain.before + BLOCKS)
        seconds = house.clock.monotonic_seconds() - start_seconds
        _, deposits = await block_progress(house.url, network=chain.network)
    if deposits != BLOCKS * DEPOSITS:
        raise BenchFailed(f"{deposits} deposits, not {BLOCKS * DEPOSITS}")
    return (chain.before + BLOCKS - first) / seconds


async def reached(house: BenchHouse, network: str, height: int) -> int:
    """Wait for the cursor; its height. Raises BenchFailed after SECONDS_MAX."""
    until_seconds = house.clock.monotonic_seconds() + SECONDS_MAX
    while True:
        at, _ = await block_progress(house.url, network=network)
        if at >= height:
            return at
        if house.clock.monotonic_seconds() > until_seconds:
            raise BenchFailed(f"the watcher did not reach {height} within {SECONDS_MAX:g} s")
        await house.clock.sleep(POLL_SECONDS)


async def _floor(chain: _Chain) -> float:
    clock = SystemClock()
    start_seconds = clock.monotonic_seconds()
    for height in range(chain.before + 1, chain.before + BLOCKS + 1):
        await chain.ask(height)
    return BLOCKS / (clock.monotonic_seconds() - start_seconds)


async def _ask_bitcoin(node: Bitcoind, height: int) -> object:
    """What `BitcoinReader.ref_at` and `block` ask."""
    name = await node.rpc("getblockhash", height)
    await node.rpc("getblockheader", name, True)
    return await node.rpc("getblock", name, 2)


async def _ask_evm(node: Anvil, height: int) -> object:
    """What `EvmReader.ref_at` and `block` ask."""
    ref = await node.rpc("eth_getBlockByNumber", hex(height), False)
    block = await node.rpc("eth_getBlockByHash", ref["hash"], True)
    return block, await node.rpc("eth_getBlockReceipts", ref["hash"])


async def issue_to(house: BenchHouse, network: str, addresses: list[str]) -> None:
    """Hand addresses of the network out, each to a player of its own."""
    registry = load_registry(load_settings(house.config))
    codec = build_codec(registry.chains[network], registry.assets.values())
    await issue_addresses(
        house.url,
        brand=BRAND,
        keys=[codec.parse(address).key for address in addresses],
        addresses=addresses,
        at=house.clock.now(),
        network=network,
    )


async def _spread_coins(node: Bitcoind) -> None:
    """A coin for each tx of some blocks, so that the wallet never has to chain them."""
    for _ in range(2):
        await node.send_many({await node.new_address(): "0.5" for _ in range(2 * TXS)})
    await node.mine()


async def _fill_bitcoin(node: Bitcoind, ours: list[str]) -> None:
    stranger = await node.new_address()
    miner = await node.new_address()
    for _ in range(BLOCKS):
        for number in range(TXS):
            await node.send(ours[number] if number < DEPOSITS else stranger, AMOUNT)
        await node.mine(address=miner)


async def _fill_evm(node: Anvil, ours: list[str]) -> None:
    senders = await node.accounts()
    for _ in range(BLOCKS):
        for number in range(TXS):
            target: Any = ours[number] if number < DEPOSITS else STRANGER
            await node.send(target, AMOUNT_WEI, sender=senders[number % len(senders)])
        await node.mine()
