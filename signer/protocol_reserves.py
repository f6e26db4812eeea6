"""The messages of `prove`: a statement about reserves, and the keys of own addresses over it.

Standard library only. A statement is `cage-reserves/1`, a line break, and one line of printable
ASCII (docs/integration/proof-of-reserves.md). What an address' key signs is `address_message`, in
the form that wallets know: BIP-137 on UTXO chains, EIP-191 (version 0x45) on EVM chains.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from signer.protocol_fields import (
    ProtocolError,
    Refusal,
    b64,
    decode_refusal,
    encode_refusal,
    exact,
    text,
    unb64,
)

RESERVES_VERSION = "cage-reserves/1"
MAX_PROVE_PATHS = 100  # some 0.1 s of the signer: a payment waits at most this long behind it
STATEMENT_CHARACTERS_MAX = 256 * 1024
_STATEMENT = re.compile(rf"{re.escape(RESERVES_VERSION)}\n[ -~]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveRequest:
    """Asks for the attestation key's signature over a statement and, of one network, for those of
    the keys of at most MAX_PROVE_PATHS own paths."""

    network: str
    statement: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenAddress:
    """The address of a path and its key's signature over `address_message`, as wallets write it:
    base64 of 65 bytes (BIP-137), or 0x and 65 bytes in hex (EIP-191)."""

    address: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The answer to PROVE: Ed25519 over the UTF-8 bytes of the statement; one item per path."""

    key_id: str
    public_key: bytes
    signature: bytes
    items: tuple[ProvenAddress | Refusal, ...]


def check_reserves_statement(value: str) -> str:
    """The statement itself; raises ProtocolError for what could be taken for anything else."""
    if len(value) > STATEMENT_CHARACTERS_MAX or _STATEMENT.fullmatch(value) is None:
        raise ProtocolError(f"statement: not a {RESERVES_VERSION}")
    return value


def address_message(statement: str) -> str:
    """What the key of an address signs: 87 characters that name the one statement."""
    digest = hashlib.sha256(statement.encode("utf-8")).hexdigest()
    return f"{RESERVES_VERSION} sha256:{digest}"


def encode_prove_request(value: ProveRequest) -> dict[str, Any]:
    """To the `prove` message."""
    return {
        "op": "prove",
        "network": value.network,
        "statement": value.statement,
        "paths": list(value.paths),
    }


def decode_prove_request(raw: dict[str, Any]) -> ProveRequest:
    """From the `prove` message; raises ProtocolError."""
    raw = exact(raw, {"op", "network", "statement", "paths"}, "prove")
    paths = raw["paths"]
    if not isinstance(paths, list) or len(paths) > MAX_PROVE_PATHS:
        raise ProtocolError(f"paths: a list of at most {MAX_PROVE_PATHS} is required")
    return ProveRequest(
        network=text(raw["network"], "network"),
        statement=check_reserves_statement(text(raw["statement"], "statement")),
        paths=tuple(text(path, "paths[]") for path in paths),
    )


def encode_prove_answer(value: Proven | Refusal) -> dict[str, Any]:
    """To the answer of `prove`."""
    if isinstance(value, Refusal):
        return encode_refusal(value)
    return {
        "ok": True,
        "key_id": value.key_id,
        "public_key": b64(value.public_key),
        "signature": b64(value.signature),
        "items": [_encode(item) for item in value.items],
    }


def decode_prove_answer(raw: dict[str, Any]) -> Proven | Refusal:
    """From the answer of `prove`; raises ProtocolError."""
    if raw.get("ok") is False:
        return decode_refusal(raw)
    raw = exact(raw, {"ok", "key_id", "public_key", "signature", "items"}, "prove")
    if not isinstance(raw["items"], list):
        raise ProtocolError("items: a list is required")
    return Proven(
        key_id=text(raw["key_id"], "key_id"),
        public_key=unb64(raw["public_key"], "public_key"),
        signature=unb64(raw["signature"], "signature"),
        items=tuple(_decode(item) for item in raw["items"]),
    )


def _encode(value: ProvenAddress | Refusal) -> dict[str, Any]:
    if isinstance(value, Refusal):
        return encode_refusal(value)
    return {"ok": True, "address": value.address, "signature": value.signature}


def _decode(value: object) -> ProvenAddress | Refusal:
    if isinstance(value, dict) and value.get("ok") is False:
        return decode_refusal(value)
    raw = exact(value, {"ok", "address", "signature"}, "items[]")
    return ProvenAddress(
        address=text(raw["address"], "address"), signature=text(raw["signature"], "signature")
    )
