"""Columns of many values as one text, for statements that ask about all of a run of blocks.

The driver asks several abstract classes about each element of an array, which for the inputs of a
block took longer than anything else that was said to the database. `string_to_array` is cheap.
"""

from collections.abc import Iterable

SEPARATOR = " "


def column(values: Iterable[str | int]) -> str:
    """Hashes, keys or numbers as one text, which `string_to_array(..., ' ')` takes apart again.

    ValueError for a value that holds a separator or is empty: it would be read as something else.
    """
    texts = [value if isinstance(value, str) else str(value) for value in values]
    joined = SEPARATOR.join(texts)
    if joined.count(SEPARATOR) != max(len(texts) - 1, 0) or "" in texts:
        raise ValueError("a value of a column is empty or holds a space")
    return joined
