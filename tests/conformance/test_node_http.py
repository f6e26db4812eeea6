"""The HTTP transport against a server that misbehaves: N02, N09, N16, N17, N20, P04, P05."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from eth_utils.crypto import keccak

from tests.conformance.conftest import registry
from watchers.chain import SendOutcome
from watchers.chains.errors import NotSent
from watchers.chains.jsonrpc import endpoint
from watchers.chains.node import HttpTransport
from watchers.errors import NodeUnavailable
from watchers.registry import build_chain

pytestmark = pytest.mark.asyncio

CHAIN_ID = 31337  # of the registry of these tests
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
GENESIS = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
TX = (
    "010000000100000000000000000000000000000000000000000000000000"
    "00000000000000ffffffff00ffffffff0100f2052a01000000015100000000"
)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A loopback server; its URL carries credentials that must never be shown."""
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://user:hunter2@{host}:{port}/token-in-path"
    finally:
        await runner.cleanup()


async def _ask(url: str, transport: HttpTransport) -> bytes:
    try:
        return (await transport(endpoint(url), b"{}")).body
    finally:
        await transport.close()


async def test_n16_a_hanging_node_ends_in_a_time_out() -> None:
    released = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with serving(hang) as url:
        with pytest.raises(NodeUnavailable, match="TimeoutError") as failed:
            await _ask(url, HttpTransport(timeout_seconds=0.2))
        released.set()
    assert "hunter2" not in str(failed.value)
    assert "token-in-path" not in str(failed.value)


async def test_n17_an_answer_over_the_cap_is_cut_off() -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(1000):
                await response.write(b"x" * 65_536)
        except ConnectionError:
            pass  # the client has seen enough
        return response

    async with serving(flood) as url:
        with pytest.raises(NodeUnavailable, match="size cap"):
            await _ask(url, HttpTransport(timeout_seconds=5.0, response_bytes_max=1_000_000))


async def test_credentials_travel_in_the_header_and_redirects_are_not_followed() -> None:
    seen: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"}, body=b"no")

    async with serving(redirect) as url:
        assert await _ask(url, HttpTransport(timeout_seconds=5.0)) == b"no"
    assert seen == ["Basic dXNlcjpodW50ZXIy"]


async def test_a_closed_port_says_that_nothing_was_sent() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    async with serving(answer) as url:
        await _ask(url, HttpTransport(timeout_seconds=5.0))
    with pytest.raises(NotSent):
        await _ask(url, HttpTransport(timeout_seconds=5.0))


async def test_p04_a_broadcast_that_times_out_is_unclear_and_sent_once() -> None:
    methods: list[str] = []
    released = asyncio.Event()

    async def swallow(request: web.Request) -> web.Response:
        call = json.loads(await request.read())
        methods.append(call["method"])
        if call["method"] == "sendrawtransaction":
            await released.wait()
        return web.json_response({"id": call["id"], "result": GENESIS, "error": None})

    async with serving(swallow) as url:
        chain = build_chain(registry()["btc"], [url], [], timeout_seconds=0.3)
        result = await chain.writer.send(bytes.fromhex(TX))
        released.set()
        await chain.close()
    assert result.outcome is SendOutcome.UNCLEAR
    assert methods == ["getblockhash", "sendrawtransaction"]
    assert "hunter2" not in result.detail


async def test_n27_a_node_that_names_another_txid_is_not_believed() -> None:
    async def confuse(request: web.Request) -> web.Response:
        call = json.loads(await request.read())
        return web.json_response({"id": call["id"], "result": GENESIS, "error": None})

    async with serving(confuse) as url:
        chain = build_chain(registry()["btc"], [url], [], timeout_seconds=5.0)
        result = await chain.writer.send(bytes.fromhex(TX))
        await chain.close()
    assert result.outcome is SendOutcome.UNCLEAR


RAWS = [b"\x02" + bytes([number]) for number in range(3)]


def _txid(raw: bytes) -> str:
    return "0x" + keccak(raw).hex()


def _ok(call: dict[str, object]) -> dict[str, object]:
    """What an Ethereum node answers to one call: its chain, or the txid of what it took."""
    if call["method"] == "eth_chainId":
        return {"jsonrpc": "2.0", "id": call["id"], "result": hex(CHAIN_ID)}
    [raw] = call["params"] if isinstance(call["params"], list) else []
    return {"jsonrpc": "2.0", "id": call["id"], "result": _txid(bytes.fromhex(raw[2:]))}


async def _send_many(handler: Handler, *, timeout_seconds: float = 5.0) -> list[SendOutcome]:
    async with serving(handler) as url:
        chain = build_chain(registry()["eth"], [url], [], timeout_seconds=timeout_seconds)
        results = await chain.writer.send_many(RAWS)
        await chain.close()
    return [result.outcome for result in results]


async def test_p05_each_answer_of_a_message_is_judged_by_itself() -> None:
    async def answer(request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        if not isinstance(calls, list):
            return web.json_response(_ok(calls))
        told = [_ok(call) for call in calls]
        refused = {"code": -32000, "message": "replacement transaction underpriced"}
        told[0] = {"jsonrpc": "2.0", "id": calls[0]["id"], "error": refused}
        told[1]["result"] = _txid(b"another tx")
        return web.json_response(told[::-1])

    assert await _send_many(answer) == [
        SendOutcome.FEE_TOO_LOW,
        SendOutcome.UNCLEAR,
        SendOutcome.ACCEPTED,
    ]


async def test_p04_a_lost_answer_leaves_the_whole_message_unclear_and_sent_once() -> None:
    messages: list[object] = []
    released = asyncio.Event()

    async def swallow(request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        if isinstance(calls, list):
            messages.append(calls)
            await released.wait()
            return web.json_response([])
        return web.json_response(_ok(calls))

    assert await _send_many(swallow, timeout_seconds=0.3) == [SendOutcome.UNCLEAR] * 3
    released.set()
    assert len(messages) == 1


async def test_a_node_that_takes_no_batches_is_sent_one_by_one() -> None:
    async def single_minded(request: web.Request) -> web.Response:
        calls = json.loads(await request.read())
        if isinstance(calls, list):
            refused = {"code": -32600, "message": "batches are not supported"}
            return web.json_response({"jsonrpc": "2.0", "id": None, "error": refused})
        return web.json_response(_ok(calls))

    assert await _send_many(single_minded) == [SendOutcome.ACCEPTED] * 3
