"""Errors shared by the chain families.

WatcherError
├── NodeUnavailable
│   ├── RpcError        a node answered with an error object; carries its code
│   └── NotSent         no connection was made, so nothing can have arrived
└── BadPlan (invariant) a build plan that contradicts itself; a person must look
"""

from watchers.errors import NodeUnavailable, WatcherError


class RpcError(NodeUnavailable):
    """The node answered with an error object. Classify by `code` and the start of `message`."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {code} {message[:300]}")
        self.method = method
        self.code = code
        self.message = message


class NotSent(NodeUnavailable):
    """The connection was refused: the request cannot have had an effect."""


class BadPlan(WatcherError):
    """A build plan whose parts do not fit: amounts, previous txs, assets or its family."""
