"""Who asked for a payment or gave it up: the client's HTTP Message Signature (RFC 9421), checked.

The library canonicalises and verifies; this module says which message, components, parameters,
route, authority, key and digest are acceptable (CONTRACT 3). The brand comes from the signer's
own register, never from the caller. It must not look at the tx.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageVerifier,
    HTTPSignatureComponentResolver,
    HTTPSignatureKeyResolver,
)
from http_message_signatures.algorithms import ED25519
from http_message_signatures.exceptions import HTTPMessageSignaturesException, InvalidSignature
from http_message_signatures.structures import VerifyResult

from signer.errors import RefusalCode, Refused
from signer.orders import BATCH_PATH, WITHDRAWAL_PATH, Order, parse_order
from signer.protocol import Authorisation, Payment, ProtocolError, strict_loads
from signer.register_store import ClientKey, KeyState, client_key, staff_keys
from signer.settings import Settings
from signer.store import Store

AHEAD_SECONDS = 60  # CONTRACT 3: `created` at most 60 s ahead
COMPONENTS = ("@method", "@authority", "@path", "@query", "content-digest", "idempotency-key")
_ROUTE = COMPONENTS[:4]
_HEADERS = frozenset(COMPONENTS[4:])
PARAMETERS = {"created", "nonce", "keyid", "alg"}
_CANCEL_PATH = re.compile(r"/v1/withdrawals/(wd_[A-Za-z0-9_-]{1,120})/cancel", re.ASCII)
_DIGEST = re.compile(r"sha-256=:[A-Za-z0-9+/]{43}=:", re.ASCII)
_KEYID = re.compile(r';keyid="([^"]{1,255})"')
_HEADER_BYTES_MAX = 4_096
_CANCEL_BYTES_MAX = 4_096  # one request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorisedOrder:
    """An order, the register's view of the key that signed it, and when it was signed."""

    order: Order
    key: ClientKey
    created_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A client's signed cancel: the gateway's id in its path, and the request_id if it says so."""

    withdrawal: str
    request_id: str | None


def authorise(
    payment: Payment, *, store: Store, settings: Settings, now_seconds: int
) -> AuthorisedOrder:
    """Verify one payment's authorisation; raises Refused. The key's state is left to policy."""
    claim = payment.authorisation
    is_route = claim.path in (WITHDRAWAL_PATH, BATCH_PATH)
    _check_request(claim, settings, is_route=is_route, required=_HEADERS)
    key, created = _signer_of(
        claim, brand=payment.brand, components=COMPONENTS, store=store, now_seconds=now_seconds
    )
    order = parse_order(
        claim.body,
        path=claim.path,
        request_id=payment.request_id,
        created_seconds=created,
        settings=settings,
    )
    return AuthorisedOrder(order=order, key=key, created_seconds=created)


def authorise_cancel(
    claim: Authorisation, *, brand: str, store: Store, settings: Settings, now_seconds: int
) -> Cancel:
    """Verify a cancel by a key of the brand that is trusted now; raises Refused.

    Its id is the gateway's: which order stands behind it, only a `request_id` in the body says.
    """
    match = _CANCEL_PATH.fullmatch(claim.path)
    required = {"content-digest"} if claim.body else set()
    _check_request(claim, settings, is_route=match is not None, required=required)
    key, _ = _signer_of(
        claim,
        brand=brand,
        components=(*_ROUTE, *claim.headers),
        store=store,
        now_seconds=now_seconds,
    )
    if key.state is not KeyState.TRUSTED or key.expires_at <= now_seconds:
        raise Refused(RefusalCode.KEY_NOT_TRUSTED, "the cancel's key is not trusted now")
    return Cancel(
        withdrawal="" if match is None else match.group(1), request_id=_cancelled(claim.body)
    )


class StaffRequests:
    """Signed requests of people of the signer's own register, for one decision.

    The gateway's key id means nothing here: who signed is whose trusted key verifies.
    """

    def __init__(self, *, store: Store, settings: Settings, now_seconds: int) -> None:
        self._keys = staff_keys(store)
        self._settings = settings
        self._now = now_seconds
        self._seen: dict[str, str] = {}  # key id -> name: the first one to try

    def person(self, claim: Authorisation, *, route: re.Pattern[str]) -> str:
        """Whose signature holds over a request to `route`, young enough; raises Refused."""
        _check_request(
            claim,
            self._settings,
            is_route=route.fullmatch(claim.path) is not None,
            required={"content-digest"},
        )
        found = _KEYID.search(claim.signature_input)
        keyid = "" if found is None else found.group(1)
        first = self._seen.get(keyid)
        for name in sorted(self._keys, key=lambda item: (item != first, item)):
            try:
                result = _verify(claim, _OneKey(self._keys[name]), (*_ROUTE, *claim.headers))
            except Refused:
                continue
            self._seen[keyid] = name
            age = self._now - int(result.parameters["created"])
            if not -AHEAD_SECONDS <= age < self._settings.approval_seconds:
                raise Refused(RefusalCode.NEEDS_STAFF, f"{name}: stale or from the future")
            return name
        raise Refused(RefusalCode.NEEDS_STAFF, "signed by nobody on the staff")


def _cancelled(body: bytes) -> str | None:
    """The request_id in a cancel's body, which may be empty."""
    if len(body) > _CANCEL_BYTES_MAX:
        raise Refused(RefusalCode.BAD_CANCEL, "the body is too large")
    try:
        raw = strict_loads(body) if body else {}
    except ProtocolError as error:
        raise Refused(RefusalCode.BAD_CANCEL, f"the body: {error}") from error
    request_id = raw.get("request_id")
    if not set(raw) <= {"request_id"} or not isinstance(request_id, str | None):
        raise Refused(RefusalCode.BAD_CANCEL, "the body says at most which request_id")
    return request_id


