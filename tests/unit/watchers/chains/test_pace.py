"""N08: a node URL gets so many calls per second, waiting is bounded, nothing is lost in line."""

import asyncio
import json

import pytest

from tests.support.clock import ManualClock
from tests.support.waiting import until
from watchers.chains import jsonrpc
from watchers.chains.errors import NotSent
from watchers.chains.jsonrpc import Endpoint, HttpAnswer, JsonRpc
from watchers.chains.pace import WAIT_SECONDS_MAX, PacedPost
from watchers.errors import NodeUnavailable


class Node:
    """Answers every call with its method and remembers when each body came."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.came: list[tuple[float, int]] = []

    async def __call__(self, endpoint: Endpoint, body: bytes) -> HttpAnswer:
        request = json.loads(body)
        calls = request if isinstance(request, list) else [request]
        self.came.append((self._clock.monotonic_seconds(), len(calls)))
        answers = [{"id": call["id"], "result": call["method"]} for call in calls]
        told = answers if isinstance(request, list) else answers[0]
        return HttpAnswer(status=200, body=json.dumps(told).encode())


async def nothing() -> None:
    """No connection to close."""


def paced(node: Node, clock: ManualClock, per_second: int, *urls: str) -> JsonRpc:
    post = PacedPost(node, calls_per_second=per_second, clock=clock, close=nothing)
    return JsonRpc([jsonrpc.endpoint(url) for url in urls or ("http://a:1",)], post, clock=clock)


async def test_n08_calls_beyond_the_budget_wait_their_turn_in_order(clock: ManualClock) -> None:
    node = Node(clock)
    rpc = paced(node, clock, 2)
    asked = [asyncio.create_task(rpc.call(f"m{number}")) for number in range(6)]
    await until(lambda: len(node.came) + clock.sleeping == len(asked))
    assert len(node.came) == 3  # one second of the budget, and the call that is next
    for _ in range(3):
        clock.advance(0.5)
        await until(lambda: len(node.came) + clock.sleeping == len(asked))
    assert [at for at, _ in node.came] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5]
    assert await asyncio.gather(*asked) == [f"m{number}" for number in range(6)]


async def test_n08_a_batch_counts_as_the_calls_it_holds(clock: ManualClock) -> None:
    node = Node(clock)
    rpc = paced(node, clock, 10)
    assert len(await rpc.batch([("m", ('{"jsonrpc":"2.0","id":',))] * 40)) == 40
    assert node.came == [(0.0, 40)]
    after = asyncio.create_task(rpc.call("last"))
    await until(lambda: clock.sleeping == 1)
    clock.advance(2.9)
    assert clock.sleeping == 1
    clock.advance(0.1)
    assert await after == "last"


async def test_n08_a_line_that_is_too_long_is_refused_and_nothing_is_sent(
    clock: ManualClock,
) -> None:
    node = Node(clock)
    post = PacedPost(node, calls_per_second=1, clock=clock, close=nothing)
    to = jsonrpc.endpoint("http://user:hunter2@a:1/token")
    body = json.dumps([{"jsonrpc": "2.0", "id": n, "method": "m"} for n in range(30)])
    await post(to, body.replace(" ", "").encode())
    with pytest.raises(NotSent, match="node a:1: the budget of calls is used up") as refused:
        await post(to, b'{"jsonrpc":"2.0","id":1,"method":"m"}')
    assert "hunter2" not in str(refused.value)
    assert len(node.came) == 1
    clock.advance(30 - WAIT_SECONDS_MAX)
    late = asyncio.create_task(post(to, b'{"jsonrpc":"2.0","id":1,"method":"m"}'))
    await until(lambda: clock.sleeping == 1)
    clock.advance(WAIT_SECONDS_MAX)
    assert (await late).status == 200


async def test_n08_one_node_over_its_budget_leaves_the_other_its_own(clock: ManualClock) -> None:
    node = Node(clock)
    rpc = paced(node, clock, 1, "http://a:1", "http://b:2")
    await rpc.batch([("m", ())] * 60)
    assert await rpc.call("other") == "other"  # the next node has its own budget
    assert [count for _, count in node.came] == [60, 1]


async def test_n08_an_effect_over_the_budget_is_told_as_not_sent(clock: ManualClock) -> None:
    node = Node(clock)
    rpc = paced(node, clock, 1)
    await rpc.batch([("m", ())] * 60)
    with pytest.raises(NodeUnavailable) as refused:
        await rpc.send_once("send")
    assert isinstance(refused.value, NotSent)
    assert len(node.came) == 1
