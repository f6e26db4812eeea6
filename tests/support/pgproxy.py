"""PostgreSQL connections that break at a chosen COMMIT, before or after the server has seen it, or
that stand still as those of a stopped process do.

Forwards bytes between a Unix socket of its own and the real server's. It does not parse the
protocol: the driver sends COMMIT as one message of its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from gateway.sandbox.doors import CHUNK_BYTES, SOCKET_NAME


class CommitCutter:
    """Counts COMMITs; cuts the connection of the one that `cut_next` names."""

    def __init__(self, server_socket: Path) -> None:
        self._server_socket = server_socket
        self._countdown: int | None = None
        self._reaches_server = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.gates: list[asyncio.Event] = []
        """One per open connection: while it is cleared, nothing more goes to the server."""
        self.cuts = 0

    def cut_next(self, number: int, *, reaches_server: bool) -> None:
        """Cut at the `number`-th COMMIT from now; the server may have got it, or not."""
        self._countdown = number
        self._reaches_server = reaches_server

    def disarm(self) -> None:
        """Let everything pass again."""
        self._countdown = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(
            str(self._server_socket)
        )
        answers = asyncio.create_task(self._pump(upstream_reader, writer))
        self._tasks.add(answers)
        gate = asyncio.Event()
        gate.set()
        self.gates.append(gate)
        try:
            while data := await reader.read(CHUNK_BYTES):
                await gate.wait()
                if b"COMMIT" in data and self._is_its_turn():
                    self.cuts += 1
                    answers.cancel()  # the client never hears of it
                    await asyncio.wait([answers])
                    if self._reaches_server:
                        upstream_writer.write(data)
                        await upstream_writer.drain()
                        await upstream_reader.read(CHUNK_BYTES)  # the server has answered
                    return
                upstream_writer.write(data)
                await upstream_writer.drain()
        except ConnectionError:
            pass  # the other side went first
        finally:
            self.gates.remove(gate)
            answers.cancel()
            for open_writer in (writer, upstream_writer):
                open_writer.close()
                with contextlib.suppress(ConnectionError):
                    await open_writer.wait_closed()
            self._tasks.discard(answers)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                writer.write(data)
                await writer.drain()
        writer.close()  # the server ended it, perhaps by a reset: the client must hear of that

    def _is_its_turn(self) -> bool:
        if self._countdown is None:
            return False
        self._countdown -= 1
        if self._countdown > 0:
            return False
        self._countdown = None
        return True


@asynccontextmanager
async def commit_cutter(url: str, folder: Path) -> AsyncIterator[tuple[CommitCutter, str]]:
    """A cutter in front of the server of `url`, and the URL through it; its socket in `folder`."""
    parts = urlsplit(url)
    [host] = parse_qs(parts.query)["host"]
    cutter = CommitCutter(Path(host) / SOCKET_NAME)
    server = await asyncio.start_unix_server(cutter.serve, str(folder / SOCKET_NAME))
    try:
        yield cutter, urlunsplit(parts._replace(query=f"host={quote(str(folder), safe='/')}"))
    finally:
        server.close()