def _check_request(
    claim: Authorisation, settings: Settings, *, is_route: bool, required: Set[str]
) -> None:
    if claim.method != "POST" or not is_route or claim.query != "?":
        raise Refused(RefusalCode.UNAUTHENTIC, "not a POST to a withdrawal route")
    if claim.authority not in settings.authorities:
        raise Refused(RefusalCode.UNAUTHENTIC, "the authority is not on the signer's list")
    if not required <= set(claim.headers) <= _HEADERS:
        raise Refused(RefusalCode.UNAUTHENTIC, "the covered headers are not the contract's")
    _check_digest(claim.headers.get("content-digest"), claim.body)
    texts = (*claim.headers.values(), claim.signature_input, claim.signature)
    if any(len(text) > _HEADER_BYTES_MAX for text in texts):
        raise Refused(RefusalCode.UNAUTHENTIC, "a header is too long")


def _check_digest(digest: str | None, body: bytes) -> None:
    """The header is the body's one sha-256 (RFC 9530); which bodies need one the caller says."""
    if digest is None and not body:
        return
    if digest is None or not _DIGEST.fullmatch(digest):
        raise Refused(RefusalCode.UNAUTHENTIC, "content-digest is not one sha-256")
    if b64decode(digest.removeprefix("sha-256=:").removesuffix(":")) != sha256(body).digest():
        raise Refused(RefusalCode.UNAUTHENTIC, "content-digest is not that of the body")


def _signer_of(
    claim: Authorisation,
    *,
    brand: str,
    components: Collection[str],
    store: Store,
    now_seconds: int,
) -> tuple[ClientKey, int]:
    """The key of the brand whose signature holds, and `created` in seconds; raises Refused."""
    resolver = _RegisterResolver(store)
    try:
        result = _verify(claim, resolver, components)
    except Refused as error:
        if resolver.unknown is not None:
            raise Refused(RefusalCode.UNKNOWN_KEY, "the key is not in the register") from error
        raise
    key, created = resolver.known, int(result.parameters["created"])
    if key is None or key.keyid != str(result.parameters["keyid"]):  # the resolver has found it
        raise Refused(RefusalCode.UNKNOWN_KEY, "the key is not the one that was looked up")
    if created > now_seconds + AHEAD_SECONDS:
        raise Refused(RefusalCode.UNAUTHENTIC, "created lies in the future")
    if key.brand != brand:
        raise Refused(RefusalCode.KEY_NOT_TRUSTED, "the key is not of the claimed brand")
    return key, created


def _verify(
    claim: Authorisation, resolver: HTTPSignatureKeyResolver, components: Collection[str]
) -> VerifyResult:
    verifier = _Verifier(
        signature_algorithm=ED25519,
        key_resolver=resolver,
        component_resolver_class=_ClaimResolver,
    )
    try:
        # The digest is compared in `_check_digest`, and must be among the covered components.
        results = verifier.verify(_Message(claim), max_age=None)
    except (HTTPMessageSignaturesException, ValueError, KeyError, TypeError) as error:
        # The library raises its own for what does not verify, and these for headers it cannot read.
        raise Refused(RefusalCode.UNAUTHENTIC, "the signature does not hold") from error
    if len(results) != 1:
        raise Refused(RefusalCode.UNAUTHENTIC, "exactly one signature is required")
    covered = set(results[0].covered_components) - {'"@signature-params"'}
    if covered != {f'"{name}"' for name in components}:
        raise Refused(RefusalCode.UNAUTHENTIC, "the covered components are not the contract's")
    if set(results[0].parameters) != PARAMETERS:
        raise Refused(RefusalCode.UNAUTHENTIC, "the parameters are not the contract's")
    return results[0]


class _Message:
    """The stored request in the shape that the library reads."""

    def __init__(self, claim: Authorisation) -> None:
        self.method = claim.method
        self.claim = claim
        self.url = f"https://{claim.authority}{claim.path}"
        self.headers = {
            **claim.headers,
            "Signature-Input": claim.signature_input,
            "Signature": claim.signature,
        }


class _ClaimResolver(HTTPSignatureComponentResolver):
    """Derived components are the stored values, which were checked against the own lists."""

    derived_component_resolvers: ClassVar[Mapping[str, Callable[..., str]]] = {  # type: ignore[assignment]
        "@method": lambda self: self.message.claim.method,
        "@authority": lambda self: self.message.claim.authority,
        "@path": lambda self: self.message.claim.path,
        "@query": lambda self: self.message.claim.query,
    }


class _Verifier(HTTPMessageVerifier):
    """Times are judged by the caller, by the signer's clock: an old signature may still pay."""

    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        """`created` is required here and compared in `authorise`."""
        if type(sig_input.params.get("created")) is not int:
            raise InvalidSignature("created: an integer is required")


class _RegisterResolver(HTTPSignatureKeyResolver):
    """Public keys from the signer's own register."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.unknown: str | None = None
        self.known: ClientKey | None = None

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey | None:
        """The key, or None, which the library takes as not verified."""
        self.known = client_key(self._store, key_id)
        if self.known is None:
            self.unknown = key_id
            return None
        return Ed25519PublicKey.from_public_bytes(self.known.public_key)


class _OneKey(HTTPSignatureKeyResolver):
    """One public key, whatever the request calls it."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
        """The key."""
        return Ed25519PublicKey.from_public_bytes(self._key)
