"""How long a withdrawal may stay in each state, who sees to it, and what then happens (CONTRACT 5).

Owns the table of time limits, and the step for those that no other step keeps: screening, approval,
confirming, cancelling. A limit either moves the row on or calls a person; no alarm moves money.
Values are configuration (`config/policy.toml`, section limits).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, refund_deposits, store, withdrawals
from gateway.payouts.context import Lane
from gateway.payouts.withdrawals import WITHDRAWALS, State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger.errors import StaleState
from watchers import outgoing

ROWS_MAX: Final = 200  # rows of one state per pass; those that move on make room for the rest
SCREENING_TIMEOUT: Final = "screening_timeout"
CONFIRMING_LATE: Final = "payout_confirming"
CANCELLING_LATE: Final = "payout_cancelling"
APPROVAL_TIMEOUT: Final = "approval_timeout"  # code of what expired because nobody agreed
OWN: Final = "time_limits"  # rows of the table that this module keeps

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimit:
    """One row of the table. `setting` is the field of `Limits`; None: the order's `valid_until`.

    `owner` is the module that keeps it, `alarm` the kind that calls a person and `detail` what it
    says after the request_id, `exit` what moves the row, with `code`.
    """

    state: State
    setting: str | None
    owner: str
    alarm: str | None
    exit: Trigger | None
    code: str | None = None
    detail: str = ""

    @property
    def alarmed_state(self) -> State:
        """The state that the alarm is about: it ends with that."""
        return self.state if self.exit is None else WITHDRAWALS.next(self.state, self.exit)


TIME_LIMITS: Final = (
    TimeLimit(
        state=State.SCREENING,
        setting="screening_seconds",
        owner=OWN,
        alarm=SCREENING_TIMEOUT,
        exit=Trigger.HOLD,
        code=SCREENING_TIMEOUT,
        detail="not screened in time: staff decide",
    ),
    TimeLimit(
        state=State.PENDING_APPROVAL,
        setting="pending_approval_seconds",
        owner=OWN,
        alarm=None,
        exit=Trigger.EXPIRE,
        code=APPROVAL_TIMEOUT,
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
        owner=OWN,
        alarm=CONFIRMING_LATE,
        exit=None,
    ),
    TimeLimit(
        state=State.CANCELLING,
        setting="cancelling_alarm_seconds",
        owner=OWN,
        alarm=CANCELLING_LATE,
        exit=None,
        detail="neither its abort nor its payment is final",
    ),
)
"""Every state with a limit. The states that are not here are left at once, or only by people."""


class TimeLimitStep:
    """The step of one lane: the rows of the table that no other module keeps."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self) -> None:
        """One pass."""
        own = [limit for limit in TIME_LIMITS if limit.owner == OWN]
        for limit in own:
            await self._each(limit)
        await self._lane.run(partial(self._clear, limits=own))

    async def _each(self, limit: TimeLimit) -> None:
        """Every row that is in the state for longer than this, oldest first."""
        lane = self._lane
        before = lane.now() - timedelta(seconds=self._seconds(limit))
        async with lane.database.unit_of_work() as uow:
            found = await store.older_than(
                uow, network=lane.network, state=limit.state, before=before, limit=ROWS_MAX
            )
        for row in found:
            try:
                await lane.run(partial(self._one, limit=limit, row_id=row.id, before=before))
            except StaleState as error:
                log.info("payout.stale", network=lane.network, detail=str(error))

    def _seconds(self, limit: TimeLimit) -> int:
        value: int = getattr(self._lane.registry.policy.limits, str(limit.setting))
        # A tier has at least one block; how many it really has is the transaction's business.
        return value * self._lane.spec.block_seconds if limit.state is State.CONFIRMING else value

    async def _one(self, uow: Uow, *, limit: TimeLimit, row_id: UUID, before: datetime) -> None:
        lane = self._lane
        await refund_deposits.lock(uow, await store.by_ids(uow, [row_id], lock=False))
        row = (await store.by_ids(uow, [row_id], lock=True))[0]
        if row.state != limit.state or row.in_state_since > before:  # people were quicker
            return
        if limit.state is State.CONFIRMING:
            await self._confirming(uow, row)
            return
        if limit.exit is Trigger.EXPIRE:
            await withdrawals.give_up(
                uow, row, limit.exit, ids=lane.ids, at=lane.now(), code=limit.code
            )
        elif limit.exit is not None:
            await attempts.move(lane, uow, row, limit.exit, code=limit.code)
        if limit.alarm is not None:
            detail = f"{row.request_id}: {limit.detail}"
            await attempts.alarm(lane, uow, limit.alarm, detail, object_id=row.id)

    async def _confirming(self, uow: Uow, row: WithdrawalRow) -> None:
        """Three times the full tier of its own transaction, at the network's own pace."""
        lane = self._lane
        tx = None if row.attempt_id is None else await outgoing.get(uow, row.attempt_id)
        if tx is None or tx.height is None or tx.final_at_height is None:
            return
        blocks = tx.final_at_height - tx.height + 1
        tiers = lane.registry.policy.limits.confirming_alarm_tiers
        limit = timedelta(seconds=tiers * blocks * lane.spec.block_seconds)
        if row.in_state_since + limit <= lane.now():
            detail = f"{tx.txid} is in block {tx.height} and not final; its tier is {blocks} blocks"
            await attempts.alarm(lane, uow, CONFIRMING_LATE, detail, object_id=tx.id)

    async def _clear(self, uow: Uow, *, limits: Sequence[TimeLimit]) -> None:
        """An alarm ends with the state that it is about."""
        lane = self._lane
        for limit in limits:
            kind = limit.alarm
            if kind is None:
                continue
            await attempts.clear_outside(lane, uow, kind, states=[limit.alarmed_state])
