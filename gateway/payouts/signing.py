"""The gate before the signer, the question to it, and what its answer does.

Owns `planned` -> `signed`. The gate commits `sign_requested_at` under the players' locks: after it
nothing is cancelled, and recovery asks again with the same bytes; before it everything may still
stop. No unit of work is open while the signer is asked.
"""

from enum import Enum, auto
from functools import partial
from uuid import UUID

from config import alarm_store
from config.database import Uow
from config.logs import get_logger
from gateway import withdrawals_store
from gateway.payouts import attempts, question, refusals, store, withdrawals
from gateway.payouts.attempts import Attempt
from gateway.payouts.context import Lane
from gateway.payouts.errors import RequestTooLarge, SignerUnavailable
from gateway.payouts.refusals import (
    KNOWS_MORE,
    SIGNER_CAP,
    SIGNER_KNOWS_MORE,
)
from gateway.payouts.rounds import AttemptRound
from gateway.payouts.same_tx import is_signature_of
from gateway.payouts.silence import Silence
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger import balances, holds
from ledger.errors import StaleState
from signer.protocol import Refusal, SignedTx, SignRequest
from watchers import deposit_commands, nonces, outgoing, switches
from watchers.nonces import Below
from watchers.outgoing import OutgoingState
from watchers.switches import Action

BUILT_MAX = 200  # unsigned attempts looked at in one pass
LOOKED_UP_MAX = 20  # attempts that the signer is asked about beside a refused one
UNANSWERED_MAX = 3  # of those in one pass, so that a pass ends

log = get_logger(__name__)


class _Gate(Enum):
    """How an attempt left the gate."""

    OPEN = auto()
    """`sign_requested_at` is committed: ask."""
    SHUT = auto()
    """Not now, or dropped."""
    TOO_LARGE = auto()
    """Taken apart: the signer could not be asked."""


class _Unanswered(SignerUnavailable):
    """No answer for one attempt; whether the signer is down is another question."""


