"""Reading JSON bodies without surprises (A11, A12, A24).

Python's parser accepts NaN, duplicate keys, lone surrogates and any depth; this one does not.
Numbers survive as Decimal or small int only so that a model can name the field that must be text.
It must not know any model.
"""

import json
from decimal import Decimal
from typing import Any, NoReturn

from config.json_depth import nests_deeper
from gateway.errors import Malformed

DEPTH_MAX = 32  # our bodies nest three deep
INTEGER_DIGITS_MAX = 30


def parse_body(data: bytes) -> dict[str, Any]:
    """The JSON object of a request body. Raises Malformed (400); the text is never echoed."""
    if nests_deeper(data, DEPTH_MAX):
        raise Malformed("malformed_json", "The body is nested too deeply.")
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except _NotStrict as error:
        raise Malformed("malformed_json", str(error)) from error
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise Malformed("malformed_json", "The body is not JSON in UTF-8.") from error
    if not isinstance(value, dict):
        raise Malformed("malformed_json", "The body is not a JSON object.")
    if b"\\u" in data:  # UTF-8 itself has no surrogates
        _check(value)
    return value


class _NotStrict(Exception):
    """The text is JSON to some parsers, but means different things to different ones."""


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = dict(items)
    if len(out) != len(items):
        raise _NotStrict("The body holds a key twice.")
    return out


def _refuse_constant(_text: str) -> NoReturn:
    raise _NotStrict("NaN and Infinity are not JSON.")


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= INTEGER_DIGITS_MAX else Decimal(text)


def _check(value: Any) -> None:
    """No lone surrogate in any text; the depth is bounded already."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Malformed("malformed_json", "The body holds a lone surrogate.") from error
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key)
            _check(item)
    elif isinstance(value, list):
        for item in value:
            _check(item)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_constant=_refuse_constant,
    parse_float=Decimal,
    parse_int=_integer,
)
