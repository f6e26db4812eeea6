"""How deep a JSON text nests, told before anything parses it.

The interpreter's parser recurses, and a library that raises the recursion limit (py_ecc does)
turns deep nesting into a crash of the process (A24, N17).
"""

import re

# A JSON string, closed or not, so that the search stays linear whatever is sent.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
_OPEN = ord("[")
_ROUND = bytes.maketrans(b"{}", b"[]")  # which kind a bracket is says nothing about depth
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))


def nests_deeper(data: bytes, levels: int) -> bool:
    """Whether brackets outside of strings nest deeper than `levels`.

    A full block is megabytes of short strings: what is done to each is done in C. For a text that
    closes more than it opened, which is no JSON, either answer may come.
    """
    if b"\\" in data:
        data = _STRING.sub(b"", data)
    # Without escapes a quote opens or closes, so two side by side change nothing for the others.
    marks = data.translate(_ROUND, _NO_MARKS).replace(b'""', b"")
    if b'"' in marks:  # a string with brackets in it
        marks = _STRING.sub(b"", marks)
    return _is_deeper(marks, levels)


def _is_deeper(brackets: bytes, levels: int) -> bool:
    """Of `[` and `]` alone. Each pass takes the innermost pairs away: one level of all."""
    left = brackets
    for _ in range(levels):
        if b"[" * (levels + 1) in left:
            return True
        inner = left.replace(b"[]", b"")
        if len(inner) == len(left):
            break
        left = inner
    if not left:
        return False
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket == _OPEN else -1
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
