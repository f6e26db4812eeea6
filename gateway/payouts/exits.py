"""Carries out what two people signed about a payment whose transactions are dead (CONTRACT 5).

Owns the two ways out of `on_hold` for what was signed once: a reissue (`queued`, in flight ->
reserved) and a decline (`declined`, in flight -> clearing). Here, and not at the API, because the
evidence is the watcher's word about every transaction that was ever built for it, read under their
locks: each is refused unsigned, or lost to a final tx. The signer asks for the same signatures.
"""

from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway import withdrawals_store
from gateway.payouts import (
    approvals,
    approvals_store,
    attempts,
    refund_deposits,
    store,
    withdrawals,
)
from gateway.payouts.approvals import TWO_PEOPLE, Action, Approval
from gateway.payouts.context import Lane
from gateway.payouts.evidence import Evidence
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger import holds
from ledger.errors import StaleState
from ledger.holds import HoldState
from watchers import outgoing
from watchers.outgoing import OutgoingState

DECIDED_MAX: Final = 100  # decisions carried out in one pass; the next pass takes the rest
DEAD: Final = frozenset({OutgoingState.REPLACED, OutgoingState.REFUSED, OutgoingState.EXPIRED})
ANCHOR_DEAD: Final = "anchor_dead"
NOT_DEAD: Final = "exit_not_dead"
"""Alarm: two people called a payment's transactions dead, and the chain does not."""

log = get_logger(__name__)


class ExitsStep:
    """The step of one lane that carries out reissues and declines of dead payments."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self) -> None:
        """One pass over what two people have signed."""
        lane = self._lane
        wanted = [(action.value, [State.ON_HOLD.value]) for action in _CARRIED_OUT]
        async with lane.database.unit_of_work() as uow:
            found = await approvals_store.decided(
                uow, network=lane.network, pairs=wanted, limit=DECIDED_MAX
            )
        for item in found:
            work = partial(self._one, withdrawal_id=item["id"], action=Action(item["action"]))
            try:
                if await lane.run(work):
                    lane.crash("payout.exit")
            except StaleState as error:
                log.info("payout.stale", withdrawal_id=str(item["id"]), detail=str(error))

    async def _one(self, uow: Uow, *, withdrawal_id: UUID, action: Action) -> bool:
        lane = self._lane
        await refund_deposits.lock(uow, await store.by_ids(uow, [withdrawal_id], lock=False))
        row = (await store.by_ids(uow, [withdrawal_id], lock=True))[0]
        if row.state != State.ON_HOLD or row.txid is None:
            return False
        signed = await _signed(uow, row, action)
        if len({item.person for item in signed}) < TWO_PEOPLE:
            return False
        dead = await self._dead(uow, row)
        if dead is None or any(list(item.txids) != sorted(dead) for item in signed):
            detail = f"{row.request_id}: {action} is signed, but not every transaction is dead"
            await attempts.alarm(lane, uow, NOT_DEAD, detail, object_id=row.id)
            return False
        people = " and ".join(sorted({item.person for item in signed}))
        evidence = Evidence(reference=f"{action} signed by {people}", dead_txids=dead)
        await (self._reissue if action is Action.REISSUE else self._decline)(uow, row, evidence)
        await attempts.clear(lane, uow, ANCHOR_DEAD, NOT_DEAD, "signer_refused", objects=[row.id])
        log.info("payout.exit", withdrawal_id=str(row.id), action=action.value, people=people)
        return True

    async def _dead(self, uow: Uow, row: WithdrawalRow) -> frozenset[str] | None:
        """Every txid that was signed for it; None while one of its transactions may live."""
        txids = set()
        for attempt_id in await withdrawals_store.attempts_of(uow, row.id):
            tx = await outgoing.get(uow, attempt_id, is_locked=True)
            if tx is None or tx.state not in DEAD:
                return None
            if tx.txid is not None:
                txids.add(tx.txid)
        return frozenset(txids)

    async def _reissue(self, uow: Uow, row: WithdrawalRow, evidence: Evidence) -> None:
        """Its txid stays until the next one: whoever gives up unsigned orders sees that it is not
        one, so neither the client nor a clock ends it between the two."""
        lane = self._lane
        await withdrawals.move(
            uow,
            row,
            Trigger.REISSUE,
            ids=lane.ids,
            at=lane.now(),
            changes={"attempt_id": None, "sign_requested_at": None, "code": None},
            evidence=evidence,
        )
        if await self._is_captured(uow, row):
            reference = f"withdrawal:{row.id}:reissue"
            await holds.reissue(uow, hold_id=row.id, reference=reference, at=lane.now())

    async def _decline(self, uow: Uow, row: WithdrawalRow, evidence: Evidence) -> None:
        lane = self._lane
        await withdrawals.move(
            uow,
            row,
            Trigger.DECLINE,
            ids=lane.ids,
            at=lane.now(),
            changes={"is_reserved": False, "code": ANCHOR_DEAD},
            evidence=evidence,
        )
        if await self._is_captured(uow, row):
            reference = f"withdrawal:{row.id}:returned"
            await holds.return_in_flight(uow, hold_id=row.id, reference=reference, at=lane.now())
        else:
            reference = f"withdrawal:{row.id}:release"
            await holds.release(uow, hold_id=row.id, reference=reference, at=lane.now())
        await refund_deposits.ended(uow, row, ids=lane.ids, at=lane.now())

    async def _is_captured(self, uow: Uow, row: WithdrawalRow) -> bool:
        """False for what was reissued once and then refused by the signer: it is only reserved."""
        hold = await holds.get(uow, row.id)
        return hold is not None and hold.state is HoldState.CAPTURED


_CARRIED_OUT: Final = (Action.REISSUE, Action.DECLINE_DEAD)


async def _signed(uow: Uow, row: WithdrawalRow, action: Action) -> list[Approval]:
    """The signatures of an action about the row as it is."""
    return [
        item
        for item in await approvals.every(uow, row.id)
        if item.action is action and item.round == row.version and item.is_valid
    ]
