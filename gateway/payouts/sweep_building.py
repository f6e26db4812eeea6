"""One lot of sweeps as attempts and transitions: what is planned, topped up first, or waits.

Owns the arithmetic of a sweep's amount and gas against what lies at its address, and the commit of
one lot. It judges nothing (`sweep_choice`) and asks nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, collecting, drafts, gas_station, sweep_choice, sweeps
from gateway.payouts import sweeps_store as store
from gateway.payouts.collecting import Taking
from gateway.payouts.context import Lane
from gateway.payouts.errors import FeeAboveCap
from gateway.payouts.fee_policy import AccountFee
from gateway.payouts.gas_station import Station
from gateway.payouts.sweep_choice import Verdict
from gateway.payouts.sweep_terms import TRANSFER_GAS, Terms, limit_of
from gateway.payouts.sweeps import State, Step, Trigger
from gateway.payouts.sweeps_store import SweepRow
from signer.protocol import Purpose
from watchers import nonces, outgoing_lots
from watchers.addresses import AddressRow
from watchers.chain import AccountState, Delegation
from watchers.outgoing import OutgoingDraft, PlannedPayment

WAIT: Final = timedelta(minutes=10)  # what waits for a threshold or a rate; growth looks at once
GAS_WAIT: Final = timedelta(minutes=1)

GAS_SHORT: Final = "gas_short"
FEE_CAPITAL: Final = "fee_capital"
FEE_ABOVE_CAP: Final = "fee_above_cap"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A sweep that is due, with the gas that a node expects of it and why."""

    row: SweepRow
    gas: int
    verdict: Verdict
    account: AccountState | None = None
    """Of its address, once a node was asked."""


UNBOUND: Final[Mapping[str, Any]] = {"gas_attempt_id": None, "attempt_id": None, "txid": None}


