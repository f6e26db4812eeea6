"""The benchmark `treasury.sweep`: 1,000 token deposits from `waiting` to `swept`, on anvil.

A whole deployment with every role as its own process. The watch runs from the moment at which a
person asks for them until the books have every one, top-ups, blocks and finality included; blocks
are mined one after the other meanwhile. The floor is the node alone: as many native transfers and
then as many token transfers of unlocked accounts, one call after the other. `gas_per_sweep` is what
the receipts of the house's own txs say, `floor_gas` what two transactions of a stranger use.
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
FLOOR_DEPOSITS = 100
AMOUNT, AMOUNT_MINOR = "25", 25_000_000
ASSET, NATIVE = "eth:USDT", "eth:ETH"
SECONDS_MAX = 300.0
POLL_SECONDS = 0.25
STRANGERS_FROM = 0x5EE9_0000
GAS_GIVEN_WEI = 10**16


async def bench_sweep(server: EmbeddedPostgres) -> BenchResult:
    """Deposits swept per second, and the gas of each."""
    program = program_of("anvil")
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(Anvil(program, Path(folder) / "eth"))
            world = World(utxo={}, anvil=node, usdt=await deploy_token(node))
            return await _measure(stack, Path(folder), world, node)


async def _measure(stack: AsyncExitStack, folder: Path, world: World, node: Anvil) -> BenchResult:
    clock = SystemClock()
    told = Narration(
        clock=clock,
        console=Console(stderr=True, quiet=True),
        started_seconds=clock.monotonic_seconds(),
    )
    pool = (DEPOSITS + 10, DEPOSITS + 100)
    stage = await set_up(stack, told, clock, folder, world, pool=pool)
    tale = await open_story(stack, stage)
    look = await stack.enter_async_context(SweepLook.opened(stage.deployment.settings.owner_url()))
    await story.fund_hot_wallets(tale, {NATIVE: "20"})
    txid = await world.pay(NATIVE, await look.address("gas"), "20")
    await story.to_capital(tale, NATIVE, txid, "20")
    await _deposits(tale, world, look)
    rate, floor_gas = await _floor(world, node)
    start_seconds = clock.monotonic_seconds()
    await tale.staff["alice"].post("/v1/sweeps", {"asset": ASSET}, idempotency_key="sweep")
    while await look.count("swept") < DEPOSITS:
        if clock.monotonic_seconds() - start_seconds > SECONDS_MAX:
            raise BenchFailed(f"{await look.count('swept')} are swept within {SECONDS_MAX:g} s")
        await world.mine("eth")
        await clock.sleep(POLL_SECONDS)
    seconds = clock.monotonic_seconds() - start_seconds
    gas = await _gas_of(node, await look.txids()) / DEPOSITS
    figure = DEPOSITS / seconds
    return BenchResult(
        name="treasury.sweep",
        figure=figure,
        unit="deposits/s",
        floor=rate,
        ratio=figure / rate,
        peak_rss_mb=peak_rss_mb(),
        more={"seconds": seconds, "gas_per_sweep": gas, "floor_gas": floor_gas},
    )


async def _deposits(tale: Story, world: World, look: SweepLook) -> None:
    """Every player pays once; all of them final, and waiting."""
    for number in range(DEPOSITS):
        address = await tale.address("acme", f"p{number}", "eth")
        await world.pay(ASSET, address, AMOUNT)

    async def waiting() -> bool | None:
        return True if await look.count("waiting") >= DEPOSITS else None

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
