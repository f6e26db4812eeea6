"""Several nodes of one simulated network: views of one block tree that lag, fork, lie or fail."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from config.clock import Clock, SystemClock
from tests.support.simchain import SimUtxo, SimUtxoReader, utxo_chain
from watchers.agreed_chain import AgreedChain
from watchers.chain import Block, BlockRef, Chain, ChainReader, NodeInfo, TxPlace, TxStatus
from watchers.errors import NodeLied, NodeUnavailable, WrongNetwork
from watchers.judge import NodeRecord, NodeState, Rules
from watchers.nodes import Node, NodePool

RULES = Rules(lag_blocks=2, stall_seconds=3600.0, lying_seconds=0.0, min_version=(21, 5, 4))
ANCHOR_DEPTH = 10
TIMEOUT_SECONDS = 5.0
LOOK_SECONDS = 1.0


class View(SimUtxoReader):
    """One node's view of a shared block tree, with its own faults; honest when none is set."""

    def __init__(self, world: SimUtxo) -> None:
        super().__init__(world)
        self.world = world
        self.pinned: str | None = None
        """The tip of this node's branch; None: the tree's active tip."""
        self.is_down = False
        self.is_empty = False
        self.is_foreign = False
        self.gate: asyncio.Event | None = None
        """While it is not set, no call ends: a slow node."""
        self.forged: dict[str, Block] = {}
        """Blocks that it reports with other effects."""
        self.contradicts: set[str] = set()
        """Blocks whose parts do not fit their own hashes."""
        self.unseen: set[str] = set()
        """Txs that never reached this node."""
        self.info = NodeInfo(version=(29, 0, 0), version_text="/Sim:29.0/", is_syncing=False)
        self.asked = 0

    async def describe(self) -> NodeInfo:
        await self._answer()
        return self.info

    async def check_identity(self) -> None:
        await self._answer()

    async def tip(self) -> BlockRef:
        await self._answer()
        return self._branch()[-1]

    async def ref_at(self, height: int) -> BlockRef | None:
        await self._answer()
        branch = self._branch()
        return branch[height] if 0 <= height < len(branch) else None

    async def ref_of(self, block_hash: str) -> BlockRef | None:
        await self._answer()
        return await super().ref_of(block_hash)

    async def block(self, block_hash: str) -> Block:
        await self._answer()
        if block_hash in self.contradicts:
            raise NodeLied(f"block {block_hash}: the Merkle root does not fit")
        return self.forged.get(block_hash) or await super().block(block_hash)

    async def tx_status(self, txid: str) -> TxStatus:
        await self._answer()
        if txid in self.unseen:
            return TxStatus(place=TxPlace.UNKNOWN)
        found = await super().tx_status(txid)
        if found.block is not None and found.block not in self._branch():
            return TxStatus(place=TxPlace.MEMPOOL)
        return found

    async def _answer(self) -> None:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.is_down:
            raise NodeUnavailable("refused the connection")
        if self.is_foreign:
            raise WrongNetwork("serves another chain")

    def _branch(self) -> list[BlockRef]:
        if self.is_empty:
            return [self.world.blocks[self.world.active[0]].ref]
        branch = []
        block = self.world.blocks.get(self.pinned or self.world.active[-1])
        while block is not None:
            branch.append(block.ref)
            block = self.world.blocks.get(block.ref.parent_hash)
        return branch[::-1]


def forge(block: Block) -> Block:
    """The same block with a transfer that no tx made."""
    extra = replace(block.transfers[0], position="out:7", amount_minor=10**9)
    return replace(block, transfers=(*block.transfers, extra))


def agreed(
    world: SimUtxo,
    views: Sequence[View],
    *,
    quorum: int,
    clock: Clock,
    readers: Sequence[ChainReader] | None = None,
    rules: Rules = RULES,
) -> AgreedChain:
    """The agreeing chain over these views, labelled `a:1`, `b:2`, and so on."""
    nodes = [
        Node(
            label=f"{chr(97 + n)}:{n + 1}",
            chain=utxo_chain(world, reader=(readers or views)[n]),
            describer=view,
        )
        for n, view in enumerate(views)
    ]
    pool = NodePool(
        nodes,
        quorum=quorum,
        rules=rules,
        anchor_depth=ANCHOR_DEPTH,
        clock=clock,
        look_seconds=LOOK_SECONDS,
        timeout_seconds=TIMEOUT_SECONDS,
    )
    return AgreedChain(pool, reorg_limit_blocks=ANCHOR_DEPTH)


class Honest:
    """A node that says of itself only good things."""

    async def describe(self) -> NodeInfo:
        return NodeInfo(version=(29, 0, 0), version_text="/Sim:29.0/", is_syncing=False)


class OverReader:
    """A simulated chain with another reader of the same world."""

    def __init__(self, chain: Chain, reader: ChainReader) -> None:
        self._chain = chain
        self.reader = reader
        self.network = chain.network
        self.family = chain.family
        self.codec = chain.codec
        self.writer = chain.writer

    async def close(self) -> None:
        await self._chain.close()


def agreed_over(chain: Chain, readers: Sequence[ChainReader]) -> AgreedChain:
    """All of these readers, which must agree, in front of an honest world."""
    nodes = [
        Node(label=f"{n}", chain=OverReader(chain, reader), describer=Honest())
        for n, reader in enumerate(readers)
    ]
    pool = NodePool(
        nodes,
        quorum=len(nodes),
        rules=RULES,
        anchor_depth=ANCHOR_DEPTH,
        clock=SystemClock(),
        look_seconds=LOOK_SECONDS,
        timeout_seconds=TIMEOUT_SECONDS,
    )
    return AgreedChain(pool, reorg_limit_blocks=ANCHOR_DEPTH)


def record(chain: AgreedChain, n: int) -> NodeRecord:
    """What is known of the n-th node."""
    return chain.pool.records[n]


def states(chain: AgreedChain) -> list[NodeState]:
    """The state of every node in order."""
    return [item.state for item in chain.pool.records]


def fork(world: SimUtxo, *, depth: int, blocks: int) -> str:
    """A rival branch from `depth` blocks below the tip; the active branch stays. Its tip."""
    active = world.active[-1]
    world.rewind(depth)
    for _ in range(blocks):
        world.mine_exactly([])
    rival = world.active[-1]
    world.activate(active)
    return rival
