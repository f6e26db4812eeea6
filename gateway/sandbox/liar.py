"""A lying node for the demo: a proxy before a real one that tells some bytes otherwise.

What it was not told to change is the real node's own answer, so that it is believed until it lies.
It runs inside the sandbox's process, on loopback.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

FORWARD_TIMEOUT_SECONDS = 30.0
STOP_SECONDS = 1.0
REQUEST_BYTES_MAX = 8 * 1024 * 1024


class LyingNode:
    """The proxy's lies: bytes of a real answer and what is told instead. `told` counts them."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        parts = urlsplit(upstream)
        self._credentials = parts.netloc.rpartition("@")[0]
        self._upstream = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        self._session = session
        self._port: int | None = None
        self.lies: dict[bytes, bytes] = {}
        self.told = 0

    @property
    def url(self) -> str:
        """Its RPC URL, with the credentials of the node behind it."""
        login = f"{self._credentials}@" if self._credentials else ""
        return f"http://{login}127.0.0.1:{self._port}"

    @property
    def label(self) -> str:
        """How people and the house name it: host and port."""
        return f"127.0.0.1:{self._port}"

    def serves_at(self, port: int) -> None:
        """It listens there."""
        self._port = port

    async def answer(self, request: web.Request) -> web.Response:
        """The real node's answer with the lies in it."""
        headers = {"Content-Type": "application/json"}
        if "Authorization" in request.headers:
            headers["Authorization"] = request.headers["Authorization"]
        try:
            async with self._session.post(
                self._upstream, data=await request.read(), headers=headers
            ) as response:
                body, status = await response.read(), response.status
        except (aiohttp.ClientError, TimeoutError):
            return web.Response(status=502)
        for truth, lie in self.lies.items():
            self.told += body.count(truth)
            body = body.replace(truth, lie)
        return web.Response(status=status, body=body, content_type="application/json")


@asynccontextmanager
async def lying_node(upstream: str) -> AsyncIterator[LyingNode]:
    """A proxy before `upstream` (RPC URL with credentials), until the block ends."""
    timeout = aiohttp.ClientTimeout(total=FORWARD_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        node = LyingNode(upstream, session)
        app = web.Application(client_max_size=REQUEST_BYTES_MAX)
        app.router.add_post("/{path:.*}", node.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            node.serves_at(int(runner.addresses[0][1]))
            yield node
        finally:
            await runner.cleanup()
