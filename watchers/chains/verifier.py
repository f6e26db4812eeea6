"""Reading and verifying blocks beside the watcher's own work: in a thread, or in a process.

A watcher at the tip reads a block now and then, in a thread. One that is behind reads block after
block, and a thread would share the interpreter with what connects them: then a second process does
it (ADR 0021). It only computes, and what it cannot do the thread does, so that a process that dies,
hangs or was never started costs time and nothing else.
"""

import asyncio
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, cast

from config.clock import Clock
from config.logs import get_logger
from watchers.chains.verifier_process import receive, send
from watchers.chains.verifier_wire import packed, unpacked

log = get_logger("watchers.verifier")

T = TypeVar("T")

PROGRAM = "watchers.chains.verifier_process"
ROOT = Path(__file__).parents[2]
ASK_SECONDS = 30.0  # of the largest block a second or two; after that the process is ended
START_SECONDS = 30.0
REST_SECONDS = 30.0  # after a process was lost
IDLE_SECONDS = 60.0  # at the tip, after which it is ended
IN_HAND = 2  # one is worked on, one waits for its turn in the pipe
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")
"""What the process may see of ours: nothing that could be a secret."""


class Verify(Protocol):
    """Runs a pure function of a module beside the event loop. `is_behind`: more blocks wait."""

    async def __call__(
        self, function: Callable[..., T], *arguments: object, is_behind: bool
    ) -> T: ...


async def in_thread(function: Callable[..., T], *arguments: object, is_behind: bool) -> T:
    """`Verify` without a process."""
    return await asyncio.to_thread(function, *arguments)


@dataclass(frozen=True, slots=True)
class _Child:
    """A process, and our end of its socket."""

    process: "subprocess.Popen[bytes]"
    connection: socket.socket
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def pid(self) -> int:
        return self.process.pid


class Verifier:
    """A `Verify` with one process at most, for all nodes of a network."""

    def __init__(
        self,
        *,
        clock: Clock,
        environ: Mapping[str, str] = os.environ,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        self._clock = clock
        self._ask_seconds = ask_seconds
        self._environ = {name: environ[name] for name in ENVIRONMENT if name in environ}
        self._child: _Child | None = None
        self._starting: asyncio.Task[None] | None = None
        self._in_hand = asyncio.Semaphore(IN_HAND)
        self._rests_until_seconds = 0.0
        self._used_at_seconds = 0.0
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """Of the process that is in use now."""
        return None if self._child is None else self._child.pid

    async def __call__(self, function: Callable[..., T], *arguments: object, is_behind: bool) -> T:
        """What the function returns or raises, wherever it runs."""
        if not is_behind:
            await self._end_idle()
        elif (child := self._usable(function)) is not None:
            is_done, result = await self._ask(child, function, arguments)
            if is_done:
                return cast(T, result)
        return await asyncio.to_thread(function, *arguments)

    async def close(self) -> None:
        """End the process; what is asked for after that runs in threads."""
        self._is_closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if (child := self._child) is not None:
            self._child = None
            await asyncio.to_thread(_end, child)

    def _usable(self, function: Callable[..., object]) -> _Child | None:
        """The process, once it is ready; until then it is being started."""
        now_seconds = self._clock.monotonic_seconds()
        if self._child is not None:
            self._used_at_seconds = now_seconds
        elif self._starting is None and now_seconds >= self._rests_until_seconds:
            if not self._is_closed:
                self._starting = asyncio.create_task(self._start(function))
        return self._child

    async def _start(self, function: Callable[..., object]) -> None:
        child = None
        try:
            child = _spawn(self._environ)  # some ms; a thread could leave a process behind
            async with asyncio.timeout(START_SECONDS):  # it imports what the function needs
                await asyncio.to_thread(_exchange, child, len, ((function,),))
            self._used_at_seconds = self._clock.monotonic_seconds()
            self._child, child = child, None
            log.info("verifier.started", pid=self._child.pid)
        except (OSError, EOFError, ValueError, TimeoutError, pickle.PickleError) as error:
            self._rest(error)
        finally:
            self._starting = None
            if child is not None:
                _end(child)

    async def _ask(
        self, child: _Child, function: Callable[..., object], arguments: tuple[object, ...]
    ) -> tuple[bool, object]:
        """Whether the process did it, and what it found."""
        async with self._in_hand:
            try:
                async with asyncio.timeout(self._ask_seconds):
                    return await asyncio.to_thread(_exchange, child, function, arguments)
            except (OSError, EOFError, ValueError, TimeoutError, pickle.PickleError) as error:
                if self._child is child:
                    self._child = None
                    self._rest(error)
                await asyncio.to_thread(_end, child)
                return False, None

    async def _end_idle(self) -> None:
        idle_seconds = self._clock.monotonic_seconds() - self._used_at_seconds
        if (child := self._child) is not None and idle_seconds > IDLE_SECONDS:
            self._child = None
            await asyncio.to_thread(_end, child)

    def _rest(self, error: Exception) -> None:
        self._rests_until_seconds = self._clock.monotonic_seconds() + REST_SECONDS
        log.warning("verifier.lost", error=type(error).__name__)


def _spawn(environ: Mapping[str, str]) -> _Child:
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, str(number)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
                env=dict(environ),
                pass_fds=(number,),
                start_new_session=True,  # a key press in a terminal is for the watcher alone
            )
        except OSError:
            ours.close()
            raise
    return _Child(process, ours)


def _exchange(
    child: _Child, function: Callable[..., object], arguments: tuple[object, ...]
) -> tuple[bool, object]:
    request = packed((function, arguments))
    with child.turn:
        send(child.connection, request)
        answer = receive(child.connection)
    if answer is None:
        raise EOFError
    is_done, result = unpacked(answer)
    return is_done, result


def _end(child: _Child) -> None:
    child.process.kill()
    child.process.wait()
    with child.turn:  # a thread that waits for an answer has its end now
        child.connection.close()
