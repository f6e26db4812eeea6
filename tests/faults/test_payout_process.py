"""The payout role as its own process: killed between signing and broadcast, stopped, started.

The process is `python -m gateway payouts` with real time, real PostgreSQL under its own role, a
real anvil, and the signer's server on its Unix socket. The test plays watcher and miner.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.clock import SystemClock
from config.database import Database
from gateway.withdrawals_store import WithdrawalRow
from tests.conformance.conftest import open_world
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts
from tests.support.signing import socket_signer
from tests.support.simchain import TOKEN_CONTRACT

pytestmark = [pytest.mark.postgres, pytest.mark.node]

KILLED = 137
STOP_SECONDS = 10  # P35
PATIENCE_SECONDS = 60.0

CONFIG = """
state_dir = "{folder}/state"
[database]
url = "{database}"
[networks.eth]
chain = "dev"
nodes = ["{node}"]
[assets."eth:USDT"]
contract = "{contract}"
[brands.acme]
account_index = 1
[brands.bravo]
account_index = 2
[signer]
socket = "{socket}"
[payouts]
poll_seconds = 0.2
[wallets."eth:ETH"]
min = "5"
target = "6"
max = "7"
"""


@asynccontextmanager
async def process(config: Path, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One payout process; ended by its pid whatever the test does."""
    with (config.parent / "payouts.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "payouts", "--config", str(config),
            env={**os.environ, **variables}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def ended(child: asyncio.subprocess.Process, *, within_seconds: float) -> int:
    """The exit code; fails when the process does not end in time."""
    async with asyncio.timeout(within_seconds):
        return await child.wait()


async def until(house: Payouts, row_state: str, row: WithdrawalRow, *, mines: bool = False) -> None:
    """Wait for a state as a client would: by looking, with a deadline."""
    clock = SystemClock()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await house.states(row) != [row_state]:
            if mines:
                await house.mine()
            await clock.sleep(0.1)


async def test_p02_killed_role_is_restarted_and_pays_once_then_stops_cleanly(
    request: pytest.FixtureRequest,
    database: Database,
    payouts_role: Database,
    test_database: TestDatabase,
    ids: SequentialIds,
    session_folder: Path,
) -> None:
    folder = session_folder / "payout-process"
    folder.mkdir()
    clock = ManualClock(SystemClock().now())
    async with open_world("anvil", request) as world:
        house = await Payouts.start(
            "eth",
            database=database,
            role=payouts_role,
            clock=clock,
            ids=ids,
            folder=folder,
            world=world,
        )
        await house.fund("eth:ETH", "1")
        await house.fund("eth:ETH", "2", into="acme")
        row = await house.request("0.25")
        async with socket_signer(house) as (socket, _):
            config = folder / "cage.toml"
            config.write_text(
                CONFIG.format(
                    folder=folder, database=test_database.owner_url, socket=socket,
                    node=request.getfixturevalue("anvil_process").url, contract=TOKEN_CONTRACT,
                ),
                encoding="utf-8",
            )  # fmt: skip
            async with process(config, CAGE_CRASH_AT="payout.signed") as doomed:
                assert await ended(doomed, within_seconds=PATIENCE_SECONDS) == KILLED
            assert await house.states(row) == ["signed"]
            await house.expire_lease()
            async with process(config) as alive:
                await until(house, "sent", row)
                await until(house, "completed", row, mines=True)
                alive.send_signal(signal.SIGTERM)
                assert await ended(alive, within_seconds=STOP_SECONDS) == 0

    async with house.database.unit_of_work() as uow:
        signed = await uow.execute("SELECT count(*) FROM chain.outgoing WHERE raw IS NOT NULL")
        assert signed.scalar_one() == 1
        lease = await uow.execute("SELECT expires_at <= clock_timestamp() FROM gateway.leases")
        assert lease.scalars().all() == [True, True]  # given back: a standby may start at once
        told = await uow.execute("SELECT type FROM ledger.events WHERE object_kind = 'wallet'")
        assert told.scalars().all() == ["wallet.low"]  # once, by two processes
    await house.assert_at_rest()


async def test_unknown_crash_point_is_a_configuration_error(tmp_path: Path) -> None:
    config = tmp_path / "cage.toml"
    config.write_text('[database]\nurl = "postgresql://nobody@localhost/none"\n', encoding="utf-8")

    async with process(config, CAGE_CRASH_AT="payout.nowhere") as child:
        assert await ended(child, within_seconds=PATIENCE_SECONDS) == 2
