"""D45-D47, D61, N12, N14: which call frames are value that somebody paid, and which nodes tell."""

from collections.abc import Callable
from typing import Any

import pytest

from config.clock import Clock, SystemClock
from tests.support.clock import ManualClock
from tests.unit.watchers.chains.support import MethodPost, evm_network, nothing
from watchers.chain import Block
from watchers.chains.errors import RpcError
from watchers.chains.evm import trace as traces
from watchers.chains.evm.chain import EvmChain
from watchers.chains.evm.params import EvmParams
from watchers.errors import NodeUnavailable

BLOCK, TXID, OTHER = "0x" + "01" * 32, "0x" + "02" * 32, "0x" + "03" * 32
PLAYER, ROUTER, US = "0x" + "22" * 20, "0x" + "33" * 20, "0x" + "11" * 20
FACE = "0x" + "cc" * 20
ETHER = 10**18
TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


def _frame(*path: int, value: int = ETHER, to: str = US, **changes: Any) -> dict[str, Any]:
    frame = {
        "type": "call",
        "action": {"callType": "call", "from": ROUTER, "to": to, "value": hex(value)},
        "blockHash": BLOCK,
        "transactionHash": TXID,
        "traceAddress": list(path),
        "subtraces": 0,
    }
    return frame | changes


def _called(call_type: str, *path: int) -> dict[str, Any]:
    frame = _frame(*path)
    frame["action"]["callType"] = call_type
    return frame


ROOT = _frame(value=0, to=ROUTER)


def _face_log(amount: int) -> dict[str, Any]:
    return {
        "address": FACE,
        "topics": [TOPIC, "0x" + PLAYER[2:].rjust(64, "0"), "0x" + US[2:].rjust(64, "0")],
        "data": f"0x{amount:064x}",
        "blockHash": BLOCK,
        "transactionHash": TXID,
    }


def _chain(
    answers: dict[str, Any],
    *,
    params: EvmParams | None = None,
    status: str = "0x1",
    gas: str = "0xffff",
    value: int = 0,
    logs: list[dict[str, Any]] | None = None,
    clock: Clock | None = None,
) -> tuple[EvmChain, MethodPost]:
    """One block with one call of a router; `answers` are those of the tracing methods."""
    tx = {
        "hash": TXID,
        "blockHash": BLOCK,
        "from": PLAYER,
        "to": US if value else ROUTER,
        "value": hex(value),
        "nonce": "0x0",
    }
    receipt = {
        "transactionHash": TXID,
        "blockHash": BLOCK,
        "status": status,
        "gasUsed": gas,
        "effectiveGasPrice": "0x1",
        "logs": logs or [],
    }
    header = {
        "hash": BLOCK,
        "number": "0x5",
        "parentHash": "0x" + "00" * 32,
        "timestamp": "0x1",
        "transactions": [tx],
    }
    params = params or evm_network()
    methods: dict[str, Callable[..., object]] = {
        "eth_chainId": lambda: hex(params.chain_id),
        "eth_getBlockByHash": lambda *_: header,
        "eth_getBlockReceipts": lambda _: [receipt],
    }
    methods |= {name: item if callable(item) else _answer(item) for name, item in answers.items()}
    post = MethodPost(methods)
    chain = EvmChain(
        params, ["http://node:1"], post=post, clock=clock or SystemClock(), close=nothing
    )
    return chain, post


def _answer(item: Any) -> Callable[..., Any]:
    def answer(*_: Any) -> Any:
        if isinstance(item, Exception):
            raise item
        return item

    return answer


async def _block(frames: Any, **options: Any) -> Block:
    chain, _ = _chain({"trace_block": frames}, **options)
    return await chain.reader.block(BLOCK)


def _found(block: Block) -> list[tuple[str, str, int]]:
    return [(item.position, item.to_key, item.amount_minor) for item in block.transfers]


