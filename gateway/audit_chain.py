"""The chain over the audit log: what a row's seal covers, and the check of it. Pure.

The sealer, the API and whoever checks an export offline use these same functions. A row is the
object of `GET /v1/audit`; what it says in `before` and `after` counts as JSON, not as text.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ledger.chain_of_seals import GENESIS_HASH, seal_hash

FIELDS = (
    "at",
    "actor",
    "action",
    "subject_kind",
    "subject",
    "brand",
    "before",
    "after",
    "reason",
    "correlation",
)
ID_CHARS = 32  # of the UUID at the end of an id of the wire


class BrokenChain(Exception):
    """A record that does not hold; `sequence` is the first such one."""

    def __init__(self, sequence: int, reason: str) -> None:
        super().__init__(f"record {sequence}: {reason}")
        self.sequence = sequence
        self.reason = reason


def row_hash(row: Mapping[str, Any], *, sequence: int, previous_hash: str) -> str:
    """The hash of a row at its place in the chain."""
    fields = {name: row[name] for name in FIELDS} | {"id": str(row["id"])[-ID_CHARS:]}
    return seal_hash(sequence=sequence, previous_hash=previous_hash, fields=fields)


def parse_json(text: str | None) -> Any:
    """JSON of the database; a number with a fraction stays the text that it is."""
    return None if text is None else json.loads(text, parse_float=str)


@dataclass(slots=True, kw_only=True)
class ChainCheck:
    """Walks the log from its first seal; memory does not grow with it."""

    sequence: int = 0
    hash: str = GENESIS_HASH

    def add_all(self, records: Iterable[Mapping[str, Any]]) -> None:
        """The next records. Raises BrokenChain at the first that does not hold."""
        for record in records:
            self.add(record)

    def add(self, sealed: Mapping[str, Any]) -> None:
        """The next record of `GET /v1/audit/chain`. Raises BrokenChain."""
        wanted = self.sequence + 1
        try:
            sequence, previous, row = sealed["sequence"], sealed["previous_hash"], sealed["row"]
            if sequence != wanted:
                raise BrokenChain(wanted, f"record {sequence} stands in its place")
            if previous != self.hash:
                raise BrokenChain(wanted, "it does not follow the record before it")
            if row is None:
                raise BrokenChain(wanted, "its row is gone")
            if row_hash(row, sequence=sequence, previous_hash=previous) != sealed["hash"]:
                raise BrokenChain(wanted, "its row is not what was sealed")
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenChain(wanted, "it is no record of this log") from error
        self.sequence, self.hash = sequence, sealed["hash"]
