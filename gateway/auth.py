"""Who is calling: RFC 9421 signatures with Ed25519 on every call (CONTRACT 3).

The form that nearly every caller writes is read by `signer.protocol`, any other by the library,
which then has the last word; this module says which components, parameters, authority and times
are acceptable, finds the key, and makes every failure look the same (A39). It must not
decide what a key may do (that is the endpoint's scope) and it stores nothing: the nonce of a call
that changes state is stored in that call's own unit of work.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar

from cryptography.exceptions import InvalidSignature as WrongSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageVerifier,
    HTTPSignatureComponentResolver,
    HTTPSignatureKeyResolver,
)
from http_message_signatures.algorithms import ED25519
from http_message_signatures.exceptions import HTTPMessageSignaturesException, InvalidSignature

from config.clock import Clock
from config.database import Database
from gateway import clients_store
from gateway.clients_store import ClientRow
from gateway.errors import Forbidden, Unauthenticated
from signer.protocol import Authorisation, canonical_signature, content_digest

MAX_AGE = timedelta(seconds=300)  # CONTRACT 3: `created` at most 300 s old
MAX_AHEAD = timedelta(seconds=60)  # and 60 s ahead
KEY_CACHE_SECONDS = 1.0  # a new key works after 1 s, a revocation within 5 s (A28)
KEY_READ_SECONDS_MAX = 3.0  # with the age before it below the 5 s of A28
NONCE_LENGTHS = (8, 128)
PARAMETERS = frozenset({"created", "nonce", "keyid", "alg"})
_ROUTE = frozenset({"@method", "@authority", "@path", "@query"})
SINGLE_HEADERS = (
    "host",
    "signature",
    "signature-input",
    "content-digest",
    "idempotency-key",
    "content-type",
    "content-length",
    "authorization",
)
_KEY_ID = re.compile(r';keyid="([A-Za-z0-9_.:-]{1,128})"', re.ASCII)
_DIGEST = re.compile(r"sha-256=:[A-Za-z0-9+/]{43}=:", re.ASCII)  # RFC 9530
_NONCE = re.compile(r"[\x21-\x7e]+", re.ASCII)
# RFC 8032 7.1, test 1: a public test vector. An unknown key id is verified against it, so that it
# takes the same time as a wrong signature; the answer is no either way.
_NOBODY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


class PrincipalKind(StrEnum):
    """Who holds a key (CONTRACT 3)."""

    CLIENT = "client"
    """One brand's machine."""
    OPERATOR = "operator"
    """The operator's machine: all brands."""
    STAFF = "staff"
    """A person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller whose signature holds. `brand` is None for those who see all brands."""

    key_id: str
    kind: PrincipalKind
    brand: str | None
    person: str | None
    scopes: frozenset[str]
    roles: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCall:
    """A verified request: who, when, with which nonce, and the bytes to keep."""

    principal: Principal
    created: datetime
    nonce: str
    signed: Authorisation
    idempotency_key: str | None

    @property
    def nonce_expires_at(self) -> datetime:
        """From when on the nonce need not be kept: `created` alone refuses the call then."""
        return self.created + MAX_AGE + MAX_AHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRequest:
    """A request as received: raw target parts, every header line, whole body."""

    method: str
    authority: str
    path: str
    query: str
    header_lines: tuple[tuple[str, str], ...]
    body: bytes
    peer: str
    _first: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lines = {name.lower(): value for name, value in reversed(self.header_lines)}
        object.__setattr__(self, "_first", lines)

    def header(self, name: str) -> str | None:
        """The value of a header that may stand once: of several lines the first."""
        return self._first.get(name)

    @property
    def has_each_once(self) -> bool:
        """Whether no header stands twice."""
        return len(self._first) == len(self.header_lines)


