"""N01-N07, N14, N24, D10: k of n nodes agree, each is judged, and comes back by itself."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from tests.support.clock import ManualClock
from tests.support.pools import RULES, View, agreed, forge, fork, record, states
from tests.support.simchain import SimUtxo, sim_utxo
from watchers.agreed_chain import AgreedChain
from watchers.chain import NodeInfo, Transfer, TxPlace
from watchers.errors import NodesDisagree, NodeUnavailable, WrongNetwork
from watchers.judge import PROBATION_LOOKS, NodeState, barred_until

HEALTHY, LAGGING, FORKED = NodeState.HEALTHY, NodeState.LAGGING, NodeState.FORKED
LYING, QUARANTINED = NodeState.LYING, NodeState.QUARANTINED


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Three nodes of one network, two of which must agree."""

    sim: SimUtxo
    views: list[View]
    chain: AgreedChain
    clock: ManualClock


def nodes_of(count: int, quorum: int, clock: ManualClock) -> Nodes:
    sim, _ = sim_utxo()
    sim.mine(20)
    views = [View(sim) for _ in range(count)]
    return Nodes(
        sim=sim, views=views, chain=agreed(sim, views, quorum=quorum, clock=clock), clock=clock
    )


@pytest.fixture
async def three(clock: ManualClock) -> AsyncIterator[Nodes]:
    nodes = nodes_of(3, 2, clock)
    yield nodes
    await nodes.chain.close()


@pytest.fixture
async def two(clock: ManualClock) -> AsyncIterator[Nodes]:
    nodes = nodes_of(2, 2, clock)
    yield nodes
    await nodes.chain.close()


@pytest.fixture
async def one_of_two(clock: ManualClock) -> AsyncIterator[Nodes]:
    nodes = nodes_of(2, 1, clock)
    yield nodes
    await nodes.chain.close()


async def look(nodes: Nodes, times: int = 1) -> None:
    """Rounds of a watcher: the nodes are looked at, and the tip is agreed on where it can be."""
    for _ in range(times):
        await nodes.chain.pool.look_all()
        try:
            await nodes.chain.reader.tip()
        except NodeUnavailable:
            continue


async def test_a_node_ahead_does_not_drag_and_one_behind_does_not_hold_back(three: Nodes) -> None:
    await look(three)
    reader = three.chain.reader
    behind, level = three.sim.active[-3], three.sim.active[-2]
    three.views[0].pinned, three.views[1].pinned = behind, level
    assert (await reader.tip()).hash == level
    assert await reader.ref_at(20) is None
    at_19 = await reader.ref_at(19)
    assert at_19 is not None
    assert at_19.hash == level


async def test_n01_a_stuck_node_is_lagging_within_two_looks_and_the_others_are_used(
    three: Nodes,
) -> None:
    await look(three)
    assert states(three.chain) == [HEALTHY] * 3
    three.views[0].pinned = three.sim.active[-1]
    three.sim.mine(2)
    await look(three, 2)
    assert states(three.chain) == [LAGGING, HEALTHY, HEALTHY]
    assert record(three.chain, 0).reason == "2 blocks behind its peers, at block 20"
    assert (await three.chain.reader.tip()).height == 22
    three.views[0].pinned = None
    await look(three)
    assert states(three.chain) == [HEALTHY] * 3


async def test_n01_one_block_behind_for_long_is_lagging_too(three: Nodes) -> None:
    await look(three)
    three.views[0].pinned = three.sim.active[-1]
    three.sim.mine(1)
    await look(three, 3)
    assert record(three.chain, 0).state is HEALTHY
    three.clock.advance(121)
    await look(three, 2)
    assert record(three.chain, 0).state is LAGGING


async def test_n01_when_too_few_are_current_nothing_is_answered(two: Nodes) -> None:
    await look(two)
    two.views[1].pinned = two.sim.active[-1]
    two.sim.mine(3)
    await look(two, 2)
    with pytest.raises(NodeUnavailable, match="1 of 2 nodes are healthy, 2 must be"):
        await two.chain.reader.tip()


async def test_n02_a_node_of_another_chain_is_left_out_and_too_many_are_refused(
    three: Nodes,
) -> None:
    three.views[2].is_foreign = True
    await three.chain.reader.check_identity()
    assert states(three.chain)[2] is NodeState.WRONG_CHAIN
    three.views[1].is_foreign = True
    with pytest.raises(WrongNetwork):
        await three.chain.reader.check_identity()


