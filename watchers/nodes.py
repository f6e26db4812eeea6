"""The nodes of one network: one reader each, looked at and judged in the background.

Owns the memory of every node's state and the looks that feed it. It asks each node only about
itself and about headers; what nodes say about money is asked by `watchers.quorum`, which uses the
healthy ones and tells back who failed, lied or disagreed. Nothing here is durable: the watcher
that holds the lease writes the records down (`watchers.health`), others only remember.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol

from config.clock import Clock
from config.logs import get_logger
from watchers.agreement import Answers, collect, digest, kth_best
from watchers.chain import BlockRef, Chain, NodeDescriber, NodeInfo
from watchers.chains.errors import RpcError
from watchers.errors import NodeError, NodeLied, NodeUnavailable, WrongNetwork
from watchers.judge import (
    FAILED_LOOKS,
    Anchor,
    Look,
    NodeRecord,
    NodeState,
    Rules,
    accuse,
    judge,
    pardoned,
)

log = get_logger("watchers.nodes")

WARMING_UP = -28  # Core: "Loading block index", "Verifying blocks"
PROBATION_PACE = 4  # looks at a node on probation are this many times rarer
HANGS = "answers about itself, and not about txs"
HANG_SECONDS = 60.0  # a node that hung twice in this time is left out for as long
HANG_APART_SECONDS = 0.5  # calls that hang together count once
DIGESTS_KEPT = 64  # agreed blocks whose effects a node on probation may be asked for
NOT_COUNTED = frozenset(
    {
        NodeState.UNREACHABLE,
        NodeState.LYING,
        NodeState.WRONG_CHAIN,
        NodeState.QUARANTINED,
        NodeState.FORKED,
    }
)
"""States whose heights say nothing about the chain."""
FALSE = frozenset({NodeState.LYING, NodeState.WRONG_CHAIN})
"""States whose blocks say nothing about the chain."""


class DescribedChain(Chain, Protocol):
    """A chain over one node, which tells about itself."""

    @property
    def describer(self) -> NodeDescriber:
        """The node's words about itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node: its chain (reader and writer over this node alone) and its own words."""

    label: str
    chain: Chain
    describer: NodeDescriber


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Healthy nodes have different blocks at one height and no k of them agree (N07)."""

    height: int
    hashes: Mapping[str, str]
    since_seconds: float

    def told(self) -> str:
        """Who has what, for people."""
        rows = ", ".join(f"{label} has {item}" for label, item in sorted(self.hashes.items()))
        return f"block {self.height}: {rows}"


class NodePool:
    """All nodes of a network, in order of preference."""

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        quorum: int,
        rules: Rules,
        anchor_depth: int,
        clock: Clock,
        look_seconds: float,
        timeout_seconds: float,
    ) -> None:
        if not 1 <= quorum <= len(nodes):
            raise ValueError(f"quorum {quorum} of {len(nodes)} nodes can never agree")
        self.quorum = quorum
        self.timeout_seconds = timeout_seconds
        self.split: Split | None = None
        self.agreed: BlockRef | None = None
        self.clock = clock
        self._nodes = {node.label: node for node in nodes}
        self._records = {label: NodeRecord(label=label) for label in self._nodes}
        self._agreeing: frozenset[str] = frozenset()
        self._rules = rules
        self._anchor_depth = anchor_depth
        self._look_seconds = look_seconds
        self._looked_at_seconds: dict[str, float] = {}
        self._digests: dict[str, str] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._moved: set[str] = set()
        self._hangs: dict[str, list[float]] = {}

    @property
    def nodes(self) -> Sequence[Node]:
        """Every node, whatever its state."""
        return tuple(self._nodes.values())

    @property
    def records(self) -> Sequence[NodeRecord]:
        """What is known of every node now."""
        return tuple(self._records.values())

    def agreeing(self) -> int:
        """How many healthy nodes had the agreed tip on their chain when it was last agreed."""
        return sum(
            1 for item in self._records.values() if item.is_healthy and item.label in self._agreeing
        )

    def halted(self) -> bool:
        """Whether every node that answers sees no new block (N25)."""
        states = {
            item.state for item in self._records.values() if item.state is not NodeState.UNREACHABLE
        }
        return states == {NodeState.STALLED}

    def on_other_chains(self) -> Sequence[str]:
        """Labels of nodes that serve another chain."""
        return [
            item.label for item in self._records.values() if item.state is NodeState.WRONG_CHAIN
        ]

    def disagreement(self, *, after_seconds: float) -> str | None:
        """Who contradicts whom, for people; a split of the chain only once it has lasted."""
        told = [
            f"{item.label} is {item.state}: {item.reason}"
            for item in self._records.values()
            if item.state in (NodeState.LYING, NodeState.FORKED)
        ]
        split = self.split
        if split is not None:
            lasted_seconds = self.clock.monotonic_seconds() - split.since_seconds
            told += [split.told()] if lasted_seconds >= after_seconds else []
        return "; ".join(told) or None

    def restore(self, records: Iterable[NodeRecord]) -> None:
        """Take over what was written down of nodes that nobody here has looked at yet, and of those
        that lied to the last holder of the lease and not, so far, to this process."""
        for record in records:
            mine = self._records.get(record.label)
            if mine is not None:
                is_caught = record.barred_at is not None and mine.barred_at is None
                self._records[record.label] = replace(
                    mine if mine.is_known and not is_caught else record,
                    top_height=max(record.top_height, mine.top_height),
                    anchor=mine.anchor or record.anchor,
                    lies=max(record.lies, mine.lies),
                    is_known=mine.is_known,
                    moved_at_seconds=mine.moved_at_seconds,
                )

    def pardon(self, granted: Mapping[str, datetime]) -> None:
        """Two people ended the time of nodes that lied: label -> when they agreed."""
        for label, at in granted.items():
            if label in self._records:
                self._put(pardoned(self._records[label], granted_at=at))

    async def healthy(self) -> Sequence[Node]:
        """At least k healthy nodes in order of preference. NodeUnavailable: fewer are.

        Looks go on in the background; only when they are short is the next one waited for.
        """
        self.nudge()
        if len(found := self._healthy()) >= self.quorum:
            return found
        await self._look_until_quorum()
        if len(found := self._healthy()) >= self.quorum:
            return found
        faults = "; ".join(
            f"{item.label} is {item.state}: {item.reason}"
            for item in self._records.values()
            if not item.is_healthy
        )
        raise NodeUnavailable(
            f"{len(found)} of {len(self._nodes)} nodes are healthy, {self.quorum} must be: {faults}"
        )

    def _healthy(self) -> list[Node]:
        return [node for node in self._nodes.values() if self._records[node.label].is_healthy]

    def usable(self) -> Sequence[Node]:
        """Where to send a tx: the healthy nodes, else those that are merely late or silent."""
        late = (NodeState.LAGGING, NodeState.STALLED, NodeState.SYNCING, NodeState.UNREACHABLE)
        return self._healthy() or [
            node for node in self._nodes.values() if self._records[node.label].state in late
        ]

    def nudge(self) -> None:
        """Start the looks that are due; nobody waits for them. A node on probation is asked for
        whole blocks, so it is looked at less often."""
        now = self.clock.monotonic_seconds()
        for node in self._nodes.values():
            last = self._looked_at_seconds.get(node.label)
            pace = PROBATION_PACE if self._records[node.label].cause else 1
            if last is None or now - last >= self._look_seconds * pace:
                self._start_look(node)

    async def look_all(self) -> None:
        """Look at every node now and wait for all of it."""
        running = self._start_all()
        await asyncio.wait(running)

    async def _look_until_quorum(self) -> None:
        """Look at every node now; ends when enough are healthy or every look is over."""
        running = self._start_all()
        while running and len(self._healthy()) < self.quorum:
            _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)

    def _start_all(self) -> "set[asyncio.Task[None]]":
        return {self._start_look(node) for node in self._nodes.values()}

    def _start_look(self, node: Node) -> "asyncio.Task[None]":
        """At most one look at a node is on its way."""
        task = self._looks.get(node.label)
        if task is None or task.done():
            self._looked_at_seconds[node.label] = self.clock.monotonic_seconds()
            task = asyncio.create_task(self._run_look(node), name=f"look {node.label}")
            self._looks[node.label] = task
        return task

    async def _run_look(self, node: Node) -> None:
        """One look and its judgement; a bug in it is told and counts as no answer."""
        before = self._records[node.label]
        peer_height = self._peer_height(node.label)
        try:
            look = await self._look(node, before)
        except Exception:  # the supervisor of the looks: nobody awaits what this task raises
            log.exception("node.look_failed", node=node.label)
            look = Look(problem=NodeState.UNREACHABLE, reason="the look itself failed")
        if look.problem is None and self._is_hanging(node.label):
            look = Look(problem=NodeState.UNREACHABLE, reason=HANGS)
        self._put(
            judge(
                self._records[node.label],
                look,
                peer_height=peer_height,
                rules=self._rules,
                at=self.clock.now(),
                now_seconds=self.clock.monotonic_seconds(),
            )
        )

    async def _look(self, node: Node, record: NodeRecord) -> Look:
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await node.chain.reader.check_identity()  # never an old answer (D62)
                info = await node.describer.describe()
                tip = await node.chain.reader.tip()
                return await self._compare(node, record, info, tip)
        except WrongNetwork as error:
            return Look(problem=NodeState.WRONG_CHAIN, reason=str(error))
        except NodeLied as error:
            return Look(problem=NodeState.LYING, reason=str(error))
        except RpcError as error:
            is_starting = error.code == WARMING_UP
            problem = NodeState.SYNCING if is_starting else NodeState.UNREACHABLE
            return Look(problem=problem, reason=str(error))
        except NodeError as error:
            return Look(problem=NodeState.UNREACHABLE, reason=str(error))
        except TimeoutError:
            return Look(
                problem=NodeState.UNREACHABLE,
                reason=f"no answer in {self.timeout_seconds:g} s",
            )

    async def _compare(self, node: Node, record: NodeRecord, info: NodeInfo, tip: BlockRef) -> Look:
        """The node's chain against its own past and against what the others agree on."""
        reader = node.chain.reader
        has_anchor, is_reorg = await self._holds_anchor(node, record)
        on_branch = await self._on_branch(node, tip)
        if record.cause.startswith(NodeState.LYING):
            await self._examine(node, record.lied_about or tip.hash)
        new_anchor = None
        depth = tip.height - self._anchor_depth
        is_due = record.anchor is None or depth - record.anchor.height >= self._anchor_depth
        if depth > 0 and is_due and not is_reorg and (on_branch or self.quorum == 1):
            deep = await reader.ref_at(depth)
            new_anchor = None if deep is None else Anchor(height=deep.height, hash=deep.hash)
        return Look(
            tip=tip,
            version=info.version,
            version_text=info.version_text,
            is_syncing=info.is_syncing,
            on_branch=on_branch,
            has_anchor=None if is_reorg else has_anchor,
            new_anchor=new_anchor,
        )

    async def _holds_anchor(self, node: Node, record: NodeRecord) -> tuple[bool | None, bool]:
        """Whether the node still has its anchor, None without one; and whether it lost it as the
        chain did: k nodes have the same other block there. Then it counts, so that the follower
        finds the reorg and stops for people. With a quorum of one all nodes must have it: one
        that came back with other data is not the chain."""
        self._moved.discard(node.label)
        anchor = record.anchor
        if anchor is None:
            return None, False
        held = await node.chain.reader.ref_at(anchor.height)
        if held is None or held.hash == anchor.hash:
            return held is not None, False
        need = (self.quorum if self.quorum > 1 else len(self._nodes)) - 1
        asks = {
            item.label: partial(self._nodes[item.label].chain.reader.ref_at, anchor.height)
            for item in self._records.values()
            if item.label != node.label and item.state not in FALSE
        }

        def has_enough(found: Answers[BlockRef | None]) -> bool:
            same = [ref for ref in found.values.values() if ref is not None]
            return sum(ref.hash == held.hash for ref in same) >= need

        answers = await collect(asks, enough=has_enough, timeout_seconds=self.timeout_seconds / 2)
        if not has_enough(answers):
            return False, False
        self._moved.add(node.label)
        return False, True

    def accept_branch(self) -> None:
        """The follower stands on the agreed chain: what lies below is no longer questioned, so
        anchors that a reorg took away are dropped and new ones are taken."""
        for label in self._moved:
            self._records[label] = replace(self._records[label], anchor=None)
        self._moved.clear()

    async def _examine(self, node: Node, block_hash: str) -> None:
        """Ask a node that lied for a block that k nodes agree on. NodeLied when it still lies."""
        if block_hash not in self._digests:
            block_hash = next(reversed(self._digests), block_hash)
        block = await node.chain.reader.block(block_hash)
        agreed = self._digests.get(block_hash)
        if agreed is not None and digest(block) != agreed:
            raise NodeLied(f"node {node.label}: block {block_hash} is not what k nodes say")

    async def _on_branch(self, node: Node, tip: BlockRef) -> bool | None:
        """Whether the node's chain is the agreed one; None when nobody can tell now."""
        agreed = self.agreed
        if agreed is not None and tip.height >= agreed.height:
            mine = await _hash_at(node, tip, agreed.height)
            if mine == agreed.hash:
                return True
        return await self._against_peers(node, tip)

    async def _against_peers(self, node: Node, tip: BlockRef) -> bool | None:
        """Whether k other nodes agree now on the block that this one has at the same height.

        With a quorum of one the node of first choice is believed, and the others are compared
        with it. Fewer than k others cannot tell who left whom.
        """
        peers = [item for item in self._judges(node.label) if item.is_healthy]
        if len(peers) < self.quorum:
            return None
        heights = [item.height for item in peers if item.height is not None]
        height = min(tip.height, kth_best(heights, self.quorum))
        asks = {
            item.label: partial(self._nodes[item.label].chain.reader.ref_at, height)
            for item in peers
        }
        answers = await collect(
            asks,
            enough=lambda found: _votes(found) >= self.quorum,
            timeout_seconds=self.timeout_seconds / 2,
        )
        best = answers.best()
        if best is None or best[0] is None or best[1] < self.quorum:
            return None
        return await _hash_at(node, tip, height) == best[0].hash

    def _peer_height(self, label: str) -> int | None:
        """The height that this node should have reached: k of its judges claim it.

        Where fewer than k are left to judge, the least of them: a node that is put out by it
        leaves fewer than k, so that the network waits and nobody is believed instead (N01).
        """
        heights = [item.height for item in self._judges(label) if item.height is not None]
        return kth_best(heights, min(self.quorum, len(heights))) if heights else None

    def _judges(self, label: str) -> list[NodeRecord]:
        """Whose chain a node is compared with: any other node; with a quorum of one those of
        higher preference, or else one node alone could put out all that are asked before it."""
        peers = self._peers(label)
        if self.quorum > 1:
            return peers
        order = list(self._nodes)
        return [item for item in peers if order.index(item.label) < order.index(label)]

    def _peers(self, label: str) -> list[NodeRecord]:
        """The other nodes whose heights count."""
        return [
            item
            for item in self._records.values()
            if item.label != label and item.is_known and item.state not in NOT_COUNTED
        ]

    def note_block(self, block_hash: str, agreed_digest: str) -> None:
        """k nodes gave these effects for a block."""
        self._digests[block_hash] = agreed_digest
        while len(self._digests) > DIGESTS_KEPT:
            del self._digests[next(iter(self._digests))]

    def note_agreed(self, ref: BlockRef, labels: Iterable[str]) -> None:
        """k nodes have this block as the highest that they share."""
        self.agreed = ref
        self._agreeing = frozenset(labels)

    def note_split(self, height: int, hashes: Mapping[str, str]) -> None:
        """Healthy nodes are on different branches from this height on."""
        now = self.clock.monotonic_seconds()
        since = now if self.split is None else self.split.since_seconds
        self.split = Split(height=height, hashes=dict(hashes), since_seconds=since)

    def note_whole(self) -> None:
        """The nodes are of one mind again."""
        self.split = None

    def note_error(self, label: str, error: NodeError) -> None:
        """A read failed at a node: proof counts at once, silence is for the next look."""
        if isinstance(error, NodeLied):
            self.note_lie(label, str(error))
        elif isinstance(error, WrongNetwork):
            self._put(self._accused(label, NodeState.WRONG_CHAIN, str(error)))

    def note_silence(self, answered: Collection[str]) -> None:
        """k nodes answered in time, the rest not at all: twice, and a spare one is left out."""
        now = self.clock.monotonic_seconds()
        for label in [node.label for node in self._healthy() if node.label not in answered]:
            hangs = [at for at in self._hangs.get(label, []) if now - at < HANG_SECONDS]
            if not hangs or now - hangs[-1] >= HANG_APART_SECONDS:
                self._hangs[label] = [*hangs, now]
            if self._is_hanging(label) and len(self._healthy()) > self.quorum:
                self._put(self._accused(label, NodeState.UNREACHABLE, HANGS))

    def _is_hanging(self, label: str) -> bool:
        now = self.clock.monotonic_seconds()
        hangs = [at for at in self._hangs.get(label, []) if now - at < HANG_SECONDS]
        return len(hangs) >= FAILED_LOOKS and (
            not self._records[label].is_healthy or len(self._healthy()) > self.quorum
        )

    def note_lie(self, label: str, reason: str, *, block_hash: str | None = None) -> None:
        """A node said what cannot be, or what k others deny."""
        accused = self._accused(label, NodeState.LYING, reason)
        self._put(replace(accused, lied_about=block_hash or accused.lied_about))

    def _accused(self, label: str, state: NodeState, reason: str) -> NodeRecord:
        return accuse(self._records[label], state, reason, rules=self._rules, at=self.clock.now())

    def _put(self, record: NodeRecord) -> None:
        before = self._records[record.label]
        self._records[record.label] = record
        if before.state is not record.state:
            tell = log.info if record.is_healthy else log.warning
            tell("node.judged", node=record.label, state=record.state, reason=record.reason)

    async def close(self) -> None:
        """End the looks and close every connection."""
        for task in self._looks.values():
            task.cancel()
        await asyncio.gather(*self._looks.values(), return_exceptions=True)
        for node in self._nodes.values():
            await node.chain.close()


async def _hash_at(node: Node, tip: BlockRef, height: int) -> str | None:
    ref = tip if height == tip.height else await node.chain.reader.ref_at(height)
    return None if ref is None else ref.hash


def _votes(answers: Answers[BlockRef | None]) -> int:
    best = answers.best()
    return 0 if best is None or best[0] is None else best[1]
