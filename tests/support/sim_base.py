"""The block tree of a simulated chain: forks, active branch, mempool; no family in it.

A subclass says what a tx does to the state. Each block keeps the state after it, so that any
branch can become the active one. Nothing here is random or timed: the same calls give the same
hashes.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from watchers.chain import (
    Block,
    BlockEvidence,
    BlockRef,
    MempoolTx,
    SendResult,
    TxOutline,
    TxPlace,
    TxStatus,
)
from watchers.errors import NodeUnavailable

State = TypeVar("State")
GENESIS_SECONDS = 1_700_000_000
BLOCK_SECONDS = 600


@dataclass(frozen=True, slots=True)
class SimBlock(Generic[State]):
    """One block of the tree with the state after it."""

    ref: BlockRef
    effects: Block
    txs: tuple[tuple[str, bytes], ...]
    state: State
    is_success: Mapping[str, bool]


class SimNetwork(ABC, Generic[State]):
    """A world with one chain; plays miners and the node's mempool."""

    hash_prefix = ""

    def __init__(self) -> None:
        self.blocks: dict[str, SimBlock[State]] = {}
        self.active: list[str] = []
        self.pool: dict[str, bytes] = {}
        self._salt = 0
        genesis = self._new_block(parent=None, txs=())
        self.active.append(genesis.ref.hash)

    @abstractmethod
    def genesis_state(self) -> State:
        """The state before the first tx."""

    @abstractmethod
    def run_block(
        self, state: State, ref: BlockRef, txs: Sequence[tuple[str, bytes]]
    ) -> tuple[State, Block, Mapping[str, bool]]:
        """A copy of `state` after the txs, their effects, and which of them succeeded."""

    @abstractmethod
    def seal(
        self, effects: Block, txs: Sequence[tuple[str, bytes]], is_success: Mapping[str, bool]
    ) -> tuple[str, BlockEvidence]:
        """The hash that the block's real header gives it, and what it proves."""

    @abstractmethod
    def judge(self, raw: bytes) -> tuple[str, SendResult]:
        """The txid of signed bytes and what the mempool says of them; changes nothing."""

    @abstractmethod
    def pooled(self, txid: str, raw: bytes) -> MempoolTx:
        """A tx of the mempool, reduced."""

    @abstractmethod
    def outlined(self, txid: str, raw: bytes) -> TxOutline:
        """What a tx says that it would move; with its fee rate while it is pooled."""

    def outline(self, txid: str) -> TxOutline | None:
        """The same by txid, wherever the tx is; None when it is nowhere."""
        known = dict(self.pool)
        for name in self.active:
            known.update(self.blocks[name].txs)
        return self.outlined(txid, known[txid]) if txid in known else None

    @abstractmethod
    def is_minable(self, state: State, raw: bytes) -> bool:
        """Whether a pooled tx may be in the next block."""

    @property
    def tip(self) -> SimBlock[State]:
        """The head of the active branch."""
        return self.blocks[self.active[-1]]

    def mine(self, count: int = 1) -> list[str]:
        """Mine `count` blocks; the first takes every minable tx of the pool, in order."""
        hashes = []
        for _ in range(count):
            hashes.append(self.mine_exactly([txid for txid in self.pool]))
        return hashes

    def mine_exactly(self, txids: Sequence[str]) -> str:
        """Mine one block with those of the pooled `txids` that are valid now."""
        txs: list[tuple[str, bytes]] = []
        for txid in txids:
            candidate = (txid, self.pool[txid])
            state = self._new_block(parent=self.tip, txs=txs, keep=False).state
            if self.is_minable(state, candidate[1]):
                txs.append(candidate)
        block = self._new_block(parent=self.tip, txs=txs)
        self.active.append(block.ref.hash)
        self._settle_pool()
        return block.ref.hash

    def rewind(self, depth: int) -> str:
        """Take `depth` blocks off; their txs wait in the pool. The lost tip's hash."""
        lost = self.active[-1]
        if not 0 < depth < len(self.active):
            raise ValueError("depth is beyond the chain")
        gone, self.active = self.active[-depth:], self.active[:-depth]
        returned = {txid: raw for name in gone for txid, raw in self.blocks[name].txs}
        self.pool = returned | self.pool
        self._settle_pool()
        return lost

    def activate(self, tip_hash: str) -> None:
        """Make the branch that ends in `tip_hash` the active one (reconsiderblock)."""
        branch: list[str] = []
        block: SimBlock[State] | None = self.blocks[tip_hash]
        while block is not None:
            branch.append(block.ref.hash)
            block = self.blocks.get(block.ref.parent_hash)
        left = [name for name in self.active if name not in branch]
        for name in left:
            self.pool.update(self.blocks[name].txs)
        self.active = branch[::-1]
        self._settle_pool()

    def drop(self, txid: str) -> None:
        """Evict a tx from the pool."""
        del self.pool[txid]

    def find(self, txid: str) -> TxStatus:
        """Where a txid is now."""
        for name in reversed(self.active):
            block = self.blocks[name]
            if txid in block.effects.txids:
                is_success = block.is_success.get(txid, True)
                return TxStatus(place=TxPlace.MINED, block=block.ref, is_success=is_success)
        place = TxPlace.MEMPOOL if txid in self.pool else TxPlace.UNKNOWN
        return TxStatus(place=place)

    def fingerprint(self, *parts: object) -> str:
        """A hash in the network's display form."""
        text = "|".join(str(part) for part in parts)
        return self.hash_prefix + hashlib.sha256(text.encode()).hexdigest()

    def _new_block(
        self,
        *,
        parent: SimBlock[State] | None,
        txs: Sequence[tuple[str, bytes]],
        keep: bool = True,
    ) -> SimBlock[State]:
        height = 0 if parent is None else parent.ref.height + 1
        parent_hash = self.hash_prefix + "00" * 32 if parent is None else parent.ref.hash
        self._salt += 1 if keep else 0
        ref = BlockRef(
            height=height,
            hash=self.fingerprint("block", parent_hash, self._salt, *(txid for txid, _ in txs)),
            parent_hash=parent_hash,
            time_seconds=GENESIS_SECONDS + height * BLOCK_SECONDS,
        )
        before = self.genesis_state() if parent is None else parent.state
        state, effects, is_success = self.run_block(before, ref, txs)
        if keep:
            block_hash, evidence = self.seal(effects, txs, is_success)
            ref = replace(ref, hash=block_hash)
            effects = replace(effects, ref=ref, evidence=evidence)
        block = SimBlock(ref, effects, tuple(txs), state, is_success)
        if keep:
            self.blocks[ref.hash] = block
        return block

    def _settle_pool(self) -> None:
        """Drop from the pool what the active branch holds or makes impossible."""
        mined = {txid for name in self.active for txid, _ in self.blocks[name].txs}
        waiting, self.pool = self.pool, {}
        for txid, raw in waiting.items():
            if txid not in mined and not self.is_dead(raw):
                self.pool[txid] = raw

    def is_dead(self, raw: bytes) -> bool:
        """Whether the active branch has used what the tx needs (an input, a nonce)."""
        return False


