"""Sends signed bytes and finds out what became of them.

Owns `signed` -> `broadcasting` -> `sent` and everything about `uncertain`. A node's words are a
hint: what counts is our txid on the chain or in a mempool (P05, N27). Nothing here builds a second
attempt (`bumping` does); whatever is in doubt is looked for, and sent again with the same bytes
(P04). Children that pay for a parent are sent here too; they have no members.
"""

import asyncio
from asyncio import timeout
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, families, store
from gateway.payouts.attempts import Attempt
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from gateway.payouts.rounds import AttemptRound
from gateway.payouts.withdrawals import State, Trigger
from ledger.errors import StaleState
from signer.protocol import Purpose
from watchers import outgoing, outgoing_families, outgoing_lots, switches
from watchers.chain import SendOutcome, SendResult, TxPlace
from watchers.errors import NodeUnavailable
from watchers.outgoing import OutgoingRow, OutgoingState
from watchers.switches import Action

SEND_TIMEOUT_SECONDS = 30.0  # CONTRACT 5: broadcasting 30 s -> uncertain
RESEND_SECONDS = 10.0  # the same bytes, not faster than this
LOOK_SECONDS = 30.0  # how often a sent tx is looked for (P19: evicted ones are sent again)
INPUTS_LOOKED_AT = 20  # one answer per input; enough to name a rival
CHILDREN_MAX = 200  # children on their way that are looked at per pass
LOT = 100  # txs of account chains that are sent for the first time in one go
TOGETHER = 50  # txs in one message to a node; geth keeps 64 of an account behind a missing nonce
NEW_MAX = 500  # freshly signed attempts per pass; each leaves `signed`, so these come first
SOUGHT = (State.BROADCASTING, State.UNCERTAIN, State.SENT)
IN_DOUBT = (State.BROADCASTING, State.UNCERTAIN, State.SENT, State.CANCELLING)
FORGET_SECONDS = 3_600.0  # a pace that nobody asked for so long; a round takes far less

log = get_logger(__name__)


