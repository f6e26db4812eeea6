"""The benchmarks `treasury.sweep` and `.collect`: 1,000 token deposits from `waiting` to `swept`.

On anvil, by either method (docs/adr/0035): a top-up and a transfer each, or collects by delegation.
A whole deployment with every role as its own process. The watch runs from the moment at which a
person asks for them until the books have every one, top-ups, blocks and finality included; blocks
are mined one after the other meanwhile. The floor is the node alone: as many native transfers and
then as many token transfers of unlocked accounts, one call after the other. `gas_per_sweep` is what
the receipts of the house's own txs say, `floor_gas` what two transactions of a stranger use;
`later_gas` is of a second, smaller round from the same addresses.
"""

from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from config.clock import SystemClock
from gateway.sandbox import story
from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_catchup import program_of
from gateway.sandbox.bench_house import BenchFailed
from gateway.sandbox.bench_sweep_store import SweepLook
from gateway.sandbox.narration import Narration
from gateway.sandbox.nodes import Anvil
from gateway.sandbox.postgres import EmbeddedPostgres
from gateway.sandbox.stage import open_story, set_up
from gateway.sandbox.story import Story
from gateway.sandbox.world import World, deploy_token

DEPOSITS = 1_000
LATER_DEPOSITS = 100
FLOOR_DEPOSITS = 100
AMOUNT, AMOUNT_MINOR = "25", 25_000_000
ASSET, NATIVE = "eth:USDT", "eth:ETH"
SECONDS_MAX = 300.0
POLL_SECONDS = 0.25
STRANGERS_FROM = 0x5EE9_0000
GAS_GIVEN_WEI = 10**16


async def bench_sweep(server: EmbeddedPostgres) -> BenchResult:
    """Deposits swept per second, and the gas of each: a top-up and a transfer."""
    return await _bench("treasury.sweep", has_collector=False)


async def bench_collect(server: EmbeddedPostgres) -> BenchResult:
    """The same by delegation to the collector."""
    return await _bench("treasury.sweep.collect", has_collector=True)


async def _bench(name: str, *, has_collector: bool) -> BenchResult:
    program = program_of("anvil")
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(Anvil(program, Path(folder) / "eth"))
            world = World(utxo={}, anvil=node, usdt=await deploy_token(node))
            tale, look = await _house(stack, Path(folder), world, has_collector=has_collector)
            return await _measure(tale, look, node, name)


async def _house(
    stack: AsyncExitStack, folder: Path, world: World, *, has_collector: bool
) -> tuple[Story, SweepLook]:
    """With coin in the hot wallet and in the gas account."""
    clock = SystemClock()
    told = Narration(
        clock=clock,
        console=Console(stderr=True, quiet=True),
        started_seconds=clock.monotonic_seconds(),
    )
    pool = (DEPOSITS + 10, DEPOSITS + 100)
    stage = await set_up(stack, told, clock, folder, world, pool=pool, has_collector=has_collector)
    tale = await open_story(stack, stage)
    look = await stack.enter_async_context(SweepLook.opened(stage.deployment.settings.owner_url()))
    await story.fund_hot_wallets(tale, {NATIVE: "20"})
    txid = await world.pay(NATIVE, await look.address("gas"), "20")
    await story.to_capital(tale, NATIVE, txid, "20")
    return tale, look


async def _measure(tale: Story, look: SweepLook, node: Anvil, name: str) -> BenchResult:
    await _deposits(tale, look, DEPOSITS)
    rate, floor_gas = await _floor(tale.world, node)
    seconds = await _swept(tale, look, DEPOSITS)
    txids = await look.txids()
    gas = await _gas_of(node, txids)
    await _deposits(tale, look, LATER_DEPOSITS)
    await _swept(tale, look, DEPOSITS + LATER_DEPOSITS)
    later = await _gas_of(node, sorted(set(await look.txids()) - set(txids)))
    figure = DEPOSITS / seconds
    return BenchResult(
        name=name,
        figure=figure,
        unit="deposits/s",
        floor=rate,
        ratio=figure / rate,
        peak_rss_mb=peak_rss_mb(),
        more={
            "seconds": seconds,
            "gas_per_sweep": gas / DEPOSITS,
            "later_gas": later / LATER_DEPOSITS,
            "floor_gas": floor_gas,
        },
    )


async def _swept(tale: Story, look: SweepLook, total: int) -> float:
    """Seconds from a person's word until the books have so many."""
    clock = tale.clock
    start_seconds = clock.monotonic_seconds()
    key = f"sweep-{total}"
    await tale.staff["alice"].post("/v1/sweeps", {"asset": ASSET}, idempotency_key=key)
    while await look.count("swept") < total:
        if clock.monotonic_seconds() - start_seconds > SECONDS_MAX:
            raise BenchFailed(f"{await look.count('swept')} are swept within {SECONDS_MAX:g} s")
        await tale.world.mine("eth")
        await clock.sleep(POLL_SECONDS)
    return clock.monotonic_seconds() - start_seconds


async def _deposits(tale: Story, look: SweepLook, count: int) -> None:
    """So many players pay once; all of it final, and waiting."""
    for number in range(count):
        address = await tale.address("acme", f"p{number}", "eth")
        await tale.world.pay(ASSET, address, AMOUNT)

    async def waiting() -> bool | None:
        return True if await look.count("waiting") >= count else None

    await tale.until("every deposit waits", waiting, mine="eth")


async def _floor(world: World, node: Anvil) -> tuple[float, float]:
    """(deposits per second, gas of each) of the node alone, in two transactions."""
    clock, to = SystemClock(), (await node.accounts())[1]
    strangers = [f"0x{STRANGERS_FROM + number:040x}" for number in range(FLOOR_DEPOSITS)]
    for stranger in strangers:
        await world.pay(ASSET, stranger, AMOUNT)
        await node.rpc("anvil_impersonateAccount", stranger)
    await world.mine("eth")
    start_seconds = clock.monotonic_seconds()
    txids = [await node.send(stranger, GAS_GIVEN_WEI) for stranger in strangers]
    await world.mine("eth")
    data = "0xa9059cbb" + to[2:].lower().rjust(64, "0") + f"{AMOUNT_MINOR:064x}"
    for stranger in strangers:
        txids.append(await node.transact(to=world.usdt, data=data, sender=stranger))
    await world.mine("eth")
    seconds = clock.monotonic_seconds() - start_seconds
    return FLOOR_DEPOSITS / seconds, await _gas_of(node, txids) / FLOOR_DEPOSITS


async def _gas_of(node: Anvil, txids: list[str]) -> float:
    """What their receipts say."""
    total = 0
    for txid in txids:
        receipt: dict[str, Any] = await node.rpc("eth_getTransactionReceipt", txid)
        total += int(receipt["gasUsed"], 16)
    return float(total)
