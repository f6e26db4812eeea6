"""From a planned bump, or own move, to signed bytes: the gate, the question, the answer.

The members were asked for before (`sign_requested_at` stands), so the gate looks at the chain: is
everything of the family still in no block, and has nobody stopped signing. A no of the signer, or a
family that was mined meanwhile, drops this attempt alone; the members keep the one they have. What
the signer may have signed is never dropped unasked. No unit of work is open while it is asked.
"""

from enum import Enum, auto
from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import aborts, attempts, families, question, refusals
from gateway.payouts.context import Lane
from gateway.payouts.errors import RequestTooLarge, SignerUnavailable
from gateway.payouts.families import BUMP_REFUSED
from gateway.payouts.refusals import KNOWS_MORE, SIGNER_KNOWS_MORE
from gateway.payouts.same_tx import is_signature_of
from gateway.payouts.silence import Silence
from gateway.payouts.upkeep import UPKEEP_REFUSED
from gateway.payouts.withdrawals import ON_CHAIN, State, Trigger
from ledger.errors import StaleState
from signer.protocol import OWN_MOVES, Purpose, Refusal, SignedTx
from watchers import outgoing, outgoing_families, switches
from watchers.outgoing import OutgoingRow, OutgoingState
from watchers.switches import Action

BUILT_MAX: Final = 200  # unsigned bumps looked at in one pass

BEHIND: Final = KNOWS_MORE | {"fee_not_higher"}
"""Refusals of a replacement that these books have no reason for: the signer signed more."""

log = get_logger(__name__)


class _Gate(Enum):
    """How a bump left the gate."""

    OPEN = auto()
    """Ask."""
    SHUT = auto()
    """Not now, or signed already."""
    LATE = auto()
    """Its family, or what it pays for, is in a block, or its rate is of another hour: it goes,
    unless it was signed."""


