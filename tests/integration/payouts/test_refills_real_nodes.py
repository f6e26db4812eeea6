"""T7 on real nodes: commands and a wallet that is not ours bring a hot wallet into its band."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.sandbox.nodes import Bitcoind, Litecoind, UtxoNode
from tests.support.bumps import no_breaks, quote, work
from tests.support.cold import TWO_OF_THREE
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import NODES, OnNode
from tests.support.refill_desk import open_desk
from tests.support.refills import ColdHouse
from tests.support.upkeep import CHEAP

pytestmark = [pytest.mark.postgres, pytest.mark.node]

KINDS = {"btc": Bitcoind, "ltc": Litecoind}


@pytest.fixture
async def offline(
    network: str, node_programs: dict[str, Path], tmp_path: Path
) -> AsyncIterator[UtxoNode]:
    """A machine that was never connected to anything, with the cold keys."""
    async with KINDS[network](node_programs[NODES[network]], tmp_path / "offline") as node:
        yield node


@pytest.mark.parametrize("network", list(KINDS))
async def test_a_refill_signed_by_a_wallet_that_is_not_ours_reaches_the_hot_wallet(
    network: str,
    offline: UtxoNode,
    request: pytest.FixtureRequest,
    on_node: OnNode,
    test_database: TestDatabase,
    tmp_path: Path,
) -> None:
    process: UtxoNode = request.getfixturevalue(f"{NODES[network]}_process")
    async with on_node(network, tmp_path) as house, process.connected() as node:
        cold = await ColdHouse.of(house, TWO_OF_THREE)
        await quote(house, CHEAP)
        async with open_desk(cold, test_database, tmp_path) as desk:
            asked = ("treasury", "refill", "request", house.native, "1.5", "--reason", "low")
            code, out, _ = await desk.runs("alice", *asked, "--confirm-amount", "1.5", "--json")
            assert code == 0
            refill = json.loads(out)["items"][0]["id"]
            assert await desk.approved(refill) == "approved"
            lane = await work(house)
            file, signed = tmp_path / "out.psbt", tmp_path / "in.psbt"
            code, _, _ = await desk.runs(
                "alice", "treasury", "refill", "export", refill, "--psbt", str(file)
            )
            assert code == 0
            for person in (0, 2):
                device = await TWO_OF_THREE.device(offline, person)
                signed.write_bytes(await device.sign(file.read_bytes()))
                code, out, error = await desk.runs(
                    "bob", "treasury", "refill", "import", refill, str(signed),
                    "--confirm-amount", "1.5",
                )  # fmt: skip
                assert code == 0, error
            await work(house, lane, times=2)
            _, out, _ = await desk.runs("bob", "treasury", "refill", "status", "--json")
            [row] = json.loads(out)["items"]
            assert row["state"] == "sent"
            assert (await node.rpc("getmempoolentry", row["txid"]))["vsize"] > 0
            for _ in range(2):
                await node.mine()
                await house.follow()
                await no_breaks(house)
                await work(house, lane)
            _, out, _ = await desk.runs("bob", "treasury", "refill", "status", "--json")
            assert json.loads(out)["items"][0]["state"] == "done"
        fee = 400_000_000 - sum((await cold.custody()).values())
        assert 0 < fee < 100_000
        assert (await cold.custody())["hot"] == 350_000_000
        assert await house.alarms() == []
        await no_breaks(house)
        await house.assert_at_rest()
