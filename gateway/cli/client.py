"""The HTTP client of staff commands: every call signed under the person's key (CONTRACT 3).

RFC 9421 with Ed25519 by the public library. It follows no redirect and keeps no cookie. A 5xx or a
time-out on a POST means unknown: the message says so, and a repeat with the same command is safe.
"""

import asyncio
import base64
import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ED25519

from config.clock import Clock, SystemClock
from config.ids import Ids, SystemIds
from gateway.cli.console import USAGE, CliError
from gateway.cli.staff_api import ApiAnswer

TIMEOUT_SECONDS = 30.0
NONCE_BYTES = 16
ANSWER_BYTES_MAX = 32 * 1024 * 1024


class StaffClient:
    """One person's connection to the API. Use it in `async with`."""

    def __init__(
        self,
        *,
        url: str,
        key_id: str,
        key_file: Path,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise CliError(f"{url} is not a URL of an API", hint="https://host:port", code=USAGE)
        self.key_id = key_id
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds(self._clock)
        self._signer = HTTPMessageSigner(
            signature_algorithm=ED25519, key_resolver=_OneKey(_load_key(key_file))
        )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """One read. Raises ApiAnswer for a problem, CliError when there is no answer."""
        suffix = f"?{urlencode(query)}" if query else ""
        return await self._send("GET", path + suffix, body=b"", idempotency_key=None)

    async def post(
        self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """One change. Errors as for `get`; with an idempotency key a repeat is safe."""
        raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        return await self._send("POST", path, body=raw, idempotency_key=idempotency_key)

    async def _send(
        self, method: str, target: str, *, body: bytes, idempotency_key: str | None
    ) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("StaffClient is used outside its `async with`")
        message = _Message(method, self._base + target, self._headers(body, idempotency_key))
        self._signer.sign(
            message,
            key_id=self.key_id,
            created=self._clock.now(),
            nonce=self._ids.token_bytes(NONCE_BYTES).hex(),
            label="sig1",
            covered_component_ids=_components(message.headers),
            use_existing_digest=True,
        )
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._session.request(
                    method,
                    _raw(message.url),
                    data=body or None,
                    headers=message.headers,
                    allow_redirects=False,
                ) as response,
            ):
                raw = await response.content.read(ANSWER_BYTES_MAX)
                while not response.content.at_eof() and len(raw) < ANSWER_BYTES_MAX:
                    raw += await response.content.read(ANSWER_BYTES_MAX - len(raw))
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            unknown = "; whether it was done is unknown, run it again" if method == "POST" else ""
            raise CliError(
                f"{self._base} did not answer ({type(error).__name__}){unknown}",
                hint="is the API running, and is --api right?",
            ) from error
        return _answer(status, raw)

    def _headers(self, body: bytes, idempotency_key: str | None) -> dict[str, str]:
        headers = {"accept": "application/json"}
        if body:
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode("ascii")
            headers["content-type"] = "application/json"
            headers["content-digest"] = f"sha-256=:{digest}:"
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        return headers


def _components(headers: Mapping[str, str]) -> tuple[str, ...]:
    optional = tuple(name for name in ("content-digest", "idempotency-key") if name in headers)
    return ("@method", "@authority", "@path", "@query", *optional)


def _raw(url: str) -> Any:
    """The URL exactly as signed: the client library must not encode it anew."""
    from yarl import URL

    return URL(url, encoded=True)


def _answer(status: int, raw: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(raw) if raw else {}
    except ValueError as error:
        raise CliError(f"the answer ({status}) is not JSON: is this a Cage API?") from error
    if not isinstance(parsed, dict):
        raise CliError(f"the answer ({status}) is not an object: is this a Cage API?")
    if not 200 <= status <= 299:
        raise ApiAnswer(status, parsed)
    return parsed


def _load_key(path: Path) -> ed25519.Ed25519PrivateKey:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise CliError(f"{path} may be read by others", hint=f"chmod 600 {path}", code=USAGE)
        loaded = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}", code=USAGE) from error
    except (ValueError, TypeError) as error:
        raise CliError(f"{path} is not a PEM key without a passphrase", code=USAGE) from error
    if not isinstance(loaded, ed25519.Ed25519PrivateKey):
        raise CliError(
            f"{path} is not an Ed25519 key", hint="cage staff key --out FILE", code=USAGE
        )
    return loaded


class _OneKey(HTTPSignatureKeyResolver):
    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self._key = key

    # The library's own name of the method that hands out the signing key.
    def resolve_private_key(self, key_id: str) -> ed25519.Ed25519PrivateKey:
        return self._key


class _Message:
    """The request in the shape that the library signs."""

    def __init__(self, method: str, url: str, headers: dict[str, str]) -> None:
        self.method = method
        self.url = url
        self.headers = headers
