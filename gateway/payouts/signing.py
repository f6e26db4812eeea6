"""The gate before the signer, the question to it, and what its answer does.

Owns `planned` -> `signed`. The gate commits `sign_requested_at` under the players' locks: after it
nothing is cancelled, and recovery asks again with the same bytes; before it everything may still
stop. No unit of work is open while the signer is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from uuid import UUID

from config import alarm_store
from config.database import Uow
from config.logs import get_logger
from gateway import withdrawals_store
from gateway.payouts import attempts, lost_deposits, question, refusals, store
from gateway.payouts.attempts import Attempt
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, RequestTooLarge, SignerUnavailable
from gateway.payouts.nonce_order import NonceOrder
from gateway.payouts.refusals import KNOWS_MORE, SIGNER_CAP, SIGNER_KNOWS_MORE
from gateway.payouts.rounds import AttemptRound
from gateway.payouts.same_tx import is_signature_of
from gateway.payouts.silence import UNSTORED, Silence
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger import holds
from ledger.errors import IllegalTransition, StaleState
from signer.protocol import (
    MAX_FRAME_BYTES,
    MAX_QUESTIONS,
    Refusal,
    RequestWriter,
    SignedTx,
    SignRequest,
)
from watchers import nonces, outgoing, outgoing_lots, switches
from watchers.errors import AttemptConflict
from watchers.nonces import Below
from watchers.outgoing import OutgoingState
from watchers.switches import Action

BUILT_MAX = 500  # unsigned attempts looked at in one pass
LOOKED_UP_MAX = 20  # attempts that the signer is asked about beside a refused one
LOT = 100  # payments that pass gate and signer in one go
UNANSWERED_MAX = 3  # of those in one pass, so that a pass ends

OTHER_TX = Refusal(code="attempt_mismatch", reason="the attempt was signed as another tx")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gated:
    """What the gate let through, in order, and what the signer is asked to remember; `are_cut`:
    whether a question was too large."""

    open: tuple[tuple[Attempt, SignRequest], ...]
    doubtful: tuple[Attempt, ...]
    are_cut: bool


class _Gate(Enum):
    """What becomes of an attempt at the gate."""

    OPEN = auto()
    """`sign_requested_at` is committed: ask."""
    SHUT = auto()
    """Not now."""
    DOUBT = auto()
    """Asked for by another process, with a free number below it: the signer says what it knows."""
    DROP = auto()
    """It is planned anew, or not at all."""


class _Unanswered(SignerUnavailable):
    """No answer for one attempt; whether the signer is down is another question."""


class SigningStep:
    """Takes every planned attempt of a lane through gate and signer."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._round = AttemptRound(lane.network, [State.PLANNED], size=BUILT_MAX)
        self._silence = Silence(lane)
        # Asked for by a commit and never asked: the fence of that commit. Lost, it counts as asked.
        self._unasked: dict[UUID, int] = {}

    async def run(self) -> None:
        """One pass. Raises SignerUnavailable: then the rest waits too."""
        async with self._lane.database.unit_of_work() as uow:
            found = await self._round.page(uow)
            counts = await store.member_counts(uow, found)
            built = await outgoing.in_states(
                uow, network=self._lane.network, states=[OutgoingState.BUILT], limit=BUILT_MAX
            )
        first = {row.id for row in built if row.replaces_id is None and not row.is_own_move}
        for attempt_id in sorted(first - set(found)):
            await self._lane.run(partial(self._abandon, attempt_id=attempt_id))
        # Account chains in the order of their nonces; ids of one millisecond are in no order.
        by_nonce = {row.id: row.nonce for row in built if row.nonce is not None}
        ordered = [
            item
            for item in sorted(found, key=lambda item: (by_nonce.get(item, 0), item))
            if not self._silence.is_waiting(item)
        ]
        unanswered = 0
        for lot in _lots(ordered, counts, is_many=self._lane.is_account_based):
            if await is_stopped(self._lane) or unanswered >= UNANSWERED_MAX:
                return
            unanswered += await self._lot(lot)

    async def _abandon(self, uow: Uow, *, attempt_id: UUID) -> None:
        """Every member ended before signing was asked for: coins and nonce are free again."""
        attempt = await attempts.load(uow, attempt_id, lock=True)
        rows = attempt.rows()
        if any(row.state == State.PLANNED or row.sign_requested_at is not None for row in rows):
            return
        await outgoing.drop_unsigned(uow, attempt_id=attempt_id, at=self._lane.now())
        log.info("payout.abandoned", attempt_id=str(attempt_id), members=len(rows))

    async def _lot(self, lot: Sequence[UUID]) -> int:
        """Gate and signer for some attempts; how many went unanswered."""
        lane = self._lane
        try:
            gated = await lane.run(partial(self._gate, attempt_ids=lot))
        except (StaleState, BrokenAttempt) as error:
            if len(lot) > 1:  # one of them: alone, it stops nobody else
                return sum([await self._lot([item]) for item in lot])
            if isinstance(error, BrokenAttempt):
                detail = str(error)
                await lane.run(lambda uow: refusals.broken(lane, uow, lot[0], detail))
                return 0
            log.info("payout.stale", attempt_id=str(lot[0]), detail=str(error))
            return 0  # a cancel won the race: the next pass reads anew
        if gated.are_cut:
            lane.crash("payout.cut")
        if gated.open:
            lane.crash("payout.sign_requested")
        for attempt in gated.doubtful:
            await self._clear_up(attempt)
        return await self._ask_all(gated)

    async def _clear_up(self, attempt: Attempt) -> None:
        """Asked for by a process that died, above a number that was given back meanwhile. If the
        signer never signed it, it goes again and takes that number: signed, it would wait for ever.
        Should the dead process's question still arrive, the signer's families keep it alone."""
        try:
            found = await self._look_up(attempt.id)
            if isinstance(found, SignedTx) and _is_ours(attempt, found):
                await self._take({attempt.id: found})
            elif isinstance(found, SignedTx):
                await self._no(attempt, OTHER_TX)
            else:
                await self._lane.run(partial(self._not_asked, attempt_id=attempt.id))
        except _Unanswered as error:
            await self._silence.only_this_one(attempt.id, error)
        except StaleState as error:
            log.info("payout.stale", attempt_id=str(attempt.id), detail=str(error))

    async def _not_asked(self, uow: Uow, *, attempt_id: UUID) -> None:
        attempt = await attempts.load(uow, attempt_id, lock=True)
        if attempt.tx.raw is None:
            await self._drop(uow, attempt, ())

    async def _ask_all(self, gated: _Gated) -> int:
        """In order; behind a no, or no answer, nothing of the same account is asked in this pass,
        since a number that nobody uses would stop what is above it."""
        queue = list(gated.open)
        unanswered = 0
        while queue:
            part = _part(queue)
            queue = queue[len(part) :]
            fences = {item.id: self._unasked.pop(item.id, None) for item, _ in part}
            answers, are_known = await self._ask_part(part)
            signed = {
                item.id: answer
                for (item, _), answer in zip(part, answers, strict=False)
                if isinstance(answer, SignedTx)
            }
            await self._take(signed)
            rest = part[len(answers) :]
            if are_known:
                self._unasked |= {item.id: fence for item, _ in rest if (fence := fences[item.id])}
            queue = rest + queue
            last, (attempt, _) = answers[-1], part[len(answers) - 1]
            if isinstance(last, SignedTx):
                continue
            account = attempt.tx.sender_key
            queue = [item for item in queue if account is None or item[0].tx.sender_key != account]
            if isinstance(last, _Unanswered):
                await self._silence.only_this_one(attempt.id, last)
                unanswered += 1
                continue
            unanswered += await self._not_signed(attempt, last)
            if await is_stopped(self._lane):
                return unanswered
        return unanswered

    async def _ask_part(
        self, part: Sequence[tuple[Attempt, SignRequest]]
    ) -> tuple[list["SignedTx | Refusal | _Unanswered | None"], bool]:
        """The answers in order, up to the first that is no signature, and whether the signer has
        not looked at what is behind them."""
        are_known = True
        if len(part) > 1:
            try:
                found = await self._lane.signer.sign_many([request for _, request in part])
            except (RequestTooLarge, SignerUnavailable) as error:
                log.warning("payout.lot_unanswered", attempts=len(part), detail=str(error))
                are_known = isinstance(error, RequestTooLarge)
            else:
                for _ in found:
                    self._lane.crash("payout.signer_answered")
                # Out of order, it may have remembered what it did not give away.
                last = found[-1]
                is_out = isinstance(last, Refusal) and last.code in refusals.NOT_ABOUT_THE_TX
                return [*found], not is_out
        attempt, request = part[0]
        try:
            answer = await self._ask(attempt, request)
        except _Unanswered as error:
            return [error], are_known
        self._lane.crash("payout.signer_answered")
        return [answer], are_known

    async def _not_signed(self, attempt: Attempt, answer: Refusal | None) -> int:
        try:
            if answer is None:  # never sent, never answered: the frame was too small for it
                await self._lane.run(partial(self._cut, attempt_id=attempt.id))
                self._lane.crash("payout.cut")
            else:
                await self._no(attempt, answer)
        except _Unanswered as error:
            await self._silence.only_this_one(attempt.id, error)
            return 1
        except StaleState as error:
            log.info("payout.stale", attempt_id=str(attempt.id), detail=str(error))
        return 0

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
            return OTHER_TX
        return found

    async def _look_up(self, attempt_id: UUID) -> SignedTx | Refusal | None:
        try:
            return await self._lane.signer.lookup(str(attempt_id))
        except SignerUnavailable as error:
            raise _Unanswered(str(error)) from error

    async def _take(self, answers: Mapping[UUID, SignedTx]) -> None:
        """Into the books, together. One that they do not take stays as it is, with an alarm: it is
        signed, so that its number is its own; the others are stored without it."""
        if not answers:
            return
        lane = self._lane
        try:
            await lane.run(partial(self._store, answers=answers))
        except (StaleState, IllegalTransition, AttemptConflict) as error:
            if len(answers) > 1:
                for key, answer in answers.items():
                    await self._take({key: answer})
                return
            [(attempt_id, answer)] = answers.items()
            detail = f"{answer.txid} is signed and not stored: {error}"
            log.error("payout.unstored", attempt_id=str(attempt_id), detail=detail)
            await lane.run(
                lambda uow: attempts.alarm(lane, uow, UNSTORED, detail, object_id=attempt_id)
            )
            return
        lane.crash("payout.signed")

    async def _no(self, attempt: Attempt, answer: Refusal) -> None:
        lane, known = self._lane, ""
        await refusals.raise_unless_about_the_tx(lane, answer)
        if answer.code in KNOWS_MORE:
            found = await self._remembered(attempt)
            lane.crash("payout.looked_up")
            own = found.get(attempt.id)
            if own is not None and _is_ours(attempt, own):  # this very tx, asked in other words
                await self._take({attempt.id: own})
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

    async def _gate(self, uow: Uow, *, attempt_ids: Sequence[UUID]) -> _Gated:
        """Commit `sign_requested_at` on all members of what may be signed, and drop what may not;
        nothing is asked for that the signer could not be asked."""
        lane = self._lane
        riding = await store.members_of(uow, attempt_ids, lock=False)
        rows = [member.withdrawal for members in riding.values() for member in members]
        await lost_deposits.lock(uow, rows)
        found = await attempts.load_many(uow, attempt_ids, lock=True)
        stopped = await switches.stopped(uow, network=lane.network, action=Action.SIGN)
        counts = await store.member_counts(uow, attempt_ids)
        paused = await lost_deposits.paused(uow, [row for item in found for row in item.rows()])
        order = await self._order(uow, found)
        whole = [item for item in found if item.rows(State.PLANNED)]
        questions = await question.of_attempts(lane, uow, whole)
        opened: list[tuple[Attempt, SignRequest]] = []
        doubtful: list[Attempt] = []
        are_cut = False
        for attempt in found:
            rows = attempt.rows()
            failing = [row for row in rows if not self._may_sign(row, paused)]
            verdict = self._verdict(
                attempt,
                is_held=bool(rows) and stopped.covers(rows[0].asset),
                is_failing=bool(failing),
                is_whole=len(rows) == counts.get(attempt.id, 0),
                below=order.below(attempt.tx),
            )
            is_new = rows and rows[0].sign_requested_at is None
            if verdict is _Gate.DOUBT:
                doubtful.append(attempt)
            if verdict in (_Gate.SHUT, _Gate.DOUBT):
                continue
            if verdict is _Gate.DROP:
                await self._drop(uow, attempt, failing)
                order.free(attempt.tx)
            elif is_new and not question.fits(questions[attempt.id]):
                await refusals.cut(lane, uow, attempt)
                order.free(attempt.tx)
                are_cut = True
            else:
                opened.append((attempt, questions[attempt.id]))
                order.open(attempt.tx)
        fresh = [row for item, _ in opened for row in item.rows() if row.sign_requested_at is None]
        await store.request_signature(uow, [row.id for row in fresh], at=lane.now())
        asked = {row.attempt_id for row in fresh}
        self._unasked |= dict.fromkeys((i for i in attempt_ids if i in asked), lane.lease.fence)
        return _Gated(open=tuple(opened), doubtful=tuple(doubtful), are_cut=are_cut)

    async def _order(self, uow: Uow, found: Sequence[Attempt]) -> NonceOrder:
        keys = sorted({item.tx.sender_key for item in found if item.tx.sender_key is not None})
        if not keys:
            return NonceOrder(())
        return NonceOrder(await nonces.unsigned(uow, network=self._lane.network, sender_keys=keys))

    def _verdict(
        self, attempt: Attempt, *, is_held: bool, is_failing: bool, is_whole: bool, below: Below
    ) -> _Gate:
        """What becomes of an attempt at the gate, from the rows under lock."""
        rows = attempt.rows()
        is_asked = self._unasked.get(attempt.id) != self._lane.lease.fence
        if rows and is_asked and all(row.sign_requested_at is not None for row in rows):
            is_open = not is_held and all(row.state == State.PLANNED for row in rows)
            if not is_open or below is Below.UNSIGNED:
                return _Gate.SHUT
            return _Gate.DOUBT if below is Below.FREE else _Gate.OPEN
        now = self._lane.now()
        limit = self._lane.registry.policy.limits.planned_seconds
        is_late = any((now - row.state_at).total_seconds() > limit for row in rows)
        if is_failing or is_late:
            return _Gate.DROP
        if is_held or below is Below.UNSIGNED:
            return _Gate.SHUT  # account chains are signed in the order of their nonces
        return _Gate.OPEN if is_whole and below is not Below.FREE else _Gate.DROP

    async def _drop(self, uow: Uow, attempt: Attempt, failing: Sequence[WithdrawalRow]) -> None:
        self._unasked.pop(attempt.id, None)
        for row in await attempts.unplan(self._lane, uow, attempt):
            if row.id in {other.id for other in failing}:
                await self._stop(uow, row)
        log.info("payout.unplanned", attempt_id=str(attempt.id), failing=len(failing))

    def _may_sign(self, row: WithdrawalRow, paused: frozenset[UUID]) -> bool:
        if row.state != State.PLANNED:
            return False
        if row.txid is not None:  # a reissue: no clock and no deposit stops what two people signed
            return True
        if row.valid_until <= self._lane.now():
            return False
        return row.id not in paused

    async def _stop(self, uow: Uow, row: WithdrawalRow) -> None:
        """Take a member that failed the gate (queued again by now) out of the queue."""
        lane = self._lane
        if row.valid_until <= lane.now():
            await attempts.expire(lane, uow, row)
        else:
            await attempts.move(lane, uow, row, Trigger.DEPOSIT_ORPHANED, code="deposit_orphaned")

    async def _store(self, uow: Uow, *, answers: Mapping[UUID, SignedTx]) -> None:
        """Signed bytes and txids, before anything is sent; reserved -> in flight."""
        lane = self._lane
        found = await attempts.load_many(uow, sorted(answers), lock=True)
        signed = {key: (answer.raw, answer.txid) for key, answer in answers.items()}
        if lane.is_account_based:
            await outgoing_lots.mark_signed(uow, signed, at=lane.now())
        else:
            for key, (raw, txid) in signed.items():
                await outgoing.mark_signed(uow, attempt_id=key, raw=raw, txid=txid, at=lane.now())
        moves = [
            (row, {"txid": answers[attempt.id].txid})
            for attempt in found
            for row in attempt.rows(State.PLANNED)
        ]
        captured = [(row.id, f"withdrawal:{row.id}:capture") for row, _ in moves]
        await holds.capture_many(uow, captured, at=lane.now())
        await attempts.move_each(lane, uow, moves, Trigger.SIGN)
        await self._silence.ended(uow, *answers)
        await store.clear_waiting_alarm(uow, kind=SIGNER_CAP, network=lane.network, at=lane.now())
        for key, answer in answers.items():
            log.info(
                "payout.signed",
                network=lane.network,
                attempt_id=str(key),
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


def _part(
    queue: Sequence[tuple[Attempt, SignRequest]],
) -> list[tuple[Attempt, SignRequest]]:
    """As many of the questions, at least one, as fit into one message."""
    part: list[tuple[Attempt, SignRequest]] = []
    writer, used = RequestWriter(), 0
    for item in queue[:MAX_QUESTIONS]:
        used += question.frame_bytes(item[1], writer) or MAX_FRAME_BYTES
        if part and used > question.ORDERS_MAX_BYTES:
            break
        part.append(item)
    return part


def _lots(
    ordered: Sequence[UUID], counts: Mapping[UUID, int], *, is_many: bool
) -> Iterator[list[UUID]]:
    """Attempts that go together: by payments where an attempt has no coins, else one by one."""
    lot: list[UUID] = []
    used = 0
    for item in ordered:
        size = counts.get(item, 0)
        if lot and (not is_many or used + size > LOT):
            yield lot
            lot, used = [], 0
        lot.append(item)
        used += size
    if lot:
        yield lot


def _is_ours(attempt: Attempt, found: SignedTx) -> bool:
    """Whether what the signer remembers of an attempt is the very tx of these books."""
    return is_signature_of(attempt.tx.unsigned, raw=found.raw, txid=found.txid)


async def is_stopped(lane: Lane) -> bool:
    """True while the network's alarm that the signer knows more than the books is open."""
    async with lane.database.unit_of_work() as uow:
        return await alarm_store.is_open(uow, kind=SIGNER_KNOWS_MORE, network=lane.network)
