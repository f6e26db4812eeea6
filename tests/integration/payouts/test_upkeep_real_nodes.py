"""F3 on real nodes: bitcoind and litecoind take a split and a merge, and the books agree."""

from dataclasses import replace
from pathlib import Path

import pytest

from config.sections import BatchSettings, PayoutSettings
from gateway.payouts import consolidations_store
from gateway.sandbox.nodes import UtxoNode
from tests.support.bumps import no_breaks, quote, sent, work
from tests.support.payout_fixtures import NODES, OnNode
from tests.support.upkeep import CHEAP, DEAR, POLICY, ask, cheap_hour, coins_of, rain

pytestmark = [pytest.mark.postgres, pytest.mark.node]

UTXO = ["btc", "ltc"]
FINAL_BLOCKS = 14  # the full tier of a tx without payments


@pytest.mark.parametrize("purpose", ["fan_out", "consolidate"])
@pytest.mark.parametrize("network", UTXO)
async def test_f3_a_node_takes_the_move_and_payouts_spend_what_it_made(
    network: str,
    purpose: str,
    request: pytest.FixtureRequest,
    on_node: OnNode,
    tmp_path: Path,
) -> None:
    process: UtxoNode = request.getfixturevalue(f"{NODES[network]}_process")
    async with on_node(network, tmp_path) as house, process.connected() as node:
        await house.fund(house.native, "1")
        await house.fund(house.native, "2", into="acme")
        if purpose == "consolidate":
            await rain(house, count=14, minor=100_000)
        await cheap_hour(house)

        lane = await work(house, times=3)

        [move] = await sent(house)
        assert (move.purpose, move.state) == (purpose, "seen")
        entry = await node.rpc("getmempoolentry", move.txid)
        assert round(entry["fees"]["base"] * 10**8) == move.fee_minor
        assert move.fee_minor >= 2 * int(entry["vsize"])  # what was quoted: 2 sat per vB
        for _ in range(FINAL_BLOCKS):
            await node.mine()
            await house.follow()
            await work(house, lane)
        assert [tx.state for tx in await sent(house)] == ["final"]
        mined, unmined = await coins_of(house)
        merged = purpose == "consolidate"
        assert (len(mined), unmined) == (POLICY.keep_coins + merged, [])
        row = await house.request("1.2")
        for _ in range(4):
            await work(house, lane)
            await node.mine()
            await house.follow()
        await work(house, lane)
        assert await house.states(row) == ["completed"]
        assert await house.alarms() == []
        await no_breaks(house)
        await house.assert_at_rest()


@pytest.mark.parametrize("network", UTXO)
async def test_t8_a_node_takes_the_merge_that_a_person_asks_for_in_a_dear_hour(
    network: str,
    request: pytest.FixtureRequest,
    on_node: OnNode,
    tmp_path: Path,
) -> None:
    process: UtxoNode = request.getfixturevalue(f"{NODES[network]}_process")
    async with on_node(network, tmp_path) as house, process.connected() as node:
        await house.fund(house.native, "1")
        await house.fund(house.native, "2", into="acme")
        await rain(house, count=9, minor=100_000)
        await cheap_hour(house, policy=replace(POLICY, rate_max=100))
        await quote(house, DEAR)
        lane = await work(house, times=2)
        assert await sent(house) == []

        asked = await ask(house)
        await work(house, lane, times=2)

        [move] = await sent(house)
        assert (move.purpose, move.state) == ("consolidate", "seen")
        entry = await node.rpc("getmempoolentry", move.txid)
        assert round(entry["fees"]["base"] * 10**8) == move.fee_minor
        for _ in range(FINAL_BLOCKS):
            await node.mine()
            await house.follow()
            await work(house, lane)
        async with house.role.unit_of_work() as uow:
            row = await consolidations_store.get(uow, asked.id)
        assert row is not None
        assert (row.coins, row.tx_state, row.txid) == (5, "final", move.txid)
        mined, unmined = await coins_of(house)
        assert (len(mined), unmined) == (POLICY.keep_coins + 1, [])
        assert await house.alarms() == []
        await no_breaks(house)
        await house.assert_at_rest()


@pytest.mark.parametrize("in_turn", [10, 30])
async def test_p32_no_payout_is_signed_that_a_node_refuses_after_a_split(
    in_turn: int,
    request: pytest.FixtureRequest,
    on_node: OnNode,
    tmp_path: Path,
) -> None:
    """30 payouts with a tx each, `in_turn` of them one after the other and the others in one pass,
    and no block after the split into 25 parts: 24 descendants of it are all that a node keeps."""
    process: UtxoNode = request.getfixturevalue("bitcoind_process")
    async with (
        on_node("btc", tmp_path, change_rows=70) as house,
        process.connected() as node,
    ):
        await house.fund(house.native, "1")
        await house.fund(house.native, "2", into="acme")
        await cheap_hour(
            house, policy=replace(POLICY, keep_coins=60, merge_above=0, part_min_minor=1_000_000)
        )
        alone = BatchSettings(window_seconds=0, max_payments=1)
        payouts = PayoutSettings(urgent=alone, normal=alone, economy=alone)
        settings = house.registry.settings.model_copy(update={"payouts": payouts})
        house.registry = replace(house.registry, settings=settings)
        lane = await work(house, times=3)
        [split] = await sent(house)
        assert (split.purpose, split.state) == ("fan_out", "seen")

        rows = []
        for number in range(30):
            rows.append(await house.request("0.01"))
            if number < in_turn:
                await work(house, lane)
        for _ in range(3):
            house.clock.advance(40)  # past each wait for a further send
            await quote(house, CHEAP)
            house.signer.kit.clock.now = int(house.clock.now().timestamp())
            await work(house, lane)

        assert set(await house.states(*rows)) <= {"sent", "waiting_liquidity", "queued"}
        assert await house.alarms() == []
        moves = await sent(house)
        assert {tx.state for tx in moves} == {"seen"}
        assert all(tx.replaces_id is None and tx.pays_for_id is None for tx in moves)
        entry = await node.rpc("getmempoolentry", split.txid)
        assert 20 < entry["descendantcount"] <= 25
        for _ in range(FINAL_BLOCKS):
            await node.mine()
            await house.follow()
            await work(house, lane, times=2)
        assert set(await house.states(*rows)) == {"completed"}
        await no_breaks(house)
        await house.assert_at_rest()
