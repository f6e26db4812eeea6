"""Comparisons of the books with a chain, kept, and what they stop (L12, L13).

Owns `chain.reconciliation_*`. A comparison is stored whole in one unit of work with what follows
from it: breaks that opened, changed or ended, their events and alarms, and the breakers that
policy names (config/breaker_policy.py). It books nothing and starts nothing again: people do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import RowMapping

from config import alarm_store
from config.breaker_policy import BreakerPolicy
from config.chains import Family
from config.clock import Clock
from config.database import Database, Uow
from config.ids import Ids
from config.logs import get_logger, redact_text
from ledger import outbox
from watchers import breaks, reconcile_chain, switches
from watchers import reconciliation_store as store
from watchers.breaks import BreakKind, Finding
from watchers.chain import Chain
from watchers.errors import NodeError
from watchers.network import Network
from watchers.reconcile_chain import Holdings
from watchers.switches import Action

log = get_logger("watchers.reconciliations")

ACTOR: Final = "watchers.reconciliations"
ALARM: Final = "reconciliation_break"
NOT_COMPARED: Final = "not_compared"
EVENT: Final = "reconciliation.break"
ERROR_LENGTH_MAX = 500


class Trigger(StrEnum):
    """Why a comparison was made."""

    CYCLE = "cycle"
    """Every `reconcile_blocks` blocks."""
    REQUEST = "request"
    """Somebody asked."""


class RunState(StrEnum):
    """How a comparison ended."""

    CLEAN = "clean"
    """Books and chain agree to the last unit."""
    BREAKS = "breaks"
    """They do not."""
    FAILED = "failed"
    """No usable answer from the nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One comparison of one network at one block; `error` of a failed one."""

    id: UUID
    network: str
    trigger: Trigger
    state: RunState
    height: int | None
    block_hash: str | None
    error: str | None
    breaks: tuple[Finding, ...]
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletLine:
    """One custody account of a run, minor units: chain = books + unposted - unsettled +
    difference."""

    account: str
    chain_minor: int
    books_minor: int
    unposted_minor: int
    unsettled_minor: int
    difference_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A break from the run that found it to the one that does not find it any more."""

    id: UUID
    network: str
    kind: BreakKind
    subject: str
    asset: str
    is_open: bool
    difference_minor: int
    details: Mapping[str, Any]
    first_run_id: UUID
    last_run_id: UUID
    version: int
    opened_at: datetime
    changed_at: datetime
    closed_at: datetime | None
    explanation: str | None = None
    """What two people know of it: at this difference it stops nothing any more."""
    proposed_by: str | None = None
    approved_by: str | None = None


async def compare(
    database: Database,
    chain: Chain,
    network: Network,
    *,
    clock: Clock,
    trigger: Trigger,
    scan_keys: int = 0,
    is_proof: bool = False,
) -> tuple[Run, Holdings]:
    """Compare at the follower's block, keep the result and stop what must stop.

    `scan_keys`: never-used addresses of account chains looked at besides; `is_proof`: tell what
    stands where, too. Raises NodeError, after the failure is kept.
    """
    started_at = clock.now()
    try:
        held = await reconcile_chain.holdings_at(
            database, chain, network, clock=clock, scan_keys=scan_keys, is_proof=is_proof
        )
        found = await breaks.explain(database, chain, network, held, at=clock.now())
    except NodeError as error:
        await database.run(
            partial(
                _keep_failure,
                network=network,
                trigger=trigger,
                error=redact_text(f"{type(error).__name__}: {error}"),
                started_at=started_at,
                at=clock.now(),
            )
        )
        raise
    run = Run(
        id=network.ids.new_id(),
        network=network.name,
        trigger=trigger,
        state=RunState.BREAKS if found else RunState.CLEAN,
        height=held.height,
        block_hash=held.block_hash,
        error=None,
        breaks=tuple(found),
        started_at=started_at,
        finished_at=clock.now(),
    )
    await database.run(partial(keep, network=network, run=run, held=held))
    return run, held


async def _keep_failure(
    uow: Uow,
    *,
    network: Network,
    trigger: Trigger,
    error: str,
    started_at: datetime,
    at: datetime,
) -> None:
    """A comparison that was not possible is told, too: silence would look like agreement."""
    run = Run(
        id=network.ids.new_id(),
        network=network.name,
        trigger=trigger,
        state=RunState.FAILED,
        height=None,
        block_hash=None,
        error=error[:ERROR_LENGTH_MAX],
        breaks=(),
        started_at=started_at,
        finished_at=at,
    )
    await store.lock(uow, network.name)
    if trigger is Trigger.CYCLE and await store.has_just_failed(uow, network.name):
        return  # one row says since when
    await store.insert_run(uow, _columns(run), read_at=None)
    await alarm_store.raise_alarm(
        uow,
        alarm_id=network.ids.new_id(),
        kind=NOT_COMPARED,
        network=network.name,
        detail=run.error or "",
        at=at,
    )


