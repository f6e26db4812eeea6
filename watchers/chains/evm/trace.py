"""Native coin moved by calls inside txs: asked of nodes that can trace, read frame by frame.

Two methods are spoken, both with flat frames of the Parity shape: `trace_block` (Erigon, Besu,
Nethermind, Reth, anvil) and `debug_traceBlockByHash` with geth's `flatCallTracer`. The nested
`callTracer` is not used: a stranger's calls 500 frames deep would be an answer that no strict
parser takes. A frame counts only when neither it nor any frame above it failed (D46). Frames are
the belief of one node, no root proves them; `watchers/token_checks.py` compares with balances.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from config.logs import get_logger
from watchers.chain import Block, Transfer
from watchers.chains.errors import RpcError
from watchers.chains.evm.decode import address_key, hash_text, mapping, quantity
from watchers.chains.evm.decode import sequence as list_of
from watchers.chains.evm.errors import is_pruned, is_unknown_method
from watchers.chains.evm.node import EvmNode
from watchers.chains.evm.params import EvmParams
from watchers.errors import NodeUnavailable

log = get_logger("watchers.evm.trace")

TRIES_PER_BLOCK = 3  # anyone can make a block that no node traces in time; it must not stop us
REPROBE_SECONDS = 600.0  # one node behind a balancer without the method must not end tracing


class Method(StrEnum):
    """How a node is asked for the frames of a block."""

    TRACE_BLOCK = "trace_block"
    """By height; each frame names its block, so that another block is noticed."""
    FLAT_CALL_TRACER = "debug_traceBlockByHash"
    """geth since 1.11."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call frame. `path` is its place in the tx, () for the tx itself."""

    txid: str
    path: tuple[int, ...]
    kind: str
    to_key: str | None
    amount_minor: int
    has_failed: bool


class Tracer:
    """Asks one set of nodes; remembers which method they lack, and asks again after a while."""

    def __init__(self, node: EvmNode, params: EvmParams) -> None:
        self._node = node
        self._params = params
        self._missing_until_seconds: dict[Method, float] = {}
        self._failed: tuple[str, int] = ("", 0)

    async def complete(self, block: Block, succeeded: frozenset[str]) -> Block:
        """The block with what calls moved, or marked `traces_incomplete` (N14). `succeeded`: what
        `decode.ran_code` found in its receipts.

        Raises NodeUnavailable for a failure that may pass, at most TRIES_PER_BLOCK - 1 times.
        """
        if not self._params.asks_traces:
            return replace(block, traces_incomplete=True)
        if not succeeded:
            return block
        try:
            answer = await self._frames(block)
            if answer is None:
                return replace(block, traces_incomplete=True)
            return await asyncio.to_thread(
                _reduced, block, answer, succeeded=succeeded, params=self._params
            )
        except NodeUnavailable as error:
            if not self._gives_up(block.ref.hash, error):
                raise
            log.error("block.not_traced", hash=block.ref.hash, error=str(error))
            return replace(block, traces_incomplete=True)

    def _gives_up(self, block_hash: str, error: NodeUnavailable) -> bool:
        """State that is gone does not come back; anything else gets some tries."""
        if isinstance(error, RpcError) and is_pruned(error):
            return True
        last, count = self._failed
        self._failed = (block_hash, count + 1 if last == block_hash else 1)
        return self._failed[1] >= TRIES_PER_BLOCK

    async def _frames(self, block: Block) -> list[object] | None:
        """The frames by the first method that the node has; None when it has none."""
        for method in Method:
            now_seconds = self._node.clock.monotonic_seconds()
            if now_seconds < self._missing_until_seconds.get(method, 0.0):
                continue
            try:
                answer = await self._ask(method, block)
            except RpcError as error:
                if not is_unknown_method(error):
                    raise
                answer = None
            if answer is not None:
                return answer
            self._missing_until_seconds[method] = now_seconds + REPROBE_SECONDS
            log.warning("node.no_traces", network=self._params.network, method=method.value)
        return None

    async def _ask(self, method: Method, block: Block) -> list[object] | None:
        """A flat list of frames; None from a node that takes the tracer for another one."""
        if method is Method.TRACE_BLOCK:
            answer = await self._node.rpc.call(method.value, hex(block.ref.height))
            return list(list_of(answer, method.value))
        answer = await self._node.rpc.call(
            method.value, block.ref.hash, {"tracer": "flatCallTracer"}
        )
        found: list[object] = []
        for item in list_of(answer, method.value):
            part = mapping(item, method.value).get("result")
            if isinstance(part, Mapping):
                return None  # anvil answers {}, a nested tracer one frame
            found.extend(list_of(part, method.value))
        return found


def frames(answer: Sequence[object], *, block_hash: str) -> list[Frame]:
    """Frames of a block, each of which must name it (N12); a block reward is no frame."""
    found = []
    for item in answer:
        raw = mapping(item, "frame")
        if hash_text(raw.get("blockHash"), "frame.blockHash") != block_hash:
            raise NodeUnavailable("frame: of another block")
        if raw.get("type") != "reward":
            found.append(_frame(raw))
    return found


