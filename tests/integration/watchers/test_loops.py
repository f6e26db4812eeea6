"""The loops: health is told, a stopped network stays stopped, quotes and pools are kept."""

from collections.abc import Sequence

import pytest

from config.clock import Waker
from tests.integration.watchers.conftest import AccountBench, UtxoBench
from tests.support.simchain import SimUtxoReader, utxo_chain
from tests.support.watching import Watch
from watchers import fees, health
from watchers.chain import BlockRef, Chain, MempoolTx
from watchers.errors import NodeUnavailable
from watchers.loops import FeeLoop, FollowLoop
from watchers.metrics import Metrics

pytestmark = pytest.mark.postgres


class Down(SimUtxoReader):
    """Every look fails, with a credential in the error text."""

    async def check_identity(self) -> None:
        raise NodeUnavailable("http://user:hunter2@node.invalid refused the connection")

    async def tip(self) -> BlockRef:
        raise NodeUnavailable("refused")

    async def mempool(self) -> Sequence[MempoolTx]:
        raise NodeUnavailable("refused")


def loop_over(watch: Watch, chain: Chain) -> FollowLoop:
    """The follow loop of the role."""
    return FollowLoop(
        follower=watch.new_follower("first", chain=chain),
        chain=chain,
        network=watch.network,
        database=watch.as_watcher,
        clock=watch.clock,
        waker=Waker(poll_seconds=0.1),
        node_count=1,
        metrics=Metrics(watch.network.name),
    )


async def events(watch: Watch) -> list[str]:
    """Types of the network's events, in order."""
    async with watch.as_watcher.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT type FROM ledger.events WHERE object_kind = 'network' ORDER BY position"
        )
        return list(result.scalars().all())


async def status(watch: Watch) -> health.NetworkStatus:
    async with watch.as_api.unit_of_work() as uow:
        (found,) = await health.network_status(uow)
    return found


async def test_a_node_that_fails_is_told_once_and_its_return_too(utxo: UtxoBench) -> None:
    watch = utxo.watch
    broken = loop_over(watch, utxo_chain(utxo.sim, reader=Down(utxo.sim)))
    assert await broken.look() is not None
    assert await broken.look() is not None
    degraded = await status(watch)
    assert not degraded.is_healthy
    assert degraded.last_error is not None
    assert "hunter2" not in degraded.last_error

    healthy = loop_over(watch, watch.chain)
    assert await healthy.look() == 0.0
    assert await healthy.look() is None
    assert (await status(watch)).is_healthy
    assert await events(watch) == ["network.degraded", "network.recovered"]


async def test_height_and_lag_are_told_while_catching_up(utxo: UtxoBench) -> None:
    utxo.sim.mine(150)
    loop = loop_over(utxo.watch, utxo.watch.chain)
    assert await loop.look() == 0.0
    first = await status(utxo.watch)
    assert (first.height, first.tip_height, first.lag_blocks) == (99, 150, 51)
    assert await loop.look() == 0.0
    assert await loop.look() is None
    assert (await status(utxo.watch)).lag_blocks == 0


async def test_a_reorg_is_told_with_its_depth_and_one_too_deep_stops_once(
    utxo: UtxoBench,
) -> None:
    loop = loop_over(utxo.watch, utxo.watch.chain)
    utxo.sim.mine(3)
    await loop.look()
    utxo.sim.rewind(2)
    utxo.sim.mine_exactly([])
    utxo.sim.mine_exactly([])
    await loop.look()
    assert await events(utxo.watch) == ["network.reorg"]

    utxo.sim.mine(101)
    while await loop.look() is not None:
        pass
    utxo.sim.rewind(101)
    for _ in range(102):
        utxo.sim.mine_exactly([])
    await loop.look()
    await loop.look()
    assert await events(utxo.watch) == ["network.reorg", "network.reorg", "network.degraded"]
    assert (await status(utxo.watch)).stopped_reason is not None


async def test_fee_quotes_are_sampled_for_those_without_a_node(account: AccountBench) -> None:
    watch = account.watch
    loop = FeeLoop(
        chain=watch.chain, network=watch.network, database=watch.as_watcher, clock=watch.clock
    )
    assert await loop.sample()
    async with watch.as_payouts.unit_of_work() as uow:
        found = await fees.latest(uow, network="eth")
    assert found is not None
    assert found.quote == await watch.chain.writer.fee_quote()
    assert found.sampled_at == watch.clock.now()