async def keep(uow: Uow, *, network: Network, run: Run, held: Holdings) -> None:
    """The run, and what changed by it. A second watcher's cycle of the same block adds nothing."""
    await store.lock(uow, network.name)
    if not await store.insert_run(uow, _columns(run), read_at=held.read_at):
        return
    await store.insert_wallets(uow, run.id, [_line(held, code) for code in _codes(held)])
    at = run.finished_at
    await alarm_store.clear(uow, kinds=[NOT_COMPARED], network=network.name, at=at)
    if await store.is_overtaken(uow, network=network.name, read_at=held.read_at):
        return  # a slower one, of older books: what is open was judged by later ones
    known = {
        (row["kind"], row["subject"]): _break(row)
        for row in await store.open_breaks(uow, network=network.name, is_locked=True)
    }  # locked: what two people explain meanwhile is known here, or waits
    for finding in run.breaks:
        before = known.pop((finding.kind.value, finding.subject), None)
        await _seen(uow, network, run, finding, before)
    for gone in known.values():
        await _ended(uow, network, run, gone)


async def _seen(
    uow: Uow, network: Network, run: Run, finding: Finding, before: Break | None
) -> None:
    at = run.finished_at
    values = {
        "network": network.name,
        "kind": finding.kind.value,
        "subject": finding.subject,
        "asset": finding.asset,
        "difference": finding.difference_minor,
        "details": finding.details,
        "run_id": run.id,
        "at": at,
    }
    if before is None:
        row = await store.insert_break(uow, {**values, "id": network.ids.new_id()})
    elif before.difference_minor == finding.difference_minor:
        await store.seen_again(uow, break_id=before.id, run_id=run.id)
        await _stop(uow, network, before, at=at)  # nobody starts it while it is unexplained
        return
    else:
        row = await store.change_break(uow, {**values, "id": before.id})
    found = _break(row)
    log.error(
        "reconciliation.break",
        network=network.name,
        kind=found.kind.value,
        subject=found.subject,
        difference_minor=str(found.difference_minor),
        height=run.height,
    )
    told = _event(found, previous=None if before is None else "open", ids=network.ids)
    await outbox.append_many(uow, [told], at=at)
    await alarm_store.retell(
        uow,
        alarm_id=network.ids.new_id(),
        kind=ALARM,
        network=network.name,
        object_id=found.id,
        detail=f"{found.kind.value}: {found.subject} {found.difference_minor} at {run.height}",
        at=at,
    )
    await _stop(uow, network, found, at=at)


async def _stop(uow: Uow, network: Network, found: Break, *, at: datetime) -> None:
    """What policy names for this kind stops, of this asset and no other."""
    if found.explanation is not None:
        return
    for action in network.breakers.of_break(found.kind.value, network.family.value):
        await switches.open_breaker(
            uow,
            scope=f"asset:{found.asset}",
            action=Action(action),
            reason=f"{found.kind.value} of {found.subject}",
            actor=ACTOR,
            ids=network.ids,
            at=at,
        )


async def _ended(uow: Uow, network: Network, run: Run, gone: Break) -> None:
    """This run does not find it any more. What it stopped stays stopped: people start again."""
    at = run.finished_at
    closed = _break(await store.close_break(uow, break_id=gone.id, run_id=run.id, at=at))
    await alarm_store.clear(uow, kinds=[ALARM], network=network.name, objects=[closed.id], at=at)
    await outbox.append_many(uow, [_event(closed, previous="open", ids=network.ids)], at=at)


def _event(found: Break, *, previous: str | None, ids: Ids) -> outbox.Event:
    return outbox.Event(
        event_id=ids.new_id(),
        brand=None,
        type=EVENT,
        object_kind="reconciliation_break",
        object_id=found.id,
        object_version=found.version,
        previous_state=previous,
        snapshot=snapshot(found),
    )


def snapshot(found: Break) -> dict[str, Any]:
    """The break as neutral fields."""
    return {
        "id": str(found.id),
        "version": found.version,
        "brand": "operator",
        "network": found.network,
        "kind": found.kind.value,
        "subject": found.subject,
        "asset": found.asset,
        "state": "open" if found.is_open else "closed",
        "difference": str(found.difference_minor),
        "details": dict(found.details),
        "explanation": found.explanation,
        "proposed_by": found.proposed_by,
        "approved_by": found.approved_by,
        "opened_at": found.opened_at,
        "changed_at": found.changed_at,
        "closed_at": found.closed_at,
    }


