"""Doors in front of PostgreSQL, an HTTP server and the signer: each passes everything on as it is.

Owns which messages have an effect, and so are counted; where the sender dies `boundary` decides. A
message that only reads is not counted in front of PostgreSQL and the signer: it changes nothing
outside, so a death there is one after the message before it.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web

from gateway.sandbox.boundary import Boundary, Side
from signer.protocol import MAX_FRAME_BYTES, Operation

SOCKET_NAME = ".s.PGSQL.5432"
CHUNK_BYTES = 1 << 16
TYPE_BYTES, LENGTH_BYTES = 1, 4  # of a message; the length counts itself (PostgreSQL, 54.7)
FRAME_HEAD_BYTES = 4  # of a frame of the signer; the length counts the rest
WRITES = re.compile(rb"\s*(INSERT|UPDATE|DELETE|WITH)\b|.*\b(ledger|chain|gateway)\.\w+\(", re.S)
"""Statements with an effect: a function of a schema of the house may have one too."""
LEASES = re.compile(rb"\s*(INSERT\s+INTO|UPDATE)\s+gateway\.leases\b")
"""A lease is kept up all the time, whatever is paid."""
EFFECTS_OF_SIGNER = {Operation.SIGN.value, Operation.VOID.value}


class PostgresDoor:
    """The Unix socket of one process."""

    def __init__(self, boundary: Boundary, slot: str, server_socket: Path, label: str) -> None:
        self._boundary = boundary
        self._slot = slot
        self._server_socket = server_socket
        self._label = label

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(str(self._server_socket))
        except OSError:  # the server is down, and so is the door
            await _close(writer)
            return
        answers = asyncio.create_task(_pump(up_reader, writer))
        asked = Statements()
        try:
            while data := await reader.read(CHUNK_BYTES):
                kinds = [self._label + kind for kind in asked.feed(data)]
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
            await _close(writer, up_writer)


class Statements:
    """Reads what a client asks of PostgreSQL: a `write` counts, and a `commit` of one."""

    def __init__(self) -> None:
        self._left = b""
        self._has_started = False
        self._has_written = False
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
        elif type_ == b"E":
            text = self._texts.get(self._bound, b"")
            if WRITES.match(text) and not LEASES.match(text):
                self._has_written = True
                return "write"
        elif type_ == b"Q" and body.startswith((b"COMMIT", b"ROLLBACK")):
            has_written, self._has_written = self._has_written, False
            return "commit" if has_written and body.startswith(b"COMMIT") else None
        return None


@asynccontextmanager
async def postgres_door(
    boundary: Boundary, slot: str, *, url: str, folder: Path, label: str = ""
) -> AsyncIterator[str]:
    """The host (an existing folder) through which a process reaches the server of `url`. `label`
    stands before the kinds `write` and `commit`."""
    [host] = parse_qs(urlsplit(url).query)["host"]
    door = PostgresDoor(boundary, slot, Path(host) / SOCKET_NAME, label)
    server = await asyncio.start_unix_server(door.serve, str(folder / SOCKET_NAME))
    try:
        yield str(folder)
    finally:
        server.close()


@asynccontextmanager
async def http_door(
    boundary: Boundary,
    slot: str,
    kind: str,
    upstream: str,
    *,
    counts: Callable[[bytes], bool] = bool,
) -> AsyncIterator[str]:
    """A base URL through which a process reaches an HTTP server; `counts` says which bodies."""
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            is_last = counts(body) and boundary.crosses(kind, slot)
            if is_last and boundary.stops(Side.BEFORE, kind, slot):
                return web.Response(status=500)  # nobody hears it
            is_late = is_last and await boundary.stands_still(kind, slot)
            headers = {
                name: value
                for name, value in request.headers.items()
                if name.lower() not in ("host", "content-length", "authorization")
            }
            # The credentials are those in `upstream`.
            async with session.post(upstream, data=body, headers=headers) as answer:
                told = await answer.read()
                status = answer.status
            if is_late:
                boundary.passed.set()
            elif is_last:
                boundary.stops(Side.AFTER, kind, slot)
            return web.Response(
                status=status, body=told, headers={"Content-Type": "application/json"}
            )

        app = web.Application(client_max_size=1 << 26)  # a block that is handed in, or a PSBT
        app.router.add_post("/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


class SignerDoor:
    """The signer's socket as one process sees it. The question is a message of the process
    (`sign`), the answer one of the signer (`answer`)."""

    ASKS, ANSWERS = "sign", "answer"

    def __init__(self, boundary: Boundary, slot: str, signer_slot: str, socket: Path) -> None:
        self._boundary = boundary
        self._slot = slot
        self._signer_slot = signer_slot
        self._socket = socket

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: questions and answers take turns."""
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:  # the signer is down
            await _close(writer)
            return
        try:
            while (question := await _frame(reader)) and await self._pass_on(
                question, up_reader, up_writer, writer
            ):
                pass
        except ConnectionError:
            pass  # the other side went first
        finally:
            await _close(writer, up_writer)

    async def _pass_on(
        self,
        question: bytes,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """One question and its answer; False where one of the two sides has died of it."""
        boundary = self._boundary
        has_effect = _operation(question) in EFFECTS_OF_SIGNER
        is_last = has_effect and boundary.crosses(self.ASKS, self._slot)
        if is_last and boundary.stops(Side.BEFORE, self.ASKS, self._slot):
            return False
        is_late = is_last and await boundary.stands_still(self.ASKS, self._slot)
        up_writer.write(question)
        await up_writer.drain()
        answer = await _frame(up_reader)
        if is_late:
            boundary.passed.set()
        elif is_last and boundary.stops(Side.AFTER, self.ASKS, self._slot):
            return False
        is_dying = has_effect and boundary.crosses(self.ANSWERS, self._signer_slot)
        if is_dying and boundary.stops(Side.BEFORE, self.ANSWERS, self._signer_slot):
            return False
        writer.write(answer)
        await writer.drain()
        return not (is_dying and boundary.stops(Side.AFTER, self.ANSWERS, self._signer_slot))


@asynccontextmanager
async def signer_door(
    boundary: Boundary, slot: str, *, signer_slot: str, socket: Path, path: Path
) -> AsyncIterator[None]:
    """A socket at `path` through which a process reaches the signer's `socket`."""
    door = SignerDoor(boundary, slot, signer_slot, socket)
    server = await asyncio.start_unix_server(door.serve, str(path))
    try:
        yield
    finally:
        server.close()


def _operation(question: bytes) -> str:
    return str(json.loads(question[FRAME_HEAD_BYTES:])["op"])


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame with its head, or nothing at the end of the stream."""
    try:
        head = await reader.readexactly(FRAME_HEAD_BYTES)
        size = int.from_bytes(head, "big")
        if size > MAX_FRAME_BYTES:
            raise ConnectionError("a frame over the limit")
        return head + await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return b""


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()


async def _close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
