"""A reorg beyond the limit: the breaker opens, two people name a depth, the watcher walks it."""

import pytest

from tests.integration.watchers.conftest import UtxoBench
from tests.support.clock import ManualClock
from watchers import switches
from watchers.errors import NetworkStopped, ReorgTooDeep
from watchers.switches import GRANT_SECONDS, Action

pytestmark = pytest.mark.postgres

HALF = 50_000_000
DEEP = 110  # blocks; the limit of the chain is 100
BTC = "network:btc"


async def stop_by_deep_reorg(utxo: UtxoBench) -> None:
    """A final deposit 110 blocks down, and a longer branch without it; the watcher stops."""
    utxo.sim.mine(5)
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(DEEP)
    await utxo.watch.follow()
    utxo.sim.rewind(DEEP)
    for _ in range(DEEP + 1):
        utxo.sim.mine_exactly([])
    await stop(utxo)


async def stop(utxo: UtxoBench) -> None:
    """What the watcher's loop does on ReorgTooDeep."""
    with pytest.raises(ReorgTooDeep) as caught:
        await utxo.watch.follow()
    await utxo.watch.follower.stop(str(caught.value))


async def is_stopped(utxo: UtxoBench, action: Action = Action.BROADCAST) -> bool:
    """What the payouts are told."""
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        return await switches.is_stopped(uow, network="btc", asset="btc:BTC", action=action)


async def open_alarms(utxo: UtxoBench) -> set[str]:
    """Kinds of alarms that nobody cleared."""
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute("SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL")
        return set(found.scalars())


async def test_d05_a_reorg_beyond_the_limit_opens_the_breaker_of_its_network_at_once(
    utxo: UtxoBench,
) -> None:
    await stop_by_deep_reorg(utxo)
    for action in Action:
        assert await is_stopped(utxo, action)
    assert await open_alarms(utxo) == {"reorg_too_deep", "switch_stopped"}
    assert (await utxo.watch.deposit()).state == "final"
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF


@pytest.mark.parametrize("blocks", [5, 6])
async def test_d05_a_reorg_of_blocks_that_were_final_opens_the_breaker_and_is_followed(
    utxo: UtxoBench, blocks: int
) -> None:
    """D05: six confirmations make any amount final here; a shallower reorg is everyday life."""
    watch = utxo.watch
    anna = await watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(blocks)
    await watch.follow()
    assert (await watch.deposit()).state == "final"
    utxo.sim.rewind(blocks)
    for _ in range(blocks + 1):
        utxo.sim.mine_exactly([])
    await watch.follow()

    assert (await watch.deposit()).state == "orphaned"
    assert (await watch.position()).hash == utxo.sim.tip.ref.hash
    is_final = blocks == 6
    assert await is_stopped(utxo) is is_final
    assert await open_alarms(utxo) == ({"switch_stopped"} if is_final else set())
    if is_final:
        await watch.start_again()
    utxo.sim.mine(7)
    await watch.follow()
    assert (await watch.deposit()).state == "final"
    assert not await is_stopped(utxo)
    await watch.audit()


async def test_d05_a_reorg_in_several_steps_is_as_deep_as_it_is(utxo: UtxoBench) -> None:
    """Each fork is shallower than the deepest tier; together they take what was final."""
    watch = utxo.watch
    anna = await watch.address("anna")
    utxo.sim.mine(10)
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(8)
    await watch.follow()
    assert (await watch.deposit()).state == "final"
    utxo.sim.rewind(5)
    utxo.sim.mine_exactly([])
    await watch.follow()
    assert not await is_stopped(utxo)
    utxo.sim.rewind(5)
    for _ in range(12):
        utxo.sim.mine_exactly([])
    await watch.follow()
    assert (await watch.deposit()).state == "orphaned"
    assert await is_stopped(utxo)

    await watch.start_again()
    utxo.sim.rewind(3)
    utxo.sim.mine(4)
    await watch.follow()
    assert not await is_stopped(utxo)


