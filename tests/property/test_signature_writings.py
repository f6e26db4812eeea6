"""The one writing of a signature is read as the RFC 9421 library reads it (docs/adr/0028).

Whatever text arrives: what `canonical_signature` takes has the library's base, key, time and
signature, and both callers come to the library's verdict. What it does not take is the library's.
"""

import base64
import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import HTTPSignatureKeyResolver
from http_message_signatures.algorithms import HTTPSignatureAlgorithm
from http_message_signatures.exceptions import HTTPMessageSignaturesException
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.auth import OneKey, Proof, RawRequest, prove, prove_by_library
from gateway.errors import Unauthenticated
from signer import signatures
from signer.authorisation import COMPONENTS
from signer.errors import Refused
from signer.protocol import Authorisation, canonical_signature, content_digest
from tests.support.sign_requests import cancel
from tests.support.vault import client_key

MANY = settings(max_examples=1_000, deadline=None)
BODY = b'{"request_id":"r-1"}'
MARKS = [
    '"', "\\", "\n", "\r\n ", "\t", " ", "  ", ";", ",", "=", "(", ")", ":", "é", "\u2028", "\0",
    '\\"', '"@query"', ' "@path"', '"x";sf', ';keyid="evil"', ";created=1", ";created=-1",
    ";created=01", ";tag=\"t\"", ";expires=9", ";alg=ed25519", "sig2=", "*", "A", "0", "%", "%2F",
    ', sig2=("@method");created=1;keyid="b";alg="ed25519";nonce="n"',
]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(MARKS), st.text(max_size=3))
PARTS = ("signature_input", "signature", "idempotency-key", "path", "query", "authority", "method")
EDITS = st.lists(
    st.tuples(
        st.sampled_from(PARTS), st.integers(0, 400), st.integers(0, 12), TEXTS, st.booleans()
    ),
    max_size=3,
)


def written(parameters: str, components: tuple[str, ...] = COMPONENTS) -> Authorisation:
    """A request with this `Signature-Input`, not signed yet."""
    listed = " ".join(f'"{name}"' for name in components)
    return Authorisation(
        method="POST",
        authority="cage.test:8080",
        path="/v1/withdrawals",
        query="?",
        headers={"content-digest": content_digest(BODY), "idempotency-key": "key-1"},
        body=BODY,
        signature_input=f"sig1=({listed}){parameters}",
        signature="sig1=:" + base64.b64encode(bytes(64)).decode() + ":",
    )


PLAIN = ';created=1700000000;keyid="client-1";alg="ed25519";nonce="n-1"'


NUMBERS = st.sampled_from(
    ["1700000000", "01700000000", "0", "00", "-0", "-1", "1.0", "?1", "9" * 15, "9" * 16, '"1"', ""]
)
QUOTED = st.text(st.sampled_from(list('ab1"\\;=:, \té')), max_size=4).map(lambda text: f'"{text}"')
NAMED = st.one_of(
    st.tuples(st.sampled_from(["created", "created ", "expires", "Created"]), NUMBERS),
    st.tuples(st.sampled_from(["keyid", "nonce", "tag", "*a"]), st.one_of(QUOTED, NUMBERS)),
    st.tuples(st.just("alg"), st.sampled_from(['"ed25519"', "ed25519", '"ED25519"', '"hmac"'])),
)
PARAMETERS = st.one_of(
    st.just(PLAIN),
    st.tuples(NUMBERS, QUOTED, QUOTED).map(
        lambda it: f';created={it[0]};keyid={it[1]};alg="ed25519";nonce={it[2]}'
    ),
    st.lists(NAMED, min_size=3, max_size=5).map(
        lambda items: "".join(f";{name}={value}" for name, value in items)
    ),
)


def edited(claim: Authorisation, edits: list[tuple[str, int, int, str, bool]]) -> Authorisation:
    """Text put in at places, over some of what was there."""
    for part, place, over, text, is_doubled in edits:
        old = str(claim.headers.get(part) or getattr(claim, part, ""))
        at = place % (len(old) + 1)
        cut = old[at : at + over] * (2 if is_doubled else 0)
        new = old[:at] + cut + text + old[at + over :]
        if part in claim.headers:
            claim = replace(claim, headers={**claim.headers, part: new})
        else:
            changes: dict[str, Any] = {part: new}
            claim = replace(claim, **changes)
    return claim


class _Reader(HTTPSignatureAlgorithm):
    """Verifies nothing; keeps what the library would have verified."""

    algorithm_id = "ed25519"
    seen: tuple[bytes, bytes] = (b"", b"")

    def __init__(self, public_key: Any = None, private_key: Any = None) -> None:
        pass

    def verify(self, signature: bytes, message: bytes) -> None:
        _Reader.seen = (signature, message)


class _AnyKey(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id: str) -> str:
        return key_id


def read_by_library(claim: Authorisation) -> tuple[dict[str, Any], set[str], bytes, bytes] | None:
    """(parameters, covered components, signature, base), or None: the library refuses it."""
    verifier = signatures._Verifier(
        signature_algorithm=_Reader,
        key_resolver=_AnyKey(),
        component_resolver_class=signatures._ClaimResolver,
    )
    try:
        results = verifier.verify(signatures._Message(claim), max_age=None)
    except (HTTPMessageSignaturesException, ValueError, KeyError, TypeError):
        return None
    [result] = results
    return (dict(result.parameters), set(result.covered_components), *_Reader.seen)


