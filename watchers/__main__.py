"""Role `cage watch NETWORK`: the composition root of one watcher.

Reads settings, opens engine and chain, builds objects by constructor, starts one TaskGroup. A
SIGTERM cancels the group; rows say where to go on, so the exit needs no ceremony.
"""

import argparse
import asyncio
import os
import sys
from functools import partial
from pathlib import Path

import uvloop
from prometheus_client import start_http_server

from config import collector
from config.clock import SystemClock, Waker
from config.database import Database, async_url
from config.errors import ConfigError
from config.ids import SystemIds
from config.logs import configure_logs, get_logger
from config.process import run_until_stopped
from config.registry import Registry, load_registry
from config.settings import Settings, load_settings
from watchers.agreed_chain import AgreedChain
from watchers.coin_search import CoinSearchLoop
from watchers.doctor_probe import DoctorLoop
from watchers.errors import WrongNetwork
from watchers.follower import Follower
from watchers.loops import FeeLoop, FollowLoop, PoolLoop, ProbeLoop, alarm_of, supervise
from watchers.metrics import Metrics
from watchers.network import Network
from watchers.node_pardons import PardonLoop
from watchers.progress import ProgressWatch
from watchers.reconcile_loop import ReconcileLoop
from watchers.registry import build_agreed_chain, build_unspent
from watchers.searches import SearchLoop
from watchers.second_pass import SecondPass
from watchers.unspent import UnspentReader

log = get_logger("watchers.main")

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
CLOSE_TIMEOUT_SECONDS = 5.0
DEV_CHAINS = frozenset({"regtest", "dev"})  # short chains of our own: followed from genesis
BY_INDEX = {"enable_seqscan": "off"}
"""All that a watcher asks of large tables has its index. While a table grows faster than it is
analysed the planner thinks it empty, and reads all of it once per input of a block."""


def main(arguments: list[str] | None = None) -> int:
    """Run one watcher; returns the exit code of CONTRACT 2."""
    parser = argparse.ArgumentParser(prog="cage watch", description=__doc__)
    parser.add_argument("network")
    parser.add_argument("--config", type=Path, default=None)
    options = parser.parse_args(arguments)
    try:
        registry = load_registry(load_settings(options.config))
        configure_logs(level=registry.settings.logs.level)
        if options.network not in registry.chains:
            raise ConfigError(
                f"network {options.network} is not configured",
                hint=f"known: {', '.join(sorted(registry.chains))}",
            )
        return uvloop.run(run(registry, options.network))
    except ConfigError as error:
        hint = f" ({error.hint})" if error.hint else ""
        sys.stderr.write(f"cage watch: {error}{hint}\n")
        return EXIT_USAGE
    except WrongNetwork as error:
        sys.stderr.write(f"cage watch: {error}\n")
        return EXIT_FAILED


async def run(registry: Registry, name: str) -> int:
    """Build and run until SIGTERM or SIGINT."""
    settings = registry.settings
    clock = SystemClock(offset_seconds=settings.test_clock_offset_seconds)
    network = Network(
        spec=registry.chains[name],
        assets=registry.assets,
        ids=SystemIds(clock),
        reversed_per_step_max=registry.policy.limits.deposits_reversed_per_step_max,
        reference=registry.policy.reference,
        reversed_value_max=registry.policy.reversed_value_max[name],
        breakers=registry.policy.breakers,
    )
    database = Database(
        async_url(settings.role_url("watchers")),
        pool_size=settings.database.pool_size,
        application_name=f"cage-watch-{name}",
        settings=BY_INDEX,
    )
    nodes = settings.networks[name]
    chain = build_agreed_chain(
        network.spec,
        [node.url_with_credentials() for node in nodes.nodes],
        registry.assets.values(),
        quorum=nodes.quorum,
        clock=clock,
        timeout_seconds=nodes.request_timeout_seconds,
        calls_per_second=nodes.calls_per_second,
    )
    unspent = build_unspent(
        network.spec,
        [node.url_with_credentials() for node in nodes.nodes],
        clock=clock,
        calls_per_second=nodes.calls_per_second,
    )
    metrics = Metrics(name)
    _serve_metrics(settings, name, metrics)
    try:
        log.info("watch.started", network=name, chain=network.spec.chain)
        collector.settle()
        await run_until_stopped(
            partial(_loops, settings, network, chain, unspent, database, clock, metrics),
            database=database,
            clock=clock,
        )
        log.info("watch.stopped", network=name)
    finally:
        await _close(chain, unspent, database)
    return EXIT_DONE


async def _loops(
    settings: Settings,
    network: Network,
    chain: AgreedChain,
    unspent: UnspentReader | None,
    database: Database,
    clock: SystemClock,
    metrics: Metrics,
) -> None:
    spec = network.spec
    follower = Follower(
        chain=chain,
        network=network,
        database=database,
        clock=clock,
        holder=f"{os.getpid()}-{network.ids.new_id().hex}",
        start_height=0 if spec.chain in DEV_CHAINS else None,
    )
    follow = FollowLoop(
        follower=follower,
        chain=chain,
        network=network,
        database=database,
        clock=clock,
        waker=Waker(poll_seconds=spec.poll_seconds),
        metrics=metrics,
        pool=chain.pool,
    )
    fee = FeeLoop(chain=chain, network=network, database=database, clock=clock)
    keys = PoolLoop(chain=chain, network=network, settings=settings, database=database, clock=clock)
    probe = ProbeLoop(chain=chain, network=network, database=database, clock=clock)
    doctor = DoctorLoop(chain=chain, network=network, database=database, clock=clock)
    search = SearchLoop(chain=chain, network=network, database=database, clock=clock)
    compare = ReconcileLoop(
        chain=chain, network=network, database=database, clock=clock, metrics=metrics
    )
    again = SecondPass(pool=chain.pool, network=network, database=database, clock=clock)
    pardons = PardonLoop(pool=chain.pool, network=network.name, database=database, clock=clock)
    alarm = alarm_of(database, network, clock=clock)
    progress = ProgressWatch(
        network=network.name,
        reader=chain.reader,
        database=database,
        clock=clock,
        is_following=lambda: follow.is_following,
    )
    loops = [
        ("follow", follow.run),
        ("fees", fee.run),
        ("pool", keys.run),
        ("probes", probe.run),
        ("doctor", doctor.run),
        ("searches", search.run),
        ("reconcile", compare.run),
        ("second_pass", again.run),
        ("node_pardons", pardons.run),
    ]
    if unspent is not None:
        coins = CoinSearchLoop(reader=unspent, network=network, database=database, clock=clock)
        loops.append(("coin_search", coins.run))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(progress.run())  # by itself: it ends the process
        for name, run_loop in loops:
            tasks.create_task(
                supervise(name, run_loop, clock=clock, network=network.name, alarm=alarm)
            )


def _serve_metrics(settings: Settings, name: str, metrics: Metrics) -> None:
    """The port is `metrics.ports."watch-<network>"`; none or 0: no listener."""
    port = settings.metrics.ports.get(f"watch-{name}", 0)
    if port:
        start_http_server(port, addr=settings.metrics.host, registry=metrics.registry)


async def _close(chain: AgreedChain, unspent: UnspentReader | None, database: Database) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await chain.close()
            if unspent is not None:
                await unspent.close()
            await database.close()
    except TimeoutError:
        log.warning("watch.close_timeout")


if __name__ == "__main__":
    sys.exit(main())
