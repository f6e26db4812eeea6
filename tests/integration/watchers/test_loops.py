"""The loops: health is told, a stopped network stays stopped, quotes and pools are kept."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from config.clock import Waker
from ledger.errors import IllegalTransition
from tests.integration.watchers.conftest import AccountBench, UtxoBench
from tests.support.clock import ManualClock
from tests.support.simchain import SimUtxoReader, utxo_chain
from tests.support.watching import Watch
from watchers import fees, health, switches
from watchers.chain import Block, BlockRef, Chain, MempoolTx
from watchers.errors import NodeUnavailable
from watchers.follower import BLOCKS_PER_ROUND
from watchers.loops import FeeLoop, FollowLoop, alarm_of, supervise
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


class Broken(SimUtxoReader):
    """A round comes to a step that the lifecycle has not."""

    async def tip(self) -> BlockRef:
        raise IllegalTransition("no such step for http://user:hunter2@node.invalid")


class Forgetful(SimUtxoReader):
    """Blocks come without the bytes of their txs."""

    async def block(self, block_hash: str) -> Block:
        return replace(await super().block(block_hash), raw_txs={})


class EndsAtRest(ManualClock):
    """The loop is cancelled where it would pause."""

    async def sleep(self, delay_seconds: float) -> None:
        raise asyncio.CancelledError


async def alarms(watch: Watch) -> list[tuple[Any, ...]]:
    async with watch.as_watcher.unit_of_work() as uow:
        result = await uow.execute("SELECT kind, network, detail FROM gateway.alarms")
        return [tuple(row) for row in result]


async def test_a_block_that_cannot_be_applied_is_told_and_never_called_healthy(
    utxo: UtxoBench,
) -> None:
    watch = utxo.watch
    loop = loop_over(watch, watch.chain)
    await loop.look()
    async with watch.as_owner.unit_of_work() as uow:
        await uow.execute("ALTER TABLE chain.blocks ADD CONSTRAINT poison CHECK (height < 1)")
    utxo.sim.mine(1)
    for _ in range(2):
        with pytest.raises(IntegrityError):
            await loop.run_once()
        found = await status(watch)
        assert not found.is_healthy
        assert found.last_error is not None
        assert "poison" in found.last_error

    async with watch.as_owner.unit_of_work() as uow:
        await uow.execute("ALTER TABLE chain.blocks DROP CONSTRAINT poison")
    await loop.run_once()
    assert (await status(watch)).is_healthy
    assert await events(watch) == ["network.degraded", "network.recovered"]


async def test_a_loop_that_fails_raises_one_alarm_without_credentials(utxo: UtxoBench) -> None:
    watch = utxo.watch

    async def fail() -> None:
        raise RuntimeError("http://user:hunter2@node.invalid")

    alarm = alarm_of(watch.as_watcher, watch.network, clock=watch.clock)
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await supervise("fees", fail, clock=EndsAtRest(), network="btc", alarm=alarm)
    [(kind, network, detail)] = await alarms(watch)
    assert (kind, network) == ("loop_failed", "btc")
    assert detail.startswith("fees: RuntimeError: ")
    assert "hunter2" not in detail


async def test_a_broken_invariant_stops_the_network_until_a_person_decides(
    utxo: UtxoBench,
) -> None:
    watch = utxo.watch
    broken = loop_over(watch, utxo_chain(utxo.sim, reader=Broken(utxo.sim)))
    assert await broken.run_once() is not None
    found = await status(watch)
    assert not found.is_healthy
    assert found.stopped_reason is not None
    assert found.stopped_reason.startswith("IllegalTransition: ")
    assert "hunter2" not in found.stopped_reason
    kinds = {("invariant_broken", "btc"), ("switch_stopped", "btc")}
    assert {tuple(row[:2]) for row in await alarms(watch)} == kinds

    utxo.sim.mine(3)
    assert await loop_over(watch, watch.chain).run_once() is not None
    after = await status(watch)
    assert (after.height, after.is_healthy) == (None, False)
    assert len(await alarms(watch)) == 2

    async with watch.as_api.unit_of_work() as uow:
        await switches.close_breaker(
            uow,
            scope="network:btc",
            action=switches.Action.ALL,
            version=1,
            reason="the release with the fix runs",
            proposed_by="ada",
            approved_by="grace",
            ids=watch.ids,
            at=watch.clock.now(),
        )
    await loop_over(watch, watch.chain).run_once()  # goes on by itself
    after = await status(watch)
    assert (after.height, after.is_healthy, after.stopped_reason) == (3, True, None)


async def test_a_block_without_the_bytes_of_a_tx_that_pays_us_is_asked_for_again(
    utxo: UtxoBench,
) -> None:
    watch = utxo.watch
    anna = await watch.address("anna")
    utxo.sim.pay([(anna.address, 50_000_000)])
    utxo.sim.mine(1)
    forgetful = loop_over(watch, utxo_chain(utxo.sim, reader=Forgetful(utxo.sim)))
    assert await forgetful.run_once() is not None
    assert not (await status(watch)).is_healthy
    assert await watch.deposits() == []

    await loop_over(watch, watch.chain).run_once()
    assert len(await watch.deposits()) == 1
    await watch.audit()


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
    tip = BLOCKS_PER_ROUND + 50
    utxo.sim.mine(tip)
    loop = loop_over(utxo.watch, utxo.watch.chain)
    assert await loop.look() == 0.0
    first = await status(utxo.watch)
    assert (first.height, first.tip_height, first.lag_blocks) == (BLOCKS_PER_ROUND - 1, tip, 51)
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
