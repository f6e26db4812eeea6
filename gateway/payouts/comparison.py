"""The signer's log against the books of one network, in one direction or both (CONTRACT 8).

It only reads and says what differs. Whoever asks decides what follows: at start a network goes
into recovery; in the hourly comparison payouts of the asset stop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from config.database import Database
from gateway.payouts import recovery_store as store
from gateway.payouts.context import Signer
from gateway.payouts.recovery_store import Place
from signer.protocol import LogEntry, LogPage, LogRequest, SignedTx

PAGE_ROWS = 500
PAGES_MAX = 2_000  # a million signatures: more in one go is no lost commit
OVERLAP = timedelta(hours=1)  # a commit may lag behind its signature by a time-out and a restart


class EndlessLog(Exception):
    """The signer's log did not end within PAGES_MAX pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What the signer signed and the books lack; `is_other_log`: the log is not the one that was
    compared before. `sequence`, `entry_hash` and `epoch` are where the log stood."""

    unknown: tuple[LogEntry, ...]
    is_other_log: bool
    sequence: int
    entry_hash: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsigned:
    """An attempt that the books call signed and the signer knows nothing of, or another tx."""

    attempt_id: UUID
    txid: str
    assets: frozenset[str]


async def lost(database: Database, signer: Signer, network: str) -> Difference:
    """Signatures that the books do not hold, since the last clean comparison.

    Raises SignerUnavailable, EndlessLog.
    """
    async with database.unit_of_work() as uow:
        place = await store.place(uow, network)
    first = await signer.log(LogRequest(network=network, after=place.sequence))
    is_other = first.after_hash != place.entry_hash
    if is_other:  # nothing of what was compared holds: from the beginning
        first = await signer.log(LogRequest(network=network, after=0))
    unknown: list[LogEntry] = []
    page = first
    for _ in range(PAGES_MAX):
        unknown += await _unknown(database, network, page)
        if page.through >= page.head:
            return Difference(
                unknown=tuple(unknown),
                is_other_log=is_other,
                sequence=page.through,
                entry_hash=page.through_hash,
                epoch=page.epoch,
            )
        page = await signer.log(LogRequest(network=network, after=page.through))
    raise EndlessLog(f"{network}: more than {PAGES_MAX} pages")


async def unsigned(
    database: Database, signer: Signer, network: str, place: Place
) -> list[Unsigned]:
    """Attempts that the books call signed since the last comparison, and the signer does not.

    Raises SignerUnavailable.
    """
    since = None if place.compared_at is None else place.compared_at - OVERLAP
    found: list[Unsigned] = []
    after: UUID | None = None
    while True:
        async with database.unit_of_work() as uow:
            rows = await store.signed_since(
                uow, network=network, since=since, limit=PAGE_ROWS, after=after
            )
        for row in rows:
            answer = await signer.lookup(str(row["id"]))
            if not isinstance(answer, SignedTx) or answer.txid != row["txid"]:
                assets = frozenset(str(item["asset"]) for item in row["payments"])
                found.append(Unsigned(attempt_id=row["id"], txid=row["txid"], assets=assets))
        if len(rows) < PAGE_ROWS:
            return found
        after = rows[-1]["id"]


async def _unknown(database: Database, network: str, page: LogPage) -> list[LogEntry]:
    ids = {entry.attempt_id: uuid_of(entry.attempt_id) for entry in page.entries}
    async with database.unit_of_work() as uow:
        books = await store.known(
            uow, network=network, attempt_ids=[item for item in ids.values() if item is not None]
        )
    return [entry for entry in page.entries if not _is_known(entry, ids[entry.attempt_id], books)]


def _is_known(entry: LogEntry, attempt_id: UUID | None, books: Mapping[UUID, str | None]) -> bool:
    if attempt_id is None or attempt_id not in books:
        return False
    return books[attempt_id] in (None, entry.txid)


def uuid_of(text: str) -> UUID | None:
    """The id of one of our attempts, or None: nothing that this house ever asked for."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None
