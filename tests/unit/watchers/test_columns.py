"""A column is read back as it was written, or refused."""

import pytest

from watchers.columns import column


def test_values_stand_in_their_order() -> None:
    assert column(["ab", "0xcd", 7]) == "ab 0xcd 7"
    assert column([]) == ""


@pytest.mark.parametrize("values", [["a b"], [""], ["a", ""], ["", "a"], [" "]])
def test_what_would_be_read_as_something_else_is_refused(values: list[str]) -> None:
    with pytest.raises(ValueError, match="empty or holds a space"):
        column(values)
