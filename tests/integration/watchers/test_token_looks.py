"""What balances are asked about before a run connects: bounded by time, so that a lease lasts."""

from collections.abc import Mapping, Sequence

import pytest

from tests.integration.watchers.conftest import AccountBench
from tests.support.clock import ManualClock
from tests.support.sim_account import SimAccountReader
from tests.support.simchain import account_chain
from tests.support.watching import Watch
from watchers import searches, store, token_store
from watchers.follower import LEASE_SECONDS
from watchers.reconcile_chain import Holdings
from watchers.token_checks import LOOK_SECONDS

pytestmark = pytest.mark.postgres

BLOCKS = 12


class SlowReader(SimAccountReader):
    """Every question about balances takes a good part of what a look may take."""

    clock: ManualClock
    watch: Watch

    async def holdings(
        self, keys: Sequence[str], asset: str, *, block_hash: str
    ) -> Mapping[str, int]:
        self.clock.advance(LOOK_SECONDS / 4)
        await self.watch.age_lease(LOOK_SECONDS / 4)
        return await super().holdings(keys, asset, block_hash=block_hash)


async def test_p12_a_run_whose_balances_come_slowly_is_connected_in_parts_under_one_lease(
    account: AccountBench, clock: ManualClock
) -> None:
    """All of it together takes longer than the lease: a standby never gets it meanwhile."""
    watch, sim = account.watch, account.sim
    anna = await watch.address("anna")
    await watch.follow()
    for _ in range(BLOCKS):
        sim.pay("eth:USDT", anna.address, 5_000_000)
        sim.mine(1)
    reader = SlowReader(sim)
    reader.clock, reader.watch = clock, watch
    slow = watch.new_follower("first", chain=account_chain(sim, reader=reader))
    standby = watch.new_follower("second")
    position = await watch.position(slow)
    before = clock.now()
    while await slow.follow(position):
        assert await standby.take_lease() is None
        position = await watch.position(slow)
    assert (clock.now() - before).total_seconds() > LEASE_SECONDS
    async with watch.as_watcher.unit_of_work() as uow:
        cursor = await store.cursor(uow, "eth")
    assert cursor is not None
    assert (cursor["height"], cursor["fence"]) == (sim.tip.ref.height, position.fence)
    assert len(await watch.deposits()) == BLOCKS
    await watch.audit()


async def test_d56_a_shortfall_that_was_closed_and_still_stands_opens_again(
    account: AccountBench,
) -> None:
    watch = account.watch
    account.sim.mine(3)
    await watch.follow()
    position = await watch.position()
    assert position.height is not None
    assert position.hash is not None
    held = Holdings(
        network="eth",
        height=position.height,
        block_hash=position.hash,
        read_at=watch.clock.now(),
        chain={},
        books={"custody:eth/hot:eth:ETH": 5},
        unposted={},
        unsettled={},
        awaited={},
    )
    at = watch.clock.now()
    assert await searches.book(watch.as_watcher, watch.network, held, at=at) == 1
    async with watch.as_api.unit_of_work() as uow:
        await uow.execute(
            "UPDATE chain.searches SET state = 'closed', closed_at = now(), closed_by = 'ada', "
            "outcome = 'looked'"
        )
    assert await searches.book(watch.as_watcher, watch.network, held, at=at) == 1
    async with watch.as_watcher.unit_of_work() as uow:
        rows = await token_store.searches(uow, network="eth", limit=9)
    assert [(row["kind"], row["state"]) for row in rows] == [("shortfall", "open")]