def signed(claim: Authorisation, key: Ed25519PrivateKey) -> Authorisation:
    """Signed over what the library reads in it; as it is where the library refuses it."""
    read = read_by_library(claim)
    if read is None:
        return claim
    label = claim.signature_input.partition("=")[0]
    proof = base64.b64encode(key.sign(read[3])).decode()
    return replace(claim, signature=f"{label}=:{proof}:")


@MANY
@given(PARAMETERS, EDITS)
@example(PLAIN, [])
@example(PLAIN.replace("n-1", "n\\1"), [])
@example(PLAIN.replace("n-1", 'n\\"1'), [])
def test_what_is_taken_is_what_the_library_reads(parameters: str, edits: list[Any]) -> None:
    claim = edited(written(parameters), edits)
    found = signatures.canonical(claim)
    if found is None:
        return
    read = read_by_library(claim)
    assert read is not None
    said, covered, signature, base = read
    assert (found.base, found.signature) == (base, signature)
    assert said == {
        "created": found.created_seconds,
        "keyid": found.key_id,
        "nonce": found.nonce,
        "alg": "ed25519",
    }
    names = ("@method", "@authority", "@path", "@query", *claim.headers, "@signature-params")
    assert covered == {f'"{name}"' for name in names}


def verdict(claim: Authorisation, key: Ed25519PublicKey | None, *, is_first: bool) -> object:
    """The signer's answer: by the one writing first, or by the library alone."""
    try:
        if is_first:
            return signatures.prove_all([claim], lambda _: key)
        return [signatures.prove_by_library(claim, lambda _: key)]
    except Refused as error:
        return error.code


@MANY
@given(PARAMETERS, EDITS, EDITS, st.booleans())
@example(PLAIN, [], [], True)
@example(PLAIN, [], [("signature", 10, 1, "A", False)], True)
def test_s01_the_signer_comes_to_the_verdict_of_the_library(
    parameters: str, edits: list[Any], after: list[Any], is_known: bool
) -> None:
    """`edits` are signed as they are read, `after` come behind the signature."""
    claim = edited(signed(edited(written(parameters), edits), client_key()), after)
    key = client_key().public_key() if is_known else None
    assert verdict(claim, key, is_first=True) == verdict(claim, key, is_first=False)


def request_of(claim: Authorisation) -> RawRequest:
    """The same as the API receives it."""
    headers: Mapping[str, str] = {
        **claim.headers,
        "signature-input": claim.signature_input,
        "signature": claim.signature,
    }
    return RawRequest(
        method=claim.method,
        authority=claim.authority,
        path=claim.path,
        query=claim.query,
        header_lines=tuple(headers.items()),
        body=claim.body,
        peer="127.0.0.1",
    )


def answer(request: RawRequest, *, is_first: bool) -> Proof | None:
    """The API's answer: by the one writing first, or by the library alone; None is a no."""
    key = OneKey("client-1", client_key().public_key().public_bytes_raw())
    try:
        return (prove(request, key) if is_first else None) or prove_by_library(request, key)
    except Unauthenticated:
        return None


@MANY
@given(PARAMETERS, EDITS, EDITS, st.binary(max_size=3))
@example(PLAIN, [], [], b"")
@example(PLAIN, [], [], b"x")
def test_the_api_comes_to_the_verdict_of_the_library(
    parameters: str, edits: list[Any], after: list[Any], more: bytes
) -> None:
    claim = edited(signed(edited(written(parameters), edits), client_key()), after)
    request = request_of(replace(claim, body=claim.body + more))
    assert answer(request, is_first=True) == answer(request, is_first=False)


def test_every_order_of_components_and_parameters_is_taken() -> None:
    parameters = [";created=1700000000", ';keyid="client-1"', ';alg="ed25519"', ';nonce="n-1"']
    writings = [written("".join(order)) for order in itertools.permutations(parameters)]
    writings += [written(PLAIN, order) for order in itertools.permutations(COMPONENTS)]
    for claim in writings:
        made = signed(claim, client_key())
        assert signatures.canonical(made) is not None, claim.signature_input
        assert verdict(made, client_key().public_key(), is_first=True) == verdict(
            made, client_key().public_key(), is_first=False
        )


def test_what_the_clients_of_the_house_write_is_taken() -> None:
    made = cancel(body=b"{}", idempotency_key="k-1")
    assert signatures.canonical(made) is not None
    key = OneKey("client-1", client_key().public_key().public_bytes_raw())
    assert prove(request_of(made), key) == prove_by_library(request_of(made), key)


def test_a_signature_over_other_components_is_not_taken() -> None:
    """One too few, one too many, one twice: these are the library's, and it has its answer."""
    values = {"@method": "POST", "@path": "/v1"}
    proof = "sig1=:" + base64.b64encode(bytes(64)).decode() + ":"
    for listed in ('"@method"', '"@method" "@path" "@query"', '"@method" "@path" "@path"'):
        found = canonical_signature(
            signature_input=f"sig1=({listed}){PLAIN}", signature=proof, values=values
        )
        assert found is None, listed
    taken = canonical_signature(
        signature_input=f'sig1=("@path" "@method"){PLAIN}', signature=proof, values=values
    )
    assert taken is not None
    assert (
        taken.base
        == (
            f'"@path": /v1\n"@method": POST\n"@signature-params": ("@path" "@method"){PLAIN}'
        ).encode()
    )
