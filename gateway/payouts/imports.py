"""Books that were lost are written again from the signer's own bytes: `cage recover` (P09).

For each signature that the books lack: the attempt with its coins or nonce, its raw bytes and txid,
the withdrawals that it pays (by request_id; one that is not there is made from the order that its
client signed), reserved -> in flight. One unit of work per signature; asked again, it goes on
where it stopped. What cannot be imported is named for people and changes nothing. It runs on the
signer's host under the database's owner, while the network's lane stands still. It sends nothing.
"""

from asyncio import timeout
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from config.database import Uow, is_away, sqlstate
from config.logs import get_logger
from gateway import withdrawals_store
from gateway.errors import GatewayError
from gateway.payouts import (
    attempts,
    comparison,
    drafts,
    families,
    import_moves,
    import_orders,
    import_people,
    import_rebalances,
    import_refunds,
    import_setups,
    import_sweeps,
    limits,
    store,
    withdrawals,
)
from gateway.payouts import recovery_store as rows
from gateway.payouts.comparison import uuid_of
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, NothingToRecover
from gateway.payouts.import_orders import NotImported, Ordered, Signature
from gateway.payouts.limits import Asking, LimitTerms
from gateway.payouts.recovery_store import RecoveryRow
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger import balances, holds, lifecycle, outbox
from ledger.errors import LedgerError
from signer.protocol import LogEntry, Payment, Purpose, SignedTx
from watchers import coins, deposit_commands, health, inflows, nonces, outgoing, rescans
from watchers.chain import TxPlace
from watchers.errors import AttemptConflict, CoinTaken, UnknownAttempt
from watchers.outgoing import OutgoingDraft, OutgoingState, PlannedPayment

ACTOR = "recover"  # who the state history names
BUILT_MAX = 10_000  # unsigned attempts taken apart
UNMINED_MAX = 10_000  # signed attempts that may be in a block already
LOOK_SECONDS = 30.0  # one question to a node
_ON_ITS_WAY = (
    State.SIGNED, State.BROADCASTING, State.UNCERTAIN, State.SENT, State.CONFIRMING,
)  # fmt: skip

IMPOSSIBLE = (
    LedgerError, GatewayError, AttemptConflict, UnknownAttempt, CoinTaken, BrokenAttempt,
    ValueError, LookupError, DBAPIError,
)  # fmt: skip
"""What one signature may meet in books that have other things in its place."""

REASON_MAX = 500  # characters
_ABOUT_ROWS = ("22", "23", "P0")  # SQLSTATE: data, integrity, a trigger's own word

_TO_QUEUED: Mapping[State, Trigger] = {
    State.RESERVED: Trigger.ENQUEUE,
    State.SCREENING: Trigger.ENQUEUE,
    State.ON_HOLD: Trigger.APPROVE,
    State.PENDING_APPROVAL: Trigger.APPROVE,
    State.WAITING_LIQUIDITY: Trigger.LIQUIDITY_BACK,
    State.PLANNED: Trigger.UNPLAN,
}

_MOVES: Final = (Purpose.HOT_TO_COLD, Purpose.HOT_TO_WARM, Purpose.WARM_TO_HOT)
_ATTACHED: Mapping[Purpose, Callable[[Lane, Uow, Signature], Awaitable[None]]] = {
    **dict.fromkeys(_MOVES, import_rebalances.attach),
    Purpose.CONTRACT_SETUP: import_setups.attach,
    Purpose.SWEEP: import_sweeps.attach,
    Purpose.COLLECT: import_sweeps.attach,
    Purpose.GAS_TOP_UP: import_sweeps.attach,
}
"""What has a row of its own beside its tx, which goes on with it."""

log = get_logger(__name__)


