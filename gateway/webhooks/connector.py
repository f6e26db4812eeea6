"""The HTTP client of webhooks: one POST, guarded at connect time (A34).

A public target is called through a client whose every connection goes to an address that `targets`
found public at that very moment; names are resolved by us, once per connection, and what was
checked is what is connected. A host of the allow-list has a client of its own. No redirect is
followed, no cookie kept, no proxy of the environment used, and of the answer nothing but its status
leaves this module. The guards serve the source of rates too.
"""

import asyncio
import socket
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.webhooks.errors import DeliveryFailed, TargetRefused
from gateway.webhooks.targets import check_address, check_url

CONNECT_TIMEOUT_SECONDS = 5.0
ANSWER_BYTES_MAX = 16 * 1024  # read and thrown away, so that the connection can be used again
CONNECTIONS_MAX = 512
DNS_CACHE_SECONDS = 10
HEADER_BYTES_MAX = 8190


class Poster(Protocol):
    """What the relay needs of the network."""

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> int:
        """POST once; the 2xx status. Raises DeliveryFailed for everything else."""
        ...


class GuardedResolver(AbstractResolver):
    """Resolves with the system and refuses a name behind which any address is not public."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            _require_public(result["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def guarded_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for one address, made only when that address is public; literals come here too."""
    family, kind, protocol, _, sockaddr = address
    _require_public(str(sockaddr[0]))
    connection = socket.socket(family=family, type=kind, proto=protocol)
    connection.setblocking(False)
    return connection


def _require_public(address: str) -> None:
    try:
        check_address(address)
    except TargetRefused as error:
        # aiohttp turns an OSError into its own connection error; other errors would escape it.
        raise PermissionError(str(error)) from error


class WebhookClient:
    """Two client sessions: for public targets, and for hosts that the configuration allows."""

    def __init__(
        self,
        *,
        allow_hosts: Collection[str],
        timeout_seconds: float,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allow_hosts = frozenset(allow_hosts)
        self._timeout_seconds = timeout_seconds
        self._resolver = resolver
        self._public: aiohttp.ClientSession | None = None
        self._allowed: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        guarded = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._resolver or aiohttp.ThreadedResolver()),
            socket_factory=guarded_socket,
            limit=CONNECTIONS_MAX,
            ttl_dns_cache=DNS_CACHE_SECONDS,
        )
        self._public = self._session(guarded)
        self._allowed = self._session(aiohttp.TCPConnector(limit=CONNECTIONS_MAX))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for session in (self._public, self._allowed):
            if session is not None:
                await session.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=self._timeout_seconds, sock_connect=CONNECT_TIMEOUT_SECONDS
            ),
            trust_env=False,
            auto_decompress=False,  # a compressed answer is thrown away as it is
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> int:
        """POST `body` once. Raises DeliveryFailed unless the answer is 2xx within the time."""
        try:
            target = check_url(url, allow_hosts=self._allow_hosts)
        except TargetRefused as error:
            raise DeliveryFailed(f"target refused: {error}") from error
        session = self._allowed if target.is_allowed_host else self._public
        if session is None:
            raise RuntimeError("WebhookClient is used outside its `async with`")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status = await self._exchange(session, url, body=body, headers=headers)
        except TimeoutError as error:
            raise DeliveryFailed(f"no answer within {self._timeout_seconds:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DeliveryFailed(_reason(error)) from error
        if not 200 <= status <= 299:
            raise DeliveryFailed(f"answered {status}", status=status)
        return status

    async def _exchange(
        self, session: aiohttp.ClientSession, url: str, *, body: bytes, headers: Mapping[str, str]
    ) -> int:
        async with session.post(
            url,
            data=body,
            headers={"content-type": "application/json", "user-agent": "Cage", **headers},
            allow_redirects=False,
        ) as response:
            if 200 <= response.status <= 299:
                await _discard(response)
            else:
                response.close()
            return response.status


async def _discard(response: aiohttp.ClientResponse) -> None:
    """Read a short answer to its end; one that is longer costs its connection, nothing more."""
    left = ANSWER_BYTES_MAX
    async for chunk in response.content.iter_chunked(4096):
        left -= len(chunk)
        if left < 0:
            response.close()
            return


def _reason(error: Exception) -> str:
    """A short word for the row; never text that the receiver wrote."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PermissionError):
            return "target refused: the address is not public"
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    return type(error).__name__
