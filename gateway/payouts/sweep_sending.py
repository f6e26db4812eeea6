"""Own txs of sweeps from bytes to a node: asked of the signer in lots, sent in lots, looked for.

Owns `built` to `seen` of the purposes `sweep`, `collect` and `gas_top_up`, and the states of sweeps
that say the same. What the signer may have signed is never dropped unasked; a node's words are a
hint, and what nobody shows is sent again with the same bytes. No unit of work is open while anybody
is asked.
"""

from asyncio import timeout
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, collecting, refusals, sweeps
from gateway.payouts import sweeps_store as store
from gateway.payouts.broadcaster import LOOK_SECONDS, SEND_TIMEOUT_SECONDS, TOGETHER
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, RequestTooLarge
from gateway.payouts.nonce_order import NonceOrder
from gateway.payouts.refusals import CAP_OF_WINDOW, KNOWS_MORE, SIGNER_KNOWS_MORE
from gateway.payouts.same_tx import is_signature_of
from gateway.payouts.sweeps import State, Step, Trigger
from ledger.errors import StaleState
from signer.protocol import Purpose, Refusal, SignedTx, SignRequest
from watchers import addresses, nonces, outgoing, outgoing_lots, sweepable, switches
from watchers.chain import SendOutcome, SendResult, TxPlace
from watchers.errors import NodeUnavailable
from watchers.nonces import Below
from watchers.outgoing import OutgoingRow, OutgoingState
from watchers.switches import Action

LOT: Final = 100  # one message to the signer (signer.protocol.MAX_QUESTIONS)
BUILT_MAX: Final = 500  # unsigned txs looked at in one pass
SENT_MAX: Final = 500  # txs looked for in one pass; the next one goes on behind them
REFUSED_WAIT: Final = timedelta(hours=1)
CAP_WAIT: Final = timedelta(minutes=15)

SWEEP_REFUSED: Final = "sweep_refused"
"""Alarm: the signer said no to a sweep or a top-up; the next signed one clears it."""

SWEEP_UNSENT: Final = "sweep_unsent"
"""Alarm: a node calls a signed sweep or top-up invalid."""

_UNSEEN: Final = (OutgoingState.BROADCAST, OutgoingState.SEEN, OutgoingState.DROPPED)

log = get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Gated:
    """What one lot's gate decided: `ask` in order, `late` ones go unless they were signed."""

    ask: list[OutgoingRow]
    late: list[OutgoingRow]