async def test_n03_a_node_that_comes_back_empty_is_quarantined_and_never_asked(
    one_of_two: Nodes,
) -> None:
    await look(one_of_two)
    one_of_two.views[0].is_empty = True
    await look(one_of_two)
    assert record(one_of_two.chain, 0).state is QUARANTINED
    assert record(one_of_two.chain, 0).reason == "came back empty, it had block 20"
    assert (await one_of_two.chain.reader.tip()).height == 20


async def test_n03_a_node_that_comes_back_with_other_data_is_quarantined(
    one_of_two: Nodes,
) -> None:
    await look(one_of_two)
    one_of_two.views[0].pinned = fork(one_of_two.sim, depth=15, blocks=16)
    await look(one_of_two)
    assert record(one_of_two.chain, 0).state is QUARANTINED
    assert "its block 10 is not the one it had" in record(one_of_two.chain, 0).reason


async def test_n03_an_anchor_outlives_the_process(clock: ManualClock) -> None:
    first = nodes_of(1, 1, clock)
    await look(first)
    again = agreed(first.sim, first.views, quorum=1, clock=clock)
    again.pool.restore(first.chain.pool.records)
    first.views[0].is_empty = True
    with pytest.raises(NodeUnavailable, match="came back empty"):
        await again.reader.tip()
    await first.chain.close()
    await again.close()


@pytest.mark.parametrize("fault", ["forged", "contradicts"])
async def test_n04_n05_a_false_block_names_the_liar_and_the_truth_goes_on(
    three: Nodes, fault: str
) -> None:
    await look(three)
    tip = three.sim.tip
    liar = three.views[0]
    if fault == "forged":
        liar.forged[tip.ref.hash] = forge(tip.effects)
    else:
        liar.contradicts.add(tip.ref.hash)
    assert await three.chain.reader.block(tip.ref.hash) == tip.effects
    assert states(three.chain) == [LYING, HEALTHY, HEALTHY]

    await look(three, 5)
    assert states(three.chain)[0] is LYING
    liar.forged.clear()
    liar.contradicts.clear()
    await look(three, PROBATION_LOOKS - 1)
    assert states(three.chain)[0] is QUARANTINED
    assert record(three.chain, 0).reason.startswith("2 of 3 honest looks after lying: ")
    await look(three)
    assert states(three.chain) == [HEALTHY] * 3


async def test_n05_a_liar_is_barred_for_a_time_that_doubles_and_outlives_a_restart(
    clock: ManualClock,
) -> None:
    sim, _ = sim_utxo()
    sim.mine(20)
    views = [View(sim) for _ in range(3)]
    rules = replace(RULES, lying_seconds=1_800.0)
    chain = agreed(sim, views, quorum=2, clock=clock, rules=rules)
    nodes = Nodes(sim=sim, views=views, chain=chain, clock=clock)
    await look(nodes)
    for lies, barred_seconds in ((1, 1_800), (2, 3_600), (3, 7_200)):
        views[0].forged[sim.tip.ref.hash] = forge(sim.tip.effects)
        await chain.reader.block(sim.tip.ref.hash)
        views[0].forged.clear()
        assert (states(chain)[0], record(chain, 0).lies) == (LYING, lies)
        clock.advance(barred_seconds - 1)
        sim.mine(1)
        await look(nodes, 2 * PROBATION_LOOKS)
        assert states(chain) == [QUARANTINED, HEALTHY, HEALTHY]
        assert "barred until" in record(chain, 0).reason
        if lies == 3:
            break
        clock.advance(1)
        await look(nodes)
        assert states(chain) == [HEALTHY] * 3
    again = agreed(sim, views, quorum=2, clock=clock, rules=rules)
    again.pool.restore(chain.pool.records)
    await look(Nodes(sim=sim, views=views, chain=again, clock=clock), 2 * PROBATION_LOOKS)
    assert states(again) == [QUARANTINED, HEALTHY, HEALTHY]
    await chain.close()
    await again.close()


def test_n05_no_liar_is_barred_for_more_than_a_day(clock: ManualClock) -> None:
    rules = replace(RULES, lying_seconds=1_800.0)
    assert barred_until(1_000, rules, at=clock.now()) - clock.now() == timedelta(days=1)


