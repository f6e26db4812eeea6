"""A receiver of webhooks on loopback: a real HTTP server that answers as the test tells it.

It records every request, and verifies nothing: tests do, with the public library.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came."""

    webhook_id: str
    body: str
    headers: dict[str, str]

    @property
    def event(self) -> dict[str, Any]:
        """The body, parsed."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass(slots=True)
class Receiver:
    """What came, and how to answer: `answer(received)` gives the status."""

    url: str = ""
    answer: Callable[[Received], int] = lambda received: 204
    received: list[Received] = field(default_factory=list)
    hangs: asyncio.Event | None = None
    """When set: requests wait for this event before they are answered."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        received = Received(
            webhook_id=request.headers["webhook-id"],
            body=body,
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        self.received.append(received)
        self.arrived.set()
        if self.hangs is not None:
            await self.hangs.wait()
        return web.Response(status=self.answer(received))

    def ids(self) -> list[str]:
        """The webhook ids in the order in which they came."""
        return [received.webhook_id for received in self.received]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A running receiver; `url` is where it listens."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    receiver.url = f"http://127.0.0.1:{server.port}/hook"
    try:
        yield receiver
    finally:
        if receiver.hangs is not None:
            receiver.hangs.set()
        await server.close()
