"""Which key signed a stored HTTP request (RFC 9421), and when.

A request of the one canonical writing is verified over the base that `signer.protocol_signatures`
formats; every other goes to the library, which canonicalises and verifies. Both ask for exactly the
components and parameters of CONTRACT 3. Times, routes and what a key may do are the caller's.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
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

from signer.errors import RefusalCode, Refused
from signer.protocol import Authorisation, CanonicalSignature, canonical_signature

ROUTE = ("@method", "@authority", "@path", "@query")
PARAMETERS = {"created", "nonce", "keyid", "alg"}
THREADS_MAX = 4
THREAD_SHARE_MIN = 16  # about 1 ms of work; below it a thread costs more than it brings

KeyOf = Callable[[str], Ed25519PublicKey | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A signature that holds: the key id it names, and `created` in seconds."""

    key_id: str
    created_seconds: int


def prove_all(claims: Sequence[Authorisation], key_of: KeyOf) -> list[Proof]:
    """One proof per request, in order; raises Refused for the first that has none.

    Each covers the route and all of its `headers`. `key_of` gives the key of an id, or None.
    """
    found: list[CanonicalSignature | None] = [canonical(claim) for claim in claims]
    questions = [
        (_known(key_of, item.key_id), item.signature, item.base)
        for item in found
        if item is not None
    ]
    verdicts = iter(_verify_all(questions))
    proofs = []
    for claim, item in zip(claims, found, strict=True):
        if item is None:
            proofs.append(prove_by_library(claim, key_of))
        elif next(verdicts):
            proofs.append(Proof(key_id=item.key_id, created_seconds=item.created_seconds))
        else:
            raise Refused(RefusalCode.UNAUTHENTIC, "the signature does not hold")
    return proofs


def canonical(claim: Authorisation) -> CanonicalSignature | None:
    """The request's signature as its one writing says, or None: the library reads it."""
    return canonical_signature(
        signature_input=claim.signature_input,
        signature=claim.signature,
        values={
            "@method": claim.method,
            "@authority": claim.authority,
            "@path": claim.path,
            "@query": claim.query,
            **claim.headers,
        },
    )


def prove_by_library(claim: Authorisation, key_of: KeyOf) -> Proof:
    """The proof of one request of any writing; raises Refused."""
    resolver = _Keys(key_of)
    verifier = _Verifier(
        signature_algorithm=ED25519,
        key_resolver=resolver,
        component_resolver_class=_ClaimResolver,
    )
    try:
        # The digest is compared by the caller, and must be among the covered components.
        results = verifier.verify(_Message(claim), max_age=None)
    except (HTTPMessageSignaturesException, ValueError, KeyError, TypeError) as error:
        if resolver.is_unknown:
            raise _unknown() from error
        # The library raises its own for what does not verify, and these for headers it cannot read.
        raise Refused(RefusalCode.UNAUTHENTIC, "the signature does not hold") from error
    if len(results) != 1:
        raise Refused(RefusalCode.UNAUTHENTIC, "exactly one signature is required")
    covered = set(results[0].covered_components) - {'"@signature-params"'}
    if covered != {f'"{name}"' for name in (*ROUTE, *claim.headers)}:
        raise Refused(RefusalCode.UNAUTHENTIC, "the covered components are not the contract's")
    said = results[0].parameters
    if set(said) != PARAMETERS:
        raise Refused(RefusalCode.UNAUTHENTIC, "the parameters are not the contract's")
    return Proof(key_id=str(said["keyid"]), created_seconds=int(said["created"]))


def _known(key_of: KeyOf, key_id: str) -> Ed25519PublicKey:
    key = key_of(key_id)
    if key is None:
        raise _unknown()
    return key


def _unknown() -> Refused:
    return Refused(RefusalCode.UNKNOWN_KEY, "the key is not in the register")


def _verify_all(questions: Sequence[tuple[Ed25519PublicKey, bytes, bytes]]) -> list[bool]:
    """Whether each (key, signature, base) holds. Ed25519 runs without the interpreter's lock."""
    verdicts = [False] * len(questions)  # what a thread never came to does not hold
    shares = min(len(os.sched_getaffinity(0)), THREADS_MAX, len(questions) // THREAD_SHARE_MIN) or 1

    def work(first: int) -> None:
        for place in range(first, len(questions), shares):
            verdicts[place] = _holds(*questions[place])

    threads = [Thread(target=work, args=(first,)) for first in range(1, shares)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    return verdicts


def _holds(key: Ed25519PublicKey, signature: bytes, base: bytes) -> bool:
    try:
        key.verify(signature, base)
    except WrongSignature:
        return False
    return True


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
        """`created` is required here and compared by the caller."""
        if type(sig_input.params.get("created")) is not int:
            raise InvalidSignature("created: an integer is required")


class _Keys(HTTPSignatureKeyResolver):
    """The caller's keys."""

    def __init__(self, key_of: KeyOf) -> None:
        self._key_of = key_of
        self.is_unknown = False

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey | None:
        """The key, or None, which the library takes as not verified."""
        key = self._key_of(key_id)
        self.is_unknown = key is None
        return key