class Broadcaster:
    """The sending step of one lane. Its memory only paces re-sends; losing it is harmless.

    `fee_refused`: newest attempts that a node refused for their fee and that no node shows;
    `chain_full`: those that hang on too much in no block, which no fee changes.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.fee_refused: set[UUID] = set()
        self.chain_full: set[UUID] = set()
        self._looked_at_seconds: dict[UUID, float] = {}
        self._round = AttemptRound(lane.network, IN_DOUBT)

    async def run(self) -> None:
        """One pass over attempts that are signed and not in a block, in order of nonces."""
        async with self._lane.database.unit_of_work() as uow:
            new = await store.open_attempts(
                uow, network=self._lane.network, states=[State.SIGNED], limit=NEW_MAX
            )
            found = [*new, *(item for item in await self._round.page(uow) if item not in set(new))]
            found += await outgoing_families.own_on_their_way(
                uow, network=self._lane.network, limit=CHILDREN_MAX
            )
            known = await attempts.load_many(uow, found, lock=False)
        now = self._lane.clock.monotonic_seconds()
        self._looked_at_seconds = {
            key: value
            for key, value in self._looked_at_seconds.items()
            if now - value < FORGET_SECONDS
        }
        known.sort(key=lambda item: (item.tx.nonce or 0, item.id))
        fresh = [item for item in known if _is_fresh(item)] if self._lane.is_account_based else []
        for lot in (fresh[at : at + LOT] for at in range(0, len(fresh), LOT)):
            await self._first_time(lot)
        sought = [item for item in known if self._is_sought(item)]
        await self._seek(sought)
        done = {item.id for item in (*fresh, *sought)}
        for attempt in (item for item in known if item.id not in done):
            await _alone(attempt.id, self._one(attempt))

    async def _first_time(self, lot: Sequence[Attempt]) -> None:
        """Send what was never sent: the lot is committed as such first, then each account's txs go
        in the order of their nonces, and what nodes show of them is committed together."""
        try:
            begun = await self._lane.run(partial(self._begin_lot, attempt_ids=[a.id for a in lot]))
        except StaleState as error:  # one of them moved: alone, it stops nobody else
            log.info("payout.stale", attempt_id=str(lot[0].id), detail=str(error))
            if len(lot) > 1:
                for attempt in lot:
                    await self._first_time([attempt])
            return
        if not begun:
            return
        self._lane.crash("payout.broadcasting")
        going = [attempt for attempt in lot if attempt.id in begun]
        by_sender: dict[str | None, list[Attempt]] = {}
        for attempt in going:
            by_sender.setdefault(attempt.tx.sender_key, []).append(attempt)
        queues = [asyncio.create_task(self._in_order(each)) for each in by_sender.values()]
        try:
            outcomes = await asyncio.gather(*queues)
        finally:
            for queue in queues:
                queue.cancel()
        shown = {key: place for found, _, _ in outcomes for key, place in found.items()}
        await self._found_lot(shown)
        for _, unseen, failure in outcomes:
            for attempt, result in unseen:
                await _alone(attempt.id, self._unseen(attempt, result))
            if failure is not None:
                raise failure

    async def _in_order(
        self, queue: Sequence[Attempt]
    ) -> tuple[dict[UUID, TxPlace], list[tuple[Attempt, SendResult]], NodeUnavailable | None]:
        """Send one account's txs; what was seen where, what was not, and what stopped it."""
        shown: dict[UUID, TxPlace] = {}
        unseen: list[tuple[Attempt, SendResult]] = []
        for part in _parts(queue):
            results = await self._hand_over(part)
            try:
                places = await self._places(part)
            except (NodeUnavailable, TimeoutError) as error:
                return shown, unseen, NodeUnavailable(str(error))
            for attempt, result, place in zip(part, results, places, strict=True):
                if place is TxPlace.UNKNOWN:
                    unseen.append((attempt, result))
                else:
                    shown[attempt.id] = place
        return shown, unseen, None

    async def _begin_lot(self, uow: Uow, *, attempt_ids: Sequence[UUID]) -> set[UUID]:
        """Committed before the first send; without those whose sending is stopped."""
        lane = self._lane
        found = await attempts.load_many(uow, attempt_ids, lock=True)
        stopped = await switches.stopped(uow, network=lane.network, action=Action.BROADCAST)
        going = [item for item in found if not stopped.covers(self._asset(item))]
        await outgoing_lots.mark_broadcast(uow, [item.id for item in going], at=lane.now())
        rows = [row for item in going for row in item.rows(State.SIGNED)]
        await attempts.move_all(lane, uow, rows, Trigger.BROADCAST)
        return {item.id for item in going}

    async def _found_lot(self, shown: Mapping[UUID, TxPlace]) -> None:
        if not shown:
            return
        try:
            await self._lane.run(partial(self._found_many, shown=shown))
        except StaleState:  # one of them moved meanwhile
            for key, place in shown.items():
                found = partial(self._found, attempt_id=key, place=place)
                await _alone(key, self._lane.run(found))
        self._lane.crash("payout.recorded")

    async def _found_many(self, uow: Uow, *, shown: Mapping[UUID, TxPlace]) -> None:
        """As `_found`, for a lot that was just begun."""
        lane = self._lane
        found = await attempts.load_many(uow, sorted(shown), lock=True)
        pooled = [item.id for item in found if shown[item.id] is TxPlace.MEMPOOL]
        await outgoing_lots.mark_seen(uow, pooled, at=lane.now())
        rows = [row for item in found for row in item.rows(State.BROADCASTING)]
        await attempts.move_all(lane, uow, rows, Trigger.ACCEPT)
        rows = [row for item in found for row in item.rows(State.UNCERTAIN)]
        await attempts.move_all(lane, uow, rows, Trigger.FIND, code=None)
        await attempts.clear(lane, uow, "payout_fee_too_low", objects=sorted(shown))

    async def _one(self, attempt: Attempt) -> None:
        attempt_id = attempt.id
        if attempt.tx.state in (OutgoingState.MINED, OutgoingState.FINAL, OutgoingState.REVERTED):
            await self._lane.run(partial(self._found, attempt_id=attempt_id, place=TxPlace.MINED))
        elif attempt.tx.state is OutgoingState.REPLACED:
            await self._lane.run(partial(self._conflict, attempt_id=attempt_id))
        elif _is_unwanted(attempt):
            return
        elif attempt.tx.state is OutgoingState.SIGNED or attempt.rows(State.SIGNED):
            if await self._lane.run(partial(self._begin, attempt_id=attempt_id)):
                self._lane.crash("payout.broadcasting")
                await self._send(attempt)
        elif self._is_due(attempt):
            is_new_to_us = attempt_id not in self._looked_at_seconds  # after a crash: in doubt
            if not await self._look(attempt):
                await self._missing(attempt, in_doubt=is_new_to_us)

    async def _missing(self, attempt: Attempt, *, in_doubt: bool) -> None:
        """No node shows it: the same bytes again, unless people stopped that."""
        if not await self._rides_on_sibling(attempt):
            await self._alarm_when_late(attempt)
            await self._lane.run(partial(self._lost, attempt_id=attempt.id, in_doubt=in_doubt))
        if not await self._lane.run(partial(self._is_stopped, attempt=attempt)):
            await self._send(attempt)

    def _is_sought(self, attempt: Attempt) -> bool:
        """Whether it was sent from an account and is only to be looked for now."""
        rows = attempt.rows()
        return (
            self._lane.is_account_based
            and attempt.tx.state in (OutgoingState.BROADCAST, OutgoingState.SEEN)
            and bool(rows)
            and all(row.state in SOUGHT for row in rows)
            and self._is_due(attempt)
        )

    async def _seek(self, sought: Sequence[Attempt]) -> None:
        """Look for what was sent; what is found is committed in lots."""
        shown: dict[UUID, TxPlace] = {}
        missing: list[tuple[Attempt, bool]] = []
        for part in _parts(sought):
            known = set(self._looked_at_seconds)
            try:
                places = await self._places(part)
            except (NodeUnavailable, TimeoutError):
                await self._found_lot(shown)
                raise
            for attempt, place in zip(part, places, strict=True):
                if place is TxPlace.UNKNOWN:
                    missing.append((attempt, attempt.id not in known))
                else:
                    shown[attempt.id] = place
            if len(shown) >= LOT:
                await self._found_lot(shown)
                shown = {}
        await self._found_lot(shown)
        for attempt, in_doubt in missing:
            await _alone(attempt.id, self._missing(attempt, in_doubt=in_doubt))

    def _is_due(self, attempt: Attempt) -> bool:
        """Whether to look for it now; a fresh process looks at once."""
        last = self._looked_at_seconds.get(attempt.id)
        pace = RESEND_SECONDS if attempt.rows(State.BROADCASTING, State.UNCERTAIN) else LOOK_SECONDS
        return last is None or self._lane.clock.monotonic_seconds() - last >= pace

    async def _is_stopped(self, uow: Uow, *, attempt: Attempt) -> bool:
        """Whether people stopped sending; what was sent is still looked for and settled."""
        return await switches.is_stopped(
            uow,
            network=self._lane.network,
            asset=self._asset(attempt),
            action=Action.BROADCAST,
        )

    def _asset(self, attempt: Attempt) -> str:
        rows = attempt.rows()
        return rows[0].asset if rows else self._lane.spec.native_asset

    async def _begin(self, uow: Uow, *, attempt_id: UUID) -> bool:
        """Committed before the first send; False while sending is stopped."""
        attempt = await attempts.load(uow, attempt_id, lock=True)
        if await self._is_stopped(uow, attempt=attempt):
            return False
        await outgoing.mark_broadcast(uow, attempt_id=attempt_id, at=self._lane.now())
        for row in attempt.rows(State.SIGNED):
            await attempts.move(self._lane, uow, row, Trigger.BROADCAST)
        return True

    async def _send(self, attempt: Attempt) -> None:
        """Send the stored bytes once, and judge by what the chain shows afterwards."""
        (result,) = await self._hand_over([attempt])
        if not await self._look(attempt):
            await self._unseen(attempt, result)

    async def _hand_over(self, going: Sequence[Attempt]) -> Sequence[SendResult]:
        raws: list[bytes] = []
        for attempt in going:
            if attempt.tx.raw is None or attempt.tx.txid is None:
                raise BrokenAttempt(f"attempt {attempt.id} is past signing and has no bytes")
            self._looked_at_seconds[attempt.id] = self._lane.clock.monotonic_seconds()
            raws.append(attempt.tx.raw)
        results = await self._answer(raws)
        for attempt, result in zip(going, results, strict=True):
            log.info(
                "payout.sent_to_node",
                network=self._lane.network,
                attempt_id=str(attempt.id),
                txid=attempt.tx.txid,
                outcome=result.outcome.value,
                detail=result.detail,
            )
        self._lane.crash("payout.sent_to_node")
        return results

    async def _unseen(self, attempt: Attempt, result: SendResult) -> None:
        """What follows from a send after which no node shows the tx."""
        # Not seen. These refusals are a clear no: it stays `broadcasting` and is sent again; one
        # for the fee is bumped, too.
        in_doubt = result.outcome not in (SendOutcome.FEE_TOO_LOW, SendOutcome.CHAIN_FULL)
        if not in_doubt:
            is_full = result.outcome is SendOutcome.CHAIN_FULL
            (self.chain_full if is_full else self.fee_refused).add(attempt.id)
            (self.fee_refused if is_full else self.chain_full).discard(attempt.id)
        if not await self._rides_on_sibling(attempt):
            await self._lane.run(partial(self._lost, attempt_id=attempt.id, in_doubt=in_doubt))
        detail = result.detail
        match result.outcome:
            case SendOutcome.FEE_TOO_LOW | SendOutcome.CHAIN_FULL | SendOutcome.INVALID:
                pass
            case SendOutcome.CONFLICT:
                detail = f"{await self._rival(attempt)}; {detail}"
            case _:
                return
        await self._lane.run(
            partial(
                self._alarm,
                kind=f"payout_{result.outcome.value}",
                attempt_id=attempt.id,
                detail=detail,
            )
        )

    async def _answer(self, raws: Sequence[bytes]) -> Sequence[SendResult]:
        # The writer's own transport time-out is below this one; both mean "unknown".
        try:
            async with timeout(SEND_TIMEOUT_SECONDS):
                return await self._lane.chain.writer.send_many(raws)
        except (TimeoutError, NodeUnavailable) as error:
            unclear = SendResult(outcome=SendOutcome.UNCLEAR, detail=type(error).__name__)
            return [unclear] * len(raws)

    async def _rival(self, attempt: Attempt) -> str:
        """Evidence for a person: who spends our inputs, or where our account's nonce stands.

        Nothing follows from it here; only a final conflict in the watcher's books does.
        """
        reader = self._lane.chain.reader
        async with timeout(SEND_TIMEOUT_SECONDS):
            if attempt.tx.sender_key is not None:
                mined = await reader.account_nonce(attempt.tx.sender_key)
                return f"our nonce {attempt.tx.nonce}, account at {mined}"
            for outpoint in attempt.tx.inputs[:INPUTS_LOOKED_AT]:
                spender = await reader.spender(outpoint)
                if spender not in (None, attempt.tx.txid):
                    return f"input {outpoint.txid}:{outpoint.vout} is spent by {spender}"
        return "no other spender of our inputs is known"

    async def _look(self, attempt: Attempt) -> bool:
        """Look for our txid; True when it was found and recorded. Raises NodeUnavailable."""
        (place,) = await self._places([attempt])
        if place is TxPlace.UNKNOWN:
            return False
        await self._lane.run(partial(self._found, attempt_id=attempt.id, place=place))
        self._lane.crash("payout.recorded")
        return True

    async def _places(self, sent: Sequence[Attempt]) -> list[TxPlace]:
        txids: list[str] = []
        for attempt in sent:
            if attempt.tx.txid is None:
                raise BrokenAttempt(f"attempt {attempt.id} is past signing and has no txid")
            self._looked_at_seconds[attempt.id] = self._lane.clock.monotonic_seconds()
            txids.append(attempt.tx.txid)
        async with timeout(SEND_TIMEOUT_SECONDS):
            found = await self._lane.chain.reader.tx_statuses(txids)
        places = [status.place for status in found]
        shown = {
            attempt.id
            for attempt, place in zip(sent, places, strict=True)
            if place is not TxPlace.UNKNOWN
        }
        self.fee_refused -= shown
        self.chain_full -= shown
        return places

    async def _rides_on_sibling(self, attempt: Attempt) -> bool:
        """Whether nodes show another attempt of its family, which pays the same: then nothing is
        lost, and a newer one counts again."""
        async with self._lane.database.unit_of_work() as uow:
            others = await families.siblings(uow, attempt.tx)
        for other in reversed(others):
            if other.txid is None:
                continue
            async with timeout(SEND_TIMEOUT_SECONDS):
                status = await self._lane.chain.reader.tx_status(other.txid)
            if status.place is not TxPlace.UNKNOWN:
                shown = partial(
                    self._shown, attempt_id=attempt.id, sibling=other, place=status.place
                )
                await self._lane.run(shown)
                return True
        return False

    async def _shown(
        self, uow: Uow, *, attempt_id: UUID, sibling: OutgoingRow, place: TxPlace
    ) -> None:
        attempt, _ = await families.locked(uow, attempt_id)
        await self._found(uow, attempt_id=attempt_id, place=TxPlace.UNKNOWN)
        if place is TxPlace.MEMPOOL:
            await outgoing.mark_seen(uow, attempt_id=sibling.id, at=self._lane.now())
        is_newer = sibling.family_number > attempt.tx.family_number
        if is_newer and sibling.state in families.UNMINED:
            await families.adopt(self._lane, uow, sibling.id)

    async def _found(self, uow: Uow, *, attempt_id: UUID, place: TxPlace) -> None:
        """It, or a sibling, is on the chain or in a mempool: `sent`, whatever was thought before.

        Only the watcher's word makes it `confirming` (settlement); a node's "mined" is a hint.
        """
        attempt = await attempts.load(uow, attempt_id, lock=True)
        if place is TxPlace.MEMPOOL:
            await outgoing.mark_seen(uow, attempt_id=attempt_id, at=self._lane.now())
        for row in attempt.rows(State.SIGNED):
            await attempts.move(self._lane, uow, row, Trigger.BROADCAST)
        attempt = await attempts.load(uow, attempt_id, lock=True)
        for row in attempt.rows(State.BROADCASTING):
            await attempts.move(self._lane, uow, row, Trigger.ACCEPT)
        for row in attempt.rows(State.UNCERTAIN):
            await attempts.move(self._lane, uow, row, Trigger.FIND, code=None)
        is_shown = place is not TxPlace.UNKNOWN  # else a sibling is: this one may still be refused
        refused = ("payout_fee_too_low", "payout_chain_full")
        kinds = families.ABOUT_AN_ATTEMPT if is_shown else refused
        await attempts.clear(self._lane, uow, *kinds, objects=[attempt_id])

    async def _lost(self, uow: Uow, *, attempt_id: UUID, in_doubt: bool) -> None:
        """Not found: `uncertain` after an unclear answer, or once broadcasting took too long."""
        attempt = await attempts.load(uow, attempt_id, lock=True)
        limit = self._lane.registry.policy.limits.broadcasting_seconds
        for row in attempt.rows(State.BROADCASTING):
            age_seconds = (self._lane.now() - row.in_state_since).total_seconds()
            if in_doubt or age_seconds > limit:
                await attempts.move(self._lane, uow, row, Trigger.LOSE_SIGHT)

    async def _conflict(self, uow: Uow, *, attempt_id: UUID) -> None:
        """A tx that excludes ours is final: held with evidence, for two people (CONTRACT 5), unless
        that tx, or what is left, is another attempt of the family."""
        dead, family = await families.locked(uow, attempt_id)
        left = families.survivor(family)
        if left is not None:
            await families.adopt(self._lane, uow, left.id)
            return
        if dead.tx.state is not OutgoingState.REPLACED or families.is_undecided(family):
            return
        attempt = await attempts.load(uow, attempt_id, lock=True)
        for row in attempt.rows(State.SIGNED):
            await attempts.move(self._lane, uow, row, Trigger.BROADCAST)
        attempt = await attempts.load(uow, attempt_id, lock=True)
        for row in attempt.rows(State.BROADCASTING):
            await attempts.move(self._lane, uow, row, Trigger.LOSE_SIGHT)
        attempt = await attempts.load(uow, attempt_id, lock=True)
        for row in attempt.rows(State.UNCERTAIN, State.SENT, State.CANCELLING):
            await attempts.move(self._lane, uow, row, Trigger.CONFLICT_FINAL, code="anchor_dead")
            detail = f"{attempt.tx.txid} lost to {attempt.tx.conflict_txid}"
            await attempts.alarm(self._lane, uow, "anchor_dead", detail, object_id=row.id)
        # What nodes said of it is settled: the rival is final.
        ids = [tx.id for tx in family]
        await attempts.clear(self._lane, uow, *families.ABOUT_AN_ATTEMPT, objects=ids)

    async def _alarm_when_late(self, attempt: Attempt) -> None:
        limit = self._lane.registry.policy.limits.uncertain_alarm_seconds
        ages = [
            (self._lane.now() - row.in_state_since).total_seconds()
            for row in attempt.rows(State.UNCERTAIN)
        ]
        if ages and max(ages) > limit:
            await self._lane.run(
                partial(
                    self._alarm,
                    kind="payout_uncertain",
                    attempt_id=attempt.id,
                    detail=f"{attempt.tx.txid} is not found; only people may release it (P06)",
                )
            )

    async def _alarm(self, uow: Uow, *, kind: str, attempt_id: UUID, detail: str) -> None:
        await attempts.alarm(self._lane, uow, kind, detail, object_id=attempt_id)


def _parts(txs: Sequence[Attempt]) -> list[Sequence[Attempt]]:
    """What goes into one message to a node each."""
    return [txs[at : at + TOGETHER] for at in range(0, len(txs), TOGETHER)]


async def _alone(attempt_id: UUID, step: Awaitable[object]) -> None:
    """One attempt's step of many: where it moved meanwhile, it stops nobody else's."""
    try:
        await step
    except StaleState as error:
        log.info("payout.stale", attempt_id=str(attempt_id), detail=str(error))


def _is_unwanted(attempt: Attempt) -> bool:
    """A payment that was never sent, and that two people want aborted. Once nodes may have it, it
    is looked for and sent again until an abort is signed: an account's later nonces wait for it."""
    is_payment = attempt.tx.purpose != Purpose.ABORT
    is_unsent = attempt.tx.state is OutgoingState.SIGNED
    return is_payment and is_unsent and bool(attempt.rows(State.CANCELLING))


def _is_fresh(attempt: Attempt) -> bool:
    """Whether it was signed and never handed to a node, and nothing else is to be said of it."""
    rows = attempt.rows()
    return (
        attempt.tx.state is OutgoingState.SIGNED
        and bool(rows)
        and all(row.state == State.SIGNED for row in rows)
    )
