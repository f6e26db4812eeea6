"""The one writing of an HTTP Message Signature that needs no library to read (RFC 9421).

Almost every request of a client or of staff carries exactly one signature, over the components and
with the parameters of CONTRACT 3, written as the RFC serialises it: one space between components,
no escapes, no white space to trim. Of such text the signature base (RFC 9421 2.5) is a matter of
formatting. Anything else is None here, and the caller asks the library, whose word then counts
(docs/adr). It must not verify anything, nor know any key. Standard library only.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

SIGNATURE_ALGORITHM = "ed25519"
_PARAMETER = (
    r';(created|keyid|nonce|alg)=(?:(0|[1-9][0-9]{0,14})|"([ !#-\[\]-~]*)")'  # RFC 8941 3.3
)
_ONE_PARAMETER = re.compile(_PARAMETER, re.ASCII)
_INPUT = re.compile(
    r"([a-z*][a-z0-9_.*-]{0,63})="
    r'(\(("[@a-z-]{1,32}"(?: "[@a-z-]{1,32}"){0,7})\)'
    rf"((?:{_PARAMETER}){{4}}))",
    re.ASCII,
)
_SIGNATURE = re.compile(r"([a-z*][a-z0-9_.*-]{0,63})=:([A-Za-z0-9+/]{86}==):", re.ASCII)
# What the library would refuse to see in a URL (RFC 3986) is not of the one writing either.
_SHAPES = {
    "@method": re.compile(r"[A-Z]{1,16}", re.ASCII),
    "@authority": re.compile(r"[a-z0-9-][a-z0-9.-]{0,252}(?::[0-9]{1,5})?", re.ASCII),
    "@path": re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*", re.ASCII),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalSignature:
    """What a signature says and the bytes it must be of. `created` in seconds; not yet verified."""

    key_id: str
    created_seconds: int
    nonce: str
    base: bytes
    signature: bytes


def canonical_signature(
    *, signature_input: str, signature: str, values: Mapping[str, str]
) -> CanonicalSignature | None:
    """The signature over exactly `values` (component name to value), or None: not of this writing.

    The parameters are exactly `created`, `nonce`, `keyid` and `alg="ed25519"`, in any order.
    """
    head, proof = _INPUT.fullmatch(signature_input), _SIGNATURE.fullmatch(signature)
    if head is None or proof is None or head.group(1) != proof.group(1):
        return None
    names = head.group(3)[1:-1].split('" "')
    if len(names) != len(values) or set(names) != values.keys():
        return None
    if not all(_is_plain(name, value) for name, value in values.items()):
        return None
    found = {
        (name, "number" if number else "text"): number or text
        for name, number, text in _ONE_PARAMETER.findall(head.group(4))
    }
    created, key_id = found.get(("created", "number")), found.get(("keyid", "text"))
    nonce, algorithm = found.get(("nonce", "text")), found.get(("alg", "text"))
    if created is None or key_id is None or nonce is None or algorithm != SIGNATURE_ALGORITHM:
        return None
    lines = [f'"{name}": {values[name]}' for name in names]
    lines.append(f'"@signature-params": {head.group(2)}')
    return CanonicalSignature(
        key_id=key_id,
        created_seconds=int(created),
        nonce=nonce,
        base="\n".join(lines).encode("ascii"),
        signature=base64.b64decode(proof.group(2)),
    )


def content_digest(body: bytes) -> str:
    """The `content-digest` of a body as RFC 9530 writes one sha-256."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def _is_plain(name: str, value: str) -> bool:
    """Printable ASCII with nothing to trim; such a value is a line of the base as it stands."""
    shape = _SHAPES.get(name)
    if shape is not None:
        return shape.fullmatch(value) is not None
    return bool(value) and value.isascii() and value.isprintable() and value == value.strip(" ")
