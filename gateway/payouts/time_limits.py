"""How long a withdrawal may stay in each state, who sees to it, and what then happens (CONTRACT 5).

Owns the table of time limits, and the step for those that no other step keeps: screening, approval,
confirming, cancelling. A limit either moves the row on or calls a person; no alarm moves money.
Values are configuration (`config/policy.toml`, section limits).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, store, withdrawals
from gateway.payouts.context import Lane
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger.errors import StaleState
from watchers import outgoing

ROWS_MAX: Final = 200  # rows of one state per pass; those that move on make room for the rest
SCREENING_TIMEOUT: Final = "screening_timeout"
CONFIRMING_LATE: Final = "payout_confirming"
CANCELLING_LATE: Final = "payout_cancelling"
APPROVAL_TIMEOUT: Final = "approval_timeout"  # code of what expired because nobody agreed
ALARMED: Final = {
    SCREENING_TIMEOUT: State.ON_HOLD,
    CONFIRMING_LATE: State.CONFIRMING,
    CANCELLING_LATE: State.CANCELLING,
}
"""Alarms of this module, and the state that each is about: it ends with that."""

Work: TypeAlias = Callable[[Uow, WithdrawalRow], Awaitable[None]]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimit:
    """One row of the table. `setting` is the field of `Limits`; None: the order's `valid_until`.

    `owner` is the module that keeps it, `alarm` the kind that calls a person, `exit` what moves it.
    """

    state: State
    setting: str | None
    owner: str
    alarm: str | None
    exit: Trigger | None


TIME_LIMITS: Final = (
    TimeLimit(
        state=State.SCREENING,
        setting="screening_seconds",
        owner="time_limits",
        alarm=SCREENING_TIMEOUT,
        exit=Trigger.HOLD,
    ),
    TimeLimit(
        state=State.PENDING_APPROVAL,
        setting="pending_approval_seconds",
        owner="time_limits",
        alarm=None,
        exit=Trigger.EXPIRE,
    ),
    TimeLimit(
        state=State.WAITING_LIQUIDITY,
        setting=None,
        owner="liquidity",
        alarm=None,
        exit=Trigger.EXPIRE,
    ),
    TimeLimit(
        state=State.PLANNED,
        setting="planned_seconds",
        owner="signing",
        alarm=None,
        exit=Trigger.UNPLAN,
    ),
    TimeLimit(
        state=State.BROADCASTING,
        setting="broadcasting_seconds",
        owner="broadcaster",
        alarm=None,
        exit=Trigger.LOSE_SIGHT,
    ),
    TimeLimit(
        state=State.UNCERTAIN,
        setting="uncertain_alarm_seconds",
        owner="broadcaster",
        alarm="payout_uncertain",
        exit=None,
    ),
    TimeLimit(
        state=State.CONFIRMING,
        setting="confirming_alarm_tiers",
        owner="time_limits",
        alarm=CONFIRMING_LATE,
        exit=None,
    ),
    TimeLimit(
        state=State.CANCELLING,
        setting="cancelling_alarm_seconds",
        owner="time_limits",
        alarm=CANCELLING_LATE,
        exit=None,
    ),
)
"""Every state with a limit. The states that are not here are left at once, or only by people."""


class TimeLimitStep:
    """The step of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self) -> None:
        """One pass."""
        limits = self._lane.registry.policy.limits
        await self._each(State.SCREENING, limits.screening_seconds, self._hold)
        await self._each(State.PENDING_APPROVAL, limits.pending_approval_seconds, self._expire)
        # A tier has at least one block; how many it really has is the transaction's business.
        shortest = limits.confirming_alarm_tiers * self._lane.spec.block_seconds
        await self._each(State.CONFIRMING, shortest, self._confirming)
        await self._each(State.CANCELLING, limits.cancelling_alarm_seconds, self._cancelling)
        await self._lane.run(self._clear)

    async def _each(self, state: State, seconds: int, work: Work) -> None:
        """Every row that is in a state for longer than this, oldest first."""
        lane = self._lane
        before = lane.now() - timedelta(seconds=seconds)
        async with lane.database.unit_of_work() as uow:
            found = await store.older_than(
                uow, network=lane.network, state=state, before=before, limit=ROWS_MAX
            )

        async def locked(uow: Uow, row_id: UUID) -> None:
            row = (await store.by_ids(uow, [row_id], lock=True))[0]
            if row.state == state and row.state_at <= before:  # people may have been quicker
                await work(uow, row)

        for row in found:
            try:
                await lane.run(partial(locked, row_id=row.id))
            except StaleState as error:
                log.info("payout.stale", network=lane.network, detail=str(error))

    async def _hold(self, uow: Uow, row: WithdrawalRow) -> None:
        detail = f"{row.request_id} was not screened in time: staff decide"
        await attempts.move(self._lane, uow, row, Trigger.HOLD, code=SCREENING_TIMEOUT)
        await attempts.alarm(self._lane, uow, SCREENING_TIMEOUT, detail, object_id=row.id)

    async def _expire(self, uow: Uow, row: WithdrawalRow) -> None:
        lane = self._lane
        await withdrawals.give_up(
            uow, row, Trigger.EXPIRE, ids=lane.ids, at=lane.now(), code=APPROVAL_TIMEOUT
        )

    async def _confirming(self, uow: Uow, row: WithdrawalRow) -> None:
        """Three times the full tier of its own transaction, at the network's own pace."""
        lane = self._lane
        tx = None if row.attempt_id is None else await outgoing.get(uow, row.attempt_id)
        if tx is None or tx.height is None or tx.final_at_height is None:
            return
        blocks = tx.final_at_height - tx.height + 1
        tiers = lane.registry.policy.limits.confirming_alarm_tiers
        limit = timedelta(seconds=tiers * blocks * lane.spec.block_seconds)
        if row.state_at + limit <= lane.now():
            detail = f"{tx.txid} is in block {tx.height} and not final; its tier is {blocks} blocks"
            await attempts.alarm(lane, uow, CONFIRMING_LATE, detail, object_id=tx.id)

    async def _cancelling(self, uow: Uow, row: WithdrawalRow) -> None:
        detail = f"{row.request_id}: neither its abort nor its payment is final"
        await attempts.alarm(self._lane, uow, CANCELLING_LATE, detail, object_id=row.id)

    async def _clear(self, uow: Uow) -> None:
        """An alarm ends with the state that it is about."""
        lane = self._lane
        for kind, state in ALARMED.items():
            told = await store.alarmed_objects(uow, kinds=[kind], network=lane.network)
            over = told - await store.still_in(uow, sorted(told), state=state)
            if over:
                await store.clear_alarms(
                    uow, kinds=[kind], network=lane.network, objects=sorted(over), at=lane.now()
                )
