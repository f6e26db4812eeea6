"""The follower never skips, never guesses, and two of them are as good as one."""

import asyncio
from datetime import timedelta

import pytest

from tests.integration.watchers.conftest import UtxoBench
from tests.support.clock import START, ManualClock
from tests.support.simchain import SimUtxoReader, utxo_chain
from watchers.chain import Block, BlockRef
from watchers.errors import LeaseLost, NetworkStopped, NodeUnavailable, ReorgTooDeep
from watchers.follower import LEASE_SECONDS

pytestmark = pytest.mark.postgres

HALF = 50_000_000


class NoBlock(SimUtxoReader):
    """Announces headers, but has no block for them (N11)."""

    async def block(self, block_hash: str) -> Block:
        raise NodeUnavailable("getblock answered null")


class Lagging(SimUtxoReader):
    """Shows the chain as it was some blocks ago."""

    async def tip(self) -> BlockRef:
        return self.world.blocks[self.world.active[-3]].ref

    async def ref_at(self, height: int) -> BlockRef | None:
        return await super().ref_at(height) if height <= (await self.tip()).height else None


class OtherBlock(SimUtxoReader):
    """Answers a block request with the block before it."""

    async def block(self, block_hash: str) -> Block:
        wanted = await super().block(block_hash)
        parent = self.world.blocks.get(wanted.ref.parent_hash)
        return wanted if parent is None else parent.effects


async def height_of(utxo: UtxoBench) -> int | None:
    return (await utxo.watch.position()).height


async def test_n11_a_block_that_the_node_does_not_give_never_moves_the_cursor(
    utxo: UtxoBench,
) -> None:
    utxo.sim.mine(2)
    await utxo.watch.follow()
    utxo.sim.mine()
    faulty = utxo.watch.new_follower("first", chain=utxo_chain(utxo.sim, reader=NoBlock(utxo.sim)))
    with pytest.raises(NodeUnavailable):
        await utxo.watch.follow(faulty)
    assert await height_of(utxo) == 2
    await utxo.watch.follow()
    assert await height_of(utxo) == 3


async def test_n18_a_wrong_block_is_retried_and_never_jumped_over(utxo: UtxoBench) -> None:
    utxo.sim.mine(1)
    await utxo.watch.follow()
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(2)
    faulty = utxo.watch.new_follower(
        "first", chain=utxo_chain(utxo.sim, reader=OtherBlock(utxo.sim))
    )
    for _ in range(3):
        with pytest.raises(NodeUnavailable):
            await utxo.watch.follow(faulty)
    assert await height_of(utxo) == 1
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).height == 2


async def test_a_node_that_lags_is_not_a_reorg(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    lagging = utxo.watch.new_follower("first", chain=utxo_chain(utxo.sim, reader=Lagging(utxo.sim)))
    assert await lagging.follow(await utxo.watch.position()) == []
    assert (await utxo.watch.deposit()).state == "final"


async def test_p12_two_watchers_credit_each_deposit_once(utxo: UtxoBench) -> None:
    """Both hold what they take for the lease: the second's compare-and-set fails."""
    anna = await utxo.watch.address("anna")
    await utxo.watch.follow()
    position = await utxo.watch.position()
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(3)
    other = utxo.watch.new_follower("second")
    results = await asyncio.gather(
        utxo.watch.follower.follow(position), other.follow(position), return_exceptions=True
    )
    assert sum(isinstance(result, LeaseLost) for result in results) == 1
    assert (await utxo.watch.deposit()).state == "final"
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    await utxo.watch.audit()


async def test_p12_whoever_moves_the_cursor_keeps_its_lease(
    utxo: UtxoBench,
) -> None:
    """A round of many full blocks may take longer than a lease."""
    first = utxo.watch.new_follower("first")
    standby = utxo.watch.new_follower("second")
    await utxo.watch.follow(first)
    position = await utxo.watch.position(first)
    utxo.sim.mine(1)
    await utxo.watch.age_lease(LEASE_SECONDS - 1)
    assert len(await first.follow(position)) == 1
    await utxo.watch.age_lease(LEASE_SECONDS - 1)
    assert await standby.take_lease() is None


async def test_p12_a_standby_takes_over_when_the_lease_ran_out_and_fences_the_first(
    utxo: UtxoBench,
) -> None:
    await utxo.watch.follow()
    stale = await utxo.watch.position()
    standby = utxo.watch.new_follower("second")
    assert await standby.take_lease() is None

    await utxo.watch.age_lease()
    taken = await standby.take_lease()
    assert taken is not None
    assert taken.fence == stale.fence + 1
    utxo.sim.mine()
    with pytest.raises(LeaseLost):
        await utxo.watch.follower.follow(stale)
    assert len(await standby.follow(taken)) == 1


@pytest.mark.parametrize("days", [1, -1])
async def test_p11_a_clock_that_jumps_moves_no_lease(utxo: UtxoBench, days: int) -> None:
    """P11: neither does a standby with a wrong clock take over, nor a holder with one stay on."""
    watch = utxo.watch
    await watch.follow()
    holder = await watch.position()
    wrong = ManualClock(START + timedelta(days=days))
    standby = watch.new_follower("second", clock=wrong)
    assert await standby.take_lease() is None

    await watch.age_lease()
    taken = await watch.position(standby)
    assert taken.fence == holder.fence + 1
    await watch.age_lease()
    assert (await watch.position()).fence == taken.fence + 1


async def test_p11_a_database_whose_clock_was_set_back_strands_nobody(utxo: UtxoBench) -> None:
    """The holder died, and its lease ends in an hour by the clock of now: no hold is so long."""
    watch = utxo.watch
    await watch.follow()
    dead = await watch.position()
    await watch.age_lease(-3_600)
    taken = await watch.position(watch.new_follower("second"))
    assert taken.fence == dead.fence + 1


async def test_d09_a_fork_below_the_limit_stops_the_network_until_a_person_decides(
    utxo: UtxoBench,
) -> None:
    utxo.sim.mine(103)
    await utxo.watch.follow()
    utxo.sim.rewind(102)
    for _ in range(104):
        utxo.sim.mine_exactly([])
    with pytest.raises(ReorgTooDeep) as caught:
        await utxo.watch.follow()
    await utxo.watch.follower.stop(str(caught.value))

    with pytest.raises(NetworkStopped):
        await utxo.watch.follow()
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        alarms = (await uow.execute("SELECT kind, network FROM gateway.alarms")).all()
        events = (
            await uow.execute("SELECT type FROM ledger.events WHERE object_kind = 'network'")
        ).all()
    assert {tuple(row) for row in alarms} == {("reorg_too_deep", "btc"), ("switch_stopped", "btc")}
    assert [row[0] for row in events] == ["network.reorg"]


async def test_a_first_run_at_the_tip_knows_enough_headers_to_walk_a_reorg(
    utxo: UtxoBench,
) -> None:
    utxo.sim.mine(8)
    utxo.watch.start_height = None
    follower = utxo.watch.new_follower("first")
    await utxo.watch.follow(follower)
    utxo.sim.rewind(3)
    for _ in range(4):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow(follower)
    assert await height_of(utxo) == 9
