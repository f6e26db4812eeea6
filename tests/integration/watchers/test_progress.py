"""P39: a watcher that lives and connects nothing ends its process; one with a reason does not."""

import asyncio
from collections.abc import Callable

import pytest

from tests.integration.watchers.conftest import UtxoBench
from tests.support.clock import ManualClock
from tests.support.simchain import SimUtxoReader, utxo_chain
from watchers.chain import Block
from watchers.errors import NodeUnavailable, NoProgress
from watchers.progress import LOOK_SECONDS, PATIENCE_SECONDS, ProgressWatch

pytestmark = pytest.mark.postgres


class Hangs(SimUtxoReader):
    """Says where the tip is and never gives a block."""

    async def block(self, block_hash: str) -> Block:
        never: asyncio.Future[Block] = asyncio.get_running_loop().create_future()
        return await never


class Mute(SimUtxoReader):
    """Nobody says where the tip is."""

    async def tip(self) -> object:  # type: ignore[override]
        raise NodeUnavailable("refused")


def watch_over(
    bench: UtxoBench,
    clock: ManualClock,
    *,
    reader: SimUtxoReader | None = None,
    is_following: Callable[[], bool] = lambda: True,
) -> ProgressWatch:
    """The watch of a process that holds the lease."""
    return ProgressWatch(
        network="btc",
        reader=reader or SimUtxoReader(bench.sim),
        database=bench.watch.as_watcher,
        clock=clock,
        is_following=is_following,
    )


async def test_p39_a_follower_that_hangs_ends_its_process(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    await utxo.watch.follow()
    stuck = utxo.watch.new_follower("first", chain=utxo_chain(utxo.sim, reader=Hangs(utxo.sim)))
    utxo.sim.mine(1)
    hanging = asyncio.create_task(stuck.follow(await utxo.watch.position(stuck)))
    watch = watch_over(utxo, clock)
    await watch.look()
    clock.advance(PATIENCE_SECONDS - 1)
    await watch.look()
    clock.advance(1)
    with pytest.raises(NoProgress, match=utxo.sim.tip.ref.hash):
        await watch.look()
    assert not hanging.done()
    hanging.cancel()

    await utxo.watch.follow(utxo.watch.new_follower("first"))  # the process that is started again
    assert (await utxo.watch.position()).hash == utxo.sim.tip.ref.hash


async def test_p39_what_moves_or_waits_for_a_reason_is_left_alone(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    """Each block begins the time anew; at the tip, on standby or stopped none is counted."""
    await utxo.watch.follow()
    utxo.sim.mine(1)
    watch = watch_over(utxo, clock)
    standby = watch_over(utxo, clock, is_following=lambda: False)
    mute = watch_over(utxo, clock, reader=Mute(utxo.sim))
    for _ in range(3):
        await watch.look()
        await standby.look()
        with pytest.raises(NodeUnavailable):
            await mute.look()
        clock.advance(PATIENCE_SECONDS)
        await utxo.watch.follow()
        utxo.sim.mine(1)
    await utxo.watch.follow()
    await watch.look()
    clock.advance(PATIENCE_SECONDS)
    await watch.look()
    utxo.sim.mine(1)
    await utxo.watch.follower.stop("a person looks")
    for _ in range(2):
        await watch.look()
        clock.advance(PATIENCE_SECONDS)


async def test_p39_nodes_that_are_behind_are_no_reason_to_end(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    """The tip that they agree on is one of our own blocks: there is nothing to connect."""
    utxo.sim.mine(5)
    await utxo.watch.follow()
    utxo.sim.active = utxo.sim.active[:-3]
    watch = watch_over(utxo, clock)
    for _ in range(3):
        await watch.look()
        clock.advance(PATIENCE_SECONDS)


async def test_a_round_without_a_tip_is_told_and_the_next_one_looks_again(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    await utxo.watch.follow()
    running = asyncio.create_task(watch_over(utxo, clock, reader=Mute(utxo.sim)).run())
    for _ in range(2):
        while not clock.sleeping:
            await asyncio.wait({running}, timeout=0.01)
        clock.advance(LOOK_SECONDS)
    assert not running.done()
    running.cancel()
