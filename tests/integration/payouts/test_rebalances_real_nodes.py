"""T6 on real nodes: typed commands bring a hot wallet that is over its maximum into its band."""

import json
from pathlib import Path

import pytest

from config.clock import SystemClock
from tests.support.bumps import no_breaks, work
from tests.support.cold import ALONE
from tests.support.databases import TestDatabase
from tests.support.desk import REFUSED, USAGE
from tests.support.payout_fixtures import NODES, OnNode
from tests.support.payouts import Payouts
from tests.support.rebalancing import COLD, believe, custody, every, with_cold
from tests.support.refill_desk import open_desk
from tests.support.refills import ColdHouse

pytestmark = [pytest.mark.postgres, pytest.mark.node]

BLOCKS_MAX = 40


async def in_real_time(house: Payouts) -> None:
    """People's commands sign with the clock on the wall: house and signer have it, too."""
    house.clock.advance((SystemClock().now() - house.clock.now()).total_seconds())
    house.signer.kit.clock.now = int(house.clock.now().timestamp())
    await house.sample_fees()


@pytest.mark.parametrize("network", list(NODES))
async def test_t6_t8_commands_bring_a_hot_wallet_over_its_maximum_into_its_band(
    network: str, on_node: OnNode, test_database: TestDatabase, tmp_path: Path
) -> None:
    async with on_node(network, tmp_path) as house:
        await house.fund(house.native, "1")
        await house.fund(house.native, "3", into="acme")
        await in_real_time(house)
        await with_cold(house, band=("0.5", "1", "2"))
        async with open_desk(ColdHouse(house=house, people=ALONE), test_database, tmp_path) as desk:
            believe(house, desk.url.removeprefix("http://"))
            code, out, _ = await desk.runs("alice", "treasury", "plan")
            assert (code, f"would move 3 {house.native} hot_to_cold" in out) == (0, True)
            asked = ("treasury", "plan", house.native, "--propose", "--reason", "over its maximum")
            dry = await desk.runs("alice", *asked, "--dry-run")
            assert (dry[0], await every(house)) == (0, [])
            code, out, _ = await desk.runs("alice", *asked, "--json")
            [move] = json.loads(out)["moves"]
            assert (code, move["state"], move["amount"]) == (0, "proposed", "3")

            sign = ("treasury", "apply", move["id"], "--confirm-amount")
            code, _, error = await desk.runs("alice", *sign, "30")
            assert (code, "the amounts differ" in error) == (USAGE, True)
            code, out, _ = await desk.runs("alice", *sign, "3", "--dry-run")
            assert (code, COLD[network].address in out, "signed by nobody" in out) == (
                0,
                True,
                True,
            )
            code, out, _ = await desk.runs("alice", *sign, "3")
            assert (code, "another person now runs the same command" in out) == (0, True)
            code, out, _ = await desk.runs("bob", *sign, "3", "--json")
            assert (code, json.loads(out)["signed_by"]) == (0, ["alice", "bob"])

            await in_real_time(house)  # the commands took theirs
            lane = await work(house, times=2)
            for _ in range(BLOCKS_MAX):
                if (await every(house))[0].state == "done":
                    break
                await no_breaks(house)
                await house.mine()
                await work(house, lane)
            [row] = await every(house)
            assert row.state == "done"
            code, _, error = await desk.runs(
                "bob", "treasury", "decline", move["id"], "--reason", "too late"
            )
            assert (code, "too_late" in error) == (REFUSED, True)
            _, out, _ = await desk.runs("alice", "treasury", "plan")
            assert "all inside their bands" in out

        assert await custody(house, "cold") == row.amount_minor
        left = await custody(house, "hot")
        assert house.minor(house.native, "0.5") < left < house.minor(house.native, "1")
        assert await house.alarms() == []
        await no_breaks(house)
        await house.assert_at_rest()
