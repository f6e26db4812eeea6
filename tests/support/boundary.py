"""Everything that a process says to the outside goes through here, and can be its last word.

Proxies before PostgreSQL, a node and a webhook sink count what crosses; at a chosen message the
process that sent it is killed with SIGKILL, before the message is passed on, or after it took
effect and before the answer (CASES c.8). Nothing is built into the service for it.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web

from tests.support.pgproxy import CHUNK_BYTES, SOCKET_NAME
from watchers.chains.jsonrpc import endpoint

TYPE_BYTES, LENGTH_BYTES = 1, 4  # of a message; the length counts itself (PostgreSQL, 54.7)
WRITES = re.compile(rb"\s*(INSERT|UPDATE|DELETE|WITH)\b|.*\b(ledger|chain|gateway)\.\w+\(", re.S)
"""Statements with an effect: a function of a schema of the house may have one too."""


class Side(StrEnum):
    """When the process dies."""

    BEFORE = "before"
    """The message never leaves."""
    AFTER = "after"
    """It took effect; its answer never arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The n-th message of a kind (from 1) and a side of it."""

    kind: str
    number: int
    side: Side


@dataclass(slots=True)
class Boundary:
    """The count of messages, and where the next death is. `kill(slot)` ends a process at once."""

    kill: Callable[[str], None]
    by_kind: dict[str, int] = field(default_factory=dict)
    counted: frozenset[str] = frozenset()
    """Slots whose messages count: the others only stand by."""
    killed: list[str] = field(default_factory=list)
    """What was said last at each death: `postgres/watch-a`."""
    _point: "Point | None" = None

    def arm(self, point: "Point | None") -> None:
        """Count from one again; die at that message (None: only count)."""
        self._point = point
        self.by_kind.clear()

    def crosses(self, kind: str, slot: str) -> bool:
        """A message of a process is about to pass; True when it is the last one it sends."""
        if slot not in self.counted:
            return False
        number = self.by_kind[kind] = self.by_kind.get(kind, 0) + 1
        point = self._point
        return point is not None and (point.kind, point.number) == (kind, number)

    def stops(self, side: Side, kind: str, slot: str) -> bool:
        """Kill the sender when this is the side; True then."""
        if self._point is None or side is not self._point.side:
            return False
        self._point = None
        self.killed.append(f"{kind}/{slot}")
        self.kill(slot)
        return True


class PostgresDoor:
    """The Unix socket of one process."""

    def __init__(self, boundary: Boundary, slot: str, server_socket: Path) -> None:
        self._boundary = boundary
        self._slot = slot
        self._server_socket = server_socket

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        up_reader, up_writer = await asyncio.open_unix_connection(str(self._server_socket))
        answers = asyncio.create_task(self._answers(up_reader, writer))
        asked = Statements()
        try:
            while data := await reader.read(CHUNK_BYTES):
                kinds = asked.feed(data)
                last = next((k for k in kinds if self._boundary.crosses(k, self._slot)), None)
                if last is not None and self._boundary.stops(Side.BEFORE, last, self._slot):
                    return
                if last is not None:
                    answers.cancel()  # the process never hears of it
                    await asyncio.wait([answers])
                up_writer.write(data)
                await up_writer.drain()
                if last is not None:
                    await up_reader.read(CHUNK_BYTES)  # it took effect
                    self._boundary.stops(Side.AFTER, last, self._slot)
                    return
        except ConnectionError:
            pass  # the other side went first
        finally:
            answers.cancel()
            for open_writer in (writer, up_writer):
                open_writer.close()
                with contextlib.suppress(ConnectionError):
                    await open_writer.wait_closed()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                writer.write(data)
                await writer.drain()
            writer.close()


class Statements:
    """Reads what a client asks of PostgreSQL: `write` and `commit` count. A statement that only
    reads changes nothing outside: a death there is a death after the message before it."""

    def __init__(self) -> None:
        self._left = b""
        self._has_started = False
        self._texts: dict[bytes, bytes] = {}
        self._bound = b""

    def feed(self, data: bytes) -> list[str]:
        """The kinds of what is executed by the messages that this chunk completes."""
        kinds: list[str] = []
        self._left += data
        while True:
            skipped = TYPE_BYTES if self._has_started else 0
            if len(self._left) < skipped + LENGTH_BYTES:
                return kinds
            length = int.from_bytes(self._left[skipped : skipped + LENGTH_BYTES], "big")
            if len(self._left) < skipped + length:
                return kinds
            body = self._left[skipped + LENGTH_BYTES : skipped + length]
            kind = self._read(self._left[:skipped], body)
            self._left = self._left[skipped + length :]
            self._has_started = True
            if kind is not None:
                kinds.append(kind)

    def _read(self, type_: bytes, body: bytes) -> str | None:
        if type_ == b"P":
            name, _, rest = body.partition(b"\0")
            self._texts[name] = rest.partition(b"\0")[0]
        elif type_ == b"B":
            self._bound = body.split(b"\0", 2)[1]
        elif type_ == b"E" and WRITES.match(self._texts.get(self._bound, b"")):
            return "write"
        elif type_ == b"Q" and body.startswith(b"COMMIT"):
            return "commit"
        return None


@asynccontextmanager
async def postgres_door(
    boundary: Boundary, slot: str, *, url: str, folder: Path
) -> AsyncIterator[str]:
    """The host (an existing folder) through which a process reaches the server of `url`."""
    [host] = parse_qs(urlsplit(url).query)["host"]
    door = PostgresDoor(boundary, slot, Path(host) / SOCKET_NAME)
    server = await asyncio.start_unix_server(door.serve, str(folder / SOCKET_NAME))
    try:
        yield str(folder)
    finally:
        server.close()


@asynccontextmanager
async def http_door(boundary: Boundary, slot: str, kind: str, upstream: str) -> AsyncIterator[str]:
    """A base URL through which a process reaches an HTTP server."""
    target = endpoint(upstream)
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            is_last = boundary.crosses(kind, slot)
            if is_last and boundary.stops(Side.BEFORE, kind, slot):
                return web.Response(status=500)  # nobody hears it
            headers = {
                name: value
                for name, value in request.headers.items()
                if name.lower() not in ("host", "content-length", "authorization")
            }
            if target.authorization is not None:
                headers["Authorization"] = target.authorization
            async with session.post(target.url, data=body, headers=headers) as answer:
                told = await answer.read()
                status = answer.status
            if is_last:
                boundary.stops(Side.AFTER, kind, slot)
            return web.Response(
                status=status, body=told, headers={"Content-Type": "application/json"}
            )

        app = web.Application()
        app.router.add_post("/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()
