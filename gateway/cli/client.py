"""The API client of staff commands: `gateway.client` under the person's own key file.

Owns the checks of the key file and the words for an API that does not answer. A 5xx or a time-out
on a POST means unknown: the message says so, and running the same command again is safe.
"""

import stat
from collections.abc import Awaitable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from config.clock import Clock, SystemClock
from config.ids import SystemIds
from gateway.cli.console import USAGE, CliError
from gateway.client import ApiClient

UNKNOWN = "; whether it was done is unknown: run it again"


class StaffClient:
    """One person's connection to the API. Use it in `async with`."""

    def __init__(self, *, url: str, key_id: str, key_file: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise CliError(f"{url} is not a URL of an API", hint="https://host:port", code=USAGE)
        self.key_id = key_id
        self.clock: Clock = SystemClock()
        self._ids = SystemIds(self.clock)
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._client = ApiClient(
            url=self._base,
            key_id=key_id,
            key=load_key(key_file),
            clock=self.clock,
            ids=self._ids,
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    def new_key(self, noun: str) -> str:
        """An idempotency key for one run of a command."""
        return f"{noun}:{self._ids.new_id().hex}"

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """One read. Raises ClientProblem for a problem, CliError when there is no answer."""
        return await self._answer(self._client.get(path, query))

    async def post(
        self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """One change. Errors as for `get`; with an idempotency key a repeat is safe."""
        asked = self._client.post(path, body, idempotency_key=idempotency_key)
        return await self._answer(asked, UNKNOWN)

    async def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One replacement. Errors as for `get`; a repeat is safe."""
        return await self._answer(self._client.put(path, body), UNKNOWN)

    async def _answer(self, asked: Awaitable[object], consequence: str = "") -> dict[str, Any]:
        try:
            return _object(await asked)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CliError(
                f"{self._base} did not answer ({type(error).__name__}){consequence}",
                hint="is the API running, and is --api right?",
            ) from error


def _object(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ValueError("not an object")
    return answer


def load_key(path: Path) -> Ed25519PrivateKey:
    """The person's key from a PEM file that only they may read. Raises CliError."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise CliError(f"{path} may be read by others", hint=f"chmod 600 {path}", code=USAGE)
        loaded = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}", code=USAGE) from error
    except (ValueError, TypeError) as error:
        raise CliError(f"{path} is not a PEM key without a passphrase", code=USAGE) from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise CliError(
            f"{path} is not an Ed25519 key", hint="cage staff key --out FILE", code=USAGE
        )
    return loaded
