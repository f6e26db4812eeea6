"""How deep a text nests is told as a walk over its characters tells it (A24, N17)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.json_depth import nests_deeper, shallow_text

LEVELS = st.integers(min_value=0, max_value=4)
VALUES = st.recursive(
    st.none() | st.text(alphabet='[]{}"\\a, :', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@given(value=VALUES, levels=LEVELS, is_escaped=st.booleans())
def test_depth_of_a_value_is_that_of_its_lists_and_objects(
    value: object, levels: int, is_escaped: bool
) -> None:
    text = json.dumps(value, ensure_ascii=is_escaped).encode()
    assert nests_deeper(text, levels) is (_depth(value) > levels)


@given(start=st.text(alphabet="[[{]}a", max_size=12), levels=LEVELS)
def test_text_that_ends_early_is_as_deep_as_it_went(start: str, levels: int) -> None:
    depth = deepest = 0
    for sign in start.replace("a", ""):
        depth += 1 if sign in "[{" else -1
        if depth < 0:
            return  # no JSON from there on
        deepest = max(deepest, depth)
    assert nests_deeper(start.encode(), levels) is (deepest > levels)


@pytest.mark.parametrize("text", [b'"[[[["', b'"\\"[[[["', b'["[[[["]', b'"[[[['])
def test_brackets_in_strings_do_not_count(text: bytes) -> None:
    assert nests_deeper(text, 1) is False


@pytest.mark.parametrize(
    "text", [b"[" * 65 + b"]" * 65, b'{"a":' * 65 + b"1" + b"}" * 65, b'"\\"",' + b"[" * 65]
)
def test_text_of_one_level_too_many_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="deeper than 64"):
        shallow_text(text, 64)


def test_levels_side_by_side_are_no_depth() -> None:
    text = b"[" + b'{"a":[{}]},' * 10_000 + b"0]"
    assert nests_deeper(text, 4) is False
    assert nests_deeper(text, 3) is True