async def test_n05_two_accounts_of_one_block_are_no_agreement(two: Nodes) -> None:
    await look(two)
    tip = two.sim.tip
    two.views[1].forged[tip.ref.hash] = forge(tip.effects)
    with pytest.raises(NodesDisagree, match="a:1, b:2 give different effects"):
        await two.chain.reader.block(tip.ref.hash)


async def test_n06_a_changed_amount_is_not_the_same_block(two: Nodes) -> None:
    await look(two)
    tip = two.sim.tip
    first = tip.effects.transfers[0]
    changed = replace(first, amount_minor=first.amount_minor + 1)
    two.views[0].forged[tip.ref.hash] = replace(
        tip.effects, transfers=(changed, *tip.effects.transfers[1:])
    )
    with pytest.raises(NodesDisagree):
        await two.chain.reader.block(tip.ref.hash)


async def test_n07_two_branches_stop_at_the_last_shared_block_until_one_wins(two: Nodes) -> None:
    await look(two)
    shared = two.sim.active[-3]
    rival = fork(two.sim, depth=2, blocks=2)
    two.views[1].pinned = rival
    assert (await two.chain.reader.tip()).hash == shared
    with pytest.raises(NodesDisagree, match=r"a:1 has .* b:2 has "):
        await two.chain.reader.ref_at(19)
    assert (await two.chain.reader.ref_at(18)) == two.sim.blocks[shared].ref
    assert two.chain.pool.disagreement(after_seconds=600) is None
    two.clock.advance(600)
    told = two.chain.pool.disagreement(after_seconds=600)
    assert told is not None
    assert told.startswith("block 19: a:1 has ")

    two.views[1].pinned = None
    two.sim.mine(1)
    assert (await two.chain.reader.tip()).height == 21
    assert two.chain.pool.disagreement(after_seconds=0) is None


async def test_n07_d10_a_branch_that_one_of_three_follows_is_not_counted(three: Nodes) -> None:
    await look(three)
    rival = fork(three.sim, depth=1, blocks=3)
    three.views[2].pinned = rival
    assert (await three.chain.reader.tip()).hash == three.sim.active[-1]
    assert await three.chain.reader.ref_at(21) is None
    assert (await three.chain.reader.ref_of(rival)) is not None
    three.sim.mine(1)
    await look(three, 2)
    assert states(three.chain) == [HEALTHY, HEALTHY, FORKED]

    three.views[2].pinned = None
    await look(three, PROBATION_LOOKS)
    assert states(three.chain) == [HEALTHY] * 3


async def test_a_reorg_that_all_nodes_make_blames_nobody(three: Nodes) -> None:
    await look(three)
    three.sim.rewind(3)
    three.sim.mine(4)
    for _ in range(3):
        await three.chain.pool.look_all()
    assert states(three.chain) == [HEALTHY] * 3
    assert (await three.chain.reader.tip()).height == 21


async def test_one_slow_node_delays_nobody_and_is_judged_later(three: Nodes) -> None:
    await look(three)
    three.views[0].gate = asyncio.Event()
    three.sim.mine(1)
    async with asyncio.timeout(2):
        assert (await three.chain.reader.tip()).height == 21
        assert (await three.chain.reader.ref_at(21)) is not None
        assert await three.chain.reader.ref_at(22) is None
        assert await three.chain.reader.mempool() == []
    assert states(three.chain)[0] is HEALTHY
    three.views[0].gate.set()


async def test_a_node_that_answers_nothing_is_unreachable_after_two_looks(three: Nodes) -> None:
    await look(three)
    three.views[1].is_down = True
    await look(three)
    assert states(three.chain)[1] is HEALTHY
    await look(three)
    assert states(three.chain)[1] is NodeState.UNREACHABLE
    three.views[1].is_down = False
    await look(three)
    assert states(three.chain) == [HEALTHY] * 3


async def test_with_a_quorum_of_one_the_next_node_answers_when_the_first_fails(
    one_of_two: Nodes,
) -> None:
    await look(one_of_two)
    asked = one_of_two.views[1].asked
    assert (await one_of_two.chain.reader.block(one_of_two.sim.active[-1])).transfers
    assert one_of_two.views[1].asked == asked
    one_of_two.views[0].is_down = True
    assert (await one_of_two.chain.reader.block(one_of_two.sim.active[-1])).transfers


