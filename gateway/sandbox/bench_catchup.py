"""The benchmarks `watch.catchup.btc`, `.btc.small` and `.evm`: blocks per second of one watcher.

Blocks of a real node are mined while no watcher runs; then the real role starts and is timed from
the moment at which it takes its lease to its last block. The floor is a bare client that makes the
calls of the reader for the same blocks, one after the other, and throws the parsed JSON away.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from config.clock import SystemClock
from config.registry import load_registry
from config.settings import load_settings
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_api_store import block_progress, issue_addresses
from gateway.sandbox.bench_coins import FreeCoin, free_coins, payment
from gateway.sandbox.bench_house import BRAND, BenchFailed, BenchHouse, bench_house, process
from gateway.sandbox.bench_watch_store import CursorLook
from gateway.sandbox.nodes import Anvil, Bitcoind, DevNode
from gateway.sandbox.postgres import EmbeddedPostgres
from gateway.sandbox.provision import provision
from watchers.registry import build_codec

AMOUNT_WEI = 10**16
FLOOR_ROUNDS = 3
STRANGER = "0x00000000000000000000000000000000000b0b01"
SECONDS_MAX = 300.0
POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What waits for the watcher: blocks, txs of each, how many of these pay us."""

    blocks: int
    txs: int
    deposits: int


SMALL = Shape(blocks=1_000, txs=40, deposits=4)  # a start takes as long as some hundred blocks
FULL = Shape(blocks=12, txs=3_000, deposits=20)  # as many txs as a block of Bitcoin's main chain

Ask = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """Blocks of a node that wait for the watcher: those above `before`, and how to ask for one."""

    name: str
    network: str
    node: DevNode
    before: int
    shape: Shape
    ask: Ask


async def bench_btc(server: EmbeddedPostgres) -> BenchResult:
    """Blocks per second over bitcoind, of blocks as full as those of the main chain."""
    return await _bench_bitcoin(server, "watch.catchup.btc", FULL)


async def bench_btc_small(server: EmbeddedPostgres) -> BenchResult:
    """The same with small blocks that pay us much: what each deposit costs decides."""
    return await _bench_bitcoin(server, "watch.catchup.btc.small", SMALL)


async def _bench_bitcoin(server: EmbeddedPostgres, name: str, shape: Shape) -> BenchResult:
    program = program_of("bitcoind")
    database = "cage_bench_" + name.removeprefix("watch.").replace(".", "_")
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with (
            Bitcoind(program, Path(folder) / "btc") as node,
            bench_house(server, database, pool_rows=0, node_url=node.url) as house,
        ):
            await node.ensure_funds()
            coins = await free_coins(node, shape.blocks * shape.txs)
            ours = [await node.new_address() for _ in range(shape.deposits)]
            await issue_to(house, "btc", ours)
            before = await node.height()
            await _warm(house, "btc", before)
            await fill_bitcoin(node, coins, scripts_of(house, ours), shape)
            chain = _Chain(
                name=name,
                network="btc",
                node=node,
                before=before,
                shape=shape,
                ask=lambda at: _ask_bitcoin(node, at),
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
            first = 0xCA6E0001
            ours = [f"0x{number:040x}" for number in range(first, first + SMALL.deposits)]
            await issue_to(house, "eth", ours)
            before = await node.height()
            await _warm(house, "eth", before)
            await _fill_evm(node, ours, SMALL)
            chain = _Chain(
                name="watch.catchup.evm",
                network="eth",
                node=node,
                before=before,
                shape=SMALL,
                ask=lambda at: _ask_evm(node, at),
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
        name=chain.name,
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
    shape, clock = chain.shape, house.clock
    async with (
        process("-m", "watchers", chain.network, "--config", str(house.config)),
        CursorLook.opened(house.url) as look,
    ):
        await _until(house, f"a lease of {chain.network}", partial(look.is_held, chain.network))
        start_seconds = clock.monotonic_seconds()
        await reached(house, chain.network, chain.before + shape.blocks)
        seconds = clock.monotonic_seconds() - start_seconds
        _, deposits = await block_progress(house.url, network=chain.network)
    if deposits != shape.blocks * shape.deposits:
        raise BenchFailed(f"{deposits} deposits, not {shape.blocks * shape.deposits}")
    return shape.blocks / seconds


async def reached(house: BenchHouse, network: str, height: int) -> None:
    """Wait for the cursor. Raises BenchFailed after SECONDS_MAX."""
    async with CursorLook.opened(house.url) as look:

        async def is_there() -> bool:
            return await look.height(network) >= height

        await _until(house, f"height {height} of {network}", is_there)


async def _until(house: BenchHouse, what: str, is_so: Callable[[], Awaitable[bool]]) -> None:
    until_seconds = house.clock.monotonic_seconds() + SECONDS_MAX
    while not await is_so():
        if house.clock.monotonic_seconds() > until_seconds:
            raise BenchFailed(f"{what}: not within {SECONDS_MAX:g} s")
        await house.clock.sleep(POLL_SECONDS)


async def _floor(chain: _Chain) -> float:
    clock, blocks = SystemClock(), chain.shape.blocks
    start_seconds = clock.monotonic_seconds()
    for height in range(chain.before + 1, chain.before + blocks + 1):
        await chain.ask(height)
    return blocks / (clock.monotonic_seconds() - start_seconds)


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
    await issue_addresses(
        house.url,
        brand=BRAND,
        keys=_keys(house, network, addresses),
        addresses=addresses,
        at=house.clock.now(),
        network=network,
    )


def _keys(house: BenchHouse, network: str, addresses: list[str]) -> list[str]:
    registry = load_registry(load_settings(house.config))
    codec = build_codec(registry.chains[network], registry.assets.values())
    return [codec.parse(address).key for address in addresses]


def scripts_of(house: BenchHouse, addresses: list[str]) -> list[bytes]:
    """The scripts of addresses of Bitcoin."""
    return [bytes.fromhex(key) for key in _keys(house, "btc", addresses)]


async def fill_bitcoin(
    node: Bitcoind, coins: list[FreeCoin], ours: list[bytes], shape: Shape
) -> None:
    """Each tx has an input and two outputs; the first ones pay us, the others strangers."""
    miner = await node.new_address()
    for start in range(0, len(coins), shape.txs):
        txs = []
        for number, coin in enumerate(coins[start : start + shape.txs]):
            stranger = b"\x00\x14" + sha256(f"{start}/{number}".encode()).digest()[:20]
            receiver = ours[number] if number < len(ours) else stranger
            txs.append(payment(coin, receiver, stranger[:2] + stranger[:1:-1]))
        await node.mine_exactly(txs, address=miner)


async def _fill_evm(node: Anvil, ours: list[str], shape: Shape) -> None:
    senders = await node.accounts()
    for _ in range(shape.blocks):
        for number in range(shape.txs):
            target: Any = ours[number] if number < len(ours) else STRANGER
            await node.send(target, AMOUNT_WEI, sender=senders[number % len(senders)])
        await node.mine()
