"""How deep a JSON text nests, told before anything parses it.

The interpreter's parser recurses, and a library that raises the recursion limit (py_ecc does)
turns deep nesting into a crash of the process (A24, N17).
"""

import re

# A JSON string, closed or not, so that the search stays linear whatever is sent.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def nests_deeper(data: bytes, levels: int) -> bool:
    """Whether brackets outside of strings nest deeper than `levels`."""
    depth = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > levels:
            return True
    return False


def shallow_text(data: bytes, levels: int) -> str:
    """A JSON text that is safe to parse. ValueError when it is not UTF-8 (RFC 8259, 8.1) or nests
    deeper: a parser given bytes guesses UTF-16 too, in which the brackets hide from the count."""
    text = data.decode("utf-8")
    if nests_deeper(data, levels):
        raise ValueError(f"nested deeper than {levels} levels")
    return text
