"""JSON-RPC over HTTP for the sandbox's own nodes. The only HTTP client of gateway/sandbox.

Production code reads nodes through `watchers/chains/<family>/node.py`; this one plays the rest of
the world (miners, players' wallets) and must never be used for the house's own money.
"""

from collections.abc import Sequence
from decimal import Decimal
from json import loads
from types import TracebackType
from typing import Any, Self

import aiohttp

REQUEST_TIMEOUT_SECONDS = 60.0


class RpcError(RuntimeError):
    """The node answered with an error; `code` is its own."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {message} ({code})")
        self.code = code


class RpcUnreachable(RuntimeError):
    """No answer: the node is down, starting or refusing us."""


class JsonRpc:
    """One node. Numbers with a point come back as Decimal."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None
        self._next_id = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def batch(self, method: str, calls: Sequence[Sequence[Any]]) -> bytes:
        """One message of many Ethereum calls; the answer as it came. Raises RpcUnreachable."""
        if self._session is None:
            raise RpcUnreachable(f"{method}: the connection is closed")
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
            for number, parameters in enumerate(calls)
        ]
        try:
            async with self._session.post(self._url, json=body) as response:
                return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RpcUnreachable(f"{method}: {type(error).__name__}") from error

    async def call(self, method: str, *params: Any) -> Any:
        """The result of one call. Raises RpcError or RpcUnreachable."""
        if self._session is None:
            raise RpcUnreachable(f"{method}: the connection is closed")
        self._next_id += 1
        request = {"jsonrpc": "1.0", "id": self._next_id, "method": method, "params": params}
        if method.startswith(("eth_", "evm_", "anvil_", "web3_", "net_", "txpool_", "debug_")):
            request["jsonrpc"] = "2.0"
        try:
            async with self._session.post(self._url, json=request) as response:
                body = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RpcUnreachable(f"{method}: {type(error).__name__}") from error
        try:
            answer = loads(body, parse_float=Decimal)
        except ValueError as error:
            raise RpcUnreachable(f"{method}: HTTP {response.status}") from error
        if answer.get("error"):
            raise RpcError(method, answer["error"]["code"], answer["error"]["message"])
        return answer["result"]
