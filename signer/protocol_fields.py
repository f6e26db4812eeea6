"""How the fields of the wire contract are read: strict JSON, base64, exact objects.

It owns the grammar that every message shares, and the refusal that may answer each; which
messages there are is said in `signer.protocol`. Standard library only.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 32  # no message or signed body nests deeper
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))


class ProtocolError(ValueError):
    """A frame that is not a message of this protocol; names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The signer said no. `code` is stable and typed, `reason` is for people."""

    code: str
    reason: str


def encode_refusal(value: Refusal) -> dict[str, Any]:
    """To the negative answer of any operation."""
    return {"ok": False, "code": value.code, "reason": value.reason}


def decode_refusal(raw: dict[str, Any]) -> Refusal:
    """From the negative answer of any operation; raises ProtocolError."""
    raw = exact(raw, {"ok", "code", "reason"}, "refusal")
    return Refusal(code=text(raw["code"], "code"), reason=text(raw["reason"], "reason"))


def strict_loads(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; duplicate keys, NaN/Infinity and floats are refused."""
    if _depth(data) > MAX_DEPTH:
        raise ProtocolError(f"nested deeper than {MAX_DEPTH}")
    try:
        value = _STRICT.decode(data.decode("utf-8"))
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON, integers of 4,300 digits
        raise ProtocolError("not a JSON object in UTF-8") from error
    if not isinstance(value, dict):
        raise ProtocolError("not a JSON object")
    return value


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(items)
    if len(out) != len(items):
        raise ProtocolError("duplicate key")
    return out


def _no_number(text: str) -> Any:
    raise ProtocolError(f"number not allowed: {text[:20]}")


_STRICT = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_number, parse_float=_no_number
)


def b64(data: bytes) -> str:
    """Bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


def unb64(value: object, field: str) -> bytes:
    """Base64 text as bytes; raises ProtocolError naming the field."""
    try:
        return base64.b64decode(text(value, field), validate=True)
    except ValueError as error:  # binascii.Error, or text that is not ASCII
        raise ProtocolError(f"{field}: not base64") from error


def text(value: object, field: str) -> str:
    """A string that is UTF-8; raises ProtocolError."""
    if not isinstance(value, str):
        raise ProtocolError(f"{field}: a string is required")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ProtocolError(f"{field}: a lone surrogate") from error
    return value


def integer(value: object, field: str) -> int:
    """An integer, which a boolean is not; raises ProtocolError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"{field}: an integer is required")
    return value


def exact(value: object, keys: set[str], field: str) -> dict[str, Any]:
    """An object of exactly these fields; raises ProtocolError."""
    if not isinstance(value, dict) or set(value) != keys:
        raise ProtocolError(f"{field}: exactly the fields {sorted(keys)} are required")
    return value


def _depth(data: bytes) -> int:
    """How deep arrays and objects nest. The parser's own guard is the interpreter's recursion
    limit, which a library in the process may have raised past what the stack holds (py_ecc does).

    What stands between two quotes that no backslash escapes is a string. Behind a backslash outside
    of a string this may be wrong: no parser comes so far.
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return 0
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = unescaped.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    depth = deepest = 0
    for mark in b"".join(marks.split(b'"')[::2]):
        depth += 1 if mark in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
