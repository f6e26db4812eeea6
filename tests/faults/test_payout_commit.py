"""P07: the connection dies during COMMIT. The same error comes whether the row is there or not, so
the next cycle reads the rows before it does anything else."""

import asyncio
from pathlib import Path

import pytest

from config.database import Database, async_url
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts
from tests.support.pgproxy import commit_cutter

pytestmark = pytest.mark.postgres

COMMITS = 14  # more than one cycle of a payout has


@pytest.mark.parametrize("reaches_server", [True, False], ids=["committed", "lost"])
async def test_p07_connection_lost_at_each_commit_of_a_payout_pays_once(
    reaches_server: bool, eth: Payouts, test_database: TestDatabase, session_folder: Path
) -> None:
    """One payout per cut, at every COMMIT of a cycle in turn; then everything runs to rest."""
    await eth.fund("eth:ETH", "5")
    await eth.fund("eth:ETH", "5", into="acme")
    folder = session_folder / f"cut-{reaches_server}"
    folder.mkdir()
    rows = []
    async with commit_cutter(test_database.role_url("gateway_payouts"), folder) as (cutter, url):
        eth.role = Database(async_url(url), pool_size=2)
        lane = await eth.cycle()
        for number in range(1, COMMITS + 1):
            rows.append(await eth.request(f"0.{number:03d}", player_id=f"p-{number}"))
            cutter.cut_next(number, reaches_server=reaches_server)
            async with asyncio.timeout(10):
                await eth.cycle(lane, times=2)
            cutter.disarm()
            await eth.mine()
        for _ in range(6):
            await eth.cycle(lane)
            await eth.mine()
        await eth.role.close()

    assert cutter.cuts >= COMMITS - 3
    assert await eth.states(*rows) == ["completed"] * COMMITS
    assert [eth.paid(row) for row in rows] == [1] * COMMITS
    assert len({request.attempt_id for request in eth.signer.asked}) == COMMITS
    await eth.assert_at_rest()
