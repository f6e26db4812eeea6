"""The benchmark `payouts.utxo.year`: fees of a simulated year, ours against bitcoind's own wallet.

Both get the same deposits, payments and rates, and a block after each batch. bitcoind plays for
real: its wallet owns the coins and chooses by itself (`sendmany` at the given rate). Ours is played
by the module that payouts uses, at the size that the builder estimates. Regtest only.
"""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gateway.sandbox.bench import BenchResult, peak_rss_mb
from gateway.sandbox.bench_catchup import program_of
from gateway.sandbox.bench_coins import FEE, SCRIPT, FreeCoin, free_coin, spend
from gateway.sandbox.fee_year import Bill, Step, bill, play, year
from gateway.sandbox.nodes import WALLET as WORLD
from gateway.sandbox.nodes import Bitcoind
from gateway.sandbox.postgres import EmbeddedPostgres

SEED = 20260101
COIN = 10**8
WALLET = "year"
TRUNK_FEE = FEE * 100  # of the tx that brings the deposits of a batch
NOBODY = "raw(51)"  # who gets what blocks pay


class YearNode(Bitcoind):
    """bitcoind that lets a tx cost what a rush asks, with nothing left to chance in its fees."""

    extra_flags = ("-maxtxfee=10",)


async def bench_year(server: EmbeddedPostgres) -> BenchResult:
    """Satoshi of fees per year, the cost of spending what is left included; the floor is
    bitcoind's, so that the ratio is floor / figure."""
    steps = year(SEED)
    ours = play(steps)
    theirs = await play_node(steps, program_of("bitcoind"))
    return BenchResult(
        name="payouts.utxo.year",
        figure=ours.total_minor,
        unit="sat",
        floor=theirs.total_minor,
        ratio=theirs.total_minor / ours.total_minor,
        peak_rss_mb=peak_rss_mb(),
    )


async def play_node(steps: Sequence[Step], program: Path) -> Bill:
    """The year with bitcoind's wallet."""
    with TemporaryDirectory(prefix="cagebench") as folder:
        async with YearNode(program, Path(folder) / "btc") as node:
            await node.ensure_funds()
            total = sum(sum(step.deposits) for step in steps)
            trunk = await free_coin(node, total + TRUNK_FEE * (len(steps) + 1))
            count = max(len(step.payments) for step in steps)
            strangers = [await node.new_address() for _ in range(count)]
            await node.rpc("unloadwallet", WORLD)
            await node.rpc("createwallet", WALLET)
            return await _play(node, trunk, strangers, steps)


async def _play(
    node: Bitcoind, trunk: FreeCoin, strangers: Sequence[str], steps: Sequence[Step]
) -> Bill:
    receiver = await node.new_address()
    script = bytes.fromhex((await node.rpc("getaddressinfo", receiver))["scriptPubKey"])
    fees = inputs = 0
    for step in steps:
        rest = trunk.value - sum(step.deposits) - TRUNK_FEE
        txid, raw = spend(trunk, [*((amount, script) for amount in step.deposits), (rest, SCRIPT)])
        trunk = FreeCoin(txid=txid, vout=len(step.deposits), value=rest)
        await node.mine_exactly([raw], address=NOBODY)
        paid = await _pay(node, strangers, step)
        fees += -round(paid["fee"] * COIN)
        inputs += len(paid["decoded"]["vin"])
    left = await node.rpc("listunspent", 0)
    return bill(steps, fees_minor=fees, coins_left=len(left), inputs=inputs)


async def _pay(node: Bitcoind, strangers: Sequence[str], step: Step) -> Any:
    """One batch as the wallet makes it, in the next block."""
    txid = await node.rpc(
        "sendmany",
        "",
        {
            address: f"{amount // COIN}.{amount % COIN:08d}"
            for address, amount in zip(strangers, step.payments, strict=False)
        },
        1,
        "",
        [],
        False,
        None,
        "unset",
        str(Decimal(step.rate_sat_per_kvb) / 1_000),
    )
    await node.mine_exactly([txid], address=NOBODY)
    return await node.rpc("gettransaction", txid, True, True)