class KeyCache:
    """All registered keys, at most KEY_CACHE_SECONDS old: an unknown key id asks no database.

    They are few (machines and staff of one operator), so that one query reads them all.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._rows: Mapping[str, ClientRow] = {}
        self._read_at_seconds: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def get(self, key_id: str) -> ClientRow | None:
        """The row, or None for an unknown key."""
        if self._is_old():
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)  # one reads for all who wait
        return self._rows.get(key_id)

    def expire(self) -> None:
        """Read the keys anew at the next call."""
        self._read_at_seconds = None

    def _is_old(self) -> bool:
        at_seconds = self._read_at_seconds
        now_seconds = self._clock.monotonic_seconds()
        return at_seconds is None or now_seconds - at_seconds > KEY_CACHE_SECONDS

    async def _read(self) -> None:
        started_seconds = self._clock.monotonic_seconds()
        async with asyncio.timeout(KEY_READ_SECONDS_MAX):
            async with self._database.unit_of_work() as uow:
                rows = await clients_store.every(uow)
        self._rows = {row.key_id: row for row in rows}
        self._read_at_seconds = started_seconds


class Authenticator:
    """Verifies requests against the registered keys."""

    def __init__(self, *, keys: KeyCache, clock: Clock, authorities: frozenset[str]) -> None:
        self.keys = keys
        self._clock = clock
        self._authorities = authorities

    async def verify(self, request: RawRequest) -> SignedCall:
        """The signed call. Raises Unauthenticated for every cause, Forbidden for the peer's IP."""
        _check_headers(request)
        if request.authority not in self._authorities:
            raise Unauthenticated
        found = _KEY_ID.findall(request.header("signature-input") or "")
        if len(found) != 1:
            raise Unauthenticated
        row = await self.keys.get(found[0])
        key = OneKey(found[0], row.public_key if row else _NOBODY)
        proof = prove(request, key) or prove_by_library(request, key)
        created = self._created(proof.created_seconds)
        if not _NONCE.fullmatch(proof.nonce):
            raise Unauthenticated
        if not NONCE_LENGTHS[0] <= len(proof.nonce) <= NONCE_LENGTHS[1]:
            raise Unauthenticated
        if row is None or not _is_valid(row, self._clock.now()):
            raise Unauthenticated
        if row.ip_allow and not _is_allowed(request.peer, row.ip_allow):
            raise Forbidden("ip_not_allowed", "This key may not be used from this address.")
        return SignedCall(
            principal=_principal(row),
            created=created,
            nonce=proof.nonce,
            signed=_authorisation(request),
            idempotency_key=request.header("idempotency-key"),
        )

    def _created(self, created_seconds: int) -> datetime:
        now = self._clock.now()
        try:
            moment = datetime.fromtimestamp(created_seconds, tz=now.tzinfo)
        except (ValueError, OverflowError, OSError) as error:
            raise Unauthenticated from error
        if not now - MAX_AGE <= moment <= now + MAX_AHEAD:
            raise Unauthenticated
        return moment


