"""Followers with one planted bug each: proof that the walks would see it (CASES c.7)."""

import contextlib
from collections import Counter
from dataclasses import replace

from config.database import Uow
from tests.simulation.plan import REORG_LIMIT_BLOCKS
from tests.support.pools import OverReader
from tests.support.watching import Watch
from watchers import store
from watchers.agreed_chain import AgreedChain
from watchers.chain import Block, BlockRef, Chain
from watchers.errors import LeaseLost, NodeUnavailable
from watchers.follower import Crash, Follower, Position
from watchers.forks import NO_FORK, Fork
from watchers.quorum import AgreeingReader


class ComparesHeights(Follower):
    """A block is known by its height: what changed at or below ours is never seen."""

    async def _fork(self, position: Position, tip: BlockRef) -> Fork:
        return NO_FORK


class KeepsLostDeposits(Follower):
    """The cursor leaves a block that the chain lost; its deposits stay as they are."""

    async def _disconnect(self, position: Position, stale: BlockRef, fork: Fork) -> Position:
        async with self._database.unit_of_work() as uow:
            await self._move(uow, position, height=stale.height - 1, block_hash=stale.parent_hash)
            await store.disconnect_block(uow, network=self._network.name, block_hash=stale.hash)
        return Position(height=stale.height - 1, hash=stale.parent_hash, fence=position.fence)


class IgnoresTheFence(Follower):
    """Who woke up after its lease goes on with what it had in hand."""

    async def _move(self, uow: Uow, position: Position, *, height: int, block_hash: str) -> None:
        with contextlib.suppress(LeaseLost):
            await super()._move(uow, position, height=height, block_hash=block_hash)

    async def _hold(self, uow: Uow, position: Position) -> int:
        try:
            return await super()._hold(uow, position)
        except LeaseLost:
            return position.height or 0


class EmptyOnError(AgreeingReader):
    """A block that cannot be had is an empty block."""

    async def block(self, block_hash: str) -> Block:
        try:
            return await super().block(block_hash)
        except NodeUnavailable:
            ref = await self.ref_of(block_hash)
            if ref is None:
                raise
            return Block(ref=ref, transfers=(), spends=(), sends=(), txids=(), raw_txs={})


class FirstOutputOnly(AgreeingReader):
    """Of many transfers of one tx only the first two are seen."""

    async def block(self, block_hash: str) -> Block:
        found = await super().block(block_hash)
        seen: Counter[str] = Counter()
        kept = []
        for item in found.transfers:
            seen[item.txid] += 1
            if seen[item.txid] <= 2:  # one of them is the payer's change
                kept.append(item)
        return replace(found, transfers=tuple(kept))


def _reading(reader: type[AgreeingReader], chain: Chain) -> Chain:
    if not isinstance(chain, AgreedChain):
        return chain
    return OverReader(chain, reader(chain.pool, reorg_limit_blocks=REORG_LIMIT_BLOCKS))


def _follower(
    kind: type[Follower], watch: Watch, chain: Chain, holder: str, crash: Crash
) -> Follower:
    return kind(
        chain=chain,
        network=watch.network,
        database=watch.as_watcher,
        clock=watch.clock,
        holder=holder,
        start_height=None,
        crash=crash,
    )


def compares_heights(watch: Watch, chain: Chain, holder: str, crash: Crash) -> Follower:
    """CASES law 2 broken."""
    return _follower(ComparesHeights, watch, chain, holder, crash)


def keeps_lost_deposits(watch: Watch, chain: Chain, holder: str, crash: Crash) -> Follower:
    """D04 broken."""
    return _follower(KeepsLostDeposits, watch, chain, holder, crash)


def ignores_the_fence(watch: Watch, chain: Chain, holder: str, crash: Crash) -> Follower:
    """P13 broken, for watchers."""
    return _follower(IgnoresTheFence, watch, chain, holder, crash)


def empty_on_error(watch: Watch, chain: Chain, holder: str, crash: Crash) -> Follower:
    """N11 broken."""
    return _follower(Follower, watch, _reading(EmptyOnError, chain), holder, crash)


def first_output_only(watch: Watch, chain: Chain, holder: str, crash: Crash) -> Follower:
    """D15 broken."""
    return _follower(Follower, watch, _reading(FirstOutputOnly, chain), holder, crash)


MUTANTS = {
    "compares_heights": compares_heights,
    "keeps_lost_deposits": keeps_lost_deposits,
    "ignores_the_fence": ignores_the_fence,
    "empty_on_error": empty_on_error,
    "first_output_only": first_output_only,
}
