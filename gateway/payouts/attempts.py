"""An attempt and the withdrawals that ride on it, read and moved together.

Owns what planning, signing, sending and settling share: loading under locks (withdrawals by id,
then the attempt), dropping an attempt that was never signed, and alarms. It talks to nobody.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from config import alarm_store
from config.database import Uow
from config.logs import get_logger
from gateway.errors import TooLate, Unavailable
from gateway.payouts import store, withdrawals
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from gateway.payouts.store import Member
from gateway.payouts.withdrawals import State, Step, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger import outbox
from ledger.outbox import Event
from watchers import outgoing, outgoing_lots
from watchers.outgoing import OutgoingRow

ON_ITS_WAY: Final = (
    State.PLANNED,
    State.SIGNED,
    State.BROADCASTING,
    State.UNCERTAIN,
    State.SENT,
    State.CONFIRMING,
    State.CANCELLING,
)
"""States in which an attempt holds coins, a nonce, or balance that no other payout may count on.
A row on hold that may be signed counts beside them (`store.committed`)."""


log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One own tx and the withdrawals whose live attempt it is, by id."""

    tx: OutgoingRow
    members: tuple[Member, ...]

    @property
    def id(self) -> UUID:
        """The attempt's id in chain.outgoing."""
        return self.tx.id

    def rows(self, *states: State) -> list[WithdrawalRow]:
        """The members in one of these states, or all."""
        found = [member.withdrawal for member in self.members]
        return [row for row in found if row.state in states] if states else found


async def load(uow: Uow, attempt_id: UUID, *, lock: bool, is_current: bool = True) -> Attempt:
    """The attempt with its members; raises BrokenAttempt when there is none.

    `lock`: the members by id and then the tx, so that no block comes or goes under a decision.
    Without `is_current` its members are all that it was built for, a replacement's too.
    """
    members = await store.members(uow, attempt_id, lock=lock, is_current=is_current)
    tx = await outgoing.get(uow, attempt_id, is_locked=lock)
    if tx is None:
        raise BrokenAttempt(f"attempt {attempt_id} has members but no transaction")
    return Attempt(tx=tx, members=tuple(members))


async def load_many(uow: Uow, ids: Sequence[UUID], *, lock: bool) -> list[Attempt]:
    """`load` of many in a bounded number of statements, in the order of `ids`; locked in the
    order of the house, all withdrawals by id and then all attempts by id."""
    riding = await store.members_of(uow, ids, lock=lock)
    txs = await outgoing_lots.get(uow, ids, is_locked=lock)
    missing = [attempt_id for attempt_id in ids if attempt_id not in txs]
    if missing:
        raise BrokenAttempt(f"attempt {missing[0]} has members but no transaction")
    return [Attempt(tx=txs[item], members=tuple(riding.get(item, ()))) for item in ids]


async def move_all(
    lane: Lane, uow: Uow, rows: Iterable[WithdrawalRow], trigger: Trigger, **changes: Any
) -> list[WithdrawalRow]:
    """One transition of many rows with the same further columns; all or none."""
    return await move_each(lane, uow, [(row, changes) for row in rows], trigger)


async def move_each(
    lane: Lane,
    uow: Uow,
    moves: Sequence[tuple[WithdrawalRow, Mapping[str, Any]]],
    trigger: Trigger,
) -> list[WithdrawalRow]:
    """One transition of many rows, each with further columns of its own; all or none."""
    told: dict[UUID, list[Event]] = {}
    steps = [Step(row=row, trigger=trigger, changes=changes) for row, changes in moves]
    moved = await withdrawals.move_many(uow, steps, ids=lane.ids, at=lane.now(), told=told)
    events = [event for events in told.values() for event in events]
    await outbox.append_many(uow, events, at=lane.now())
    return moved


async def move(
    lane: Lane, uow: Uow, row: WithdrawalRow, trigger: Trigger, **changes: Any
) -> WithdrawalRow:
    """One transition with its history and event; `changes` are further columns."""
    return await withdrawals.move(uow, row, trigger, ids=lane.ids, at=lane.now(), changes=changes)


async def expire(lane: Lane, uow: Uow, row: WithdrawalRow) -> None:
    """End a queued row whose time is over; it stays queued while nothing may be given up yet."""
    try:
        await withdrawals.give_up(uow, row, Trigger.EXPIRE, ids=lane.ids, at=lane.now())
    except (TooLate, Unavailable) as error:  # said before anything was written
        log.info("payout.stale", withdrawal_id=str(row.id), detail=str(error))


async def hold(lane: Lane, uow: Uow, row: WithdrawalRow, *, code: str, detail: str) -> None:
    """A queued row becomes a person's case, and stops nobody else; `code` is the alarm's kind."""
    await move(lane, uow, row, Trigger.HOLD, code=code)
    await alarm(lane, uow, code, f"{row.request_id}: {detail}", object_id=row.id)


async def unplan(
    lane: Lane, uow: Uow, attempt: Attempt, *, codes: Mapping[UUID, str] | None = None
) -> list[WithdrawalRow]:
    """Drop an attempt that was never signed: its planned members are queued again.

    Coins and nonce are free for the next plan. `codes` says how single members go on. Raises
    AttemptConflict once bytes exist.
    """
    await outgoing.drop_unsigned(uow, attempt_id=attempt.id, at=lane.now())
    return [
        await move(
            lane,
            uow,
            row,
            Trigger.UNPLAN,
            attempt_id=None,
            sign_requested_at=None,
            code=(codes or {}).get(row.id),
            **({} if row.deposit_id is None else {"fee_charged": None}),
        )
        for row in attempt.rows(State.PLANNED)
    ]


async def alarm(
    lane: Lane, uow: Uow, kind: str, detail: str, *, object_id: UUID | None = None
) -> None:
    """Call a person; one open alarm per (kind, network, object)."""
    await alarm_store.raise_alarm(
        uow,
        alarm_id=lane.ids.new_id(),
        kind=kind,
        network=lane.network,
        object_id=object_id,
        detail=detail,
        at=lane.now(),
    )


async def clear(lane: Lane, uow: Uow, *kinds: str, objects: Sequence[UUID] | None = None) -> None:
    """The cause of these alarms is gone: of those about these objects, else about the network."""
    await alarm_store.clear(uow, kinds=kinds, network=lane.network, objects=objects, at=lane.now())


async def clear_outside(lane: Lane, uow: Uow, kind: str, *, states: Sequence[State]) -> None:
    """End the alarms of a kind about withdrawals, or attempts, that left the states it is about."""
    told = await alarm_store.open_objects(uow, kinds=[kind], network=lane.network)
    over = told - await store.still_in(uow, sorted(told), states=states)
    if over:
        await clear(lane, uow, kind, objects=sorted(over))
