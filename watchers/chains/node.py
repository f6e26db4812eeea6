"""HTTP transport to nodes: the port that opens connections, shared by the chain families.

Owns the client session, the per-call time-out and the cap on the size of an answer. Parsing,
fail-over and retries are in `watchers.chains.jsonrpc`; what is asked is in `<family>/node.py`.
"""

import asyncio

import aiohttp

from watchers.chains.errors import NotSent
from watchers.chains.jsonrpc import RESPONSE_BYTES_MAX, Endpoint, HttpAnswer
from watchers.errors import NodeUnavailable

CONNECTIONS_MAX = 8  # per network; more only queues inside the node


class HttpTransport:
    """Posts JSON bodies; one session, opened at the first use."""

    def __init__(
        self, *, timeout_seconds: float, response_bytes_max: int = RESPONSE_BYTES_MAX
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._response_bytes_max = response_bytes_max
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, endpoint: Endpoint, body: bytes) -> HttpAnswer:
        """The whole answer. NotSent when no connection was made, else NodeUnavailable."""
        headers = {"Content-Type": "application/json"}
        if endpoint.authorization is not None:
            headers["Authorization"] = endpoint.authorization
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(endpoint, body, headers)
        except aiohttp.ClientConnectorError as error:
            raise NotSent(f"node {endpoint.label}: no connection") from error
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise NodeUnavailable(f"node {endpoint.label}: {type(error).__name__}") from error

    async def _post(self, endpoint: Endpoint, body: bytes, headers: dict[str, str]) -> HttpAnswer:
        session = self._open()
        async with session.post(
            endpoint.url, data=body, headers=headers, allow_redirects=False
        ) as response:
            chunks: list[bytes] = []
            size = 0
            async for chunk in response.content.iter_chunked(1 << 16):
                size += len(chunk)
                if size > self._response_bytes_max:
                    response.close()
                    raise NodeUnavailable(f"node {endpoint.label}: answer over the size cap")
                chunks.append(chunk)
            pause = _retry_after_seconds(response.headers.get("Retry-After", ""))
            return HttpAnswer(
                status=response.status, body=b"".join(chunks), retry_after_seconds=pause
            )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        """Close the session and its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _retry_after_seconds(text: str) -> float:
    """The header in its seconds form; 0 when absent or a date."""
    digits = text.strip()
    return float(int(digits)) if digits.isascii() and digits.isdigit() else 0.0
