"""`cage bench`: each figure beside its floor, measured in the same run on the same server.

Owns the result's shape, the list of benchmarks and the throw-away server they run on. A benchmark
is an async function that takes the server and answers a BenchResult; its module is opened only when
it runs.
"""

import asyncio
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path

from gateway.sandbox.postgres import EmbeddedPostgres, start_postgres

BENCHES: dict[str, str] = {
    "ledger.post": "gateway.sandbox.bench_ledger:bench_ledger_post",
    "ledger.post_many": "gateway.sandbox.bench_ledger_many:bench_post_many",
    "ledger.post_many.one_account": "gateway.sandbox.bench_ledger_many:bench_one_account",
    "ledger.reconcile": "gateway.sandbox.bench_reconcile:bench_reconcile",
    "api.addresses": "gateway.sandbox.bench_api:bench_addresses",
    "api.withdrawals": "gateway.sandbox.bench_api:bench_withdrawals",
    "api.withdrawals.latency": "gateway.sandbox.bench_api:bench_withdrawal_latency",
    "webhooks.deliver": "gateway.sandbox.bench_webhooks:bench_deliver",
    "watch.block": "gateway.sandbox.bench_watch:bench_block",
    "watch.match": "gateway.sandbox.bench_watch_blocks:bench_match",
    "watch.catchup.btc": "gateway.sandbox.bench_catchup:bench_btc",
    "watch.catchup.btc.small": "gateway.sandbox.bench_catchup:bench_btc_small",
    "watch.catchup.evm": "gateway.sandbox.bench_catchup:bench_evm",
    "deposits.credit": "gateway.sandbox.bench_watch_blocks:bench_credit",
    "deposits.latency": "gateway.sandbox.bench_latency:bench_latency",
    "signer.sign": "gateway.sandbox.bench_signer:bench_sign",
    "payouts.utxo": "gateway.sandbox.bench_payouts:bench_utxo",
    "payouts.evm": "gateway.sandbox.bench_payouts:bench_evm",
    "treasury.sweep": "gateway.sandbox.bench_sweep:bench_sweep",
    "treasury.sweep.collect": "gateway.sandbox.bench_sweep:bench_collect",
    "payouts.utxo.year": "gateway.sandbox.bench_fee_year:bench_year",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """One figure. `floor` is what the bare parts reach in the same run, `ratio` figure / floor.

    Where less is better (`.latency`, `.year`, `ledger.reconcile`) the ratio is floor / figure.
    """

    name: str
    figure: float
    unit: str
    floor: float
    ratio: float
    peak_rss_mb: float
    more: Mapping[str, float] = field(default_factory=dict)
    """Further figures by name, e.g. `bytes_ratio`."""


Bench = Callable[[EmbeddedPostgres], Awaitable[BenchResult]]


def peak_rss_mb() -> float:
    """The most memory that this process or one of its ended children held, in MiB."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024  # Linux counts in KiB


def run_bench(name: str | None, *, as_json: bool) -> int:
    """Run one benchmark or all; prints the table or JSON. 2: no such benchmark."""
    if name is not None and name not in BENCHES:
        known = ", ".join(BENCHES)
        sys.stderr.write(f"bench: there is no benchmark {name!r}; there are: {known}\n")
        return 2
    chosen = [name] if name is not None else list(BENCHES)
    folder = Path(tempfile.mkdtemp(prefix="cagebench"))
    results = []
    try:
        server = start_postgres(folder / "pg")
        try:
            for each in chosen:
                sys.stderr.write(f"bench: {each} ...\n")
                results.append(asyncio.run(_run(_bench(BENCHES[each]), server)))
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(as_text(results) if not as_json else _as_json(results))
    return 0


def as_text(results: list[BenchResult]) -> str:
    """The results as a table."""
    lines = [f"{'name':<28}{'figure':>10} {'unit':<12}{'floor':>10}{'ratio':>8}{'peak MB':>9}"]
    lines += [
        f"{item.name:<28}{item.figure:>10.0f} {item.unit:<12}{item.floor:>10.0f}"
        f"{item.ratio:>8.2f}{item.peak_rss_mb:>9.0f}"
        + "".join(f"  {name} {figure:.4f}" for name, figure in item.more.items())
        for item in results
    ]
    return "\n".join(lines) + "\n"


def _as_json(results: list[BenchResult]) -> str:
    shown = [asdict(item) for item in results]
    return json.dumps([item | item.pop("more") for item in shown], indent=2) + "\n"


async def _run(bench: Bench, server: EmbeddedPostgres) -> BenchResult:
    return await bench(server)


def _bench(where: str) -> Bench:
    module, _, function = where.partition(":")
    found: Bench = getattr(import_module(module), function)
    return found