class SigningStep:
    """Takes every planned attempt of a lane through gate and signer."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._round = AttemptRound(lane.network, [State.PLANNED], size=BUILT_MAX)
        self._silence = Silence(lane)

    async def run(self) -> None:
        """One pass. Raises SignerUnavailable: then the rest waits too."""
        async with self._lane.database.unit_of_work() as uow:
            found = await self._round.page(uow)
            built = await outgoing.in_states(
                uow, network=self._lane.network, states=[OutgoingState.BUILT], limit=BUILT_MAX
            )
        first = {row.id for row in built if row.replaces_id is None and not row.is_own_move}
        for attempt_id in sorted(first - set(found)):
            await self._lane.run(partial(self._abandon, attempt_id=attempt_id))
        # Account chains in the order of their nonces; ids of one millisecond are in no order.
        by_nonce = {row.id: row.nonce for row in built if row.nonce is not None}
        unanswered = 0
        for attempt_id in sorted(found, key=lambda item: (by_nonce.get(item, 0), item)):
            if await is_stopped(self._lane) or unanswered == UNANSWERED_MAX:
                return
            if self._silence.is_waiting(attempt_id):
                continue
            try:
                await self._one(attempt_id)
            except StaleState as error:  # a cancel won the race: the next pass reads anew
                log.info("payout.stale", attempt_id=str(attempt_id), detail=str(error))
            unanswered += self._silence.is_waiting(attempt_id)

    async def _abandon(self, uow: Uow, *, attempt_id: UUID) -> None:
        """Every member ended before signing was asked for: coins and nonce are free again."""
        attempt = await attempts.load(uow, attempt_id, lock=True)
        rows = attempt.rows()
        if any(row.state == State.PLANNED or row.sign_requested_at is not None for row in rows):
            return
        await outgoing.drop_unsigned(uow, attempt_id=attempt_id, at=self._lane.now())
        log.info("payout.abandoned", attempt_id=str(attempt_id), members=len(rows))

    async def _one(self, attempt_id: UUID) -> None:
        lane = self._lane
        match await lane.run(partial(self._gate, attempt_id=attempt_id)):
            case _Gate.SHUT:
                return
            case _Gate.TOO_LARGE:
                lane.crash("payout.cut")
                return
            case _Gate.OPEN:
                lane.crash("payout.sign_requested")
        async with lane.database.unit_of_work() as uow:
            attempt = await attempts.load(uow, attempt_id, lock=False)
            request = await question.of_attempt(lane, uow, attempt)
        try:
            answer = await self._ask(attempt, request)
            lane.crash("payout.signer_answered")
            if answer is None:  # never sent, never answered: the frame was too small for it
                await lane.run(partial(self._cut, attempt_id=attempt_id))
                lane.crash("payout.cut")
            elif isinstance(answer, SignedTx):
                await self._take(attempt_id, answer)
            else:
                await self._no(attempt, answer)
        except _Unanswered as error:
            await self._silence.only_this_one(attempt_id, error)

    async def _ask(self, attempt: Attempt, request: SignRequest) -> SignedTx | Refusal | None:
        """The signer's answer; None when this can be asked in no frame and it remembers nothing."""
        try:
            return await self._lane.signer.sign(request)
        except RequestTooLarge as error:
            log.warning("payout.too_large", attempt_id=request.attempt_id, detail=str(error))
        except SignerUnavailable as error:
            raise _Unanswered(str(error)) from error
        found = await self._look_up(attempt.id)
        if isinstance(found, SignedTx) and not _is_ours(attempt, found):
            return Refusal(code="attempt_mismatch", reason="the attempt was signed as another tx")
        return found

    async def _look_up(self, attempt_id: UUID) -> SignedTx | Refusal | None:
        try:
            return await self._lane.signer.lookup(str(attempt_id))
        except SignerUnavailable as error:
            raise _Unanswered(str(error)) from error

    async def _take(self, attempt_id: UUID, answer: SignedTx) -> None:
        await self._lane.run(partial(self._store, attempt_id=attempt_id, answer=answer))
        self._lane.crash("payout.signed")

    async def _no(self, attempt: Attempt, answer: Refusal) -> None:
        lane, known = self._lane, ""
        await refusals.raise_unless_about_the_tx(lane, answer)
        if answer.code in KNOWS_MORE:
            found = await self._remembered(attempt)
            lane.crash("payout.looked_up")
            own = found.get(attempt.id)
            if own is not None and _is_ours(attempt, own):  # this very tx, asked in other words
                await self._take(attempt.id, own)
                return
            known = "; ".join(f"attempt {key} was signed as {tx.txid}" for key, tx in found.items())
        await lane.run(
            partial(
                self._refused,
                attempt_id=attempt.id,
                refusal=answer,
                known=known or "the signer remembers no signature by these attempts",
            )
        )
        lane.crash("payout.refused")

    async def _remembered(self, attempt: Attempt) -> dict[UUID, SignedTx]:
        """What the signer signed for this attempt and for earlier ones of its members."""
        async with self._lane.database.unit_of_work() as uow:
            ids = await withdrawals_store.attempts_of(uow, *(row.id for row in attempt.rows()))
        found: dict[UUID, SignedTx] = {}
        for attempt_id in dict.fromkeys([attempt.id, *ids[-LOOKED_UP_MAX:][::-1]]):
            answer = await self._look_up(attempt_id)
            if isinstance(answer, SignedTx):
                found[attempt_id] = answer
        return found

    async def _gate(self, uow: Uow, *, attempt_id: UUID) -> "_Gate":
        """Commit `sign_requested_at` on all members, or drop the attempt; nothing is asked for that
        the signer could not be asked."""
        lane = self._lane
        players = {
            (member.withdrawal.brand, member.withdrawal.player_id)
            for member in await store.members(uow, attempt_id, lock=False)
        }
        await balances.lock_players(uow, sorted(players))
        attempt = await attempts.load(uow, attempt_id, lock=True)
        rows = attempt.rows()
        is_held = bool(rows) and await switches.is_stopped(
            uow, network=lane.network, asset=rows[0].asset, action=Action.SIGN
        )
        if rows and all(row.sign_requested_at is not None for row in rows):
            is_open = not is_held and all(row.state == State.PLANNED for row in rows)
            return _Gate.OPEN if is_open else _Gate.SHUT
        failing = [row for row in rows if not await self._may_sign(uow, row)]
        limit = lane.registry.policy.limits.planned_seconds
        is_late = any((lane.now() - row.state_at).total_seconds() > limit for row in rows)
        count = await withdrawals_store.member_count(uow, attempt_id)
        below = await nonces.below(uow, attempt_id=attempt_id)
        if (is_held or below is Below.UNSIGNED) and not failing and not is_late:
            return _Gate.SHUT  # account chains are signed in the order of their nonces
        is_complete = len(rows) == count and below is not Below.FREE
        if not failing and not is_late and is_complete:
            if not question.fits(await question.of_attempt(lane, uow, attempt)):
                await refusals.cut(lane, uow, attempt)
                return _Gate.TOO_LARGE
            await store.request_signature(uow, [row.id for row in rows], at=lane.now())
            return _Gate.OPEN
        for row in await attempts.unplan(lane, uow, attempt):
            if row.id in {other.id for other in failing}:
                await self._stop(uow, row)
        log.info("payout.unplanned", attempt_id=str(attempt_id), failing=len(failing))
        return _Gate.SHUT

    async def _may_sign(self, uow: Uow, row: WithdrawalRow) -> bool:
        if row.state != State.PLANNED:
            return False
        if row.txid is not None:  # a reissue: no clock and no deposit stops what two people signed
            return True
        if row.valid_until <= self._lane.now():
            return False
        return not await deposit_commands.orphaned_anew(
            uow, brand=row.brand, player_id=row.player_id, known=row.orphaned_known
        )

    async def _stop(self, uow: Uow, row: WithdrawalRow) -> None:
        """Take a member that failed the gate (queued again by now) out of the queue."""
        lane = self._lane
        if row.valid_until <= lane.now():
            await withdrawals.give_up(uow, row, Trigger.EXPIRE, ids=lane.ids, at=lane.now())
        else:
            await attempts.move(lane, uow, row, Trigger.DEPOSIT_ORPHANED, code="deposit_orphaned")

    async def _store(self, uow: Uow, *, attempt_id: UUID, answer: SignedTx) -> None:
        """Signed bytes and txid, before anything is sent; reserved -> in flight."""
        lane = self._lane
        attempt = await attempts.load(uow, attempt_id, lock=True)
        await outgoing.mark_signed(
            uow, attempt_id=attempt_id, raw=answer.raw, txid=answer.txid, at=lane.now()
        )
        for row in attempt.rows(State.PLANNED):
            await holds.capture(
                uow, hold_id=row.id, reference=f"withdrawal:{row.id}:capture", at=lane.now()
            )
            await attempts.move(lane, uow, row, Trigger.SIGN, txid=answer.txid)
        await self._silence.ended(uow, attempt_id)
        await store.clear_waiting_alarm(uow, kind=SIGNER_CAP, network=lane.network, at=lane.now())
        log.info(
            "payout.signed",
            network=lane.network,
            attempt_id=str(attempt_id),
            txid=answer.txid,
            log_sequence=answer.log_sequence,
        )

    async def _refused(
        self, uow: Uow, *, attempt_id: UUID, refusal: Refusal, known: str = ""
    ) -> None:
        attempt = await attempts.load(uow, attempt_id, lock=True)
        await self._silence.ended(uow, attempt_id)
        await refusals.apply(self._lane, uow, attempt, refusal, known=known)

    async def _cut(self, uow: Uow, *, attempt_id: UUID) -> None:
        attempt = await attempts.load(uow, attempt_id, lock=True)
        await self._silence.ended(uow, attempt_id)
        await refusals.cut(self._lane, uow, attempt)


def _is_ours(attempt: Attempt, found: SignedTx) -> bool:
    """Whether what the signer remembers of an attempt is the very tx of these books."""
    return is_signature_of(attempt.tx.unsigned, raw=found.raw, txid=found.txid)


async def is_stopped(lane: Lane) -> bool:
    """True while the network's alarm that the signer knows more than the books is open."""
    async with lane.database.unit_of_work() as uow:
        return await alarm_store.is_open(uow, kind=SIGNER_KNOWS_MORE, network=lane.network)