def _frame(raw: Mapping[str, object]) -> Frame:
    action = mapping(raw.get("action"), "frame.action")
    kind = raw.get("type")
    to_key, amount = None, 0
    # Only a plain `call` moves value to its target: `callcode` and `delegatecall` show a value too.
    if kind == "call" and action.get("callType") == "call":
        to_key = address_key(action.get("to"), "frame.to")
        amount = quantity(action.get("value"), "frame.value")
    elif kind == "suicide":
        to_key = address_key(action.get("refundAddress"), "frame.refundAddress")
        amount = quantity(action.get("balance"), "frame.balance")
    return Frame(
        txid=hash_text(raw.get("transactionHash"), "frame.transactionHash"),
        path=tuple(_index(part) for part in list_of(raw.get("traceAddress"), "traceAddress")),
        kind=str(kind),
        to_key=to_key,
        amount_minor=amount,
        has_failed=raw.get("error") is not None,
    )


def _index(value: object) -> int:
    if type(value) is not int or value < 0:
        raise NodeUnavailable("frame: traceAddress holds numbers")
    return value


def _reduced(
    block: Block, answer: Sequence[object], *, succeeded: frozenset[str], params: EvmParams
) -> Block:
    found = frames(answer, block_hash=block.ref.hash)
    return with_calls(block, found, succeeded=succeeded, params=params)


def with_calls(
    block: Block, found: Sequence[Frame], *, succeeded: frozenset[str], params: EvmParams
) -> Block:
    """The block with the value that frames moved below the tx itself.

    Value from `SELFDESTRUCT` is nobody's payment: a gift (D47). A movement that a log of the coin's
    ERC-20 face shows already is that one (D61). A tx that ran code and has no frame leaves the
    block incomplete. Raises NodeUnavailable for two frames in one place, or of a foreign tx.
    """
    if len({(frame.txid, frame.path) for frame in found}) != len(found):
        raise NodeUnavailable("frames: two in one place")
    if not {frame.txid for frame in found} <= set(block.txids):
        raise NodeUnavailable("frame: of a tx that the block does not have")
    failed = {(frame.txid, frame.path) for frame in found if frame.has_failed}
    roots = {frame.txid for frame in found if frame.path == ()}
    transfers, gifts = list(block.transfers), list(block.gifts)
    shown = Counter(
        _movement(item)
        for item in transfers
        if item.asset == params.native_asset and item.position.startswith("log:")
    )
    for frame in found:
        if frame.txid not in succeeded or frame.path == () or _is_undone(frame, failed):
            continue
        if frame.to_key is None or frame.amount_minor == 0:
            continue
        moved = _transfer(frame, frame.to_key, params)
        if frame.kind == "suicide":
            gifts.append(moved)
        elif shown[_movement(moved)]:
            shown[_movement(moved)] -= 1
        else:
            transfers.append(moved)
    _check_legs(block, found, failed, params)
    return replace(
        block,
        transfers=tuple(transfers),
        gifts=tuple(gifts),
        traces_incomplete=not succeeded <= roots,
    )


def _check_legs(
    block: Block,
    found: Sequence[Frame],
    failed: set[tuple[str, tuple[int, ...]]],
    params: EvmParams,
) -> None:
    """A native leg of our batch contract, which a proven receipt shows, has a frame where its tx
    was traced; NodeUnavailable for frames that contradict it."""
    legs = Counter(
        (send.txid, leg.to_key, leg.amount_minor)
        for send in block.sends
        for leg in (() if send.batch is None else send.batch.legs)
        if leg.is_paid and leg.asset == params.native_asset
    )
    if not legs:
        return
    traced = {frame.txid for frame in found}
    shown = Counter(
        (frame.txid, frame.to_key, frame.amount_minor)
        for frame in found
        if frame.to_key is not None and not _is_undone(frame, failed)
    )
    if any(leg[0] in traced and shown[leg] < count for leg, count in legs.items()):
        raise NodeUnavailable("frames: a leg is missing that its receipt shows")


def _is_undone(frame: Frame, failed: set[tuple[str, tuple[int, ...]]]) -> bool:
    """Whether this frame or one above it failed; the error is only on the one that did (D46)."""
    return any((frame.txid, frame.path[:end]) in failed for end in range(len(frame.path) + 1))


def _movement(item: Transfer) -> tuple[str, str, str, int]:
    return (item.txid, item.asset, item.to_key, item.amount_minor)


def _transfer(frame: Frame, to_key: str, params: EvmParams) -> Transfer:
    return Transfer(
        txid=frame.txid,
        position="trace:" + ".".join(str(part) for part in frame.path),
        asset=params.native_asset,
        to_key=to_key,
        amount_minor=frame.amount_minor,
    )