class SweepSending:
    """Signs and sends the sweeps of one lane. Its memory only paces."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._looked_at_seconds: dict[UUID, float] = {}
        self._after: UUID | None = None

    async def sign(self) -> int:
        """One pass over what is built; how many were signed. Raises SignerUnavailable."""
        lane, signed = self._lane, 0
        async with lane.database.unit_of_work() as uow:
            ids = await self._txs(uow, [OutgoingState.BUILT], limit=BUILT_MAX)
            built = await outgoing_lots.get(uow, ids)
        order = sorted(built.values(), key=lambda tx: (tx.sender_key or "", tx.nonce or 0))
        if order:
            await lane.signer.head()  # without a signer everything waits as it is (S21)
        for start in range(0, len(order), LOT):
            try:
                signed += await self._lot([tx.id for tx in order[start : start + LOT]])
            except StaleState as error:
                log.info("payout.sweep_stale", network=lane.network, detail=str(error))
        return signed

    async def send(self) -> None:
        """Send what is signed, look for what was sent. Raises NodeUnavailable."""
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            new = await self._txs(uow, [OutgoingState.SIGNED], limit=BUILT_MAX)
            old = await self._txs(uow, _UNSEEN, limit=SENT_MAX, after=self._after)
            known = await outgoing_lots.get(uow, [*new, *old])
        self._after = old[-1] if len(old) == SENT_MAX else None
        fresh = sorted((known[key] for key in new), key=lambda tx: tx.nonce or 0)
        for start in range(0, len(fresh), LOT):
            await self._first_time(fresh[start : start + LOT])
        now = lane.clock.monotonic_seconds()
        due = [
            known[key]
            for key in old
            if now - self._looked_at_seconds.get(key, now - LOOK_SECONDS) >= LOOK_SECONDS
        ]
        self._looked_at_seconds = {
            key: at for key, at in self._looked_at_seconds.items() if now - at < 100 * LOOK_SECONDS
        }
        missing = await self._look(due)
        if missing and not await self._is_stopped(Action.BROADCAST):
            await self._look(await self._hand_over(missing))

    async def _txs(
        self, uow: Uow, states: Sequence[OutgoingState], *, limit: int, after: UUID | None = None
    ) -> list[UUID]:
        return await sweepable.txs(
            uow, network=self._lane.network, states=states, after=after, limit=limit
        )

    # -- signing -------------------------------------------------------------------------------

    async def _lot(self, ids: Sequence[UUID]) -> int:
        lane = self._lane
        gated = await lane.run(partial(self._gate, ids=ids))
        lane.crash("payout.sweeps_asked")
        answers = await self._ask(gated.ask)
        lane.crash("payout.sweeps_answered")
        signed = {tx.id: answer for tx, answer in answers if isinstance(answer, SignedTx)}
        for tx in gated.late:
            known = await self._remembered(tx)
            if known is not None:
                signed[tx.id] = known
        if signed:
            await lane.run(partial(self._store, signed=signed))
            lane.crash("payout.sweeps_signed")
        gone: dict[UUID, Refusal | None] = {tx.id: None for tx in gated.late if tx.id not in signed}
        gone |= {tx.id: answer for tx, answer in answers if isinstance(answer, Refusal)}
        for attempt_id, refusal in gone.items():
            await lane.run(partial(self._drop, attempt_id=attempt_id, refusal=refusal))
            lane.crash("payout.sweeps_refused")
        return len(signed)

    async def _gate(self, uow: Uow, *, ids: Sequence[UUID]) -> _Gated:
        """In the order of nonces: what may be asked for now, and what is too old for its fee."""
        lane, gated = self._lane, _Gated(ask=[], late=[])
        found = await outgoing_lots.get(uow, ids, is_locked=True)
        stopped = [
            await switches.stopped(uow, network=lane.network, action=action)
            for action in (Action.SWEEP, Action.SIGN)
        ]
        senders = sorted({tx.sender_key or "" for tx in found.values()})
        order = NonceOrder(await nonces.unsigned(uow, network=lane.network, sender_keys=senders))
        oldest = lane.now() - timedelta(seconds=lane.registry.policy.limits.planned_seconds)
        families = await sweepable.families(uow, ids)
        for tx in (found[key] for key in ids if key in found):
            if tx.state is not OutgoingState.BUILT:
                continue
            is_mined = any(other.height is not None for other in families[tx.id])
            below = Below.CLEAR if tx.replaces_id is not None else order.below(tx)
            if below is Below.FREE or tx.created_at < oldest or is_mined:
                gated.late.append(tx)
            elif below is Below.CLEAR and not any(
                item.covers(asset) for item in stopped for asset in _assets(lane, tx)
            ):
                order.open(tx)
                gated.ask.append(tx)
        return gated

    async def _ask(
        self, asked: Sequence[OutgoingRow]
    ) -> list[tuple[OutgoingRow, SignedTx | Refusal]]:
        """Answers up to the first refusal; what is behind it is asked again in the next pass."""
        if not asked:
            return []
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            questions = await self._questions(uow, asked)
        try:
            answers = await lane.signer.sign_many(questions)
        except RequestTooLarge as error:
            raise BrokenAttempt(f"a lot of sweeps is over the frame: {error}") from error
        found = list(zip(asked, answers, strict=False))
        if found and isinstance(found[-1][1], Refusal):
            tx, refusal = found[-1]
            await refusals.raise_unless_about_the_tx(lane, found[-1][1])
            known = await self._remembered(tx)
            found[-1] = (tx, refusal if known is None else known)
        return found

    async def _questions(self, uow: Uow, asked: Sequence[OutgoingRow]) -> list[SignRequest]:
        """From committed rows only: the same after every crash."""
        keys = {tx.sender_key or "" for tx in asked} | {tx.payments[0].key for tx in asked}
        keys |= {item.from_key for tx in asked for item in tx.payments if item.from_key}
        own = await addresses.by_keys(uow, network=self._lane.network, keys=sorted(keys))
        questions = []
        for tx in asked:
            sender, to = own.get(tx.sender_key or ""), own.get(tx.payments[0].key)
            if sender is None or to is None:
                raise BrokenAttempt(f"attempt {tx.id}: sender or receiver is no address of ours")
            questions.append(
                SignRequest(
                    attempt_id=str(tx.id),
                    purpose=Purpose(tx.purpose),
                    network=tx.network,
                    worker_epoch=self._lane.lease.fence,
                    unsigned=tx.unsigned,
                    input_paths=(sender.path,),
                    change_paths=collecting.paths(tx, own) if tx.has_legs else {},
                    payments=(),
                    own_path=None if tx.has_legs else to.path,
                    replaces=None if tx.replaces_id is None else str(tx.replaces_id),
                )
            )
        return questions

    async def _remembered(self, tx: OutgoingRow) -> SignedTx | None:
        """What the signer signed for exactly this tx, if it did."""
        known = await self._lane.signer.lookup(str(tx.id))
        is_it = isinstance(known, SignedTx) and is_signature_of(
            tx.unsigned, raw=known.raw, txid=known.txid
        )
        return known if is_it and isinstance(known, SignedTx) else None

    async def _store(self, uow: Uow, *, signed: Mapping[UUID, SignedTx]) -> None:
        """Signed bytes and txids, before anything is sent; a replacement is the live one now."""
        lane = self._lane
        await outgoing_lots.mark_signed(
            uow, {key: (item.raw, item.txid) for key, item in signed.items()}, at=lane.now()
        )
        for key, family in (await sweepable.families(uow, list(signed))).items():
            older = [tx.id for tx in family if tx.id != key]
            if older:
                await store.follow(uow, older=older, attempt_id=key, txid=signed[key].txid)
        rows = await store.attempts_of(uow, list(signed))
        steps = [
            Step(row=row, trigger=Trigger.SIGN, changes={"txid": signed[key].txid})
            for key, found in rows.items()
            for row in found
            if key == row.attempt_id and State(row.state) is State.PLANNED
        ]
        await sweeps.move_many(uow, steps, ids=lane.ids, at=lane.now())
        await attempts.clear(lane, uow, SWEEP_REFUSED)
        log.info("payout.sweeps_signed", network=lane.network, count=len(signed))

    async def _drop(self, uow: Uow, *, attempt_id: UUID, refusal: Refusal | None) -> None:
        """Never signed: the nonce is free, the sweep is looked at anew. Where the signer knows more
        than these books, all stays for people."""
        lane = self._lane
        if refusal is not None:
            detail = f"attempt {attempt_id}: {refusal.code}: {refusal.reason}"
            log.warning("payout.sweep_refused", network=lane.network, detail=detail)
            if refusal.code in KNOWS_MORE:
                await attempts.alarm(lane, uow, SIGNER_KNOWS_MORE, detail)
                return
            await attempts.alarm(lane, uow, SWEEP_REFUSED, detail)
        rows = await store.attempts_of(uow, [attempt_id])
        await outgoing.drop_unsigned(uow, attempt_id=attempt_id, at=lane.now())
        waiting = [
            row
            for row in rows.get(attempt_id, ())
            if State(row.state) in (State.PLANNED, State.GAS_PLANNED)
        ]
        if not waiting:
            return  # a refill, or a replacement: what it was to replace goes on
        pause = timedelta(0)
        if refusal is not None:
            pause = CAP_WAIT if refusal.code == CAP_OF_WINDOW else REFUSED_WAIT
        changes = {
            "gas_attempt_id": None,
            "attempt_id": None,
            "txid": None,
            "code": None if refusal is None else f"signer_{refusal.code}",
            "look_at": lane.now() + pause,
        }
        steps = [Step(row=row, trigger=Trigger.RECONSIDER, changes=changes) for row in waiting]
        await sweeps.move_many(uow, steps, ids=lane.ids, at=lane.now())

    # -- sending -------------------------------------------------------------------------------

    async def _first_time(self, lot: Sequence[OutgoingRow]) -> None:
        """Committed as sent first, then handed over in the order of nonces."""
        lane = self._lane
        try:
            begun = await lane.run(partial(self._begin, ids=[tx.id for tx in lot]))
        except StaleState as error:
            log.info("payout.sweep_stale", network=lane.network, detail=str(error))
            return
        going = [tx for tx in lot if tx.id in begun]
        if not going:
            return
        lane.crash("payout.sweeps_sending")
        await self._look(await self._hand_over(going))

    async def _begin(self, uow: Uow, *, ids: Sequence[UUID]) -> set[UUID]:
        lane = self._lane
        found = await outgoing_lots.get(uow, ids, is_locked=True)
        stopped = await switches.stopped(uow, network=lane.network, action=Action.BROADCAST)
        going = [
            tx.id
            for tx in found.values()
            if tx.raw is not None and not any(stopped.covers(item) for item in _assets(lane, tx))
        ]
        await outgoing_lots.mark_broadcast(uow, going, at=lane.now())
        rows = await store.attempts_of(uow, going)
        steps = []
        for key, row in ((key, row) for key, found_of in rows.items() for row in found_of):
            if key == row.attempt_id and State(row.state) is State.SIGNED:
                steps.append(Step(row=row, trigger=Trigger.SEND, changes={}))
            elif key == row.gas_attempt_id and State(row.state) is State.GAS_PLANNED:
                steps.append(Step(row=row, trigger=Trigger.SEND_GAS, changes={}))
        await sweeps.move_many(uow, steps, ids=lane.ids, at=lane.now())
        return set(going)

    async def _hand_over(self, going: Sequence[OutgoingRow]) -> list[OutgoingRow]:
        """Each once, a part of them in one message; all of them, for the look that follows."""
        for start in range(0, len(going), TOGETHER):
            part = going[start : start + TOGETHER]
            raws = [tx.raw for tx in part if tx.raw is not None]
            if len(raws) != len(part):
                raise BrokenAttempt("a sweep is past signing and has no bytes")
            results = await self._answer(raws)
            for tx, result in zip(part, results, strict=True):
                if result.outcome is SendOutcome.INVALID:
                    await self._lane.run(partial(self._invalid, tx=tx, result=result))
            outcomes = sorted({result.outcome.value for result in results})
            log.info(
                "payout.sweeps_sent", network=self._lane.network, count=len(part), told=outcomes
            )
            self._lane.crash("payout.sweeps_sent")
        return list(going)

    async def _answer(self, raws: Sequence[bytes]) -> Sequence[SendResult]:
        try:
            async with timeout(SEND_TIMEOUT_SECONDS):
                return await self._lane.chain.writer.send_many(raws)
        except (TimeoutError, NodeUnavailable) as error:
            unclear = SendResult(outcome=SendOutcome.UNCLEAR, detail=type(error).__name__)
            return [unclear] * len(raws)

    async def _invalid(self, uow: Uow, *, tx: OutgoingRow, result: SendResult) -> None:
        detail = f"{tx.txid}: {result.detail}"
        await attempts.alarm(self._lane, uow, SWEEP_UNSENT, detail, object_id=tx.id)

    async def _look(self, sent: Sequence[OutgoingRow]) -> list[OutgoingRow]:
        """What nodes show is recorded as seen; what none of them shows is returned."""
        lane, missing = self._lane, list[OutgoingRow]()
        for start in range(0, len(sent), TOGETHER):
            part = sent[start : start + TOGETHER]
            for tx in part:
                self._looked_at_seconds[tx.id] = lane.clock.monotonic_seconds()
            async with timeout(SEND_TIMEOUT_SECONDS):
                found = await lane.chain.reader.tx_statuses([tx.txid or "" for tx in part])
            places = {tx.id: item.place for tx, item in zip(part, found, strict=True)}
            missing += [tx for tx in part if places[tx.id] is TxPlace.UNKNOWN]
            pooled = [key for key, place in places.items() if place is TxPlace.MEMPOOL]
            if pooled:
                await lane.run(partial(outgoing_lots.mark_seen, ids=pooled, at=lane.now()))
                lane.crash("payout.sweeps_recorded")
        return missing

    async def _is_stopped(self, action: Action) -> bool:
        async with self._lane.database.unit_of_work() as uow:
            return await switches.is_stopped(
                uow,
                network=self._lane.network,
                asset=self._lane.spec.native_asset,
                action=action,
            )


def _assets(lane: Lane, tx: OutgoingRow) -> set[str]:
    """What people may have stopped: its asset, and the coin that pays for it."""
    return {lane.spec.native_asset, *(payment.asset for payment in tx.payments)}
