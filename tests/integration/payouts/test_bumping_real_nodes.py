"""Bumps on real nodes: what they take as a replacement or child, and the original mined instead."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from gateway.sandbox.nodes import Anvil, UtxoNode
from tests.support.bumps import KVB, no_breaks, quote, sent, work
from tests.support.payout_fixtures import NODES, OnNode
from tests.support.payouts import Payouts
from watchers.chain import TxPlace

pytestmark = [pytest.mark.postgres, pytest.mark.node]

GWEI = 10**9
FINAL_BLOCKS = {"btc": 7, "ltc": 14}  # the full tier of a child, which has no payments
Open = Callable[[str], AbstractAsyncContextManager[Payouts]]


@pytest.fixture
def open_house(on_node: OnNode, tmp_path: Path) -> Open:
    """A house with money on a real node."""

    @asynccontextmanager
    async def build(network: str) -> AsyncIterator[Payouts]:
        async with on_node(network, tmp_path) as house:
            await house.fund(house.native, "0.01")
            await house.fund(house.native, "2", into="acme")
            yield house

    return build


async def cheap(house: Payouts) -> None:
    await quote(house, {2: 2 * KVB, 6: 2 * KVB, 36: 2 * KVB})


async def dear(house: Payouts) -> None:
    await quote(house, {2: 20 * KVB, 6: 20 * KVB, 36: 2 * KVB})


async def raw_of(house: Payouts, txid: str | None) -> str:
    async with house.database.unit_of_work() as uow:
        result = await uow.execute("SELECT raw FROM chain.outgoing WHERE txid = :t", {"t": txid})
        return bytes(result.scalar_one()).hex()


async def finish(house: Payouts, mine: Callable[[], Awaitable[object]], *, blocks: int) -> None:
    lane = None
    for _ in range(blocks):
        await mine()
        await house.follow()
        lane = await work(house, lane)


@pytest.mark.parametrize("winner", ["replacement", "original"])
async def test_p20_bitcoind_takes_the_replacement_and_either_may_be_mined(
    winner: str, open_house: Open, request: pytest.FixtureRequest
) -> None:
    process: UtxoNode = request.getfixturevalue("bitcoind_process")
    async with open_house("btc") as house, process.connected() as node:
        await cheap(house)
        rows = [await house.request("0.25"), await house.request("0.3"), await house.request("0.2")]
        lane = await work(house)
        first = (await house.row(rows[0])).txid
        await dear(house)
        await node.mine_exactly([])
        await house.follow()

        await work(house, lane)

        [second] = {(await house.row(row)).txid for row in rows}
        assert second != first
        assert await node.rpc("getrawmempool") == [second]
        if winner == "original":
            await node.mine_exactly([await raw_of(house, first)])
            await house.follow()
        await finish(house, node.mine, blocks=4)
        assert await house.states(*rows) == ["completed"] * 3
        settled = {(await house.row(row)).txid for row in rows}
        assert settled == {first if winner == "original" else second}
        states = [tx.state for tx in await sent(house)]
        assert states == (["final", "replaced"] if winner == "original" else ["replaced", "final"])
        await no_breaks(house)
        await house.assert_at_rest()


@pytest.mark.parametrize("network", ["btc", "ltc"])
async def test_p19_a_node_mines_the_package_of_a_child(
    network: str, open_house: Open, request: pytest.FixtureRequest
) -> None:
    """BTC: a later payout hangs on the stuck one. LTC: nothing is replaced there."""
    process: UtxoNode = request.getfixturevalue(f"{NODES[network]}_process")
    async with open_house(network) as house, process.connected() as node:
        await cheap(house)
        rows = [await house.request("1.5")]
        lane = await work(house)
        if network == "btc":
            rows.append(await house.request("0.05", fee_class="economy"))
            await work(house, lane)
        await dear(house)
        await node.mine_exactly([])
        await house.follow()

        await work(house, lane)

        child = (await sent(house))[-1]
        assert (child.purpose, child.state) == ("cpfp", "seen")
        entry = await node.rpc("getmempoolentry", child.txid)
        ancestors = entry["ancestorsize"], round(entry["fees"]["ancestor"] * 10**8)
        assert ancestors[1] * 1_000 >= 19 * KVB * ancestors[0]
        await finish(house, node.mine, blocks=FINAL_BLOCKS[network])
        assert await house.states(*rows) == ["completed"] * len(rows)
        assert {tx.state for tx in await sent(house)} == {"final"}
        await no_breaks(house)
        await house.assert_at_rest()


@pytest.mark.parametrize("winner", ["replacement", "original"])
async def test_p16_anvil_takes_the_same_nonce_and_either_may_be_mined(
    winner: str, open_house: Open, request: pytest.FixtureRequest
) -> None:
    process: Anvil = request.getfixturevalue("anvil_process")
    async with open_house("eth") as house, process.connected() as node:
        await quote(house, {1: GWEI, 5: GWEI}, floor=0, base_fee=GWEI)
        row = await house.request("0.25")
        lane = await work(house)
        first = (await house.row(row)).txid
        assert first is not None
        await node.rpc("anvil_setNextBlockBaseFeePerGas", hex(9 * GWEI))  # over its fee cap
        await node.mine()
        await house.follow()
        assert await house.states(row) == ["sent"]
        await quote(house, {1: GWEI, 5: GWEI}, floor=0, base_fee=9 * GWEI)

        await work(house, lane)

        second = (await house.row(row)).txid
        assert second not in (None, first)
        assert (await house.chain.reader.tx_status(str(second))).place is TxPlace.MEMPOOL
        if winner == "original":
            await node.rpc("anvil_dropTransaction", second)
            await node.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
            await node.rpc("eth_sendRawTransaction", "0x" + await raw_of(house, first))
        await finish(house, node.mine, blocks=6)
        assert await house.states(row) == ["completed"]
        assert (await house.row(row)).txid == (first if winner == "original" else second)
        await no_breaks(house)
        await house.assert_at_rest()