class SimReaderBase(Generic[State]):
    """The reads that do not depend on the family."""

    def __init__(self, world: SimNetwork[State]) -> None:
        self.world = world
        self._reported: set[str] = set()

    async def check_identity(self) -> None:
        return None

    async def tip(self) -> BlockRef:
        return self.world.tip.ref

    async def ref_at(self, height: int) -> BlockRef | None:
        if not 0 <= height < len(self.world.active):
            return None
        return self.world.blocks[self.world.active[height]].ref

    async def refs(self, height: int, count: int) -> Sequence[BlockRef]:
        found: list[BlockRef] = []
        while len(found) < count and (ref := await self.ref_at(height + len(found))) is not None:
            found.append(ref)
        return found

    async def ref_of(self, block_hash: str) -> BlockRef | None:
        block = self.world.blocks.get(block_hash)
        return None if block is None else block.ref

    async def block(self, block_hash: str) -> Block:
        block = self.world.blocks.get(block_hash)
        if block is None:
            raise NodeUnavailable("block not found")
        return block.effects

    async def mempool(self) -> Sequence[MempoolTx]:
        pool = self.world.pool
        self._reported &= set(pool)
        new = [self.world.pooled(t, raw) for t, raw in pool.items() if t not in self._reported]
        self._reported.update(pool)
        return new

    async def tx_status(self, txid: str) -> TxStatus:
        return self.world.find(txid)

    async def tx_statuses(self, txids: Sequence[str]) -> Sequence[TxStatus]:
        return [await self.tx_status(txid) for txid in txids]

    async def outline(self, txid: str) -> TxOutline | None:
        return self.world.outline(txid)
