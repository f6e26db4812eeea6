"""`python -m watchers NETWORK` as its own process, against a real node and a real database."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from config.chains import load_chains
from config.clock import SystemClock
from config.database import Database, async_url
from config.ids import SystemIds
from config.settings import NetworkSettings, Settings
from gateway.sandbox.nodes import Bitcoind
from tests.support.databases import TestDatabase
from tests.support.watching import BRANDS, account_xpubs
from watchers import addresses, fees, health, probes
from watchers.probes import ProbeKind, ProbeState
from watchers.registry import build_chain

pytestmark = [pytest.mark.postgres, pytest.mark.node]

DEADLINE_SECONDS = 45.0
POLL_SECONDS = 0.1
ROOT = Path(__file__).resolve().parents[3]


async def until(claim: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the claim holds, at most DEADLINE_SECONDS."""
    clock = SystemClock()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await claim():
            await clock.sleep(POLL_SECONDS)


def write_config(folder: Path, database: TestDatabase, node_url: str, *, quorum: int = 1) -> Path:
    """A `cage.toml` for one BTC regtest network, and the public keys beside it."""
    second = '"http://127.0.0.1:1"' if quorum > 1 else ""
    brands = "\n".join(f"[brands.{name}]\naccount_index = {i}" for name, i in BRANDS.items())
    path = folder / "cage.toml"
    path.write_text(
        f'state_dir = "{folder}"\n'
        "[database]\n"
        f'url = "{database.owner_url}"\n'
        "[networks.btc]\n"
        'chain = "regtest"\n'
        f"quorum = {quorum}\n"
        f'nodes = ["{node_url}", {second}]\n'
        "[pool]\nlow = 5\nhigh = 5\n"
        f"{brands}\n",
        encoding="utf-8",
    )
    return path


def write_keys(folder: Path, node_url: str) -> None:
    """The xpubs of the public test vector."""
    spec = load_chains(Settings(networks={"btc": NetworkSettings(chain="regtest")}))["btc"]
    xpubs = account_xpubs(build_chain(spec, [node_url], []))
    (folder / "keys").mkdir()
    (folder / "keys" / "xpubs.json").write_text(
        json.dumps(
            {"fingerprint": "3442193e", "networks": {"btc": {str(k): v for k, v in xpubs.items()}}}
        ),
        encoding="utf-8",
    )


@asynccontextmanager
async def watcher(config: Path) -> AsyncIterator[Process]:
    """The role as a child process; ended by its pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "watchers",
        "btc",
        "--config",
        str(config),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_role_follows_fills_its_pool_answers_probes_and_ends_on_sigterm(
    bitcoind: Bitcoind, test_database: TestDatabase, tmp_path: Path
) -> None:
    config = write_config(tmp_path, test_database, bitcoind.url)
    write_keys(tmp_path, bitcoind.url)
    database = Database(async_url(test_database.role_url("gateway_api")))
    clock = SystemClock()
    try:
        async with watcher(config) as process:
            tip = await bitcoind.height()

            async def is_at_tip() -> bool:
                async with database.unit_of_work() as uow:
                    found = await health.network_status(uow)
                return bool(found) and found[0].is_healthy and found[0].height == tip

            await until(is_at_tip)
            probe_id = await ask(database, clock)

            async def is_answered() -> bool:
                async with database.unit_of_work() as uow:
                    found = await probes.get(uow, probe_id)
                return found is not None and found.state is ProbeState.ANSWERED

            await until(is_answered)
            async with database.unit_of_work() as uow:
                waiting = await addresses.unverified(uow, network="btc", limit=1000)
                sample = await fees.latest(uow, network="btc")
            assert {row.brand for row in waiting} == {None, "acme", "zest"}
            assert sample is not None

            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await process.wait() == 0
    finally:
        await database.close()


async def ask(database: Database, clock: SystemClock) -> UUID:
    """Ask for the holdings."""
    probe_id = SystemIds(clock).new_id()
    async with database.unit_of_work() as uow:
        await probes.ask(
            uow, probe_id=probe_id, network="btc", kind=ProbeKind.HOLDINGS, at=clock.now()
        )
    return probe_id


async def test_a_quorum_that_cannot_be_kept_is_refused_with_the_right_key(
    test_database: TestDatabase, tmp_path: Path
) -> None:
    config = write_config(tmp_path, test_database, "http://127.0.0.1:1", quorum=3)
    async with watcher(config) as process:
        assert process.stderr is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.wait() == 2
            told = (await process.stderr.read()).decode()
    assert "networks.btc" in told
    assert "quorum 3 of 2 nodes can never agree" in told


async def test_an_unknown_network_is_a_usage_error(
    test_database: TestDatabase, tmp_path: Path
) -> None:
    config = write_config(tmp_path, test_database, "http://127.0.0.1:1")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "watchers",
        "doge",
        "--config",
        str(config),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, told = await process.communicate()
    assert process.returncode == 2
    assert b"doge" in told
