"""The audit log's chain: each entry's hash covers its whole text and the hash before it.

It owns the form of an entry and the verifier, which names the first bad record (S17). The rows
live in the store; the head is anchored outside it, so that a cut tail is seen.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from signer.errors import StoreError

GENESIS_HASH = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the verifier found. `first_bad` is a sequence number, None when all is well."""

    entries: int
    head_hash: str
    first_bad: int | None
    reason: str


def entry_body(
    *,
    sequence: int,
    at_seconds: int,
    kind: str,
    previous_hash: str,
    fields: Mapping[str, object],
) -> str:
    """The canonical text of one entry."""
    return json.dumps(
        {
            "sequence": sequence,
            "at": at_seconds,
            "kind": kind,
            "previous": previous_hash,
            "fields": dict(fields),
        },
        sort_keys=True,
        separators=(",", ":"),
    )


def entry_hash(body: str) -> str:
    """SHA-256 of an entry's text, hex."""
    return hashlib.sha256(body.encode("utf-8")).hexdigest()


def verify_chain(rows: Iterable[tuple[int, str, str]]) -> Verdict:
    """Walk the log from its first entry; stops at the first record that does not hold."""
    previous, count = GENESIS_HASH, 0
    for sequence, body, stored_hash in rows:
        reason = _flaw(sequence, body, stored_hash, expected=count + 1, previous=previous)
        if reason:
            return Verdict(entries=count, head_hash=previous, first_bad=count + 1, reason=reason)
        previous, count = stored_hash, count + 1
    return Verdict(entries=count, head_hash=previous, first_bad=None, reason="")


def check_contains(rows: Iterable[tuple[int, str, str]], sequence: int, anchored_hash: str) -> None:
    """Verify the chain and that it holds the anchored entry; raises StoreError."""
    seen = {0: GENESIS_HASH}

    def watched() -> Iterator[tuple[int, str, str]]:
        for row in rows:  # a log of years is read, not held
            if row[0] == sequence:
                seen[sequence] = row[2]
            yield row

    verdict = verify_chain(watched())
    if verdict.first_bad is not None:
        raise StoreError(f"the log is broken at {verdict.first_bad}: {verdict.reason}")
    if sequence not in seen:
        raise StoreError("the store is older than its anchor")
    if seen[sequence] != anchored_hash:
        raise StoreError("the store's log is not the one that was anchored")


def _flaw(sequence: int, body: str, stored_hash: str, *, expected: int, previous: str) -> str:
    if sequence != expected:
        return f"record {sequence} stands where {expected} belongs"
    if entry_hash(body) != stored_hash:
        return "its text does not match its hash"
    try:
        parsed = json.loads(body)
        links = (parsed["sequence"], parsed["previous"])
    except (ValueError, KeyError, TypeError):
        return "its text is not an entry"
    if links != (expected, previous):
        return "it does not follow the record before it"
    return ""


def verdict_fields(verdict: Verdict) -> dict[str, object]:
    """The verdict for a message or a screen."""
    return {
        "entries": verdict.entries,
        "head_hash": verdict.head_hash,
        "first_bad": verdict.first_bad,
        "reason": verdict.reason,
    }
