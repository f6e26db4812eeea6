"""The benchmarks `payouts.utxo` and `payouts.evm`: queued withdrawals to all of them broadcast.

A whole deployment with every role as its own process, its own signer and a real node. 1,000 orders
are accepted and queued while planning is switched off; the watch runs from the moment at which the
second person lets it go on until every withdrawal was seen by the node (`sent`). The floor is the
node's own wallet or unlocked account, which pays as many to as many, one call after the other.
`bytes_ratio` of `payouts.utxo`: virtual bytes of all batches by the least that they could have had.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from config.clock import SystemClock
from gateway.client import ClientProblem
from gateway.sandbox import story
from gateway.sandbox.batch_bytes import fewest_inputs, least_vb
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_catchup import program_of
from gateway.sandbox.bench_house import BenchFailed
from gateway.sandbox.bench_payouts_store import PayoutLook
from gateway.sandbox.narration import Narration
from gateway.sandbox.nodes import Anvil, Bitcoind
from gateway.sandbox.postgres import EmbeddedPostgres
from gateway.sandbox.stage import open_story, set_up
from gateway.sandbox.story import Story
from gateway.sandbox.world import World, deploy_token

PAYOUTS = 1_000
AT_ONCE = 8
COINS = 20  # of the hot wallet
SECONDS_MAX = 300.0
POLL_SECONDS = 0.02
LANES = 4  # hot accounts of an account chain
BATCH = 100  # payments per tx, as payouts are configured
STRANGER = "0x{number:040x}"
STRANGERS_FROM = 0xCA6E0000
TOO_MANY = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class _Road:
    """What is paid, and how often the hot wallet is filled before."""

    network: str
    asset: str
    amount: str
    fill: Mapping[str, str]
    fills: int
    lanes: int = 1
    address: Callable[[int], Awaitable[str]]
    floor: Callable[[], Awaitable[float]]
    utxo: Bitcoind | None = None


async def bench_utxo(server: EmbeddedPostgres) -> BenchResult:
    """Payouts per second on bitcoind, in batches."""
    program = program_of("bitcoind")
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(Bitcoind(program, Path(folder) / "btc"))
            await node.ensure_funds()
            addresses = [await node.new_address() for _ in range(PAYOUTS)]

            async def address(number: int) -> str:
                return addresses[number]

            async def floor() -> float:
                return await _utxo_floor(node, addresses)

            road = _Road(
                network="btc",
                asset="btc:BTC",
                amount="0.001",
                fill={"btc:BTC": "0.2"},
                fills=COINS,
                address=address,
                floor=floor,
                utxo=node,
            )
            world = World(utxo={"btc": node}, anvil=None, usdt=None)
            return await _measure(stack, Path(folder), world, road, "payouts.utxo")


async def bench_evm(server: EmbeddedPostgres) -> BenchResult:
    """Payouts per second of native coin on anvil, one tx each, from four hot lanes."""
    program = program_of("anvil")
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(Anvil(program, Path(folder) / "eth"))

            async def address(number: int) -> str:
                return STRANGER.format(number=STRANGERS_FROM + number)

            async def floor() -> float:
                return await _evm_floor(node)

            road = _Road(
                network="eth",
                asset="eth:ETH",
                amount="0.001",
                fill={"eth:ETH": "10"},
                fills=1,
                lanes=LANES,
                address=address,
                floor=floor,
            )
            world = World(utxo={}, anvil=node, usdt=await deploy_token(node))
            return await _measure(stack, Path(folder), world, road, "payouts.evm")


async def _measure(
    stack: AsyncExitStack, folder: Path, world: World, road: _Road, name: str
) -> BenchResult:
    clock = SystemClock()
    told = Narration(
        clock=clock,
        console=Console(stderr=True, quiet=True),
        started_seconds=clock.monotonic_seconds(),
    )
    stage = await set_up(stack, told, clock, folder, world, hot_lanes=road.lanes)
    tale = await open_story(stack, stage)
    for _ in range(road.fills):
        await story.fund_hot_wallets(tale, road.fill)
    look = await stack.enter_async_context(
        PayoutLook.opened(stage.deployment.settings.owner_url(), network=road.network)
    )
    for address in (await look.hot_addresses())[1 : road.lanes]:
        for asset, amount in road.fill.items():
            txid = await world.pay(asset, address, amount)
            await story.to_capital(tale, asset, txid, amount)
    await _give_clearing(tale, road)
    await _switch(tale, road, "stopped", "alice")
    await _order(tale, road)
    floors = [await road.floor()]
    if await look.count("queued") != PAYOUTS:
        raise BenchFailed("not every order is queued")
    coins = [] if road.utxo is None else await look.coins()
    await _switch(tale, road, "running", "alice")
    start_seconds = clock.monotonic_seconds()
    await _switch(tale, road, "running", "bob")
    while await look.count("sent", "confirming", "completed") < PAYOUTS:
        if clock.monotonic_seconds() - start_seconds > SECONDS_MAX:
            raise BenchFailed(f"not all are sent within {SECONDS_MAX:g} s")
        await clock.sleep(POLL_SECONDS)
    seconds = clock.monotonic_seconds() - start_seconds
    floors.append(await road.floor())
    figure, floor = PAYOUTS / seconds, max(floors)
    return BenchResult(
        name=name,
        figure=figure,
        unit="payouts/s",
        floor=floor,
        ratio=figure / floor,
        peak_rss_mb=peak_rss_mb(),
        more={} if road.utxo is None else {"bytes_ratio": await _bytes(road.utxo, look, coins)},
    )


async def _bytes(node: Bitcoind, look: PayoutLook, coins: list[int]) -> float:
    """What was sent by what could have been, in virtual bytes as the node counts them."""
    sizes = []
    for tx in await look.sent_txs():
        decoded = await node.rpc("decoderawtransaction", tx.raw.hex())
        fewest = fewest_inputs(tx.paid_minor, coins)
        size = int(decoded["vsize"])
        least = least_vb(size, inputs=tx.inputs, change=tx.change, fewest=fewest)
        sizes.append((size, least))
    return sum(size for size, _ in sizes) / sum(least for _, least in sizes)


async def _give_clearing(tale: Story, road: _Road) -> None:
    """A player's final deposit, larger than all orders."""
    address = await tale.address("acme", "rich", road.network)
    amount = str(Decimal(road.amount) * PAYOUTS * 2)
    txid = await tale.world.pay(road.asset, address, amount)
    await tale.world.mine(road.network)
    await tale.deposit_state("acme", txid, "rich", "final", mine=road.network)


