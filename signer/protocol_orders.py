"""Signed HTTP requests on the wire, of clients and of staff, and the `void` message.

They are a part of the wire contract: `signer.protocol` gives their names to its readers. Standard
library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signer.protocol_fields import (
    ProtocolError,
    Refusal,
    b64,
    decode_refusal,
    encode_refusal,
    exact,
    integer,
    text,
    unb64,
)

VOID = "void"  # the message's name: `signer.protocol.Operation`


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """A client's signed HTTP request, exactly as received (RFC 9421).

    `authority` is the value of `@authority`, `query` that of `@query` (always starting with "?").
    `headers` holds only the covered header fields (content-digest, idempotency-key), lower case.
    """

    method: str
    authority: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    signature_input: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidRequest:
    """Asks that (brand, request_id) gets no first signature any more.

    `order` is the client's request that asked for the payment. `cancel` is the client's request
    that gave it up, or None where no client signed one (staff, expiry, a rule): the caller's word.
    """

    brand: str
    request_id: str
    order: Authorisation
    cancel: Authorisation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Voided:
    """The answer to VOID, the same for ever. `is_signed`: a family had begun all the same."""

    log_sequence: int
    is_signed: bool


def encode_authorisation(value: Authorisation) -> dict[str, Any]:
    """To its wire form."""
    return {
        "method": value.method,
        "authority": value.authority,
        "path": value.path,
        "query": value.query,
        "headers": dict(value.headers),
        "body": b64(value.body),
        "signature_input": value.signature_input,
        "signature": value.signature,
    }


def decode_authorisation(value: object) -> Authorisation:
    """From its wire form; raises ProtocolError."""
    keys = {
        "method", "authority", "path", "query", "headers", "body", "signature_input", "signature",
    }  # fmt: skip
    raw = exact(value, keys, "authorisation")
    if not isinstance(raw["headers"], dict):
        raise ProtocolError("authorisation.headers: an object is required")
    return Authorisation(
        method=text(raw["method"], "method"),
        authority=text(raw["authority"], "authority"),
        path=text(raw["path"], "path"),
        query=text(raw["query"], "query"),
        headers={k: text(v, f"headers.{k}") for k, v in raw["headers"].items()},
        body=unb64(raw["body"], "body"),
        signature_input=text(raw["signature_input"], "signature_input"),
        signature=text(raw["signature"], "signature"),
    )


def identity(value: Authorisation) -> tuple[object, ...]:
    """All of a request: two with the same are one."""
    return (
        value.method, value.authority, value.path, value.query, *sorted(value.headers.items()),
        value.body, value.signature_input, value.signature,
    )  # fmt: skip


class RequestWriter:
    """Writes each request of a message whole once, and by its place among them behind that.

    A batch's one body stands behind every payment that it asked for.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[object, ...], int] = {}

    def write(self, value: Authorisation) -> dict[str, Any] | int:
        """The request, or its place from 0 where it was written before."""
        new = len(self._places)
        place = self._places.setdefault(identity(value), new)
        return encode_authorisation(value) if place == new else place


class RequestReader:
    """Reads what RequestWriter wrote, and nothing else.

    `may_repeat` takes requests that stand whole more than once: questions that were stored before
    there were places.
    """

    def __init__(self, *, may_repeat: bool = False) -> None:
        self._may_repeat = may_repeat
        self._found: list[Authorisation] = []
        self._known: set[tuple[object, ...]] = set()

    def read(self, value: object) -> Authorisation:
        """The request, the same object for each of its places; raises ProtocolError."""
        if not isinstance(value, dict):
            place = integer(value, "authorisation")
            if not 0 <= place < len(self._found):
                raise ProtocolError("authorisation: the place of no request before it")
            return self._found[place]
        found = decode_authorisation(value)
        self._known.add(identity(found))
        self._found.append(found)
        if len(self._known) != len(self._found) and not self._may_repeat:
            raise ProtocolError("authorisation: one request is written twice")
        return found


def encode_void_request(value: VoidRequest) -> dict[str, Any]:
    """To the `void` message."""
    return {
        "op": VOID,
        "brand": value.brand,
        "request_id": value.request_id,
        "order": encode_authorisation(value.order),
        "cancel": None if value.cancel is None else encode_authorisation(value.cancel),
    }


def decode_void_request(raw: dict[str, Any]) -> VoidRequest:
    """From the `void` message; raises ProtocolError."""
    raw = exact(raw, {"op", "brand", "request_id", "order", "cancel"}, "void")
    return VoidRequest(
        brand=text(raw["brand"], "brand"),
        request_id=text(raw["request_id"], "request_id"),
        order=decode_authorisation(raw["order"]),
        cancel=None if raw["cancel"] is None else decode_authorisation(raw["cancel"]),
    )


def encode_void_answer(value: Voided | Refusal) -> dict[str, Any]:
    """To the answer of `void`."""
    if isinstance(value, Refusal):
        return encode_refusal(value)
    return {"ok": True, "log_sequence": value.log_sequence, "is_signed": value.is_signed}


def decode_void_answer(raw: dict[str, Any]) -> Voided | Refusal:
    """From the answer of `void`; raises ProtocolError."""
    if raw.get("ok") is False:
        return decode_refusal(raw)
    raw = exact(raw, {"ok", "log_sequence", "is_signed"}, "void")
    if not isinstance(raw["is_signed"], bool):
        raise ProtocolError("is_signed: a boolean is required")
    return Voided(
        log_sequence=integer(raw["log_sequence"], "log_sequence"), is_signed=raw["is_signed"]
    )
