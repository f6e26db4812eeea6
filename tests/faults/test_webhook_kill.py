"""The webhooks role as a real process, killed with -9: nothing is lost, the id stays (P01, P33)."""

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
from config.ids import SystemIds, public_id
from gateway.webhooks.secrets import load_key
from tests.integration.webhooks.desk import Desk
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.receiver import Receiver, receiving

pytestmark = pytest.mark.postgres

DEADLINE_SECONDS = 40
ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def role(
    database: TestDatabase, state_dir: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`cage webhooks` on this database; killed at the end if it still runs."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CAGE_")}
    environ |= {
        "DATABASE_URL": database.owner_url,
        "CAGE_STATE_DIR": str(state_dir),
        "CAGE_WEBHOOKS__ALLOW_HOSTS": '["127.0.0.1"]',
        "CAGE_WEBHOOKS__TIMEOUT_SECONDS": "1",
        "CAGE_WEBHOOKS__RETRY_SECONDS": "[1, 1, 1]",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "webhooks"),
        cwd=ROOT,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def desk(test_database: TestDatabase, database: Database, tmp_path: Path) -> Desk:
    """Events of a brand whose endpoint's secret is sealed under the process's own key file."""
    clock = ManualClock(start=SystemClock().now())
    key = load_key(tmp_path / "secrets" / "sealed.key", SystemIds(SystemClock()))
    desk = Desk(owner=database, role=database, clock=clock, ids=SequentialIds(clock), key=key)
    await desk.add_brands("acme")
    return desk


async def until_received(receiver: Receiver, count: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(receiver.received) < count:
            receiver.arrived.clear()
            await receiver.arrived.wait()


async def test_p33_kill_in_the_middle_of_a_try_is_followed_by_the_same_event(
    desk: Desk, test_database: TestDatabase, tmp_path: Path
) -> None:
    """The receiver has the event, the process dies before it hears so; the next process repeats."""
    async with receiving() as receiver:
        await desk.add_endpoint(receiver.url)
        event_id = await desk.event()
        receiver.hangs = asyncio.Event()
        async with role(test_database, tmp_path) as process:
            await until_received(receiver, 1)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        receiver.hangs.set()
        receiver.hangs = None
        async with role(test_database, tmp_path):
            await until_received(receiver, 2)
    assert set(receiver.ids()) == {public_id("event", event_id, livemode=False)}
    first, second = receiver.received[:2]
    assert first.body == second.body


async def test_p01_events_while_the_role_is_down_are_numbered_and_sent_after_its_restart(
    desk: Desk, test_database: TestDatabase, tmp_path: Path
) -> None:
    async with receiving() as receiver:
        await desk.add_endpoint(receiver.url)
        before = await desk.event()
        async with role(test_database, tmp_path) as process:
            await until_received(receiver, 1)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        during = await desk.event()
        async with role(test_database, tmp_path):
            await until_received(receiver, 2)
            after = await desk.event()
            async with asyncio.timeout(DEADLINE_SECONDS):
                while len(set(receiver.ids())) < 3:
                    receiver.arrived.clear()
                    await receiver.arrived.wait()
    wanted = [public_id("event", event, livemode=False) for event in (before, during, after)]
    assert sorted(set(receiver.ids())) == sorted(wanted)
    assert [row[0] for row in await desk.feed("acme")] == [1, 2, 3]


async def test_role_ends_by_itself_at_sigterm(
    desk: Desk, test_database: TestDatabase, tmp_path: Path
) -> None:
    async with receiving() as receiver:
        await desk.add_endpoint(receiver.url)
        await desk.event()
        async with role(test_database, tmp_path) as process:
            await until_received(receiver, 1)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await process.wait() == 0
