"""The daily close: what one UTC day did to the books, written once and bound to the day before.

Owns `gateway.day_closes`. A report is canonical JSON, its SHA-256 stands in the report of the next
day, and the event that tells it leaves the house signed: a day that is rewritten later shows. It
books nothing and closes nothing to further postings: a correction is a posting of its own day.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from gateway import day_close_store as store
from gateway.errors import Conflict
from ledger import closing, outbox, seals
from ledger.closing import AccountClose, Movement
from watchers import reconciliations

GENESIS: Final = "0" * 64
SETTLED_SECONDS: Final = int(seals.LATE.total_seconds())  # so late a posting may still commit
EVENT: Final = "ledger.day_closed"
FEES: Final = ("expense:fee:", "income:fee_recovery:")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayClose:
    """A closed day. `report` is the text that `sha256` is of."""

    day: date
    report: str
    sha256: str
    previous_sha256: str
    closed_by: str
    closed_at: datetime


async def get(uow: Uow, day: date) -> DayClose | None:
    """A closed day."""
    row = await store.get(uow, day)
    return None if row is None else DayClose(**row)


async def find(uow: Uow, *, before: date | None, limit: int) -> list[DayClose]:
    """Closed days, newest first."""
    return [DayClose(**row) for row in await store.find(uow, before=before, limit=limit)]


async def close(
    uow: Uow, *, day: date, networks: Sequence[str], closed_by: str, ids: Ids, at: datetime
) -> DayClose:
    """Close a day, or answer what stands; the unit of work must see all brands.

    Raises Conflict for a day that is not over, and for one before a closed day.
    """
    await store.lock(uow)
    found = await get(uow, day)
    if found is not None:
        return found
    if end_of(day) + timedelta(seconds=SETTLED_SECONDS) > at:
        minutes = SETTLED_SECONDS // 60
        raise Conflict("not_over", f"{day} is not over for {minutes} minutes yet.")
    newest = await find(uow, before=None, limit=1)
    last = newest[0] if newest else None
    if last is not None and last.day > day:
        raise Conflict(
            "later_day_closed", f"{last.day} is closed already; no day before it can be."
        )
    previous = GENESIS if last is None else last.sha256
    report = await _report(uow, day=day, last=last, previous=previous, networks=networks)
    digest = hashlib.sha256(report.encode()).hexdigest()
    made = DayClose(
        day=day,
        report=report,
        sha256=digest,
        previous_sha256=previous,
        closed_by=closed_by,
        closed_at=at,
    )
    await store.insert(uow, made)
    await outbox.append(
        uow,
        event_id=ids.new_id(),
        brand=None,
        type=EVENT,
        object_kind="day_close",
        object_id=_id_of(day),
        object_version=1,
        previous_state=None,
        snapshot={
            "id": str(_id_of(day)),
            "version": 1,
            "brand": "operator",
            "day": day.isoformat(),
            "sha256": digest,
            "previous_sha256": previous,
            "closed_by": closed_by,
        },
        at=at,
    )
    return made


async def check(uow: Uow, found: DayClose) -> bool:
    """Whether the journal, read from its beginning, still says what the report says."""
    again = await _report(
        uow, day=found.day, last=None, previous=found.previous_sha256, networks=()
    )
    stored = json.loads(found.report)
    compared = {"reconciliations": stored["reconciliations"]}  # runs are not of the journal
    is_whole = hashlib.sha256(found.report.encode()).hexdigest() == found.sha256
    return is_whole and {**json.loads(again), **compared} == stored


async def next_day(uow: Uow, *, at: datetime) -> date | None:
    """The day that is to be closed next: after the last closed one, or yesterday at first."""
    ended = (at - timedelta(seconds=SETTLED_SECONDS)).astimezone(UTC).date() - timedelta(days=1)
    last = await find(uow, before=None, limit=1)
    wanted = last[0].day + timedelta(days=1) if last else ended
    return wanted if wanted <= ended else None


def start_of(day: date) -> datetime:
    """Its first moment."""
    return datetime.combine(day, time(), tzinfo=UTC)


def end_of(day: date) -> datetime:
    """The first moment that is not in it."""
    return start_of(day) + timedelta(days=1)


async def _report(
    uow: Uow, *, day: date, last: DayClose | None, previous: str, networks: Sequence[str]
) -> str:
    moved = await closing.movements(uow, since=start_of(day), until=end_of(day))
    if last is not None and last.day == day - timedelta(days=1):
        opening = {
            (row["account"], row["asset"], row["side"]): int(row["closing_minor"])
            for row in json.loads(last.report)["accounts"]
        }
    else:
        opening = await closing.balances_before(uow, until=start_of(day))
    body = {
        "day": day.isoformat(),
        "previous_sha256": previous,
        "accounts": [_account(item) for item in closing.closes(opening, moved)],
        "movements": [_movement(item) for item in moved],
        "totals": _totals(moved),
        "fees": [_movement(item) for item in moved if item.account.startswith(FEES)],
        "reconciliations": [await _compared(uow, name, end_of(day)) for name in sorted(networks)],
    }
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


async def _compared(uow: Uow, network: str, until: datetime) -> dict[str, Any]:
    """The newest comparison of a network when the day ended."""
    run = await reconciliations.newest_before(uow, network, until)
    if run is None:
        return {"network": network, "state": "never", "breaks": []}
    return {
        "network": network,
        "state": run.state.value,
        "id": str(run.id),
        "height": run.height,
        "block_hash": run.block_hash,
        "breaks": [
            {
                "kind": item.kind.value,
                "subject": item.subject,
                "difference_minor": str(item.difference_minor),
            }
            for item in run.breaks
        ],
    }


def _account(item: AccountClose) -> dict[str, str]:
    return {
        "account": item.account,
        "asset": item.asset,
        "side": item.side,
        "opening_minor": str(item.opening_minor),
        "debits_minor": str(item.debits_minor),
        "credits_minor": str(item.credits_minor),
        "closing_minor": str(item.closing_minor),
    }


def _movement(item: Movement) -> dict[str, str | int]:
    return {
        "account": item.account,
        "asset": item.asset,
        "kind": item.kind,
        "debits_minor": str(item.debits_minor),
        "credits_minor": str(item.credits_minor),
        "entries": item.entries,
    }


def _totals(moved: Sequence[Movement]) -> list[dict[str, str | bool]]:
    """Debits and credits of the day by asset: equal, or something is broken."""
    assets = sorted({item.asset for item in moved})
    sums = {
        asset: (
            sum(item.debits_minor for item in moved if item.asset == asset),
            sum(item.credits_minor for item in moved if item.asset == asset),
        )
        for asset in assets
    }
    return [
        {
            "asset": asset,
            "debits_minor": str(debits),
            "credits_minor": str(credits),
            "balanced": debits == credits,
        }
        for asset, (debits, credits) in sums.items()
    ]


def _id_of(day: date) -> UUID:
    """The event's object: the day in its text, as long as an id."""
    return UUID(bytes=f"day-{day.isoformat()}"[:16].encode().ljust(16, b"\0"))
