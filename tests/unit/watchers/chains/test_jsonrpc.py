"""N02, N08-N11, N20, D62, P04: one strict protocol over several nodes, and one send at a time."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.clock import ManualClock
from tests.unit.watchers.chains.support import (
    Answer,
    ScriptedPost,
    answer_of,
    error,
    fails,
    raw,
    result,
)
from watchers.chains.errors import NotSent, RpcError
from watchers.chains.jsonrpc import (
    COOL_DOWN_SECONDS,
    Endpoint,
    HttpAnswer,
    JsonRpc,
    endpoint,
    parse_json,
    reduce_answers,
)
from watchers.errors import NodeUnavailable, WrongNetwork

FIRST, SECOND = "http://user:hunter2@first:1/path-secret", "http://second:2"


class InstantClock(ManualClock):
    """Time passes by waiting too, at once."""

    async def sleep(self, delay_seconds: float) -> None:
        self.advance(delay_seconds)


def _rpc(
    steps: Sequence[Answer], urls: Sequence[str] = (FIRST,), **options: Any
) -> tuple[JsonRpc, ScriptedPost, InstantClock]:
    post, clock = ScriptedPost(steps), InstantClock()
    return JsonRpc([endpoint(url) for url in urls], post, clock=clock, **options), post, clock


GARBAGE = [
    b"",
    b"<html>502 Bad Gateway</html>",
    b'{"jsonrpc":"2.0","id":1,"resu',
    b"null",
    b"[]",
    b"7",
    b'{"result":1}',
    b'{"id":999,"result":1}',
    b'{"id":"1","result":1}',
    b'{"id":true,"result":1}',
    b'{"id":1}',
    b'{"id":1,"error":"text"}',
    b'{"id":1,"error":{"message":"no code"}}',
    b'{"id":1,"result":NaN}',
    b"[" * 100_000,
    b"\xff\xfe",
]


@pytest.mark.parametrize("answer", GARBAGE)
async def test_n09_nonsense_is_never_a_result(answer: bytes) -> None:
    rpc, _, _ = _rpc([raw(answer)] * 3)
    with pytest.raises(NodeUnavailable):
        await rpc.call("getblock", "x")


async def test_n09_a_read_is_tried_again_and_then_answered() -> None:
    rpc, post, clock = _rpc([raw(b"<html>"), raw(b""), result(7)])
    assert await rpc.call("getblockcount") == 7
    assert len(post.asked) == 3
    assert clock.monotonic_seconds() > 0


async def test_an_error_object_is_an_answer_and_not_asked_again() -> None:
    rpc, post, _ = _rpc([error(-5, "Block not found"), result(1)])
    with pytest.raises(RpcError) as refused:
        await rpc.call("getblock", "x")
    assert refused.value.code == -5
    assert len(post.asked) == 1


async def test_n11_null_is_handed_on_for_the_caller_to_judge() -> None:
    rpc, _, _ = _rpc([result(None)])
    assert await rpc.call("eth_getBlockByHash", "0x", False) is None


def _batch(*answers: Any, shuffle: bool = False) -> Answer:
    """Answers of a batch in order; a tuple is (code, message)."""

    def respond(request: Any) -> Any:
        items: list[dict[str, Any]] = []
        for call, answer in zip(request, answers, strict=True):
            is_error = isinstance(answer, tuple)
            part = (
                {"error": {"code": answer[0], "message": answer[1]}}
                if is_error
                else {"result": answer}
            )
            items.append({"id": call["id"]} | part)
        return answer_of(items[::-1] if shuffle else items)

    return respond


CALLS = [("m", (n,)) for n in range(3)]


async def test_n09_batch_answers_are_matched_by_id_in_any_order() -> None:
    rpc, _, _ = _rpc([_batch("a", "b", "c", shuffle=True)])
    assert await rpc.batch(CALLS) == ["a", "b", "c"]


def _spoil(change: Any) -> Answer:
    def respond(request: Any) -> Any:
        items = [{"id": call["id"], "result": 0} for call in request]
        return answer_of(change(items))

    return respond


@pytest.mark.parametrize(
    "change",
    [
        lambda items: items[:-1],
        lambda items: [*items, items[0]],
        lambda items: [items[0], items[0], items[2]],
        lambda items: [*items[:-1], {"id": 999_999, "result": 0}],
        lambda items: [*items[:-1], {"result": 0}],
        lambda items: {"id": 1, "result": 0},
        lambda items: {"id": None, "error": {"code": -32600, "message": "batch too large"}},
    ],
)
async def test_n09_a_batch_that_is_not_whole_is_refused(change: Any) -> None:
    rpc, _, _ = _rpc([_spoil(change)] * 3)
    with pytest.raises(NodeUnavailable):
        await rpc.batch(CALLS)


async def test_n10_one_failed_item_is_asked_again_alone() -> None:
    rpc, post, _ = _rpc([_batch("a", (-32000, "try again"), "c"), result("b")])
    assert await rpc.batch_all(CALLS) == ["a", "b", "c"]
    assert post.asked[1][1]["params"] == [1]


async def test_n10_an_item_that_fails_twice_fails_the_whole() -> None:
    rpc, _, _ = _rpc([_batch("a", (-32000, "no"), "c"), error(-32000, "no")])
    with pytest.raises(RpcError):
        await rpc.batch_all(CALLS)


async def test_large_batches_are_cut_into_bounded_ones() -> None:
    rpc, post, _ = _rpc([_batch(*range(100)), _batch(*range(100, 150))])
    assert await rpc.batch([("m", ())] * 150) == list(range(150))
    assert [len(request) for _, request in post.asked] == [100, 50]


async def test_the_second_node_answers_when_the_first_does_not() -> None:
    steps = [fails(NodeUnavailable("down")), result(1), result(2)]
    rpc, post, _ = _rpc(steps, [FIRST, SECOND])
    assert await rpc.call("m") == 1
    assert await rpc.call("m") == 2
    assert [label for label, _ in post.asked] == ["first:1", "second:2", "second:2"]


async def test_the_first_node_is_preferred_again_after_its_rest() -> None:
    steps = [fails(NodeUnavailable("down")), result(1), result(2)]
    rpc, post, clock = _rpc(steps, [FIRST, SECOND])
    await rpc.call("m")
    clock.advance(COOL_DOWN_SECONDS + 1)
    await rpc.call("m")
    assert post.asked[-1][0] == "first:1"


@pytest.mark.parametrize("status", [403, 429, 502, 503, 504])
async def test_n08_a_busy_node_is_left_alone_for_as_long_as_it_asks(status: int) -> None:
    steps = [raw(b"slow down", status=status, retry_after_seconds=120.0), result(1), result(2)]
    rpc, post, clock = _rpc(steps, [FIRST, SECOND])
    await rpc.call("m")
    clock.advance(100)
    await rpc.call("m")
    assert [label for label, _ in post.asked] == ["first:1", "second:2", "second:2"]


@pytest.mark.parametrize(("status", "pause_seconds"), [(429, 120.0), (403, 0.0), (503, 30.0)])
async def test_n08_the_only_node_is_not_asked_before_its_pause_is_over(
    status: int, pause_seconds: float
) -> None:
    """Not even by a retry: every call counts against the budget that the node keeps for us."""
    steps = [raw(b"", status=status, retry_after_seconds=pause_seconds), result(7)]
    rpc, post, clock = _rpc(steps)
    for _ in range(3):
        with pytest.raises(NodeUnavailable):
            await rpc.call("m")
    assert len(post.asked) == 1
    clock.advance(1.25 * max(pause_seconds, 1.0))
    assert await rpc.call("m") == 7


async def test_n08_pauses_grow_while_the_node_refuses() -> None:
    rpc, post, clock = _rpc([raw(b"", status=429)] * 4 + [result(7)])
    for asked in range(1, 5):
        with pytest.raises(NodeUnavailable):
            await rpc.call("m")
        assert len(post.asked) == asked
        clock.advance(1.25 * 2 ** (asked - 1))
    assert await rpc.call("m") == 7


async def test_n08_a_node_that_warms_up_is_asked_again() -> None:
    rpc, _, _ = _rpc([error(-28, "Loading block index"), result(1)])
    assert await rpc.call("m") == 1


async def _only_second(rpc: JsonRpc, node: Endpoint) -> None:
    if await rpc.ask(node, "identity") != "ours":
        raise WrongNetwork(node.label)


async def test_d62_n02_a_node_of_another_chain_is_never_asked() -> None:
    steps = [result("other"), result("ours"), result(1)]
    rpc, post, _ = _rpc(steps, [FIRST, SECOND], identify=_only_second)
    assert await rpc.call("m") == 1
    assert [(label, request["method"]) for label, request in post.asked] == [
        ("first:1", "identity"),
        ("second:2", "identity"),
        ("second:2", "m"),
    ]


async def test_d62_n02_only_wrong_nodes_is_an_error_of_its_own() -> None:
    rpc, _, _ = _rpc([result("other")], identify=_only_second)
    with pytest.raises(WrongNetwork):
        await rpc.call("m")
    rpc, _, _ = _rpc([result("ours"), result("other")], [FIRST, SECOND], identify=_only_second)
    with pytest.raises(WrongNetwork):
        await rpc.check_identity()


async def test_d62_identity_is_checked_again_after_a_failure_and_after_a_while() -> None:
    steps = [result("ours"), result(1), result(2), result("other")]
    rpc, _, clock = _rpc(steps, identify=_only_second)
    assert [await rpc.call("m"), await rpc.call("m")] == [1, 2]
    clock.advance(61)
    with pytest.raises(WrongNetwork):
        await rpc.call("m")


async def test_p04_a_send_is_made_once_whatever_happens() -> None:
    for step in (fails(NodeUnavailable("time-out")), raw(b"<html>"), raw(b"", status=503)):
        rpc, post, _ = _rpc([step, result("late")], [FIRST, SECOND])
        with pytest.raises(NodeUnavailable):
            await rpc.send_once("sendrawtransaction", "00")
        assert len(post.asked) == 1


async def test_p04_a_message_of_many_sends_is_made_once_whatever_happens() -> None:
    for step in (
        fails(NodeUnavailable("time-out")),
        raw(b"<html>"),
        raw(b"[]"),
        raw(b"", status=503),
    ):
        rpc, post, _ = _rpc([step, _batch("late", "later")], [FIRST, SECOND])
        with pytest.raises(NodeUnavailable):
            await rpc.send_batch_once([("eth_sendRawTransaction", ("0x00",))] * 2)
        assert len(post.asked) == 1


async def test_a_message_of_many_sends_goes_on_only_when_nothing_was_connected() -> None:
    rpc, post, _ = _rpc([fails(NotSent("refused")), _batch("a", (-32000, "no"))], [FIRST, SECOND])
    first, second = await rpc.send_batch_once([("eth_sendRawTransaction", ("0x00",))] * 2)
    assert first == "a"
    assert isinstance(second, RpcError)
    assert len(post.asked) == 2


async def test_a_send_goes_to_the_next_node_only_when_nothing_was_connected() -> None:
    rpc, post, _ = _rpc([fails(NotSent("refused")), result("txid")], [FIRST, SECOND])
    assert await rpc.send_once("sendrawtransaction", "00") == "txid"
    assert len(post.asked) == 2


@pytest.mark.parametrize(
    "step", [fails(NodeUnavailable("x")), raw(b"", status=401), raw(b"<html>"), error(-1, "no")]
)
async def test_n20_credentials_and_paths_are_in_no_error(step: Answer) -> None:
    rpc, _, _ = _rpc([step] * 3)
    with pytest.raises(NodeUnavailable) as failed:
        await rpc.call("m")
    texts = repr(failed.value) + str(failed.value) + repr(failed.value.__cause__)
    assert "hunter2" not in texts
    assert "path-secret" not in texts


def test_n20_an_endpoint_never_prints_its_secrets() -> None:
    node = endpoint(FIRST)
    assert repr(node) == "Endpoint(first:1)"
    assert node.url == "http://first:1/path-secret"
    assert node.authorization == "Basic dXNlcjpodW50ZXIy"
    with pytest.raises(ValueError, match="node URL") as refused:
        endpoint("ftp://user:hunter2@host")
    assert "hunter2" not in str(refused.value)


def test_percent_encoded_credentials_are_decoded() -> None:
    assert (
        endpoint("http://a:p%40ss@h:1").authorization == endpoint("http://a:p%40ss@h").authorization
    )
    assert endpoint("http://h:1").authorization is None


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
        b'"' + b'\\\\"' * 100_000,
        b"[}",
        ('{"a":"\u0122","b":' + "[" * 5_000 + "]" * 5_000 + "}").encode("utf-16-le"),
    ],
)
def test_n17_nesting_is_bounded(text: bytes) -> None:
    with pytest.raises(NodeUnavailable):
        parse_json(text)


def test_brackets_inside_of_strings_do_not_count() -> None:
    text = json.dumps({"a": "[" * 500 + '\\"]}{' + "\\"})
    assert parse_json(text.encode()) == json.loads(text)


async def test_an_error_about_identity_is_not_the_answer_to_the_call() -> None:
    """-5 on a header means "unknown hash"; from the identity check it means nothing of the kind."""
    rpc, _, _ = _rpc([error(-5, "Block not found")] * 3, identify=_only_second)
    with pytest.raises(NodeUnavailable) as failed:
        await rpc.call("getblockheader", "x")
    assert not isinstance(failed.value, RpcError)


def _both(one: object, other: object) -> tuple[object, object]:
    if one is None:
        raise NodeUnavailable("nothing there")
    return one, other


async def _reduced(body: bytes) -> object:
    return reduce_answers(body, 2, _both)


def _pair(first: object, second: object) -> Answer:
    """The answers to two calls, in the other order."""

    def answer(request: Any) -> HttpAnswer:
        ids = [call["id"] for call in request]
        rows = [{"id": ids[0], **_part(first)}, {"id": ids[1], **_part(second)}]
        return answer_of(rows[::-1])

    return answer


def _part(value: object) -> dict[str, object]:
    return {"error": value} if isinstance(value, dict) else {"result": value}


async def test_a_batch_is_reduced_in_the_order_of_its_calls() -> None:
    rpc, _, _ = _rpc([_pair("block", "receipts")])
    assert await rpc.batch_as(_reduced, [("a", ()), ("b", ())]) == [("block", "receipts"), None]


async def test_a_batch_with_an_error_in_it_is_not_reduced() -> None:
    rpc, _, _ = _rpc([_pair("block", {"code": -32601, "message": "no"})])
    first, second = await rpc.batch_as(_reduced, [("a", ()), ("b", ())])
    assert first == "block"
    assert isinstance(second, RpcError)


async def test_n09_a_batch_that_is_refused_where_it_is_reduced_is_asked_of_nobody_else() -> None:
    rpc, post, _ = _rpc([_pair(None, "receipts"), _pair("block", "receipts")])
    with pytest.raises(NodeUnavailable, match="nothing there"):
        await rpc.batch_as(_reduced, [("a", ()), ("b", ())])
    assert len(post.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b"[1]",
        b'[{"id":"x","result":1}]',
        b"nonsense",
        b'[{"id":1,"result":"block"}]',
        b'[{"id":1,"result":"block"},{"id":1,"result":"receipts"}]',
        b'[{"id":1,"result":"block"},{"id":2,"result":"receipts"},{"id":3,"result":"more"}]',
    ],
)
async def test_n09_a_batch_of_nonsense_is_no_answer(body: bytes) -> None:
    rpc, _, _ = _rpc([raw(body)] * 3)
    with pytest.raises(NodeUnavailable):
        await rpc.batch_as(_reduced, [("a", ()), ("b", ())])
