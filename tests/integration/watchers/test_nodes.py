"""Judged nodes through the loop that credits: written down, told, never a reason to reverse."""

import pytest
from prometheus_client import generate_latest

from tests.support.pool_bench import Pooled
from tests.support.pools import ANCHOR_DEPTH, forge, fork
from watchers import health
from watchers.judge import PROBATION_LOOKS
from watchers.loops import FeeLoop

pytestmark = pytest.mark.postgres

HALF = 50_000_000


async def test_n03_an_empty_node_reverses_nothing_and_comes_back_by_itself(pooled: Pooled) -> None:
    nodes = await pooled(1, 1)
    anna = await nodes.watch.address("anna")
    nodes.sim.pay([(anna.address, HALF)])
    nodes.sim.mine(2 * ANCHOR_DEPTH)
    await nodes.round()
    books = await nodes.watch.books()
    assert (await nodes.watch.deposit()).state == "final"

    nodes.views[0].is_empty = True
    await nodes.round(5)
    assert (await nodes.watch.deposit()).state == "final"
    assert await nodes.watch.books() == books
    assert await nodes.nodes() == [("a:1", "quarantined")]
    assert await nodes.alarms() == [
        ("node_quarantined", "node a:1: came back empty, it had block 20")
    ]
    assert not (await nodes.status()).is_healthy

    nodes.views[0].is_empty = False
    nodes.sim.mine(1)
    await nodes.round(PROBATION_LOOKS)
    assert await nodes.nodes() == [("a:1", "healthy")]
    assert await nodes.alarms() == []
    assert (await nodes.status()).height == 21
    await nodes.watch.audit()


async def test_n05_a_transfer_that_one_node_invents_is_no_deposit(pooled: Pooled) -> None:
    nodes = await pooled(2, 2)
    await nodes.round()
    anna = await nodes.watch.address("anna")
    nodes.sim.pay([(anna.address, HALF)])
    nodes.sim.mine(1)
    nodes.views[1].forged[nodes.sim.tip.ref.hash] = forge(nodes.sim.tip.effects)
    await nodes.round(3)
    assert await nodes.watch.deposit_states() <= {"detected"}
    assert (await nodes.status()).height == 0
    [(kind, detail)] = await nodes.alarms()
    assert kind == "node_disagreement"
    assert "a:1, b:2 give different effects" in detail

    nodes.views[1].forged.clear()
    await nodes.round()
    assert (await nodes.watch.deposit()).amount_minor == HALF
    assert await nodes.alarms() == []
    await nodes.watch.audit()


async def test_n05_the_odd_one_of_three_is_named_while_credit_goes_on(pooled: Pooled) -> None:
    nodes = await pooled(3, 2)
    await nodes.round()
    anna = await nodes.watch.address("anna")
    nodes.sim.pay([(anna.address, HALF)])
    nodes.sim.mine(1)
    nodes.views[0].forged[nodes.sim.tip.ref.hash] = forge(nodes.sim.tip.effects)
    await nodes.round()
    assert (await nodes.watch.deposit()).state == "provisional"
    assert (await nodes.nodes())[0] == ("a:1", "lying")
    assert [kind for kind, _ in await nodes.alarms()] == ["node_disagreement", "node_lying"]
    found = await nodes.status()
    assert (found.is_healthy, found.nodes_total, found.nodes_agreeing) == (True, 3, 2)
    async with nodes.watch.as_watcher.unit_of_work() as uow:
        stored = await health.stored_nodes(uow, "btc")
    assert [item.lies for item in stored] == [1, 0, 0]


async def test_n07_d10_two_branches_credit_nothing_new_and_reverse_nothing_old(
    pooled: Pooled,
) -> None:
    nodes = await pooled(2, 2)
    anna = await nodes.watch.address("anna")
    nodes.sim.pay([(anna.address, HALF)])
    nodes.sim.mine(8)
    await nodes.round()
    assert (await nodes.watch.deposit()).state == "final"
    ben = await nodes.watch.address("ben")
    nodes.sim.pay([(ben.address, HALF + 1)])
    rival = fork(nodes.sim, depth=1, blocks=3)
    nodes.sim.mine(2)
    nodes.views[1].pinned = rival
    await nodes.round(2)
    states = [item.state for item in await nodes.watch.deposits()]
    assert states[0] == "final"
    assert set(states[1:]) <= {"detected"}
    assert await nodes.alarms() == []
    assert not (await nodes.status()).is_healthy

    nodes.clock.advance(nodes.watch.network.spec.block_seconds)
    await nodes.round()
    [(kind, detail)] = await nodes.alarms()
    assert kind == "node_disagreement"
    assert "a:1 has " in detail

    nodes.views[1].pinned = None
    await nodes.round()
    assert [item.state for item in await nodes.watch.deposits()] == ["final", "provisional"]
    assert await nodes.alarms() == []
    await nodes.watch.audit()