async def test_d45_value_of_an_inner_call_is_a_transfer_at_its_place() -> None:
    block = await _block([ROOT, _frame(0, value=0), _frame(0, 1, value=7), _frame(1)])
    assert _found(block) == [("trace:0.1", US, 7), ("trace:1", US, ETHER)]
    assert {item.asset for item in block.transfers} == {"eth:ETH"}
    assert not block.traces_incomplete


@pytest.mark.parametrize("call_type", ["delegatecall", "callcode", "staticcall"])
async def test_d45_other_calls_show_a_value_and_move_none(call_type: str) -> None:
    assert _found(await _block([ROOT, _called(call_type, 0)])) == []


@pytest.mark.parametrize(
    "frames",
    [
        [ROOT, _frame(0, error="Reverted")],
        [ROOT, _frame(0, error="Reverted"), _frame(0, 0)],
        [ROOT, _frame(0, error="Reverted"), _frame(0, 0), _frame(0, 0, 3)],
        [ROOT | {"error": "Reverted"}, _frame(0)],
        [ROOT, _frame(0, error=""), _frame(0, 0)],
        [_frame(0, 0), _frame(0, error="out of gas"), ROOT],
    ],
)
async def test_d46_a_frame_below_a_failed_one_is_nothing(frames: Any) -> None:
    assert _found(await _block(frames)) == []


async def test_d46_a_failed_frame_hides_only_what_is_below_it() -> None:
    frames = [ROOT, _frame(0, error="Reverted"), _frame(0, 0), _frame(1, value=5), _frame(1, 0)]
    assert _found(await _block(frames)) == [("trace:1", US, 5), ("trace:1.0", US, ETHER)]


async def test_d46_nothing_in_a_failed_tx_counts_whatever_its_frames_say() -> None:
    assert _found(await _block([ROOT, _frame(0)], status="0x0")) == []


async def test_d47_what_a_selfdestruct_left_is_a_gift() -> None:
    action = {"address": ROUTER, "refundAddress": US, "balance": hex(9)}
    block = await _block([ROOT, _frame(0, type="suicide", action=action)])
    assert _found(block) == []
    assert [(item.position, item.amount_minor) for item in block.gifts] == [("trace:0", 9)]


def _mirrored() -> EvmParams:
    params = evm_network()
    return EvmParams(
        network=params.network,
        chain_id=params.chain_id,
        native_asset=params.native_asset,
        tokens={},
        coin_type=params.coin_type,
        xpub_versions=params.xpub_versions,
        has_finalized_tag=params.has_finalized_tag,
        native_mirror=FACE,
    )


@pytest.mark.parametrize(
    ("value", "logs", "frames", "found"),
    [
        (ETHER, [ETHER], [ROOT], [("value", ETHER)]),
        (0, [ETHER], [ROOT, _frame(0)], [("log:0", ETHER)]),
        (0, [ETHER], [ROOT], [("log:0", ETHER)]),
        (0, [ETHER, ETHER], [ROOT, _frame(0)], [("log:0", ETHER), ("log:1", ETHER)]),
        (0, [5], [ROOT, _frame(0)], [("log:0", 5), ("trace:0", ETHER)]),
        (ETHER, [ETHER, ETHER], [ROOT, _frame(0)], [("value", ETHER), ("log:1", ETHER)]),
    ],
    ids=[
        "the tx's own value",
        "a call",
        "the face alone",
        "two logs, one of them a call",
        "two movements",
        "value and call",
    ],
)
async def test_d61_a_movement_that_shows_twice_is_credited_once(
    value: int, logs: list[int], frames: Any, found: Any
) -> None:
    block = await _block(
        frames, params=_mirrored(), value=value, logs=[_face_log(item) for item in logs]
    )
    assert [(item.position, item.amount_minor) for item in block.transfers] == found
    assert {item.asset for item in block.transfers} == {"eth:ETH"}


async def test_n14_a_node_without_traces_leaves_the_block_marked_and_is_asked_once() -> None:
    chain, post = _chain({})
    for _ in range(3):
        block = await chain.reader.block(BLOCK)
        assert (block.traces_incomplete, block.transfers) == (True, ())
    assert post.asked.count("trace_block") == 1
    assert post.asked.count("debug_traceBlockByHash") == 1