@pytest.mark.parametrize(
    ("info", "state"),
    [
        (NodeInfo(version=(21, 4, 0), version_text="/LitecoinCore:0.21.4/", is_syncing=False),
         QUARANTINED),
        (NodeInfo(version=(21, 5, 3), version_text="/LitecoinCore:0.21.5.3/", is_syncing=False),
         QUARANTINED),
        (NodeInfo(version=(21, 5, 4), version_text="/LitecoinCore:0.21.5.4/", is_syncing=False),
         HEALTHY),
        (NodeInfo(version=None, version_text="", is_syncing=True), NodeState.SYNCING),
    ],
)  # fmt: skip
async def test_n24_an_old_or_syncing_node_is_not_healthy(
    three: Nodes, info: NodeInfo, state: NodeState
) -> None:
    three.views[0].info = info
    await look(three)
    assert states(three.chain) == [state, HEALTHY, HEALTHY]


async def test_n25_a_chain_that_halts_is_told_and_goes_on_with_its_next_block(
    three: Nodes,
) -> None:
    await look(three)
    three.clock.advance(3600)
    await look(three, 2)
    assert states(three.chain) == [NodeState.STALLED] * 3
    assert three.chain.pool.halted()
    three.sim.mine(1)
    await look(three)
    assert states(three.chain) == [HEALTHY] * 3
    assert not three.chain.pool.halted()


async def test_a_tx_is_unknown_only_when_nobody_has_it(three: Nodes) -> None:
    txid = three.sim.blocks[three.sim.active[-1]].effects.txids[0]
    mined = await three.chain.reader.tx_status(txid)
    assert (mined.place, mined.block) == (TxPlace.MINED, three.sim.tip.ref)
    for view in three.views[:2]:
        view.unseen.add(txid)
    assert (await three.chain.reader.tx_status(txid)).place is TxPlace.MEMPOOL
    three.views[2].unseen.add(txid)
    assert (await three.chain.reader.tx_status(txid)).place is TxPlace.UNKNOWN


async def test_many_txs_are_placed_each_by_itself(three: Nodes) -> None:
    """One that a single node has, one that a single node lost, one that nobody has."""
    await look(three)
    first, second = (
        three.sim.blocks[three.sim.active[height]].effects.txids[0] for height in (-1, -2)
    )
    three.views[0].unseen.add(second)
    for view in three.views[:2]:
        view.unseen.add(first)
    found = await three.chain.reader.tx_statuses([first, second, "ff" * 32])
    places = [TxPlace.MEMPOOL, TxPlace.MINED, TxPlace.UNKNOWN]
    assert [status.place for status in found] == places


async def test_n14_value_that_one_node_alone_traces_does_not_count(three: Nodes) -> None:
    """One node traces, two cannot: the block is told to be incomplete, and nobody is a liar."""
    await look(three)
    tip = three.sim.tip
    internal = Transfer(
        txid=tip.effects.txids[0], position="trace:0.1", asset="btc:BTC", to_key="aa",
        amount_minor=5,
    )  # fmt: skip
    three.views[0].forged[tip.ref.hash] = replace(
        tip.effects, transfers=(*tip.effects.transfers, internal)
    )
    for view in three.views[1:]:
        view.forged[tip.ref.hash] = replace(tip.effects, traces_incomplete=True)
    found = await three.chain.reader.block(tip.ref.hash)
    assert found.traces_incomplete
    assert internal not in found.transfers
    assert states(three.chain) == [HEALTHY] * 3


async def test_n05_a_block_says_which_nodes_gave_it(three: Nodes, one_of_two: Nodes) -> None:
    await look(three)
    block = await three.chain.reader.block(three.sim.active[-1])
    assert block.agreement is not None
    assert (len(block.agreement.given_by), block.agreement.nodes) == (2, 3)
    assert block.agreement.transfers == block.transfers
    await look(one_of_two)
    one_of_two.views[0].is_down = True
    block = await one_of_two.chain.reader.block(one_of_two.sim.active[-1])
    assert block.agreement is not None
    assert (block.agreement.given_by, block.agreement.nodes) == (("b:2",), 2)
