"""A signing client of the API (RFC 9421, Ed25519) over aiohttp: staff commands, demo and tests.

It signs exactly the components of CONTRACT 3. It must not know any resource, and it never logs a
header or a body.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ED25519
from yarl import URL

from config.clock import Clock
from config.ids import Ids

REQUEST_SECONDS_MAX = 30.0
NONCE_BYTES = 16


class ClientProblem(Exception):
    """The API answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or f"the API answered {status}"))
        self.status = status
        self.code = str(problem.get("code") or "")
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer as received; header names in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as data."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """What to send: headers complete with signature."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Signer:
    """Signs requests of one key for one authority."""

    def __init__(
        self, *, key_id: str, key: Ed25519PrivateKey, authority: str, clock: Clock, ids: Ids
    ) -> None:
        self.key_id = key_id
        self._key = key
        self._authority = authority
        self._clock = clock
        self._ids = ids

    def sign(
        self, method: str, target: str, *, body: bytes = b"", idempotency_key: str | None = None
    ) -> SignedRequest:
        """The signed request; `target` is path and query as they will be on the wire."""
        headers = {"Host": self._authority}
        covered = ["@method", "@authority", "@path", "@query"]
        if body:
            headers["Content-Type"] = "application/json"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
            covered.append("idempotency-key")
        message = _Message(method, f"http://{self._authority}{target}", headers)
        HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=_OneKey(self._key)).sign(
            message,
            key_id=self.key_id,
            created=self._clock.now(),
            nonce=self._ids.token_bytes(NONCE_BYTES).hex(),
            label="sig1",
            covered_component_ids=covered,
            body=body or None,  # the library adds and covers Content-Digest (RFC 9530)
        )
        return SignedRequest(method=method, target=target, headers=message.headers, body=body)


class ApiClient:
    """Calls of one key. Use as an async context manager."""

    def __init__(
        self,
        *,
        url: str,
        key_id: str,
        key: Ed25519PrivateKey,
        clock: Clock,
        ids: Ids,
        authority: str | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self.signer = Signer(
            key_id=key_id,
            key=key,
            authority=authority or urlsplit(url).netloc,
            clock=clock,
            ids=ids,
        )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
        self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON answer. Raises ClientProblem for an error answer."""
        target = f"{path}?{urlencode(query)}" if query else path
        return _accepted(await self.request("GET", target))

    async def post(
        self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Any:
        """The JSON answer. Raises ClientProblem for an error answer."""
        reply = await self.request("POST", path, body=body, idempotency_key=idempotency_key)
        return _accepted(reply)

    async def put(
        self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Any:
        """The JSON answer. Raises ClientProblem for an error answer."""
        reply = await self.request("PUT", path, body=body, idempotency_key=idempotency_key)
        return _accepted(reply)

    async def request(
        self,
        method: str,
        target: str,
        *,
        body: Mapping[str, Any] | bytes | None = None,
        idempotency_key: str | None = None,
    ) -> Reply:
        """Any call, freshly signed; every status is an answer."""
        data = body if isinstance(body, bytes) else b""
        if isinstance(body, Mapping):
            data = json.dumps(body).encode("utf-8")
        return await self.send(
            self.signer.sign(method, target, body=data, idempotency_key=idempotency_key)
        )

    async def send(self, request: SignedRequest) -> Reply:
        """Send signed bytes as they are; at most REQUEST_SECONDS_MAX."""
        if self._session is None:
            raise RuntimeError("use `async with`")
        url = URL(self._url + request.target, encoded=True)
        async with self._session.request(
            request.method,
            url,
            data=request.body or None,
            headers=dict(request.headers),
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
        ) as response:
            answer = await response.read()
            return Reply(status=response.status, headers=response.headers, body=answer)


def _accepted(reply: Reply) -> Any:
    if reply.status < 400:
        return reply.json()
    try:
        problem = reply.json()
    except ValueError:
        problem = {}
    raise ClientProblem(reply.status, problem if isinstance(problem, dict) else {})


class _Message:
    """The request in the shape that the library reads and writes."""

    def __init__(self, method: str, url: str, headers: dict[str, str]) -> None:
        self.method = method
        self.url = url
        self.headers = headers


class _OneKey(HTTPSignatureKeyResolver):
    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        """The one key."""
        return self._key