class Builder:
    """The attempts and transitions of one lot."""

    def __init__(
        self, lane: Lane, terms: Terms, station: Station, hot: AddressRow, *, is_collecting: bool
    ) -> None:
        self._is_collecting = is_collecting
        self._lane = lane
        self._terms = terms
        self._station = station
        self._hot = hot
        self._steps: list[Step] = []
        self._notes: list[tuple[UUID, str | None, datetime]] = []
        self._sweeps: list[tuple[Step, AddressRow, PlannedPayment, AccountFee, int]] = []
        self._gas: list[tuple[Step, AddressRow, int]] = []
        self._takings: list[Taking] = []
        self._alone: dict[UUID, tuple[int, int]] = {}  # sweep -> (gas limit, free coin) without it

    def add(
        self, row: SweepRow, wish: Wish, own: AddressRow, amount: int, count: int, free: int
    ) -> None:
        """Decide one row. `amount` of its deposits, `free` native coin at its address."""
        if amount == 0:
            self._later(row, "deposit_orphaned", WAIT)
            return
        if State(row.state) not in (State.WAITING, State.GAS_READY):
            self._later(row, None, timedelta(0))  # its pause is over: planned in the next pass
            return
        native = self._lane.spec.native_asset
        limit = TRANSFER_GAS if row.asset == native else limit_of(wish.gas)
        try:
            fee = self._terms.fee_from(free, limit) if row.asset != native else self._full(free)
        except FeeAboveCap:
            self._later(row, FEE_ABOVE_CAP, GAS_WAIT)
            return
        reason = None if wish.verdict.reason is None else wish.verdict.reason.value
        changes = {"amount": amount, "deposits": count, "reason": reason, "code": None}
        if fee is None and row.asset == native:
            self._later(row, sweep_choice.UNECONOMIC, WAIT)
        elif (
            self._is_collecting
            and row.asset != native
            and State(row.state) is State.WAITING
            and collecting.rides(wish.account, lacks_gas=fee is None)
        ):
            self._take(row, wish, own, {**changes, "moved": amount}, amount)
            self._alone[row.id] = (limit, free)
        elif fee is None:
            self._top_up(row, own, changes, limit=limit, free=free)
        elif not self._station.afford(fee.cap_minor):
            self._later(row, FEE_CAPITAL, GAS_WAIT)
        else:
            moved = amount if row.asset != native else free - fee.cap_minor
            payment = PlannedPayment(
                asset=row.asset, address=self._hot.address, key=self._hot.key, amount_minor=moved
            )
            step = Step(row=row, trigger=Trigger.PLAN, changes={**changes, "moved": moved})
            mined = 0 if wish.account is None else wish.account.nonce
            self._sweeps.append((step, own, payment, fee, mined))

    def _take(
        self,
        row: SweepRow,
        wish: Wish,
        own: AddressRow,
        changes: Mapping[str, Any],
        amount: int,
    ) -> None:
        account = wish.account
        is_new = account is not None and account.delegation is Delegation.NONE
        self._takings.append(
            Taking(
                step=Step(row=row, trigger=Trigger.PLAN, changes=changes),
                own=own,
                amount_minor=amount,
                nonce=account.nonce if account is not None and is_new else None,
            )
        )

    def _full(self, free: int) -> AccountFee | None:
        """What native coin pays of itself; None when nothing would be left."""
        fee = self._terms.fee(TRANSFER_GAS)
        return fee if free > fee.cap_minor else None

    def _top_up(
        self, row: SweepRow, own: AddressRow, changes: Mapping[str, Any], *, limit: int, free: int
    ) -> None:
        """Exactly what is missing, for as much gas and at as much as the sweep may cost."""
        if State(row.state) is State.GAS_READY:  # gas rose while it came
            self._later(row, None, timedelta(0))
            return
        missing = self._terms.fee(limit).cap_minor - max(free, 0)
        if not self._station.take(missing, gas_station.top_up_fee(self._terms)):
            self._later(row, GAS_SHORT, GAS_WAIT)
            return
        self._gas.append((Step(row=row, trigger=Trigger.PLAN_GAS, changes=changes), own, missing))

    def _later(self, row: SweepRow, code: str | None, pause: timedelta) -> None:
        look_at = self._lane.now() + pause
        trigger = {
            State.FAILED: Trigger.RETRY,
            State.UNSWEEPABLE: Trigger.REVIVE,
            State.GAS_READY: Trigger.RECONSIDER,
        }.get(State(row.state))
        if trigger is None:
            self._notes.append((row.id, code, look_at))
        else:
            changes = {**UNBOUND, "code": code, "look_at": look_at}
            self._steps.append(Step(row=row, trigger=trigger, changes=changes))

    async def commit(self, uow: Uow) -> bool:
        """Nonces, bytes and states; whether anything goes on."""
        lane = self._lane
        collects, taken = await self._collects(uow)
        drafted = await self._own_txs(uow)
        drafted += await self._top_ups(uow)
        planned = [*collects, *(draft for draft, _ in drafted)]
        await outgoing_lots.record(uow, planned, at=lane.now())
        steps = [*taken, *(step for _, step in drafted)]
        await sweeps.move_many(uow, [*self._steps, *steps], ids=lane.ids, at=lane.now())
        await store.note(uow, self._notes)
        short = [note for note in self._notes if note[1] in (GAS_SHORT, FEE_CAPITAL)]
        if short:
            detail = f"{len(short)} sweeps wait: {short[0][1]}"
            await attempts.alarm(lane, uow, gas_station.GAS_SHORT, detail)
        elif self._gas:
            await attempts.clear(lane, uow, gas_station.GAS_SHORT)
        log.info(
            "payout.sweeps_planned",
            network=lane.network,
            sweeps=len(self._sweeps),
            collects=len(collects),
            legs=len(taken),
            top_ups=len(self._gas),
            waiting=len(self._notes),
        )
        return bool(planned or self._steps)

    async def _collects(self, uow: Uow) -> tuple[list[OutgoingDraft], list[Step]]:
        """One tx for each group; one that would be alone, and has yet to delegate, costs no less
        than its own tx and is given gas instead."""
        drafts, steps = list[OutgoingDraft](), list[Step]()
        for group in collecting.groups(self._takings):
            if len(group) == 1 and group[0].nonce is not None:
                self._by_itself(group[0])
                continue
            legs, fee = collecting.afforded(self._lane, self._terms, self._station, group)
            for item in group[len(legs) :]:
                self._later(item.step.row, GAS_SHORT, GAS_WAIT)
            if fee is None:
                continue
            draft = await collecting.draft(self._lane, uow, self._station, self._hot, legs, fee)
            drafts.append(draft)
            for item in legs:
                changes = {**item.step.changes, "attempt_id": draft.id, "txid": None}
                steps.append(Step(row=item.step.row, trigger=Trigger.PLAN, changes=changes))
        return drafts, steps

    def _by_itself(self, item: Taking) -> None:
        limit, free = self._alone[item.step.row.id]
        changes = {name: value for name, value in item.step.changes.items() if name != "moved"}
        self._top_up(item.step.row, item.own, changes, limit=limit, free=free)

    async def _own_txs(self, uow: Uow) -> list[tuple[OutgoingDraft, Step]]:
        """Of each address its own, at its next number."""
        lane = self._lane
        ids = [lane.ids.new_id() for _ in self._sweeps]
        wanted = [
            (own.key, mined, attempt_id)
            for attempt_id, (_, own, _, _, mined) in zip(ids, self._sweeps, strict=True)
        ]
        numbers = await nonces.allocate_each(uow, network=lane.network, wanted=wanted)
        found: list[tuple[OutgoingDraft, Step]] = []
        for attempt_id, nonce, (step, own, payment, fee, _) in zip(
            ids, numbers, self._sweeps, strict=True
        ):
            unsigned = drafts.account(
                lane, sender=own, nonce=nonce, payments=[payment], fee=fee, batch_of=None
            )
            draft = OutgoingDraft(
                id=attempt_id,
                network=lane.network,
                purpose=Purpose.SWEEP.value,
                family_id=attempt_id,
                unsigned=unsigned.data,
                payments=(payment,),
                fee_cap_minor=unsigned.fee_minor,
                sender_key=own.key,
                nonce=nonce,
            )
            changes = {**step.changes, "attempt_id": attempt_id, "txid": None}
            found.append((draft, Step(row=step.row, trigger=step.trigger, changes=changes)))
        return found

    async def _top_ups(self, uow: Uow) -> list[tuple[OutgoingDraft, Step]]:
        if not self._gas:
            return []
        lane, account = self._lane, self._station.account
        ids = [lane.ids.new_id() for _ in self._gas]
        numbers = await nonces.allocate_many(
            uow, network=lane.network, sender_key=account.key, attempt_ids=ids
        )
        fee = gas_station.top_up_fee(self._terms)
        found: list[tuple[OutgoingDraft, Step]] = []
        for attempt_id, nonce, (step, own, amount) in zip(ids, numbers, self._gas, strict=True):
            draft = gas_station.top_up_draft(
                lane,
                attempt_id=attempt_id,
                sender=account,
                nonce=nonce,
                to=own,
                amount_minor=amount,
                fee=fee,
            )
            changes = {**step.changes, "gas_attempt_id": attempt_id}
            found.append((draft, Step(row=step.row, trigger=step.trigger, changes=changes)))
        return found