def _check_headers(request: RawRequest) -> None:
    """A duplicated header could mean two things to two parsers (A10)."""
    if not request.has_each_once:
        names = [name.lower() for name, _ in request.header_lines]
        if any(names.count(name) > 1 for name in SINGLE_HEADERS):
            raise Unauthenticated
    digest = request.header("content-digest")
    if digest is not None and not _DIGEST.fullmatch(digest):  # the signer takes no other either
        raise Unauthenticated


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a signature that holds says of itself. `created` in seconds."""

    created_seconds: int
    nonce: str


def prove(request: RawRequest, key: "OneKey") -> Proof | None:
    """By the one canonical writing, or None where the request is not of it.

    Raises Unauthenticated where it is and the signature does not hold.
    """
    values = {name: request.header(name) or "" for name in _components(request) - _ROUTE}
    values |= {
        "@method": request.method,
        "@authority": request.authority,
        "@path": request.path,
        "@query": request.query,
    }
    found = canonical_signature(
        signature_input=request.header("signature-input") or "",
        signature=request.header("signature") or "",
        values=values,
    )
    digest = values.get("content-digest")
    if found is None or digest not in (None, content_digest(request.body)):
        return None
    public = key.resolve_public_key(found.key_id)
    try:
        if public is None:
            raise Unauthenticated
        public.verify(found.signature, found.base)
    except WrongSignature as error:
        raise Unauthenticated from error
    return Proof(created_seconds=found.created_seconds, nonce=found.nonce)


def prove_by_library(request: RawRequest, key: "OneKey") -> Proof:
    """By the library, whatever the writing; raises Unauthenticated."""
    verifier = _Verifier(
        signature_algorithm=ED25519, key_resolver=key, component_resolver_class=_RequestResolver
    )
    try:
        results = verifier.verify(_Message(request), max_age=None, body=request.body)
    except HTTPMessageSignaturesException as error:
        raise Unauthenticated from error
    except ValueError as error:  # a header that is not the text the library expects
        raise Unauthenticated from error
    if len(results) != 1:
        raise Unauthenticated
    covered = set(results[0].covered_components) - {'"@signature-params"'}
    if covered != {f'"{name}"' for name in _components(request)}:
        raise Unauthenticated
    found = results[0].parameters
    if set(found) != PARAMETERS:
        raise Unauthenticated
    return Proof(created_seconds=int(found["created"]), nonce=str(found["nonce"]))


def _components(request: RawRequest) -> set[str]:
    """Exactly what must be covered: the route, the digest of a body, the idempotency key."""
    names = set(_ROUTE)
    if request.body or request.header("content-digest") is not None:
        names.add("content-digest")
    if request.header("idempotency-key") is not None:
        names.add("idempotency-key")
    return names


def _is_valid(row: ClientRow, now: datetime) -> bool:
    if row.revoked_at is not None and row.revoked_at <= now:
        return False
    return row.expires_at is None or row.expires_at > now


def _is_allowed(peer: str, networks: tuple[str, ...]) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in ip_network(network, strict=False) for network in networks)


def _principal(row: ClientRow) -> Principal:
    return Principal(
        key_id=row.key_id,
        kind=PrincipalKind(row.kind),
        brand=row.brand,
        person=row.person,
        scopes=frozenset(row.scopes),
        roles=frozenset(row.roles),
    )


def _authorisation(request: RawRequest) -> Authorisation:
    headers = {
        name: value
        for name in ("content-digest", "idempotency-key")
        if (value := request.header(name)) is not None
    }
    return Authorisation(
        method=request.method,
        authority=request.authority,
        path=request.path,
        query=request.query,
        headers=headers,
        body=request.body,
        signature_input=request.header("signature-input") or "",
        signature=request.header("signature") or "",
    )


class _Message:
    """The request in the shape that the library reads."""

    def __init__(self, request: RawRequest) -> None:
        self.request_parts = request
        self.method = request.method
        self.url = f"https://{request.authority}{request.path}"
        self.headers = dict(request.header_lines)


class _RequestResolver(HTTPSignatureComponentResolver):
    """Derived components are the raw parts: nothing is decoded or normalised in between."""

    derived_component_resolvers: ClassVar[Mapping[str, Callable[..., str]]] = {  # type: ignore[assignment]
        "@method": lambda self: self.message.request_parts.method,
        "@authority": lambda self: self.message.request_parts.authority,
        "@path": lambda self: self.message.request_parts.path,
        "@query": lambda self: self.message.request_parts.query,
    }


class _Verifier(HTTPMessageVerifier):
    """Times are judged by the authenticator, by the injected clock."""

    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        """`created` is required here and compared by the authenticator."""
        if type(sig_input.params.get("created")) is not int:
            raise InvalidSignature("created: an integer is required")


class OneKey(HTTPSignatureKeyResolver):
    """The key that was looked up, under its own id only."""

    def __init__(self, key_id: str, public_key: bytes) -> None:
        self._key_id = key_id
        self._public_key = public_key

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey | None:
        """The key, or None, which the library takes as not verified."""
        if key_id != self._key_id:
            return None
        return Ed25519PublicKey.from_public_bytes(self._public_key)
