"""F3 on real nodes: bitcoind and litecoind take a split and a merge, and the books agree."""

from pathlib import Path

import pytest

from config.database import Database
from gateway.sandbox.nodes import UtxoNode
from tests.conformance.conftest import open_world
from tests.support.bumps import no_breaks, sent, work
from tests.support.clock import ManualClock, SequentialIds
from tests.support.payouts import Payouts
from tests.support.upkeep import POLICY, cheap_hour, coins_of, rain

pytestmark = [pytest.mark.postgres, pytest.mark.node]

BACKENDS = {"btc": "bitcoind", "ltc": "litecoind"}
FINAL_BLOCKS = 14  # the full tier of a tx without payments


@pytest.mark.parametrize("purpose", ["fan_out", "consolidate"])
@pytest.mark.parametrize("network", list(BACKENDS))
async def test_f3_a_node_takes_the_move_and_payouts_spend_what_it_made(
    network: str,
    purpose: str,
    request: pytest.FixtureRequest,
    database: Database,
    payouts_role: Database,
    clock: ManualClock,
    ids: SequentialIds,
    tmp_path: Path,
) -> None:
    process: UtxoNode = request.getfixturevalue(f"{BACKENDS[network]}_process")
    async with open_world(BACKENDS[network], request) as world, process.connected() as node:
        house = await Payouts.start(
            network, database=database, role=payouts_role, clock=clock, ids=ids,
            folder=tmp_path, world=world,
        )  # fmt: skip
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