async def _switch(tale: Story, road: _Road, state: str, person: str) -> None:
    body = {
        "scope": f"network:{road.network}",
        "action": "build",
        "state": state,
        "reason": "benchmark",
    }
    await tale.staff[person].post("/v1/switches", body, idempotency_key=f"{state}-{person}")


async def _order(tale: Story, road: _Road) -> None:
    """All orders, a few at once; waits where the API's rate limit says so."""
    numbers = iter(range(PAYOUTS))

    async def one() -> None:
        for number in numbers:
            fields = {
                "player_id": f"p{number}",
                "asset": road.asset,
                "address": await road.address(number),
                "amount": road.amount,
                "pam_balance": "0",
            }
            while True:
                try:
                    await tale.withdraw("acme", f"bench-{number}", **fields)
                    break
                except ClientProblem as problem:
                    if problem.status != TOO_MANY:
                        raise
                await tale.clock.sleep(POLL_SECONDS)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one())


async def _utxo_floor(node: Bitcoind, addresses: list[str]) -> float:
    clock = SystemClock()
    start_seconds = clock.monotonic_seconds()
    for first in range(0, PAYOUTS, BATCH):
        await node.send_many(dict.fromkeys(addresses[first : first + BATCH], "0.001"))
    return PAYOUTS / (clock.monotonic_seconds() - start_seconds)


async def _evm_floor(node: Anvil) -> float:
    clock = SystemClock()
    sender = (await node.accounts())[-1]
    start_seconds = clock.monotonic_seconds()
    for number in range(PAYOUTS):
        await node.send(STRANGER.format(number=STRANGERS_FROM + number), 1, sender=sender)
    return PAYOUTS / (clock.monotonic_seconds() - start_seconds)
