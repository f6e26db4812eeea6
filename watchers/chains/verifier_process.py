"""The process in which blocks are read and verified while a watcher is behind (ADR 0021).

`python -m watchers.chains.verifier_process FD`: answers requests over an inherited socket, one
after the other, until its other end is closed, which the kernel does however the watcher ends. It
has no settings, no secret, no connection of its own; what it imports comes with the first request.
"""

import socket
import sys

from config import collector
from watchers.chains.verifier_wire import packed, unpacked

LENGTH_BYTES = 8
FRAME_BYTES_MAX = 1 << 30


def send(connection: socket.socket, data: bytes) -> None:
    """One frame. OSError when the other end is gone."""
    connection.sendall(len(data).to_bytes(LENGTH_BYTES, "big"))
    connection.sendall(data)


def receive(connection: socket.socket) -> bytearray | None:
    """One frame, None at the end. One call of the system each: a thread that waits for its turn
    between many would wait for each. EOFError in the middle, ValueError for a length of nonsense.
    """
    start = connection.recv(LENGTH_BYTES, socket.MSG_WAITALL)
    if not start:
        return None
    size = int.from_bytes(start, "big")
    if len(start) != LENGTH_BYTES or size > FRAME_BYTES_MAX:
        raise ValueError("no frame")
    data = bytearray(size)
    if connection.recv_into(data, size, socket.MSG_WAITALL) != size:
        raise EOFError
    return data


def serve(connection: socket.socket) -> None:
    """Answer until the watcher is gone."""
    try:
        is_settled = False
        while (request := receive(connection)) is not None:
            send(connection, _serve_one(request))
            if not is_settled:  # the first request imports what the others need
                collector.settle()
                is_settled = True
    except (OSError, EOFError):
        return


def _serve_one(request: bytearray) -> bytes:
    """(True, result), or (False, None): then the watcher does it itself and sees what is wrong."""
    try:
        function, arguments = unpacked(request)
        return packed((True, function(*arguments)))
    except Exception:
        return packed((False, None))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        serve(inherited)
