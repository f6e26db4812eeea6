"""Agreement between nodes before anything counts: k of n healthy nodes, asked at once.

`AgreeingReader` stands where a single node's reader would: neither the follower nor the deposits
know of nodes. With a quorum of one the healthy node of first choice answers, the next
one when it fails. Who fails, lies or disagrees is told to the pool, which judges (`nodes.py`).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from watchers import state_asks
from watchers.agreement import Answers, Traced, collect, digest, kth_best, timed, traced
from watchers.chain import (
    AccountState,
    Agreement,
    Block,
    BlockRef,
    ChainReader,
    Hop,
    MempoolTx,
    Outpoint,
    TokenFacts,
    TxOutline,
    TxPlace,
    TxStatus,
)
from watchers.errors import (
    NodeError,
    NodesDisagree,
    NodeUnavailable,
    StateUnavailable,
    TipMoved,
    WrongNetwork,
)
from watchers.nodes import Node, NodePool
from watchers.safes import SafeState

T = TypeVar("T")

GRACE_SECONDS = 0.5  # what one slow node may add when the answers of the others already suffice
HEDGE_SECONDS = 3.0  # a block that does not come is asked of one more node after this
BLOCK_TIMEOUTS = 3  # a block is several calls and a large answer
TX_GRACE_SECONDS = 1.0  # "unknown" waits this long for a slow node that may have the tx

Read = Callable[[ChainReader], Awaitable[T]]


class AgreeingReader:
    """What k nodes say. Raises NodesDisagree, or NodeUnavailable when fewer than k answer."""

    def __init__(self, pool: NodePool, *, reorg_limit_blocks: int) -> None:
        self._pool = pool
        self._limit = reorg_limit_blocks

    async def check_identity(self) -> None:
        """WrongNetwork when too few nodes are left because some serve another chain (N02)."""
        await self._pool.look_all()
        wrong = self._pool.on_other_chains()
        try:
            await self._pool.healthy()
        except NodeUnavailable as error:
            if wrong:
                raise WrongNetwork(str(error)) from error
            raise

    async def tip(self) -> BlockRef:
        """The highest block that k healthy nodes have on their active chain."""
        if self._pool.quorum == 1:
            label, ref = await self._first_named(lambda reader: reader.tip())
            self._pool.note_agreed(ref, [label])
            return ref
        answers = await self._ask(lambda reader: reader.tip(), enough=self._is_highest_shared)
        return await self._highest_shared(self._need(answers))

    async def finalised_height(self) -> int | None:
        """The height that k nodes call final."""
        if self._pool.quorum == 1:
            return await self._first(lambda reader: reader.finalised_height())
        answers = await self._ask(
            lambda reader: reader.finalised_height(), enough=self._is_top_shared
        )
        heights = [-1 if item is None else item for item in self._need(answers).values()]
        best = kth_best(heights, self._pool.quorum)
        return None if best < 0 else best

    async def ref_at(self, height: int) -> BlockRef | None:
        """The header that k active chains have there; None where k cannot have one yet."""
        return await self._header(lambda reader: reader.ref_at(height), f"block {height}")

    async def refs(self, height: int, count: int) -> Sequence[BlockRef]:
        """Headers from a height up; one at a time where k nodes must agree on each."""
        if self._pool.quorum == 1:
            return await self._first(lambda reader: reader.refs(height, count))
        ref = await self.ref_at(height)
        return [] if ref is None else [ref]

    async def ref_of(self, block_hash: str) -> BlockRef | None:
        """A header that k nodes know by its hash."""
        return await self._header(lambda reader: reader.ref_of(block_hash), f"header {block_hash}")

    async def block(self, block_hash: str) -> Block:
        """The effects that k nodes give for one block; who gives others is a liar (N05, N06)."""
        if self._pool.quorum == 1:
            label, block = await self._first_named(
                lambda reader: reader.block(block_hash), patience=BLOCK_TIMEOUTS
            )
            return self._given(block, [label])
        answers = await self._ask(
            partial(_reduced, block_hash=block_hash),
            enough=self._is_block_agreed,
            at_once=self._pool.quorum,
            patience=BLOCK_TIMEOUTS,
        )
        found = self._need(answers)
        agreed, votes = Counter(item.digest for item in found.values()).most_common(1)[0]
        if votes < self._pool.quorum:
            raise NodesDisagree(f"block {block_hash}: {_who_said(found)} give different effects")
        self._pool.note_block(block_hash, agreed)
        for label, item in found.items():
            if item.digest != agreed:
                reason = f"its effects of block {block_hash} are not those of {votes} others"
                self._pool.note_lie(label, reason, block_hash=block_hash)
        same = {label: item for label, item in found.items() if item.digest == agreed}
        return self._given(self._with_traces(list(same.values())), sorted(same))

    def _given(self, block: Block, labels: Sequence[str]) -> Block:
        """The block with who gave it."""
        given = Agreement(
            given_by=tuple(labels), nodes=len(self._pool.nodes), transfers=block.transfers
        )
        return replace(block, agreement=given)

    def _with_traces(self, found: Sequence["_Reduced"]) -> Block:
        """Traced value counts when k nodes trace alike, else the block is incomplete (N14)."""
        told = [item.traced for item in found]
        for item in found:
            if item.traced is not None and told.count(item.traced) >= self._pool.quorum:
                return item.block
        for item in found:
            if item.traced is None:
                return item.block
        raise NodesDisagree(f"block {found[0].block.ref.hash} is traced differently")

    async def mempool(self) -> Sequence[MempoolTx]:
        """What any healthy node holds; each node's news once."""
        answers = await self._ask(lambda reader: reader.mempool(), enough=_is_everybody, at_least=1)
        if not answers.values:
            raise NodeUnavailable(answers.told())
        union: dict[str, MempoolTx] = {}
        for txs in answers.values.values():
            for tx in txs:
                union.setdefault(tx.txid, tx)
        return list(union.values())

    async def tx_status(self, txid: str) -> TxStatus:
        """Mined where k nodes say so; unknown only when k say so and nobody has it."""
        return (await self.tx_statuses([txid]))[0]

    async def tx_statuses(self, txids: Sequence[str]) -> Sequence[TxStatus]:
        if self._pool.quorum == 1 and len(self._pool.nodes) == 1:
            return await self._first(lambda reader: reader.tx_statuses(txids))
        answers = await self._ask(
            lambda reader: reader.tx_statuses(txids),
            enough=self._are_mined,
            grace_seconds=TX_GRACE_SECONDS,
        )
        told = self._need(answers)
        if answers.pending and not self._are_mined(answers):
            self._pool.note_silence(told.keys() | answers.errors.keys())
        return [
            self._place(txid, {label: items[at] for label, items in told.items()})
            for at, txid in enumerate(txids)
        ]

    def _place(self, txid: str, found: Mapping[str, TxStatus]) -> TxStatus:
        best = Counter(item for item in found.values() if item.place is TxPlace.MINED)
        if best and best.most_common(1)[0][1] >= self._pool.quorum:
            return best.most_common(1)[0][0]
        in_block = Counter(item.block for item in best.elements())
        if in_block and in_block.most_common(1)[0][1] >= self._pool.quorum:
            raise NodesDisagree(f"tx {txid}: {_who_said(found)} differ about its success")
        unknown = sum(1 for item in found.values() if item.place is TxPlace.UNKNOWN)
        if unknown == len(found):
            return TxStatus(place=TxPlace.UNKNOWN)
        return TxStatus(place=TxPlace.MEMPOOL)  # somebody has it, k nodes have no block for it

    async def outline(self, txid: str) -> TxOutline | None:
        """What any healthy node has of it: for explanations, no money rests on it."""
        answers = await self._ask(
            lambda reader: reader.outline(txid),
            enough=lambda found: any(item is not None for item in found.values.values()),
            at_least=1,
        )
        if not answers.values:
            raise NodeUnavailable(answers.told())
        return next((item for item in answers.values.values() if item is not None), None)

    async def spender(self, outpoint: Outpoint) -> str | None:
        """Who spends an outpoint by the most nodes; None when k know of nobody and none does."""
        answers = await self._ask(lambda reader: reader.spender(outpoint), enough=_is_everybody)
        named = Counter(item for item in self._need(answers).values() if item is not None)
        return named.most_common(1)[0][0] if named else None

    async def account_nonce(self, key: str) -> int:
        """The mined count that k nodes have reached."""
        if self._pool.quorum == 1:
            return await self._first(lambda reader: reader.account_nonce(key))
        answers = await self._ask(
            lambda reader: reader.account_nonce(key), enough=self._is_top_shared
        )
        return kth_best(list(self._need(answers).values()), self._pool.quorum)

    async def holdings(
        self, keys: Sequence[str], asset: str, *, block_hash: str
    ) -> Mapping[str, int]:
        """Balances that k nodes give."""
        ask = partial(state_asks.holdings, keys=keys, asset=asset, block_hash=block_hash)
        return dict(await self._same(ask, "balances"))

    async def token_facts(self, asset: str, *, block_hash: str) -> TokenFacts:
        """What k nodes have of a token's contract."""
        return await self._same(
            lambda reader: reader.token_facts(asset, block_hash=block_hash), f"facts of {asset}"
        )

    async def with_code(self, keys: Sequence[str], *, block_hash: str) -> frozenset[str]:
        """Keys that have code by k nodes."""
        return await self._same(
            lambda reader: reader.with_code(keys, block_hash=block_hash), "code at addresses"
        )

    async def account_states(
        self, keys: Sequence[str], *, block_hash: str
    ) -> Mapping[str, AccountState]:
        """Delegations and numbers that k nodes give."""
        ask = partial(state_asks.account_states, keys=keys, block_hash=block_hash)
        return dict(await self._same(ask, "states of accounts"))

    async def transfer_gas(self, asset: str, hops: Sequence[Hop]) -> Sequence[int | None]:
        """As one healthy node tells it: no money rests on it."""
        return await self._first(lambda reader: reader.transfer_gas(asset, hops))

    async def batch_owner(self, *, block_hash: str) -> str | None:
        """Whom the batch contract obeys, by k nodes."""
        return await self._same(
            lambda reader: reader.batch_owner(block_hash=block_hash), "the batch contract"
        )

    async def created_batch(self, *, creator: str, nonce: int, block_hash: str) -> str | None:
        """The contract that an account created, by k nodes."""
        return await self._same(
            lambda reader: reader.created_batch(
                creator=creator, nonce=nonce, block_hash=block_hash
            ),
            "a created batch contract",
        )

    async def safe_state(self, *, block_hash: str) -> SafeState | None:
        """The Safe, by k nodes."""
        return await self._same(
            lambda reader: reader.safe_state(block_hash=block_hash), "the Safe of the cold wallet"
        )

    async def open_coins(
        self, outpoints: Sequence[Outpoint], *, block_hash: str
    ) -> Mapping[Outpoint, int]:
        """Unspent outputs that k nodes give."""
        ask = partial(state_asks.open_coins, outpoints=outpoints, block_hash=block_hash)
        return dict(await self._same(ask, "open coins"))

    async def _first(self, read: Read[T], *, patience: int = 1) -> T:
        return (await self._first_named(read, patience=patience))[1]

    async def _first_named(self, read: Read[T], *, patience: int = 1) -> tuple[str, T]:
        """The first healthy node's answer; the next one is asked when it has none."""
        problem: NodeError = NodeUnavailable("no node")
        for node in await self._pool.healthy():
            ask = partial(read, node.chain.reader)
            try:  # one call needs none of what `collect` does for several
                timeout_seconds = self._pool.timeout_seconds * patience
                return node.label, await timed(node.label, ask, timeout_seconds)
            except NodeError as error:
                problem = error
            self._pool.note_error(node.label, problem)
            if isinstance(problem, TipMoved):
                break
        raise problem

    async def _ask(
        self,
        read: Read[T],
        *,
        enough: Callable[[Answers[T]], bool],
        at_least: int | None = None,
        at_once: int | None = None,
        patience: int = 1,
        nodes: Sequence[Node] | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> Answers[T]:
        """Ask the healthy nodes; failures are told to the pool."""
        need = self._pool.quorum if at_least is None else at_least
        asked = await self._pool.healthy() if nodes is None else nodes
        answers = await collect(
            {node.label: partial(read, node.chain.reader) for node in asked},
            enough=enough,
            acceptable=None if at_once is not None else (lambda found: len(found.values) >= need),
            timeout_seconds=self._pool.timeout_seconds * patience,
            grace_seconds=grace_seconds,
            at_once=at_once,
            hedge_seconds=HEDGE_SECONDS,
        )
        for label, error in answers.errors.items():
            self._pool.note_error(label, error)
        return answers

    def _need(self, answers: Answers[T]) -> Mapping[str, T]:
        """The answers, when k nodes gave one."""
        if len(answers.values) < self._pool.quorum:
            raise NodeUnavailable(
                f"{len(answers.values)} nodes answered, {self._pool.quorum} must: {answers.told()}"
            )
        return answers.values

    async def _same(self, read: Read[T], what: str) -> T:
        """An answer that k nodes give alike (hashable)."""
        if self._pool.quorum == 1:
            return await self._first(read)
        answers = await self._ask(read, enough=lambda found: _votes_of(found) >= self._pool.quorum)
        if (best := answers.best()) is not None and best[1] >= self._pool.quorum:
            return best[0]
        for error in answers.errors.values():
            if isinstance(error, TipMoved | StateUnavailable):
                raise error
        told = self._need(answers)
        raise NodesDisagree(f"{what}: {_who_said(told)} answer differently")

    async def _header(self, read: Read[BlockRef | None], what: str) -> BlockRef | None:
        quorum = self._pool.quorum
        if quorum == 1:
            return await self._first(read)

        def enough(found: Answers[BlockRef | None]) -> bool:
            known = Counter(item for item in found.values.values() if item is not None)
            top = known.most_common(1)[0][1] if known else 0
            return top >= quorum or known.total() + len(found.errors) + found.pending < quorum

        asked = await self._pool.healthy()
        answers = await collect(
            {node.label: partial(read, node.chain.reader) for node in asked},
            enough=enough,
            timeout_seconds=self._pool.timeout_seconds,
        )
        for label, error in answers.errors.items():
            self._pool.note_error(label, error)
        known = Counter(item for item in answers.values.values() if item is not None)
        if known and known.most_common(1)[0][1] >= quorum:
            return known.most_common(1)[0][0]
        if known.total() + len(answers.errors) < quorum:
            return None  # even if those that failed had it, k nodes do not
        if known.total() < quorum:
            raise NodeUnavailable(f"{what}: {answers.told()}")
        hashes = {label: item.hash for label, item in answers.values.items() if item is not None}
        raise NodesDisagree(
            f"{what}: {', '.join(f'{a} has {b}' for a, b in sorted(hashes.items()))}"
        )

    async def _highest_shared(self, tips: Mapping[str, BlockRef]) -> BlockRef:
        """Down from the k-th best tip to the first block that k of these chains share."""
        quorum = self._pool.quorum
        top = kth_best([ref.height for ref in tips.values()], quorum)
        agreed = await self._shared_at(top, tips)
        if agreed is not None:
            self._pool.note_whole()
            return self._note(agreed)
        low, high, step = top, top, 1
        found: tuple[BlockRef, list[str]] | None = None
        while found is None:
            if low == 0 or top - low > self._limit:
                raise NodesDisagree(f"no block of the last {self._limit} below {top} is shared")
            high, low, step = low, max(0, low - step), step * 2
            found = await self._shared_at(low, tips)
        while high - low > 1:
            middle = (low + high) // 2
            better = await self._shared_at(middle, tips)
            found, low, high = (found, low, middle) if better is None else (better, middle, high)
        hashes = await self._hashes_at(low + 1, tips)
        self._pool.note_split(low + 1, {label: ref.hash for label, ref in hashes.items()})
        return self._note(found)

    def _note(self, agreed: tuple[BlockRef, list[str]]) -> BlockRef:
        self._pool.note_agreed(*agreed)
        return agreed[0]

    async def _shared_at(
        self, height: int, tips: Mapping[str, BlockRef]
    ) -> tuple[BlockRef, list[str]] | None:
        """The block that k of these nodes have at a height, and who they are."""
        refs = await self._hashes_at(height, tips)
        counted = Counter(refs.values()).most_common(1)
        if not counted or counted[0][1] < self._pool.quorum:
            return None
        ref = counted[0][0]
        return ref, [label for label, item in refs.items() if item == ref]

    async def _hashes_at(self, height: int, tips: Mapping[str, BlockRef]) -> dict[str, BlockRef]:
        """The headers at a height of those nodes that are at least there. NodeUnavailable when
        too many fail: silence is no disagreement."""
        refs = {label: tip for label, tip in tips.items() if tip.height == height}
        above = [
            node for node in self._pool.nodes if node.label in tips
            and tips[node.label].height > height
        ]  # fmt: skip
        if not above or _top_votes(refs.values()) >= self._pool.quorum:
            return refs
        answers = await self._ask(
            lambda reader: reader.ref_at(height),
            enough=lambda found: (
                _top_votes(
                    [*refs.values(), *(item for item in found.values.values() if item is not None)]
                )
                >= self._pool.quorum
            ),
            at_least=len(above),
            nodes=above,
        )
        refs |= {label: item for label, item in answers.values.items() if item is not None}
        if answers.errors and _top_votes(refs.values()) < self._pool.quorum:
            raise NodeUnavailable(f"block {height}: {answers.told()}")
        return refs

    def _is_highest_shared(self, found: Answers[BlockRef]) -> bool:
        if not found.values:
            return False
        highest = max(found.values.values(), key=lambda ref: ref.height)
        return list(found.values.values()).count(highest) >= self._pool.quorum

    def _is_top_shared(self, found: Answers[T]) -> bool:
        heights = [item if isinstance(item, int) else -1 for item in found.values.values()]
        return bool(heights) and heights.count(max(heights)) >= self._pool.quorum

    def _is_block_agreed(self, found: "Answers[_Reduced]") -> bool:
        told = [(item.digest, item.traced) for item in found.values.values()]
        return any(told.count(item) >= self._pool.quorum for item in told)

    def _are_mined(self, found: Answers[Sequence[TxStatus]]) -> bool:
        each = [
            Counter(told).most_common(1)[0] for told in zip(*found.values.values(), strict=True)
        ]
        quorum = self._pool.quorum
        return bool(each) and all(
            item.place is TxPlace.MINED and count >= quorum for item, count in each
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reduced:
    """A node's block with what is compared of it."""

    block: Block
    digest: str
    traced: Traced


async def _reduced(reader: ChainReader, *, block_hash: str) -> _Reduced:
    block = await reader.block(block_hash)
    # A full block takes over 10 ms to digest (HOUSE 11).
    found = await asyncio.to_thread(digest, block)
    return _Reduced(block=block, digest=found, traced=traced(block))


def _is_everybody(found: Answers[T]) -> bool:
    return found.pending == 0


def _votes_of(found: Answers[T]) -> int:
    best = found.best()
    return 0 if best is None else best[1]


def _top_votes(refs: Iterable[BlockRef]) -> int:
    counted = Counter(refs).most_common(1)
    return counted[0][1] if counted else 0


def _who_said(found: Mapping[str, object]) -> str:
    return ", ".join(sorted(found))