async def get(uow: Uow, run_id: UUID) -> Run | None:
    """One run."""
    row = await store.get_run(uow, run_id)
    return None if row is None else _run(row)


async def find(
    uow: Uow,
    *,
    network: str | None = None,
    state: RunState | None = None,
    before: UUID | None = None,
    limit: int = 100,
) -> list[Run]:
    """Runs, newest first; `before` is the id that ended the last page."""
    rows = await store.find_runs(
        uow,
        network=network,
        state=None if state is None else state.value,
        before=before,
        limit=limit,
    )
    return [_run(row) for row in rows]


async def wallets(uow: Uow, run_id: UUID) -> list[WalletLine]:
    """What a run compared, by account."""
    return [
        WalletLine(
            account=row["account"],
            chain_minor=int(row["chain"]),
            books_minor=int(row["books"]),
            unposted_minor=int(row["unposted"]),
            unsettled_minor=int(row["unsettled"]),
            difference_minor=int(row["difference"]),
        )
        for row in await store.wallets(uow, run_id)
    ]


async def open_breaks(
    uow: Uow, *, network: str | None = None, asset: str | None = None
) -> list[Break]:
    """Breaks that the newest comparison of their network still found."""
    return [_break(row) for row in await store.open_breaks(uow, network=network, asset=asset)]


async def get_break(uow: Uow, break_id: UUID) -> Break | None:
    """One break, locked until the commit."""
    row = await store.lock_break(uow, break_id)
    return None if row is None else _break(row)


async def explain(
    uow: Uow,
    *,
    break_id: UUID,
    version: int,
    explanation: str,
    proposed_by: str,
    approved_by: str,
    ids: Ids,
    at: datetime,
) -> Break | None:
    """Two people know what it is: what it stopped may start. None when it has changed since.

    Another difference of the same account is a new question and stops again.
    """
    row = await store.explain_break(
        uow,
        break_id=break_id,
        version=version,
        explanation=explanation,
        proposed_by=proposed_by,
        approved_by=approved_by,
        at=at,
    )
    if row is None:
        return None
    found = _break(row)
    await outbox.append_many(uow, [_event(found, previous="open", ids=ids)], at=at)
    return found


async def blocking(
    uow: Uow, *, asset: str, action: Action, policy: BreakerPolicy, family: Family
) -> list[Break]:
    """Open breaks that nobody explained and for which policy stops `action` of the asset."""
    return [
        item
        for item in await open_breaks(uow, asset=asset)
        if item.explanation is None
        and action.value in policy.of_break(item.kind.value, family.value)
    ]


async def newest(uow: Uow, network: str) -> Run | None:
    """The newest run that could compare, of a network."""
    row = await store.newest(uow, network)
    return None if row is None else _run(row)


async def newest_before(uow: Uow, network: str, until: datetime) -> Run | None:
    """The newest run of a network, whatever came of it, that was over before a moment."""
    row = await store.newest_before(uow, network, until)
    return None if row is None else _run(row)


def _codes(held: Holdings) -> Sequence[str]:
    return sorted({*held.chain, *held.books, *held.unposted, *held.unsettled})


def _line(held: Holdings, code: str) -> dict[str, Any]:
    names = ("chain", "books", "unposted", "unsettled")
    return {"account": code, **{name: getattr(held, name).get(code, 0) for name in names}}


def _columns(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "network": run.network,
        "trigger": run.trigger.value,
        "state": run.state.value,
        "height": run.height,
        "block_hash": run.block_hash,
        "error": run.error,
        "breaks": [
            {
                "kind": item.kind.value,
                "subject": item.subject,
                "asset": item.asset,
                "difference_minor": str(item.difference_minor),
                "details": dict(item.details),
            }
            for item in run.breaks
        ],
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def _run(row: RowMapping) -> Run:
    return Run(
        **{
            **row,
            "trigger": Trigger(row["trigger"]),
            "state": RunState(row["state"]),
            "breaks": tuple(
                Finding(
                    kind=BreakKind(item["kind"]),
                    subject=item["subject"],
                    asset=item["asset"],
                    difference_minor=int(item["difference_minor"]),
                    details=item["details"],
                )
                for item in row["breaks"]
            ),
        }
    )


def _break(row: RowMapping) -> Break:
    values = {name: row[name] for name in row if name not in ("state", "difference")}
    return Break(
        **{
            **values,
            "kind": BreakKind(row["kind"]),
            "is_open": row["state"] == "open",
            "difference_minor": int(row["difference"]),
        }
    )