class BumpSigning:
    """Takes every planned bump of a lane through gate and signer. Memory only paces."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._silence = Silence(lane)
        # By the payout's family: since when, and until when.
        self._cap_wait_seconds: dict[UUID, tuple[float, float]] = {}

    def waits_for_cap(self, family_id: UUID) -> bool:
        """Whether a payout's last bump was over a window of the signer's caps, too short ago."""
        wait = self._cap_wait_seconds.get(family_id)
        return wait is not None and self._lane.clock.monotonic_seconds() < wait[1]

    def _wait_for_cap(self, family_id: UUID) -> None:
        """As long as it has waited so far, as first signatures do (`refusals.cap_retry_is_due`)."""
        now = self._lane.clock.monotonic_seconds()
        least, most = (
            item.total_seconds() for item in (refusals.CAP_WAIT_LEAST, refusals.CAP_WAIT_MOST)
        )
        self._cap_wait_seconds = {
            key: value for key, value in self._cap_wait_seconds.items() if now < value[1] + 2 * most
        }
        since, _ = self._cap_wait_seconds.get(family_id, (now, now))
        self._cap_wait_seconds[family_id] = (since, now + min(max(now - since, least), most))

    async def run(self) -> int:
        """One pass; returns how many were signed. Raises SignerUnavailable: the rest waits too."""
        async with self._lane.database.unit_of_work() as uow:
            built = await outgoing_families.built_bumps(
                uow, network=self._lane.network, limit=BUILT_MAX
            )
        signed = 0
        for attempt_id in built:
            if self._silence.is_waiting(attempt_id):
                continue
            try:
                signed += await self._one(attempt_id)
            except StaleState as error:
                log.info("payout.stale", attempt_id=str(attempt_id), detail=str(error))
            except SignerUnavailable as error:
                await self._silence.only_this_one(attempt_id, error)
        return signed

    async def _one(self, attempt_id: UUID) -> bool:
        lane = self._lane
        gate = await lane.run(partial(self._gate, attempt_id=attempt_id))
        if gate is _Gate.SHUT:
            return False
        async with lane.database.unit_of_work() as uow:
            attempt = await attempts.load(uow, attempt_id, lock=False, is_current=False)
            request = await question.of_attempt(lane, uow, attempt)
        answer: SignedTx | Refusal | None = None
        if gate is _Gate.OPEN:
            try:
                answer = await lane.signer.sign(request)
            except RequestTooLarge as error:
                answer = Refusal(code=question.REQUEST_TOO_LARGE, reason=str(error))
        lane.crash("payout.bump_answered")
        if isinstance(answer, Refusal):
            await refusals.raise_unless_about_the_tx(lane, answer)
        if not isinstance(answer, SignedTx):
            remembered = await lane.signer.lookup(str(attempt_id))
            if isinstance(remembered, SignedTx) and is_signature_of(
                attempt.tx.unsigned, raw=remembered.raw, txid=remembered.txid
            ):
                answer = remembered
        if isinstance(answer, SignedTx):
            await lane.run(partial(self._store, attempt_id=attempt_id, answer=answer))
            lane.crash("payout.bump_signed")
            return True
        await lane.run(partial(self._drop, attempt_id=attempt_id, refusal=answer))
        lane.crash("payout.bump_dropped")
        return False

    async def _gate(self, uow: Uow, *, attempt_id: UUID) -> _Gate:
        lane = self._lane
        attempt, family = await families.locked(uow, attempt_id)
        tx = attempt.tx
        if tx.state is not OutgoingState.BUILT:
            return _Gate.SHUT
        limit = lane.registry.policy.limits.planned_seconds
        if tx.purpose in OWN_MOVES and (lane.now() - tx.created_at).total_seconds() > limit:
            return _Gate.LATE
        parent = None if tx.pays_for_id is None else await outgoing.get(uow, tx.pays_for_id)
        others = [*family, *([] if parent is None else [parent])]
        if any(other.height is not None for other in others) or tx.conflict_txid is not None:
            return _Gate.LATE
        if parent is not None and parent.state is OutgoingState.REPLACED:
            return _Gate.LATE
        rows = attempt.rows()
        if any(row.state not in bumped_in(tx) for row in rows):
            return _Gate.LATE  # people hold it, or abort it
        asset = rows[0].asset if rows else lane.spec.native_asset
        is_held = await switches.is_stopped(
            uow, network=lane.network, asset=asset, action=Action.SIGN
        )
        return _Gate.SHUT if is_held else _Gate.OPEN

    async def _store(self, uow: Uow, *, attempt_id: UUID, answer: SignedTx) -> None:
        """Signed bytes and txid before anything is sent; the members go on with this attempt, all
        of them together, unless the chain took another one meanwhile."""
        lane = self._lane
        attempt, family = await families.locked(uow, attempt_id)
        await outgoing.mark_signed(
            uow, attempt_id=attempt_id, raw=answer.raw, txid=answer.txid, at=lane.now()
        )
        for tx in family:
            if tx.height is not None:
                await outgoing_families.note_winner(
                    uow, attempt_id=attempt_id, winner=tx, at=lane.now()
                )
        await outgoing_families.take_over_conflicts(uow, attempt.tx, family)
        ids = {tx.id for tx in family}
        rows = [row for row in attempt.rows(*bumped_in(attempt.tx)) if row.attempt_id in ids]
        if len(rows) == len(attempt.members) and all(tx.height is None for tx in family):
            for row in rows:
                await attempts.move(
                    lane, uow, row, Trigger.REPLACE, attempt_id=attempt_id, txid=answer.txid
                )
        if attempt.tx.purpose in OWN_MOVES:
            await attempts.clear(lane, uow, UPKEEP_REFUSED)
        self._cap_wait_seconds.pop(attempt.tx.family_id, None)
        await self._silence.ended(uow, attempt_id)
        await attempts.clear(lane, uow, "payout_fee_too_low", objects=[attempt_id, *sorted(ids)])
        log.info(
            "payout.bump_signed",
            network=lane.network,
            attempt_id=str(attempt_id),
            txid=answer.txid,
            members=len(rows),
            log_sequence=answer.log_sequence,
        )

    async def _drop(self, uow: Uow, *, attempt_id: UUID, refusal: Refusal | None) -> None:
        """Never signed: added coins and the change that it held back are free again."""
        lane = self._lane
        attempt, family = await families.locked(uow, attempt_id)
        await outgoing.drop_unsigned(uow, attempt_id=attempt_id, at=lane.now())
        await self._silence.ended(uow, attempt_id)
        log.warning(
            "payout.bump_dropped",
            network=lane.network,
            attempt_id=str(attempt_id),
            code="" if refusal is None else refusal.code,
        )
        if refusal is None:
            return
        detail = f"attempt {attempt_id}: {refusal.code}: {refusal.reason}"
        if attempt.tx.purpose == Purpose.ABORT:
            await aborts.give_up(lane, uow, attempt, family, detail)
        if attempt.tx.purpose in OWN_MOVES:
            await attempts.alarm(lane, uow, UPKEEP_REFUSED, detail)
        else:
            await self._tell_payout(uow, attempt.tx, refusal, detail)
        if refusal.code in BEHIND:
            signed = ", ".join(tx.txid for tx in family if tx.txid is not None)
            await attempts.alarm(lane, uow, SIGNER_KNOWS_MORE, f"{detail}; known: {signed}")

    async def _tell_payout(self, uow: Uow, tx: OutgoingRow, refusal: Refusal, detail: str) -> None:
        """A person hears of the payout that waits on."""
        payout = tx.family_id
        if tx.pays_for_id is not None:
            parent = await outgoing.get(uow, tx.pays_for_id)
            payout = payout if parent is None else parent.family_id
        await attempts.alarm(self._lane, uow, BUMP_REFUSED, detail, object_id=payout)
        if refusal.code == refusals.CAP_OF_WINDOW:
            self._wait_for_cap(payout)


def bumped_in(tx: OutgoingRow) -> tuple[State, ...]:
    """The states of a member in which this attempt may become its live one."""
    return (State.CANCELLING,) if tx.purpose == Purpose.ABORT else ON_CHAIN
