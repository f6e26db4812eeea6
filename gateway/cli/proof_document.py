"""How a proof's JSON is read offline: bounded, no number that is no integer, no name twice."""

import json
from typing import Any, NoReturn

from config.json_depth import nests_deeper
from gateway.cli.deposit_proof_errors import CheckFailed

LEVELS_MAX = 16  # a bundle nests five deep


def read(content: bytes, *, bytes_max: int) -> dict[str, Any]:
    """The JSON object. Raises CheckFailed."""
    if len(content) > bytes_max:
        raise CheckFailed(f"larger than {bytes_max} bytes")
    if nests_deeper(content, LEVELS_MAX):
        raise CheckFailed(f"nested deeper than {LEVELS_MAX} levels")
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise CheckFailed("not JSON of a proof") from error
    if not isinstance(value, dict):
        raise CheckFailed("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no number of a proof")
