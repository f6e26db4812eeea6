"""Blocks looked at again on the real programs: found once, killed in the middle, asked twice."""

import pytest

from tests.integration.watchers.conftest import RealBench
from tests.integration.watchers.test_real_nodes import pay_players
from tests.integration.watchers.test_rescans import Killed, ask, die_at, rows, work_off
from tests.support import evm
from tests.support.watching import TWO_PEOPLE, Watch
from tests.support.zoo import ETHER, ONE, Zoo
from watchers import switches
from watchers.addresses import AddressRow
from watchers.rescans import RescanState
from watchers.switches import Action

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


async def test_d11_d39_d47_what_tokens_claimed_is_told_and_booked_once(
    zoo: Zoo, anna: AddressRow
) -> None:
    """A fee, an undeclared fee, a look-alike and a plain payment, looked at again after two people
    let the stopped token go on."""
    watch = zoo.watch
    first = (await watch.position()).height or 0
    fake = await evm.deploy(zoo.node, "FakeToken")
    await evm.transfer(zoo.node, fake, anna.address, 500 * ONE)
    await zoo.pay("eth:FEE", anna.address, 100 * ONE)
    await zoo.pay("eth:TAX", anna.address, 100 * ONE)
    await zoo.node.send(anna.address, ETHER)
    await zoo.mine()
    async with watch.as_api.unit_of_work() as uow:
        found = await switches.get(uow, scope="asset:eth:TAX", action=Action.CREDIT)
        assert found is not None
        await switches.close_breaker(
            uow,
            scope=found.scope,
            action=found.action,
            version=found.version,
            reason="its fee is known",
            **TWO_PEOPLE,
            ids=watch.ids,
            at=watch.clock.now(),
        )
    before, searches = await rows(watch), await zoo.searches()
    await ask(watch, first)
    done = await work_off(watch)
    assert (done.state, done.found, done.withheld) == (RescanState.DONE, 0, 0)
    assert await rows(watch) == before
    assert await zoo.searches() == searches
    assert not await zoo.is_stopped("eth:TAX", Action.CREDIT)
    await watch.audit()
