"""A lying node: an HTTP JSON-RPC proxy in front of a real one, with faults that a test sets.

Everything that it does not change is the real node's own answer. A fault is a function of the call
and the real answer; the transport faults replace the whole HTTP answer.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp
from aiohttp import web

from watchers.chains.jsonrpc import endpoint

Forward = Callable[[str, list[Any]], Awaitable[Any]]
Fault = Callable[[str, list[Any], Any], Any]
"""(method, params, the real result) -> the result that is told."""


class Refuse(Exception):
    """A fault raises it to answer a call with an error object."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class LyingNode:
    """The proxy's switches. `calls` counts what was asked of it, by method."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    body: bytes | None = None
    """Sent instead of the real answer, whole."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    is_deaf: bool = False
    """Takes the request and never answers, until the proxy is closed."""
    cut_after: int | None = None
    """Closes the connection once this many items of batches were answered."""
    shift_ids: int = 0
    """Answers carry the id of another call."""
    calls: list[str] = field(default_factory=list)
    upstream: str = ""

    def point_at(self, upstream: str) -> None:
        """Another node answers behind the same address from now on."""
        self.upstream = upstream

    @property
    def is_honest(self) -> bool:
        """Whether every answer of the real node is told as it is."""
        return not self.faults and self.cut_after is None and not self.shift_ids

    def honest(self) -> None:
        """Take every fault back."""
        self.faults.clear()
        self.body, self.status, self.headers = None, 200, {}
        self.is_deaf, self.cut_after, self.shift_ids = False, None, 0


class _Proxy:
    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.closing = asyncio.Event()
        self.node = LyingNode(url="", upstream=upstream)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        node = self.node
        asked = json.loads(await request.read())
        calls = asked if isinstance(asked, list) else [asked]
        node.calls.extend(call["method"] for call in calls)
        if node.is_deaf:
            await self.closing.wait()
        if node.body is not None or node.status != 200:
            return web.Response(status=node.status, body=node.body or b"", headers=node.headers)
        if node.is_honest:
            return web.Response(text=await self._told(asked), content_type="application/json")
        answers: list[dict[str, Any]] = []
        for call in calls:
            if node.cut_after is not None and node.cut_after <= len(answers):
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError("the node died in the middle of an answer")
            answers.append(await self._answer(call))
        text = json.dumps(answers if isinstance(asked, list) else answers[0], default=_number)
        return web.Response(text=text, content_type="application/json")

    async def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        real = await self._forward(call)
        number = call["id"] + self.node.shift_ids
        if real.get("error") is not None:
            return {"id": number, "error": real["error"]}
        result = real.get("result")
        try:
            for fault in self.node.faults:
                result = fault(call["method"], call["params"], result)
        except Refuse as refused:
            return {"id": number, "error": {"code": refused.code, "message": refused.message}}
        return {"id": number, "result": result}

    async def _forward(self, call: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self._told(call), parse_float=Decimal)
        return answer

    async def _told(self, asked: Any) -> str:
        """What the real node says to a call or a batch."""
        target = endpoint(self.node.upstream)
        headers = {"Content-Type": "application/json"}
        if target.authorization is not None:
            headers["Authorization"] = target.authorization
        async with self._session.post(
            target.url, data=json.dumps(asked), headers=headers
        ) as response:
            return await response.text()


def _number(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)  # amounts of Core have at most 16 digits: exact on the way back
    raise TypeError(type(value).__name__)


@asynccontextmanager
async def lying(upstream: str) -> AsyncIterator[LyingNode]:
    """A proxy in front of a node's URL; honest until a switch is set."""
    async with aiohttp.ClientSession() as session:
        proxy = _Proxy(upstream, session)
        app = web.Application()
        app.router.add_post("/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        proxy.node.url = f"http://user:hunter2@{host}:{port}"
        try:
            yield proxy.node
        finally:
            proxy.closing.set()
            await runner.cleanup()


def freeze(tip_height: int) -> Fault:
    """A Bitcoin node that stopped at a height; its older blocks stay true."""

    def fault(method: str, params: list[Any], result: Any) -> Any:
        if method == "getblockhash" and params[0] > tip_height:
            raise Refuse(-8, "Block height out of range")
        return result

    return fault


def null(*methods: str) -> Fault:
    """These methods answer null."""

    def fault(method: str, params: list[Any], result: Any) -> Any:
        return None if method in methods else result

    return fault


def refuse(code: int, message: str, *methods: str) -> Fault:
    """These methods answer an error object."""

    def fault(method: str, params: list[Any], result: Any) -> Any:
        if method in methods:
            raise Refuse(code, message)
        return result

    return fault