async def test_n01_all_stale_is_degraded_and_told_by_kind_and_label(pooled: Pooled) -> None:
    nodes = await pooled(2, 2)
    nodes.sim.mine(5)
    await nodes.round()
    nodes.views[0].pinned = nodes.sim.active[-1]
    nodes.sim.mine(3)
    await nodes.round(2)
    assert await nodes.nodes() == [("a:1", "lagging"), ("b:2", "healthy")]
    assert not (await nodes.status()).is_healthy
    fees = FeeLoop(
        chain=nodes.chain,
        network=nodes.watch.network,
        database=nodes.watch.as_watcher,
        clock=nodes.clock,
    )
    assert not await fees.sample()  # without a fresh quote payouts plan nothing (N26)
    assert await nodes.alarms() == [
        ("node_lagging", "node a:1: 3 blocks behind its peers, at block 5")
    ]
    text = generate_latest(nodes.metrics.registry).decode()
    assert 'cage_watch_node_state{network="btc",node="a:1",state="lagging"} 1.0' in text
    assert 'cage_watch_node_state{network="btc",node="b:2",state="healthy"} 1.0' in text


async def test_n25_a_halted_chain_is_an_alarm_until_its_next_block(pooled: Pooled) -> None:
    nodes = await pooled(2, 2)
    nodes.sim.mine(5)
    await nodes.round()
    nodes.clock.advance(2 * 3600)
    await nodes.round()
    assert "chain_halted" in [kind for kind, _ in await nodes.alarms()]
    nodes.sim.mine(1)
    await nodes.round()
    assert await nodes.alarms() == []
    assert (await nodes.status()).is_healthy


async def test_n20_no_credential_is_in_rows_alarms_or_metrics(pooled: Pooled) -> None:
    nodes = await pooled(2, 1)
    await nodes.round()
    nodes.views[1].is_foreign = True
    await nodes.round(2)
    async with nodes.watch.as_owner.unit_of_work() as uow:
        rows = await uow.execute("SELECT n::text FROM chain.nodes n")
        alarms = await uow.execute("SELECT a::text FROM gateway.alarms a")
        text = "".join([*rows.scalars().all(), *alarms.scalars().all()])
    assert "b:2" in text
    assert "://" not in text + generate_latest(nodes.metrics.registry).decode()


async def test_p12_a_watcher_that_lost_its_lease_writes_no_node_down(pooled: Pooled) -> None:
    nodes = await pooled(1, 1)
    await nodes.round()
    position = await nodes.watch.position()
    seen = health.NodesSeen(
        network="btc", records=nodes.chain.pool.records, disagreement="x", is_halted=True
    )
    for fence, is_written in ((position.fence - 1, False), (position.fence, True)):
        async with nodes.watch.as_watcher.unit_of_work() as uow:
            kept = await health.keep_nodes(
                uow, seen, fence=fence, ids=nodes.watch.ids, at=nodes.clock.now()
            )
        assert kept is is_written
        assert bool(await nodes.alarms()) is is_written


async def test_n19_every_block_of_a_long_downtime_is_scanned(pooled: Pooled) -> None:
    """More than three rounds of blocks, a payment in every fiftieth of them."""
    nodes = await pooled(2, 2)
    await nodes.round()
    anna = await nodes.watch.address("anna")
    for _ in range(7):
        nodes.sim.pay([(anna.address, HALF)])
        nodes.sim.mine(50)
    await nodes.round()
    found = await nodes.watch.deposits()
    assert [item.height for item in sorted(found, key=lambda item: item.height or 0)] == [
        1 + 50 * n for n in range(7)
    ]
    await nodes.watch.audit()
