"""The messages of `attest` and the statement that the signer signs. Standard library only.

The statement is the canonical text `cage-address/1`: six lines, in this order, without a newline
at the end, as UTF-8 (all of it is ASCII):

    cage-address/1
    brand=acme
    player=player-1
    network=bip122:000000000019d6689c085ae165831e93
    address=bc1q...
    path_tag=0123456789abcdef

`network` is the CAIP-2 id. `path_tag` tells paths apart without saying how many there are: only
the signer can compute it. The text says nothing of time, so that it is the same for ever.
"""

import re
from collections.abc import Sequence
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

MAX_ATTEST_ITEMS = 100  # one durable write each; a signature waits at most this long behind it
STATEMENT_VERSION = "cage-address/1"
_FIELDS = ("brand", "player", "network", "address", "path_tag")
_VALUE = re.compile(r"[!-~]{1,128}", re.ASCII)  # printable, no space: a value is one line


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestItem:
    """A deposit path and the player that it was handed to."""

    brand: str
    player: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestRequest:
    """Asks for the statements of some paths of one network; at most MAX_ATTEST_ITEMS."""

    network: str
    items: tuple[AttestItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What the signer says about an address; `str()` is the canonical text."""

    brand: str
    player: str
    network: str
    address: str
    path_tag: str

    def __str__(self) -> str:
        lines = [f"{name}={getattr(self, name)}" for name in _FIELDS]
        return "\n".join([STATEMENT_VERSION, *lines])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """One signed statement: Ed25519 over the UTF-8 bytes of `statement`."""

    statement: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestations:
    """The answer to ATTEST: one answer per item, in order. `key_id` names the public key."""

    key_id: str
    items: tuple[Attested | Refusal, ...]


def parse_statement(value: str) -> Statement:
    """The fields of a canonical text; raises ProtocolError for anything else."""
    lines = value.split("\n")
    if lines[0] != STATEMENT_VERSION or len(lines) != 1 + len(_FIELDS):
        raise ProtocolError(f"statement: not a {STATEMENT_VERSION}")
    found: dict[str, str] = {}
    for name, line in zip(_FIELDS, lines[1:], strict=True):
        key, _, content = line.partition("=")
        if key != name or _VALUE.fullmatch(content) is None:
            raise ProtocolError(f"statement: {name} is not as it must be")
        found[name] = content
    return Statement(**found)


def encode_attest_request(value: AttestRequest) -> dict[str, Any]:
    """To the `attest` message."""
    return {
        "op": "attest",
        "network": value.network,
        "items": [
            {"brand": item.brand, "player": item.player, "path": item.path} for item in value.items
        ],
    }


def decode_attest_request(raw: dict[str, Any]) -> AttestRequest:
    """From the `attest` message; raises ProtocolError."""
    raw = exact(raw, {"op", "network", "items"}, "attest")
    items = raw["items"]
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ATTEST_ITEMS:
        raise ProtocolError(f"items: a list of 1 to {MAX_ATTEST_ITEMS} is required")
    return AttestRequest(
        network=text(raw["network"], "network"), items=tuple(_decode_item(item) for item in items)
    )


def _decode_item(value: object) -> AttestItem:
    raw = exact(value, {"brand", "player", "path"}, "items[]")
    return AttestItem(
        brand=text(raw["brand"], "brand"),
        player=text(raw["player"], "player"),
        path=text(raw["path"], "path"),
    )


def encode_attest_answer(value: Attestations | Refusal) -> dict[str, Any]:
    """To the answer of `attest`."""
    if isinstance(value, Refusal):
        return encode_refusal(value)
    return {"ok": True, "key_id": value.key_id, "items": [_encode(item) for item in value.items]}


def decode_attest_answer(raw: dict[str, Any]) -> Attestations | Refusal:
    """From the answer of `attest`; raises ProtocolError."""
    if raw.get("ok") is False:
        return decode_refusal(raw)
    raw = exact(raw, {"ok", "key_id", "items"}, "attest")
    if not isinstance(raw["items"], list):
        raise ProtocolError("items: a list is required")
    return Attestations(key_id=text(raw["key_id"], "key_id"), items=_decode_answers(raw["items"]))


def _encode(value: Attested | Refusal) -> dict[str, Any]:
    if isinstance(value, Refusal):
        return encode_refusal(value)
    return {"ok": True, "statement": value.statement, "signature": b64(value.signature)}


def _decode_answers(values: Sequence[object]) -> tuple[Attested | Refusal, ...]:
    found: list[Attested | Refusal] = []
    for value in values:
        if isinstance(value, dict) and value.get("ok") is False:
            found.append(decode_refusal(value))
            continue
        raw = exact(value, {"ok", "statement", "signature"}, "items[]")
        found.append(
            Attested(
                statement=text(raw["statement"], "statement"),
                signature=unb64(raw["signature"], "signature"),
            )
        )
    return tuple(found)
