"""Followers with one planted bug each: proof that the walks would see it (CASES c.7)."""

from collections import Counter
from dataclasses import replace

from tests.support.pools import OverReader
from tests.support.watching import Watch
from watchers.agreed_chain import AgreedChain
from watchers.chain import Block, BlockRef, Chain
from watchers.errors import NodeUnavailable
from watchers.follower import Crash, Follower, Position
from watchers.quorum import AgreeingReader


class ComparesHeights(Follower):
    """A block is known by its height: what changed at or below ours is never seen."""

    async def _stale_blocks(self, position: Position, tip: BlockRef) -> list[BlockRef]:
        return []

    async def _next(self, position: Position) -> BlockRef | None:
        if position.height is None:
            return None
        return await self._chain.reader.ref_at(position.height + 1)


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
    return OverReader(chain, reader(chain.pool, reorg_limit_blocks=100))


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


def empty_on_error(watch: Watch, chain: Chain, holder: str, crash: Crash) -> Follower:
    """N11 broken."""
    return _follower(Follower, watch, _reading(EmptyOnError, chain), holder, crash)


def first_output_only(watch: Watch, chain: Chain, holder: str, crash: Crash) -> Follower:
    """D15 broken."""
    return _follower(Follower, watch, _reading(FirstOutputOnly, chain), holder, crash)


MUTANTS = {
    "compares_heights": compares_heights,
    "empty_on_error": empty_on_error,
    "first_output_only": first_output_only,
}
