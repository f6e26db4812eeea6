"""Bodies are read without surprises (A11, A12, A24)."""

from decimal import Decimal

import pytest

from gateway.api.strict_json import DEPTH_MAX, parse_body
from gateway.errors import Malformed

REFUSED = (
    b"",
    b"[]",
    b"1",
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": 1, "a": 1}',
    b'{"a": {"b": 1, "b": 2}}',
    b'{"a": "\\ud800"}',
    b'{"\\udc00": 1}',
    b'\xef\xbb\xbf{"a": 1}',
    b'{"a": "\xff"}',
    b'{"a": 1} x',
    b'{"a": .5}',
    b'{"a": +1}',
    b"{'a': 1}",
    b'{"a": 1,}',
    b'{"a": ' + b"[" * 100_000,
)


@pytest.mark.parametrize("body", REFUSED, ids=range(len(REFUSED)))
def test_a12_what_parsers_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse_body(body)


def test_numbers_survive_exactly_so_that_a_model_can_name_the_field() -> None:
    found = parse_body(b'{"a": 1e400, "b": 0.1, "c": 7, "d": ' + b"9" * 5000 + b"}")
    assert found["a"] == Decimal("1e400")
    assert found["b"] == Decimal("0.1")
    assert found["c"] == 7
    assert found["d"] == Decimal("9" * 5000)


def test_a24_depth_is_bounded() -> None:
    inner = DEPTH_MAX - 1
    assert parse_body(b'{"a":' + b"[" * (inner - 1) + b"]" * (inner - 1) + b"}")
    with pytest.raises(Malformed):
        parse_body(b'{"a":' + b"[" * (inner + 1) + b"]" * (inner + 1) + b"}")


def test_brackets_inside_text_are_no_depth() -> None:
    assert parse_body(b'{"a": "' + b"[{" * 1000 + b'\\"]"}')["a"].startswith("[{")


def test_a40_text_that_never_ends_is_read_in_one_pass() -> None:
    """Quadratic scanning would take minutes for this."""
    with pytest.raises(Malformed):
        parse_body(b'{"a": "' + b'\\"' * 500_000)
