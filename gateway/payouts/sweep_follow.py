"""The states of sweeps after what the chain shows of their txs, and never before (T4).

Owns everything from `gas_planned` to `swept`, `failed` and back. A sweep is `swept` once its tx is
final, did what was planned, and the books have it. A tx that moved nothing costs its gas: it is
tried again after a pause that doubles, so often and no more (D57).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, collecting, sweep_choice, sweeps
from gateway.payouts import sweeps_store as store
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from gateway.payouts.sweeps import State, Step, Trigger
from gateway.payouts.sweeps_store import SweepRow
from ledger.errors import StaleState
from watchers import sweepable
from watchers.outgoing import OutgoingRow, OutgoingState

FOLLOWED_MAX: Final = 500  # sweeps in a page
LOT: Final = 100  # of them in one unit of work
TRIES_MAX: Final = 3  # txs of one sweep that may move nothing: its gas budget
PAUSE_LEAST: Final = timedelta(hours=1)
PAUSE_MOST: Final = timedelta(days=1)
LOOK_AGAIN: Final = timedelta(days=7)

REVERTED: Final = "reverted"
LEG_FAILED: Final = "leg_failed"
"""Its tx took what others of it had, and nothing of this one."""
NONCE_TAKEN: Final = "nonce_taken"
SWEEP_FAILED: Final = "sweep_failed"
"""Alarm: a sweep moved nothing, or something else used its nonce; by sweep."""

_DEAD: Final = (OutgoingState.REPLACED, OutgoingState.REFUSED, OutgoingState.EXPIRED)
_OVER: Final = (OutgoingState.FINAL, OutgoingState.REVERTED)
_UNSENT: Final = (OutgoingState.BUILT, OutgoingState.SIGNED)
_UNBOUND: Final[Mapping[str, Any]] = {"gas_attempt_id": None, "attempt_id": None, "txid": None}

log = get_logger(__name__)


class SweepFollow:
    """The following step of one lane's sweeps, in pages: one that waits for its booking is in the
    way of none behind it."""

    def __init__(self, lane: Lane, *, page: int = FOLLOWED_MAX) -> None:
        self._lane = lane
        self._page = page

    async def run(self) -> bool:
        """One pass; whether any moved."""
        lane, has_moved, after = self._lane, False, None
        while True:
            async with lane.database.unit_of_work() as uow:
                ids = await store.disagreeing(
                    uow, network=lane.network, after=after, limit=self._page
                )
            has_moved |= await self._page_of(ids)
            if len(ids) < self._page:
                return has_moved
            after = ids[-1]

    async def _page_of(self, ids: Sequence[UUID]) -> bool:
        lane, has_moved = self._lane, False
        for start in range(0, len(ids), LOT):
            try:
                has_moved |= await lane.run(partial(self._lot, ids=ids[start : start + LOT]))
                lane.crash("payout.sweeps_followed")
            except StaleState as error:
                log.info("payout.sweep_stale", network=lane.network, detail=str(error))
        return has_moved

    async def _lot(self, uow: Uow, *, ids: Sequence[UUID]) -> bool:
        lane = self._lane
        rows = await store.by_ids(uow, ids)
        named = [key for row in rows for key in (row.gas_attempt_id, row.attempt_id) if key]
        families = await sweepable.families(uow, named, is_locked=True)
        steps = [step for row in rows if (step := self._step(row, families)) is not None]
        failed = [step for step in steps if step.trigger in (Trigger.FAIL, Trigger.GIVE_UP)]
        await sweeps.move_many(uow, steps, ids=lane.ids, at=lane.now())
        for step in failed:
            detail = f"{step.row.asset} at {step.row.address}: {step.changes['code']}"
            await attempts.alarm(lane, uow, SWEEP_FAILED, detail, object_id=step.row.id)
        swept = [step.row.id for step in steps if step.trigger is Trigger.CONFIRM]
        if swept:
            await attempts.clear(lane, uow, SWEEP_FAILED, objects=swept)
        return bool(steps)

    def _step(self, row: SweepRow, families: Mapping[UUID, Sequence[OutgoingRow]]) -> Step | None:
        """What the chain makes of one sweep, by the attempts of its two families."""
        state = State(row.state)
        key = row.gas_attempt_id if state in _OF_GAS else row.attempt_id
        family = families.get(key) if key is not None else None
        if family is None:
            raise BrokenAttempt(f"sweep {row.id} is {state} without its attempt")
        found = _gas(state, family) if state in _OF_GAS else self._own(row, state, family)
        if found is None:
            return None
        trigger, changes = found
        if trigger is Trigger.RECONSIDER:
            changes = {**_UNBOUND, "look_at": self._lane.now(), **changes}
        return Step(row=row, trigger=trigger, changes=changes)

    def _own(
        self, row: SweepRow, state: State, family: Sequence[OutgoingRow]
    ) -> tuple[Trigger, dict[str, Any]] | None:
        (tx,) = (item for item in family if item.id == row.attempt_id)
        if state is State.PLANNED:
            if tx.state is OutgoingState.REFUSED:
                return Trigger.RECONSIDER, {"code": None}
            return None if tx.txid is None else (Trigger.SIGN, {"txid": tx.txid})
        if state is State.SIGNED:
            return None if tx.state in _UNSENT else (Trigger.SEND, {})
        if state is not State.SENT:
            return Trigger.REOPEN, {"code": None, "look_at": row.look_at}
        return self._ended(row, family)

    def _ended(
        self, row: SweepRow, family: Sequence[OutgoingRow]
    ) -> tuple[Trigger, dict[str, Any]] | None:
        """Of a sent one: by the attempt that is final, whichever it is."""
        won = next((tx for tx in family if tx.state in _OVER), None)
        if won is None:
            is_dead = all(tx.state in _DEAD for tx in family)
            return self._failed(row, NONCE_TAKEN, is_last=True) if is_dead else None
        if won.settled_block_hash != won.block_hash:
            return None  # booked first, or held for people
        leg = collecting.leg_of(won, row.key) if won.has_legs else 0
        moved = won.payments[leg].amount_minor
        names = {"attempt_id": won.id, "txid": won.txid, "moved": moved}
        if won.state is OutgoingState.FINAL and won.has_paid(leg):
            return Trigger.CONFIRM, {**names, "code": None}
        code = LEG_FAILED if won.state is OutgoingState.FINAL else REVERTED
        trigger, changes = self._failed(row, code, is_last=row.tries + 1 >= TRIES_MAX)
        return trigger, {**names, **changes}

    def _failed(self, row: SweepRow, code: str, *, is_last: bool) -> tuple[Trigger, dict[str, Any]]:
        tries = row.tries + 1
        pause = sweep_choice.pause(tries, least=PAUSE_LEAST, most=PAUSE_MOST)
        look_at = self._lane.now() + (LOOK_AGAIN if is_last else pause)
        changes = {"code": code, "tries": tries, "look_at": look_at, "requested_by": None}
        return (Trigger.GIVE_UP if is_last else Trigger.FAIL), changes


_OF_GAS: Final = (State.GAS_PLANNED, State.GAS_SENT, State.GAS_READY)


def _gas(state: State, family: Sequence[OutgoingRow]) -> tuple[Trigger, dict[str, Any]] | None:
    """Of a sweep that waits for its top-up. A block is what counts, not a node's word."""
    mined = next((tx for tx in family if tx.height is not None), None)
    if state is State.GAS_PLANNED:
        if all(tx.state in _DEAD for tx in family):
            return Trigger.RECONSIDER, {"code": None}
        is_sent = any(tx.state not in _UNSENT for tx in family)
        return (Trigger.SEND_GAS, {}) if is_sent else None
    if state is State.GAS_READY:
        return (Trigger.LOSE_GAS, {}) if mined is None else None
    if mined is None:
        is_dead = all(tx.state in _DEAD for tx in family)
        return (Trigger.RECONSIDER, {"code": None}) if is_dead else None
    if mined.is_success is False:
        return Trigger.RECONSIDER, {"code": "top_up_failed"}
    return Trigger.CONFIRM_GAS, {}
