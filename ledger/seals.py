"""The journal's own chain of hashes (case L19), written after the fact, off a posting's road.

A seal names postings in their order, with the digest of each one's head, lines and account codes,
and carries the hash of the seal before it. So whoever changes, removes or slips in a posting past
the database's guards is found, as long as the newest seal is also known outside the database. One
process seals (`gateway/sealing.py` holds the lease); here is decided only what is sealed next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.database import Uow
from ledger import seal_store as store
from ledger.chain_of_seals import GENESIS_HASH, seal_hash
from ledger.store import Row

SEAL_POSTINGS = 2_000  # of one seal: about 100 KB, and 50 ms of the database
SETTLED = timedelta(seconds=10)  # younger postings wait: most units of work are shorter
LATE = timedelta(minutes=10)  # a unit of work may commit so long after the moment it carries
DIGEST_BYTES = 32  # SHA-256


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """One link. `until`: all that was booked before is sealed, but for what commits late."""

    sequence: int
    postings: int
    until: datetime
    previous_hash: str
    hash: str
    sealed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SealFlaw:
    """A seal that does not hold: its sequence, and which way."""

    kind: str
    subject: str


async def seal_next(uow: Uow, *, at: datetime) -> int:
    """Seal the oldest postings that have no seal; how many, SEAL_POSTINGS when more may wait.

    Two at once: the second fails on the sequence. Work and memory are bounded by one seal.
    """
    last = await store.last(uow)
    ceiling = at - SETTLED
    if last is not None and ceiling <= last["until"]:
        return 0
    rows = await store.unsealed(
        uow,
        since=None if last is None else last["until"] - LATE,
        sealed_until=None if last is None else last["until"],
        until=ceiling,
        limit=SEAL_POSTINGS,
    )
    if not rows:
        return 0
    is_full = len(rows) == SEAL_POSTINGS
    moments = [row["booked_at"] for row in rows]
    reached = max(moments) if is_full else ceiling
    until = reached if last is None else max(reached, last["until"])
    sequence = 1 if last is None else last["sequence"] + 1
    previous = GENESIS_HASH if last is None else last["hash"]
    ids, digests = [row["id"] for row in rows], b"".join(row["digest"] for row in rows)
    await store.insert(
        uow,
        sequence=sequence,
        postings=ids,
        moments=moments,
        digests=digests,
        until=until,
        previous_hash=previous,
        hash=_hash(sequence, previous, [item.hex for item in ids], digests, until=until),
        at=at,
    )
    return len(rows)


async def newest(uow: Uow) -> Seal | None:
    """The head of the chain; None before the first posting was sealed."""
    row = await store.last(uow)
    return None if row is None else _seal(row)


async def get(uow: Uow, sequence: int) -> Seal | None:
    """One seal."""
    row = await store.get(uow, sequence)
    return None if row is None else _seal(row)


async def flaws(uow: Uow, *, after: int) -> tuple[int, list[SealFlaw]] | None:
    """What is wrong with the seal that follows sequence `after`, itself and its postings.

    Answers its sequence; None when there is no further one.
    """
    rows = await store.after(uow, after)
    if not rows:
        return None
    seal = rows[0]
    found = [SealFlaw(kind=kind, subject=str(seal["sequence"])) for kind in _chain_flaws(seal)]
    found += [
        SealFlaw(kind=row["kind"], subject=str(row["id"]))
        for row in await store.changed_postings(uow, seal["sequence"])
    ]
    return seal["sequence"], found


def _chain_flaws(seal: Row) -> list[str]:
    found = []
    if seal["sequence"] > 1 and seal["before_sequence"] != seal["sequence"] - 1:
        found.append("seal_missing")
    elif seal["previous_hash"] != (seal["before_hash"] or GENESIS_HASH):
        found.append("seal_unlinked")
    ids = [item.hex for item in seal["postings"]]
    wanted = _hash(
        seal["sequence"], seal["previous_hash"], ids, seal["digests"], until=seal["until"]
    )
    if wanted != seal["hash"]:
        found.append("seal_changed")
    return found


def _hash(
    sequence: int, previous: str, ids: Sequence[str], digests: bytes, *, until: datetime
) -> str:
    return seal_hash(
        sequence=sequence,
        previous_hash=previous,
        fields={"postings": ids, "digests": bytes(digests).hex(), "until": until.isoformat()},
    )


def _seal(row: Row) -> Seal:
    return Seal(
        sequence=row["sequence"],
        postings=len(row["postings"]),
        until=row["until"],
        previous_hash=row["previous_hash"],
        hash=row["hash"],
        sealed_at=row["sealed_at"],
    )
