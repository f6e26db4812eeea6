"""Our RLP encoder against the library's, which the tests trust."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlp.codec import encode_raw  # type: ignore[import-untyped]

from watchers.chains.evm import rlp

ITEMS = st.recursive(st.binary(max_size=300), lambda below: st.lists(below, max_size=6))


@given(item=ITEMS)
def test_the_bytes_are_those_of_the_library(item: Any) -> None:
    assert rlp.encode(item) == encode_raw(item)


@pytest.mark.parametrize("length", [0, 1, 55, 56, 255, 256, 65_535, 65_536])
def test_every_form_of_a_length_is_that_of_the_library(length: int) -> None:
    for item in (b"\x80" * length, [b"\x01"] * length):
        assert rlp.encode(item) == encode_raw(item)


@pytest.mark.parametrize("item", ["text", 7, None, [b"ok", "text"], {"a": b"b"}])
def test_anything_else_is_refused(item: Any) -> None:
    with pytest.raises(TypeError, match="neither bytes nor a list"):
        rlp.encode(item)