class Importer:
    """Writes one network's lost signatures into the books. The lane's lease is not taken: while
    a recovery stands the lane touches none of this, and the recovery's row is locked here."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self) -> RecoveryRow:
        """Import all that is missing and ask for the blocks to be looked at again.

        Raises NothingToRecover, SignerUnavailable, NodeUnavailable.
        """
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            await self._hold(uow)
        found = await comparison.lost(lane.database, lane.signer, lane.network)
        await self._take_apart()
        done = 0
        left_over: list[Mapping[str, Any]] = []
        for entry in found.unknown:
            reason = await self._attempted(entry)
            if reason is None:
                done += 1
                lane.crash("payout.imported")
            else:
                left_over.append(_case(entry, reason + await self._keep_off(entry)))
        rescan = await self._look_again()
        async with lane.database.unit_of_work() as uow:
            row = await self._hold(uow)
            values = {
                "imported": done,
                "left_over": left_over,
                "rescan_id": rescan,
                "sequence": found.sequence,
                "entry_hash": found.entry_hash,
                "epoch": found.epoch,
                "at": lane.now(),
            }
            await rows.note_import(uow, row.id, values)
            noted = await rows.get(uow, row.id)
        log.info("recover.imported", network=lane.network, done=done, left=len(left_over))
        return row if noted is None else noted

    async def _attempted(self, entry: LogEntry) -> str | None:
        """Import one signature; why it is a person's case, or None."""
        try:
            await self._import(await self._recall(entry))
        except NotImported as error:
            return str(error)
        except IMPOSSIBLE as error:  # its unit of work is undone; the next one may go in
            if isinstance(error, DBAPIError) and not _is_about_the_rows(error):
                raise
            said = error.orig if isinstance(error, DBAPIError) else error  # no parameters
            return f"{type(error).__name__}: {said}"[:REASON_MAX]
        return None

    async def _keep_off(self, entry: LogEntry) -> str:
        """Nothing new is built at the nonce of a signature that stays out; where that cannot be
        had from these books, people are told what is still free."""
        lane, attempt_id = self._lane, uuid_of(entry.attempt_id)
        question = await lane.signer.recall(entry.attempt_id)
        if question is None or attempt_id is None:
            return "; nothing is known of what it spends"
        try:
            async with lane.database.unit_of_work() as uow:
                await self._hold(uow)
                return await import_orders.keep_off(lane, uow, attempt_id, question)
        except ValueError as error:
            return f"; what it spends cannot be read: {error}"

    async def _hold(self, uow: Uow) -> RecoveryRow:
        row = await rows.current(uow, self._lane.network, lock=True)
        if row is None or row.state not in ("open", "imported"):
            raise NothingToRecover(f"{self._lane.network}: no recovery waits for an import")
        await lifecycle.set_actor(uow, ACTOR)
        return row

    async def _take_apart(self) -> None:
        """What is planned in these books and unsigned in the signer frees its coins and nonces:
        they may belong to what is imported. Its withdrawals are queued again."""
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            built = await outgoing.in_states(
                uow, network=lane.network, states=[OutgoingState.BUILT], limit=BUILT_MAX
            )
        for tx in built:
            if tx.purpose == outgoing.OUTSIDE_PURPOSE:
                continue  # cold coins: the signer has no key and no word about them
            if isinstance(await lane.signer.lookup(str(tx.id)), SignedTx):
                continue
            async with lane.database.unit_of_work() as uow:
                await self._hold(uow)
                await attempts.unplan(lane, uow, await attempts.load(uow, tx.id, lock=True))

    async def _recall(self, entry: LogEntry) -> Signature:
        attempt_id = uuid_of(entry.attempt_id)
        if attempt_id is None or uuid_of(entry.family) is None:
            raise NotImported("no attempt of this house")
        answer = await self._lane.signer.lookup(entry.attempt_id)
        if not isinstance(answer, SignedTx) or answer.txid != entry.txid:
            raise NotImported("the signer's log and its answer differ")
        question = await self._lane.signer.recall(entry.attempt_id)
        if question is None:
            raise NotImported("signed by a signer that kept no questions")
        return Signature(id=attempt_id, entry=entry, question=question, answer=answer)

    async def _import(self, signature: Signature) -> None:
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            await self._hold(uow)
            members = await self._members(uow, signature)
            await self._record(uow, signature, members)
            await outgoing.mark_signed(
                uow,
                attempt_id=signature.id,
                raw=signature.answer.raw,
                txid=signature.answer.txid,
                at=lane.now(),
            )
            await self._claim(uow, signature)
            is_abort = signature.question.purpose is Purpose.ABORT
            for row in members.values():
                await import_people.keep(lane, uow, row, signature.question)
                await (self._abort if is_abort else self._take)(uow, row, signature)
            attach = _ATTACHED.get(signature.question.purpose)
            if attach is not None:
                await attach(lane, uow, signature)
        log.info("recover.signature", network=lane.network, txid=signature.answer.txid)

    async def _members(self, uow: Uow, signature: Signature) -> dict[int, WithdrawalRow]:
        """The withdrawals of its outputs, locked; of an abort the one that it does not pay."""
        if signature.question.purpose is Purpose.ABORT:
            return {0: await import_moves.aborted(uow, signature)}
        if signature.question.purpose is Purpose.REFUND:
            return await import_refunds.member(self._lane, uow, signature)
        return {
            payment.output_index: await self._member(uow, payment, signature)
            for payment in signature.question.payments
        }

    async def _abort(self, uow: Uow, row: WithdrawalRow, signature: Signature) -> None:
        """The abort is what counts of it, unless a block has decided."""
        lane = self._lane
        changes = {"attempt_id": signature.id, "txid": signature.answer.txid}
        if row.state in withdrawals.ON_CHAIN:
            row = await attempts.move(lane, uow, row, Trigger.ABORT)
        if row.state == State.CANCELLING:
            await attempts.move(lane, uow, row, Trigger.REPLACE, **changes)
        elif row.state not in (State.CONFIRMING, State.COMPLETED, State.CANCELLED, State.FAILED):
            raise NotImported(f"{row.request_id} is {row.state} in the books, and was aborted")

    async def _record(
        self, uow: Uow, signature: Signature, members: Mapping[int, WithdrawalRow]
    ) -> None:
        """The attempt as it was planned, where the books have none."""
        lane, question = self._lane, signature.question
        if await outgoing.get(uow, signature.id, is_locked=True) is not None:
            return
        draft: dict[str, Any] = {
            "id": signature.id,
            "network": lane.network,
            "purpose": question.purpose.value,
            "unsigned": question.unsigned,
            "payments": await self._payments(uow, signature, members),
            "fee_cap_minor": signature.entry.fee_minor,
        }
        draft |= await import_orders.own_parts(lane, uow, signature)
        draft |= await import_moves.lineage(uow, signature, inputs=draft.get("inputs", ()))
        if question.purpose is Purpose.CONTRACT_SETUP:
            draft |= await import_setups.payer(lane, uow, signature)
        await outgoing.record(uow, OutgoingDraft(**draft), at=lane.now())
        if members:
            outputs = [(row.id, index) for index, row in members.items()]
            await store.add_members(uow, attempt_id=signature.id, outputs=outputs)

    async def _payments(
        self, uow: Uow, signature: Signature, members: Mapping[int, WithdrawalRow]
    ) -> tuple[PlannedPayment, ...]:
        if signature.question.purpose in (Purpose.GAS_TOP_UP, Purpose.SWEEP, Purpose.COLLECT):
            return await import_moves.own_payments(self._lane, uow, signature)
        if signature.question.purpose in _MOVES:
            return await import_rebalances.payments(self._lane, uow, signature)
        if signature.question.purpose is Purpose.CONTRACT_SETUP:
            return await import_setups.payments(self._lane, uow, signature)
        if signature.question.purpose is Purpose.ABORT:
            return ()
        return tuple(drafts.planned(row) for _, row in sorted(members.items()))

    async def _claim(self, uow: Uow, signature: Signature) -> None:
        """Coins or nonce are the attempt's; what blocks brought as somebody's is our change."""
        lane = self._lane
        tx = await outgoing.get(uow, signature.id)
        if tx is not None and tx.sender_key is not None and tx.nonce is not None:
            await nonces.claim(
                uow,
                network=lane.network,
                sender_key=tx.sender_key,
                nonce=tx.nonce,
                attempt_id=signature.id,
            )
        await coins.claim(uow, network=lane.network, attempt_id=signature.id)
        await coins.mark_own_change(uow, network=lane.network, txid=signature.answer.txid)
        kept = await inflows.recognise(
            uow, network=lane.network, txid=signature.answer.txid, ids=lane.ids, at=lane.now()
        )
        for inflow in kept:
            detail = f"own change was assigned to {inflow.assigned_to}: correct it by hand"
            await attempts.alarm(lane, uow, "recover_assigned", detail, object_id=inflow.id)

    async def _member(self, uow: Uow, payment: Payment, signature: Signature) -> WithdrawalRow:
        """The withdrawal of a payment, locked; made from the client's order where it is lost."""
        found = await withdrawals_store.by_request_id(
            uow, brand=payment.brand, request_id=payment.request_id
        )
        order = import_orders.ordered(self._lane, signature, payment)
        if found is None:
            return await self._remake(uow, payment, order)
        row = await withdrawals_store.get(uow, found.id, lock=True)
        row = found if row is None else row
        import_orders.agree(self._lane, row, order)
        return row

    async def _remake(self, uow: Uow, payment: Payment, found: Ordered) -> WithdrawalRow:
        """A row as `received`, with the client's signed bytes; its hold comes with `_take`."""
        lane, order = self._lane, found.order
        if payment.brand not in lane.registry.settings.brands:
            raise NotImported(f"{payment.request_id}: brand {payment.brand} is not configured")
        await balances.lock_player(uow, brand=payment.brand, player_id=order.player_id)
        promise = lane.registry.policy.classes[order.fee_class].promise_seconds
        row = WithdrawalRow(
            id=lane.ids.new_id(),
            brand=payment.brand,
            request_id=order.request_id,
            kind="withdrawal",
            player_id=order.player_id,
            network=lane.network,
            asset=order.asset,
            address=found.destination.address,
            address_key=found.destination.key,
            amount_minor=found.amount_minor,
            pam_balance_minor=found.pam_balance_minor,
            fee_class=order.fee_class,
            fee_mode=order.fee_mode,
            metadata=order.metadata,
            state=State.RECEIVED.value,
            code=None,
            is_reserved=False,
            version=1,
            attempt_id=None,
            txid=None,
            valid_until=order.valid_until,
            promise_at=lane.now() + timedelta(seconds=promise),
            sign_requested_at=None,
            accepted_at=lane.now(),
            state_at=lane.now(),
            orphaned_known=await deposit_commands.lost(
                uow, brand=payment.brand, player_id=order.player_id
            ),
            max_fee_minor=found.max_fee_minor,
            fee_charged_minor=found.charged_minor,
        )
        is_new = await withdrawals_store.insert(
            uow,
            row,
            key_id=order.key_id,
            signed=payment.authorisation,
            batch_id=None,  # with its own copy of a batch's body
        )
        if not is_new:
            raise NotImported(f"{payment.request_id}: another withdrawal stands for it")
        event = withdrawals.event_of(
            row, previous=None, event_type="withdrawal.received", ids=lane.ids
        )
        await outbox.append_many(uow, [event], at=lane.now())
        asking = Asking(
            withdrawal_id=row.id,
            brand=row.brand,
            player_id=row.player_id,
            asset=row.asset,
            amount_minor=row.amount_minor,
        )
        await limits.count(uow, asking, terms=LimitTerms.of(lane.registry), at=lane.now())
        return row

    async def _take(self, uow: Uow, row: WithdrawalRow, signature: Signature) -> None:
        """The withdrawal is signed by this attempt: reserved -> in flight."""
        lane, txid = self._lane, signature.answer.txid
        if row.state in _ON_ITS_WAY:  # it knew an earlier attempt of the family
            changes = {"attempt_id": signature.id, "txid": txid}
            await attempts.move(lane, uow, row, Trigger.ADOPT, **changes)
            return
        if row.state in (State.COMPLETED, State.FAILED):
            return
        if row.txid is not None or row.state in withdrawals.END_STATES | {State.CANCELLING}:
            raise NotImported(f"{row.request_id} is {row.state} in the books")
        row = await self._planned(uow, row, signature)
        await store.request_signature(uow, [row.id], at=lane.now())
        await holds.capture(
            uow, hold_id=row.id, reference=f"withdrawal:{row.id}:capture", at=lane.now()
        )
        await attempts.move(lane, uow, row, Trigger.SIGN, txid=txid)

    async def _planned(self, uow: Uow, row: WithdrawalRow, signature: Signature) -> WithdrawalRow:
        """The row as the signer knew it, by the steps that the lost books took (CONTRACT 5)."""
        lane = self._lane
        if row.state == State.PLANNED and row.attempt_id == signature.id:
            return row
        charged = {} if row.deposit_id is None else {"fee_charged": row.fee_charged_minor}
        if not row.is_reserved:
            row = await withdrawals.reserve(uow, row, ids=lane.ids, at=lane.now())
            if not row.is_reserved:
                raise NotImported(f"{row.request_id}: the clearing of {row.brand} is short")
        if row.sign_requested_at is not None:  # what came of it is in our hands
            row = await store.forget_question(uow, row.id)
        if row.state != State.QUEUED:
            row = await attempts.move(lane, uow, row, _TO_QUEUED[State(row.state)], code=None)
        changes = {"attempt_id": signature.id, "code": None, **charged}
        return await attempts.move(lane, uow, row, Trigger.PLAN, **changes)

    async def _look_again(self) -> UUID | None:
        """Ask for the blocks from the first one that has a tx of ours which the books have in
        none, also one of an earlier import; raises NodeUnavailable."""
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            unmined = await outgoing.in_states(
                uow, network=lane.network, states=families.UNMINED, limit=UNMINED_MAX
            )
        heights = []
        for tx in unmined:
            if tx.txid is None:
                continue
            async with timeout(LOOK_SECONDS):
                status = await lane.chain.reader.tx_status(tx.txid)
            if status.place is TxPlace.MINED and status.block is not None:
                heights.append(status.block.height)
        async with lane.database.unit_of_work() as uow:
            standing = await health.followed_height(uow, lane.network)
            if not heights or standing is None or min(heights) > standing:
                return None  # the follower comes by there
            row = await rescans.ask(
                uow,
                network=lane.network,
                from_height=min(heights),
                to_height=standing,
                asked_by=ACTOR,
                reason="signatures of the signer were imported",
                ids=lane.ids,
                at=lane.now(),
            )
        return row.id


def _is_about_the_rows(error: DBAPIError) -> bool:
    """Whether the database served and refused; not that it is away, or wants a retry."""
    return not is_away(error) and (sqlstate(error) or "").startswith(_ABOUT_ROWS)


def _case(entry: LogEntry, reason: str) -> Mapping[str, Any]:
    """One signature that people must look at."""
    log.warning("recover.left_over", attempt_id=entry.attempt_id, txid=entry.txid, reason=reason)
    return {
        "attempt_id": entry.attempt_id,
        "txid": entry.txid,
        "requests": [list(pair) for pair in entry.requests],
        "reason": reason,
    }
