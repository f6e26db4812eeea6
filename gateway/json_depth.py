"""How deep a JSON text nests, told before anything parses it.

The interpreter's parser recurses, and a library that raises the recursion limit (py_ecc does)
turns deep nesting into a crash of the process (A24).
"""

import re

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.S)  # one pass, also over a text that never ends
_BRACKETS = re.compile(rb"[\[\]{}]")


def nests_deeper(data: bytes, levels: int) -> bool:
    """Whether brackets outside of strings nest deeper than `levels`."""
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > levels:
            return True
    return False
