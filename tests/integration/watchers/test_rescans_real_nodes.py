"""Blocks looked at again on the real programs: found once, killed in the middle, asked twice."""

import pytest

from tests.integration.watchers.conftest import RealBench
from tests.integration.watchers.test_real_nodes import pay_players
from tests.integration.watchers.test_rescans import Killed, ask, die_at, rows, work_off
from tests.support.watching import Watch
from watchers.rescans import RescanState

pytestmark = [pytest.mark.postgres, pytest.mark.node]


async def begin_again(watch: Watch) -> None:
    """A watcher whose start height is above what was paid: its place is the tip of now."""
    async with watch.as_owner.unit_of_work() as uow:
        await uow.execute("DELETE FROM chain.blocks")
        await uow.execute("DELETE FROM chain.cursors")
    watch.follower = watch.new_follower("first")
    await watch.follow()


@pytest.mark.parametrize(
    "network_settings", [{"reorg_limit_blocks": 6}], indirect=True, ids=["limit"]
)
async def test_d11_a_deposit_before_the_start_height_is_found_once_killed_and_rescanned_twice(
    real: RealBench,
) -> None:
    world, watch = real.world, real.watch
    first = (await watch.position()).height or 0
    await pay_players(world, watch, ["anna"])
    await world.mine(40)
    await begin_again(watch)
    assert await watch.deposits() == []

    await ask(watch, first)
    for point in ("rescan.headers.before_commit", "rescan.before_commit", "rescan.after_commit"):
        with pytest.raises(Killed):
            await work_off(watch, watch.new_follower("first", crash=die_at(point)))
    done = await work_off(watch, watch.new_follower("first"))
    deposit = await watch.deposit()
    assert (done.state, done.found, deposit.state) == (RescanState.DONE, 1, "final")
    clearing = f"brand:acme:clearing:{world.native}"
    assert (await watch.books())[clearing] == deposit.amount_minor
    await watch.audit()

    before = await rows(watch)
    await ask(watch, first)
    again = await work_off(watch)
    assert (again.state, again.found) == (RescanState.DONE, 0)
    assert await rows(watch) == before
    await watch.audit()
