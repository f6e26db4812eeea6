"""Two bitcoinds that no network joins: they part, meet, return empty and tell odd times."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.sandbox.nodes import Bitcoind, UtxoNode
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.hosting import LoopThread
from tests.support.proxied import HEALTHY, Proxied, agreeing
from tests.support.proxy import lying
from tests.support.watching import watched
from watchers.chain import SendOutcome, TxPlace
from watchers.errors import NodesDisagree
from watchers.judge import PROBATION_LOOKS, NodeState

pytestmark = [pytest.mark.postgres, pytest.mark.node]


@pytest.fixture(scope="module")
def pair_processes(
    node_programs: dict[str, Path], session_folder: Path, loop_thread: LoopThread
) -> Iterator[tuple[Bitcoind, Bitcoind]]:
    """Two bitcoinds that no network joins: what one knows of the other a test copies."""
    found = [Bitcoind(node_programs["bitcoind"], session_folder / name) for name in ("one", "two")]
    try:
        for node in found:
            loop_thread.run(node.start())
        yield found[0], found[1]
    finally:
        for node in found:
            loop_thread.run(node.stop())


@pytest.fixture
async def pair(
    pair_processes: tuple[Bitcoind, Bitcoind],
) -> AsyncIterator[tuple[Bitcoind, Bitcoind]]:
    """Both at the same tip, the first with mature coins."""
    async with pair_processes[0].connected() as one, pair_processes[1].connected() as two:
        height = await one.height()
        await one.mine(max(5 + await two.height() - height, 120 - height, 1))
        await copy_blocks(one, two, low=max(1, height - 10))
        yield one, two


async def copy_blocks(source: UtxoNode, target: UtxoNode, *, low: int) -> None:
    """What a peer would relay: the source's blocks from a height on."""
    for height in range(low, await source.height() + 1):
        block_hash = await source.rpc("getblockhash", height)
        await target.rpc("submitblock", await source.rpc("getblock", block_hash, 0))


async def test_n07_d10_two_bitcoinds_that_part_credit_nothing_until_they_meet(
    pair: tuple[Bitcoind, Bitcoind],
    test_database: TestDatabase,
    clock: ManualClock,
    ids: SequentialIds,
) -> None:
    one, two = pair
    async with agreeing([one.url, two.url], quorum=2) as chain:
        async with watched(chain, test_database, clock, ids) as watch:
            anna, ben = [await watch.address(name) for name in ("anna", "ben")]
            await one.send(anna.address, "0.5")
            await one.mine(4)
            shared = await one.height()
            await copy_blocks(one, two, low=shared - 3)
            await watch.follow()
            assert (await watch.deposit()).state == "final"

            await one.send(ben.address, "0.6")
            await one.mine(1)
            await two.mine(1)
            with pytest.raises(NodesDisagree, match=r"127\.0\.0\.1:"):
                await watch.follow()
            assert await watch.deposit_states() <= {"final", "detected"}
            assert (await watch.position()).height == shared

            await one.mine(1)
            await copy_blocks(one, two, low=shared + 1)
            await watch.follow()
            states = [item.state for item in await watch.deposits()]
            assert states == ["final", "provisional"]
            await watch.audit()


async def test_n07_a_bitcoind_alone_on_its_branch_is_forked_and_returns(
    pair: tuple[Bitcoind, Bitcoind],
) -> None:
    one, two = pair
    async with agreeing([one.url, one.url, two.url], quorum=2) as chain:
        nodes = Proxied(chain=chain, proxies=[])
        shared = await one.height()
        await one.mine(2)
        await two.mine(1)
        assert (await nodes.look(3))[2] is NodeState.FORKED
        assert (await chain.reader.tip()).height == shared + 2
        await copy_blocks(one, two, low=shared + 1)
        assert await nodes.look(PROBATION_LOOKS) == [HEALTHY] * 3


async def test_n03_a_bitcoind_that_returns_with_an_empty_folder_is_quarantined(
    pair: tuple[Bitcoind, Bitcoind], node_programs: dict[str, Path], tmp_path: Path
) -> None:
    one, two = pair
    async with (
        Bitcoind(node_programs["bitcoind"], tmp_path) as empty,
        lying(two.url) as moved,
        agreeing([moved.url, one.url], quorum=1) as chain,
    ):
        nodes = Proxied(chain=chain, proxies=[moved])
        assert await nodes.look() == [HEALTHY] * 2
        moved.point_at(empty.url)
        assert await nodes.look() == [NodeState.QUARANTINED, HEALTHY]
        height = await one.height()
        assert (await chain.reader.tip()).height == height
        await empty.mine(height + 1)
        assert await nodes.look() == [NodeState.QUARANTINED, HEALTHY]
        assert "came back with other data" in chain.pool.records[0].reason


async def test_n23_block_times_in_the_future_and_in_the_past_change_nothing(
    pair: tuple[Bitcoind, Bitcoind],
    test_database: TestDatabase,
    clock: ManualClock,
    ids: SequentialIds,
) -> None:
    one, _ = pair
    async with (
        agreeing([one.url], quorum=1) as chain,
        watched(chain, test_database, clock, ids) as watch,
    ):
        anna = await watch.address("anna")
        tip = await chain.reader.tip()
        await one.send(anna.address, "0.5")
        try:
            await one.rpc("setmocktime", tip.time_seconds + 7000)
            await one.mine(1)
            await watch.follow()
            assert (await watch.deposit()).state == "provisional"
            await one.rpc("setmocktime", tip.time_seconds + 1)
            await one.mine(1)
            await watch.follow()
            assert (await watch.deposit()).state == "provisional"
            await one.mine(1)
            await watch.follow()
            assert (await watch.deposit()).state == "final"
        finally:
            await one.rpc("setmocktime", 0)


async def test_n27_a_broadcast_reaches_every_healthy_node(
    pair: tuple[Bitcoind, Bitcoind],
) -> None:
    one, two = pair
    async with agreeing([one.url, two.url], quorum=2) as chain:
        await chain.reader.check_identity()
        txid = await one.send(await one.new_address(), "1")
        raw = bytes.fromhex(await one.rpc("getrawtransaction", txid))
        assert (await chain.reader.tx_status(txid)).place is TxPlace.MEMPOOL
        assert txid not in await two.rpc("getrawmempool")
        assert (await chain.writer.send(raw)).outcome is SendOutcome.ACCEPTED
        assert txid in await two.rpc("getrawmempool")
