"""Two processes of the single-writer roles at once, and one of them frozen past its lease.

Goal: any number of instances of a role is safe (Z1 of the features): the lease lets one work, its
fence stops the one that wakes up too late.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import pytest_asyncio

from tests.support.live import Live

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.node,
    pytest.mark.postgres,
    pytest.mark.slow,
]

SECOND = (("watch", "btc"), ("watch", "eth"), ("payouts",))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seconds(house: Live) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """A second watcher of each network and a second payout role beside the supervisor's."""
    started = [await house.stage.deployment.start_role(*role) for role in SECOND]
    yield started
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process stands still (SIGSTOP) and goes on afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_p12_two_watchers_and_two_payout_roles_do_everything_once(
    house: Live, seconds: list[asyncio.subprocess.Process]
) -> None:
    """P12, and its like for payouts: two rounds of load with both instances up."""
    pids = house.stage.deployment.role_pids()
    await house.work()
    await house.work()
    await house.assert_all_is_well()
    assert [process.returncode for process in seconds] == [None, None, None]
    assert house.stage.deployment.role_pids() == pids  # nobody fell over the other


async def test_p13_payouts_frozen_past_its_lease_pays_nothing_twice(
    house: Live, seconds: list[asyncio.subprocess.Process]
) -> None:
    """P13: SIGSTOP with payments under way; the other instance takes the lane and ends the round,
    then the first one wakes up beside it. Either may have the lane: the one that has not loses
    nothing."""
    is_taken_over = False
    for pid in (house.pid("payouts"), seconds[2].pid):
        before = await house.lease_holder("payouts:btc")
        working = await house.begin()
        with frozen(pid):
            await working
            is_taken_over = await house.lease_holder("payouts:btc") != before
        if is_taken_over:
            break
    assert is_taken_over
    await house.work()
    await house.assert_all_is_well()
    assert seconds[2].returncode is None


async def test_p12_watcher_frozen_past_its_lease_credits_nothing_twice(
    house: Live, seconds: list[asyncio.subprocess.Process]
) -> None:
    """P12: the same for the watchers of both networks."""
    working = await house.begin()
    with frozen(house.pid("watch-btc")), frozen(house.pid("watch-eth")):
        await working
    await house.work()
    await house.assert_all_is_well()
    assert [process.returncode for process in seconds] == [None, None, None]