async def test_d05_what_stands_stopped_and_is_stopped_again_is_one_stop(utxo: UtxoBench) -> None:
    await stop_by_deep_reorg(utxo)
    for _ in range(3):
        with pytest.raises(NetworkStopped):
            await utxo.watch.follow()
        await utxo.watch.follower.stop("the same")
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        assert len(await switches.history(uow, limit=10)) == 1


async def test_d05_two_people_name_the_depth_and_the_deposit_orphans_by_the_normal_rules(
    utxo: UtxoBench,
) -> None:
    await stop_by_deep_reorg(utxo)
    await utxo.watch.start_again(depth=DEEP)
    assert not await is_stopped(utxo)
    assert await open_alarms(utxo) == set()

    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert deposit.state == "orphaned"
    assert await utxo.watch.states(deposit.id) == ["pending", "provisional", "final", "orphaned"]
    position = await utxo.watch.position()
    assert position.hash == utxo.sim.active[-1]


async def test_d09_a_depth_that_does_not_reach_the_fork_stops_it_again(utxo: UtxoBench) -> None:
    await stop_by_deep_reorg(utxo)
    await utxo.watch.start_again(depth=DEEP - 1)
    await stop(utxo)
    assert await is_stopped(utxo)
    assert (await utxo.watch.deposit()).state == "final"


async def test_d09_a_start_without_a_depth_stops_it_again(utxo: UtxoBench) -> None:
    await stop_by_deep_reorg(utxo)
    await utxo.watch.start_again()
    await stop(utxo)
    assert await is_stopped(utxo)


async def test_d09_what_was_allowed_once_allows_no_second_reorg(utxo: UtxoBench) -> None:
    await stop_by_deep_reorg(utxo)
    await utxo.watch.start_again(depth=DEEP)
    await utxo.watch.follow()
    utxo.sim.rewind(DEEP)
    for _ in range(DEEP + 1):
        utxo.sim.mine_exactly([])
    await stop(utxo)
    assert await is_stopped(utxo)


async def test_d09_what_was_allowed_counts_no_more_after_a_day(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    await stop_by_deep_reorg(utxo)
    await utxo.watch.start_again(depth=DEEP)
    clock.advance(GRANT_SECONDS)
    await stop(utxo)
    assert await is_stopped(utxo)


async def test_d09_a_fork_older_than_the_headers_we_keep_is_not_walked_without_a_depth(
    utxo: UtxoBench,
) -> None:
    """The first run begins at the tip and keeps 100 headers; the fork is older than those, and the
    depth that two people named does not reach below them (`test_rescans.py` has the way out)."""
    utxo.sim.mine(DEEP + 5)
    utxo.watch.start_height = None
    utxo.watch.follower = utxo.watch.new_follower("first")
    await utxo.watch.follow()
    before = await utxo.watch.position()
    utxo.sim.rewind(DEEP)
    for _ in range(DEEP + 1):
        utxo.sim.mine_exactly([])
    await stop(utxo)
    for depth in (None, 100):
        await utxo.watch.start_again(depth=depth)
        await stop(utxo)
        assert await is_stopped(utxo)
    await utxo.watch.start_again()
    after = await utxo.watch.position()
    assert (after.height, after.hash) == (before.height, before.hash)


class Killed(Exception):
    """The process died here."""


async def test_d09_a_watcher_that_dies_in_the_middle_goes_on_with_the_same_allowance(
    utxo: UtxoBench,
) -> None:
    await stop_by_deep_reorg(utxo)
    await utxo.watch.start_again(depth=DEEP)
    left = [10]

    def die_after_ten(point: str) -> None:
        if point == "reorg.after_commit":
            left[0] -= 1
        if left[0] == 0:
            raise Killed

    dying = utxo.watch.new_follower("first", crash=die_after_ten)
    with pytest.raises(Killed):
        await utxo.watch.follow(dying)
    await utxo.watch.follow()
    assert (await utxo.watch.position()).hash == utxo.sim.active[-1]
    assert (await utxo.watch.deposit()).state == "orphaned"