async def test_n14_a_method_that_was_missing_for_once_is_asked_for_again() -> None:
    """One node of several behind one URL may lack it."""
    clock, answers = ManualClock(), [RpcError("trace_block", -32601, "method not found")]

    def trace_block(*_: Any) -> Any:
        if answers:
            raise answers.pop()
        return [ROOT, _frame(0)]

    chain, post = _chain({"trace_block": trace_block}, clock=clock)
    assert (await chain.reader.block(BLOCK)).traces_incomplete
    assert (await chain.reader.block(BLOCK)).traces_incomplete
    clock.advance(traces.REPROBE_SECONDS)
    assert _found(await chain.reader.block(BLOCK)) == [("trace:0", US, ETHER)]
    assert post.asked.count("trace_block") == 2


async def test_n14_geths_flat_frames_are_read_too() -> None:
    answer = [{"txHash": TXID, "result": [ROOT, _frame(0)]}]
    chain, post = _chain({"debug_traceBlockByHash": answer})
    assert _found(await chain.reader.block(BLOCK)) == [("trace:0", US, ETHER)]
    await chain.reader.block(BLOCK)
    assert post.asked.count("trace_block") == 1
    assert post.asked.count("debug_traceBlockByHash") == 2


@pytest.mark.parametrize(
    "answer",
    [
        [{"txHash": TXID, "result": {}}],
        RpcError("debug_traceBlockByHash", -32000, "tracer not found"),
        RpcError("debug_traceBlockByHash", -32004, "method is not whitelisted"),
    ],
)
async def test_n14_a_node_without_this_tracer_has_none(answer: Any) -> None:
    chain, _ = _chain({"debug_traceBlockByHash": answer})
    assert (await chain.reader.block(BLOCK)).traces_incomplete


async def test_n14_pruned_state_marks_the_block_at_once_and_the_next_is_asked_again() -> None:
    chain, post = _chain({"trace_block": RpcError("trace_block", -32000, "missing trie node 12")})
    for count in (1, 2):
        assert (await chain.reader.block(BLOCK)).traces_incomplete
        assert post.asked.count("trace_block") == count


@pytest.mark.parametrize("answer", [None, {}, RpcError("trace_block", -32000, "execution timeout")])
async def test_n11_other_failures_are_tried_again_but_not_for_ever(answer: Any) -> None:
    """A null answer is no empty list; yet a block that no node can trace must not stop us."""
    chain, _ = _chain({"trace_block": answer})
    for _ in range(traces.TRIES_PER_BLOCK - 1):
        with pytest.raises(NodeUnavailable):
            await chain.reader.block(BLOCK)
    assert (await chain.reader.block(BLOCK)).traces_incomplete


@pytest.mark.parametrize(
    "frames",
    [
        [ROOT, _frame(0, blockHash=OTHER)],
        [ROOT, _frame(0, transactionHash=OTHER)],
        [ROOT, _frame(0), _frame(0)],
        [ROOT, _frame(0, traceAddress=["0"])],
        [ROOT, _frame(0, action=None)],
        [ROOT, None],
        [ROOT, _frame(0, action={"callType": "call", "to": US, "value": "7"})],
    ],
)
async def test_n12_frames_that_cannot_be_this_blocks_are_no_answer(frames: Any) -> None:
    chain, _ = _chain({"trace_block": frames})
    with pytest.raises(NodeUnavailable):
        await chain.reader.block(BLOCK)


async def test_n14_a_tx_whose_frames_are_left_out_marks_the_block() -> None:
    block = await _block([])
    assert block.traces_incomplete


async def test_a_block_of_plain_transfers_is_not_traced() -> None:
    chain, post = _chain({"trace_block": []}, gas="0x5208", value=5)
    block = await chain.reader.block(BLOCK)
    assert (block.traces_incomplete, len(block.transfers)) == (False, 1)
    assert "trace_block" not in post.asked
