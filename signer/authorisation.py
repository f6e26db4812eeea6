"""Who asked for a payment or gave it up: the client's signed HTTP request, checked.

`signer.signatures` says which key signed; this module says which message, route, authority, key and
digest are acceptable (CONTRACT 3). The brand comes from the signer's own register, never from the
caller. It must not look at the tx.
"""

import re
from base64 import b64decode
from collections.abc import Sequence, Set
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signer.errors import RefusalCode, Refused
from signer.orders import BATCH_PATH, WITHDRAWAL_PATH, Order, SignedBody
from signer.protocol import (
    Authorisation,
    Payment,
    ProtocolError,
    content_digest,
    identity,
    strict_loads,
)
from signer.register_store import ClientKey, KeyState, client_key, staff_keys
from signer.settings import Settings
from signer.signatures import ROUTE, KeyOf, Proof, prove_all
from signer.store import Store

AHEAD_SECONDS = 60  # CONTRACT 3: `created` at most 60 s ahead
COMPONENTS = (*ROUTE, "content-digest", "idempotency-key")
_HEADERS = frozenset(COMPONENTS[4:])
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
    [found] = authorise_all([payment], store=store, settings=settings, now_seconds=now_seconds)
    return found


def authorise_all(
    payments: Sequence[Payment], *, store: Store, settings: Settings, now_seconds: int
) -> list[AuthorisedOrder]:
    """As `authorise`, for all payments of a tx. Items of one signed batch are read once."""
    identities = [identity(item.authorisation) for item in payments]
    claims = {key: item.authorisation for key, item in zip(identities, payments, strict=True)}
    for claim in claims.values():
        is_route = claim.path in (WITHDRAWAL_PATH, BATCH_PATH)
        _check_request(claim, settings, is_route=is_route, required=_HEADERS)
    register = _Register(store)
    proofs = dict(zip(claims, prove_all(list(claims.values()), register.public_key), strict=True))
    bodies = {key: SignedBody(claim.body, path=claim.path) for key, claim in claims.items()}
    found = []
    for asked, payment in zip(identities, payments, strict=True):
        proof = proofs[asked]
        key = register.signer_of(proof, brand=payment.brand, now_seconds=now_seconds)
        order = bodies[asked].order(
            payment.request_id, created_seconds=proof.created_seconds, settings=settings
        )
        found.append(AuthorisedOrder(order=order, key=key, created_seconds=proof.created_seconds))
    return found


def authorise_cancel(
    claim: Authorisation, *, brand: str, store: Store, settings: Settings, now_seconds: int
) -> Cancel:
    """Verify a cancel by a key of the brand that is trusted now; raises Refused.

    Its id is the gateway's: which order stands behind it, only a `request_id` in the body says.
    """
    match = _CANCEL_PATH.fullmatch(claim.path)
    required = {"content-digest"} if claim.body else set()
    _check_request(claim, settings, is_route=match is not None, required=required)
    register = _Register(store)
    [proof] = prove_all([claim], register.public_key)
    key = register.signer_of(proof, brand=brand, now_seconds=now_seconds)
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
        self._keys = {
            name: Ed25519PublicKey.from_public_bytes(key) for name, key in staff_keys(store).items()
        }
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
                [proof] = prove_all([claim], _always(self._keys[name]))
            except Refused:
                continue
            self._seen[keyid] = name
            age = self._now - proof.created_seconds
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
    if digest == content_digest(body) or (digest is None and not body):
        return
    if digest is None or not _DIGEST.fullmatch(digest):
        raise Refused(RefusalCode.UNAUTHENTIC, "content-digest is not one sha-256")
    if b64decode(digest.removeprefix("sha-256=:").removesuffix(":")) != sha256(body).digest():
        raise Refused(RefusalCode.UNAUTHENTIC, "content-digest is not that of the body")


def _always(key: Ed25519PublicKey) -> KeyOf:
    """One key, whatever the request calls it."""
    return lambda _: key


class _Register:
    """The client keys that one decision asks for, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[str, tuple[ClientKey, Ed25519PublicKey] | None] = {}

    def public_key(self, key_id: str) -> Ed25519PublicKey | None:
        """The key of an id, or None where the register has none."""
        found = self._find(key_id)
        return None if found is None else found[1]

    def signer_of(self, proof: Proof, *, brand: str, now_seconds: int) -> ClientKey:
        """The key of the brand that signed, not in the future; raises Refused."""
        found = self._find(proof.key_id)
        if found is None:
            raise Refused(RefusalCode.UNKNOWN_KEY, "the key is not in the register")
        if proof.created_seconds > now_seconds + AHEAD_SECONDS:
            raise Refused(RefusalCode.UNAUTHENTIC, "created lies in the future")
        if found[0].brand != brand:
            raise Refused(RefusalCode.KEY_NOT_TRUSTED, "the key is not of the claimed brand")
        return found[0]

    def _find(self, key_id: str) -> tuple[ClientKey, Ed25519PublicKey] | None:
        if key_id not in self._keys:
            key = client_key(self._store, key_id)
            self._keys[key_id] = (
                None if key is None else (key, Ed25519PublicKey.from_public_bytes(key.public_key))
            )
        return self._keys[key_id]
