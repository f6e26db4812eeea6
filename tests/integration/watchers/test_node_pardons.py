"""N05: a liar's time ends early by two people's word, never its honest looks."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from config.database import Database
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pool_bench import PoolBench, pool_bench
from tests.support.pools import RULES, agreed, forge, record, states
from watchers import health, node_pardons
from watchers.judge import PROBATION_LOOKS, NodeState
from watchers.node_pardons import PardonLoop

pytestmark = pytest.mark.postgres

BARRED_SECONDS = 1_800.0
LABEL = "a:1"
HEALTHY, LYING, QUARANTINED = NodeState.HEALTHY, NodeState.LYING, NodeState.QUARANTINED


@pytest.fixture
async def house(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[PoolBench]:
    """Three nodes of which two must agree; a lie bars for half an hour."""
    rules = replace(RULES, lying_seconds=BARRED_SECONDS)
    async with pool_bench(
        3, 2, database=test_database, clock=clock, ids=ids, rules=rules
    ) as opened:
        await opened.round()
        yield opened


async def lie(house: PoolBench) -> None:
    """The first node tells one block otherwise, and is honest from then on."""
    house.sim.mine(1)
    house.views[0].forged[house.sim.tip.ref.hash] = forge(house.sim.tip.effects)
    await house.round()
    house.views[0].forged.clear()
    assert states(house.chain)[0] is LYING


async def pardon(house: PoolBench) -> None:
    """What the API does once two people agreed."""
    async with house.watch.as_api.unit_of_work() as uow:
        node = await node_pardons.barred(uow, network="btc", label=LABEL, at=house.clock.now())
        assert node is not None
        await node_pardons.grant(
            uow,
            node,
            reason="its disk was replaced",
            proposed_by="ada",
            approved_by="grace",
            ids=house.watch.ids,
            at=house.clock.now(),
        )


def told(house: PoolBench, database: Database) -> PardonLoop:
    return PardonLoop(pool=house.chain.pool, network="btc", database=database, clock=house.clock)


async def is_barred(house: PoolBench) -> bool:
    async with house.watch.as_api.unit_of_work() as uow:
        found = await node_pardons.barred(uow, network="btc", label=LABEL, at=house.clock.now())
    return found is not None


async def test_n05_two_people_end_a_bar_and_honest_looks_are_still_asked_for(
    house: PoolBench,
) -> None:
    await lie(house)
    await house.round(PROBATION_LOOKS - 1)
    loop = told(house, house.watch.as_watcher)
    await loop.look()
    assert states(house.chain)[0] is QUARANTINED
    assert await is_barred(house)

    await pardon(house)
    assert not await is_barred(house)  # nobody can decide it a second time
    assert states(house.chain)[0] is QUARANTINED
    await loop.look()
    assert states(house.chain)[0] is QUARANTINED
    await house.round()
    assert states(house.chain) == [HEALTHY] * 3
    assert await house.alarms() == []


async def test_n05_a_node_that_still_lies_is_not_let_in_by_a_pardon(house: PoolBench) -> None:
    await lie(house)
    lied_about = record(house.chain, 0).lied_about
    assert lied_about is not None
    house.views[0].forged[lied_about] = forge(house.sim.blocks[lied_about].effects)
    await pardon(house)
    await told(house, house.watch.as_watcher).look()
    await house.round(2 * PROBATION_LOOKS)
    assert states(house.chain)[0] is LYING


async def test_n05_the_next_lie_is_barred_for_twice_as_long_whatever_was_pardoned(
    house: PoolBench,
) -> None:
    loop = told(house, house.watch.as_watcher)
    await lie(house)
    await pardon(house)
    await loop.look()
    await house.round(PROBATION_LOOKS)
    assert states(house.chain)[0] is HEALTHY
    await lie(house)
    until = record(house.chain, 0).barred_until
    assert until is not None
    assert until - house.clock.now() == timedelta(seconds=2 * BARRED_SECONDS)
    await loop.look()
    await house.round(2 * PROBATION_LOOKS)
    assert states(house.chain)[0] is QUARANTINED
    assert await is_barred(house)


async def test_n05_a_pardon_reaches_the_payouts_which_judge_by_themselves(
    house: PoolBench,
) -> None:
    await lie(house)
    await pardon(house)
    await told(house, house.watch.as_payouts).look()
    assert record(house.chain, 0).barred_until is None
    await house.round(PROBATION_LOOKS)
    assert states(house.chain) == [HEALTHY] * 3


@pytest.mark.parametrize("has_looked", [False, True])
async def test_n05_a_bar_and_its_end_outlive_the_watcher(
    house: PoolBench, *, has_looked: bool
) -> None:
    """The next holder of the lease was never lied to: as a new process, or as a standby that has
    judged the nodes by itself all the while."""
    await lie(house)
    await house.round()
    rules = replace(RULES, lying_seconds=BARRED_SECONDS)
    after = agreed(house.sim, house.views, quorum=2, clock=house.clock, rules=rules)
    if has_looked:
        await after.pool.look_all()
        assert states(after) == [HEALTHY] * 3
    async with house.watch.as_watcher.unit_of_work() as uow:
        after.pool.restore(await health.stored_nodes(uow, "btc"))
    for _ in range(2 * PROBATION_LOOKS):
        await after.pool.look_all()
    assert states(after) == [QUARANTINED, HEALTHY, HEALTHY]
    assert record(after, 0).barred_until == record(house.chain, 0).barred_until

    await pardon(house)
    loop = PardonLoop(
        pool=after.pool, network="btc", database=house.watch.as_watcher, clock=house.clock
    )
    await loop.look()
    await after.pool.look_all()
    assert states(after) == [HEALTHY] * 3
    await after.close()
