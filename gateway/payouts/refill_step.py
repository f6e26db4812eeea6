"""Cold to hot: the file that people sign, and what they signed on its way (CONTRACT 3, T7).

Owns `approved` to `done` of that direction. Unsigned bytes, coins and the change address are
committed before anybody can fetch the file; complete signatures become the plan's own tx, which
the broadcaster sends and `own_moves` books as other own moves. A Safe's plan and call are those of
`safe_refills` and `safe_step`. No key of a cold wallet is anywhere
here. What nobody signs holds its coins until a person cancels it.
"""

from functools import partial
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import (
    attempts,
    ends,
    rebalance_plan,
    rebalances,
    refill_accounts,
    refill_coins,
    refills_store,
    safe_plans_store,
    safe_refills,
)
from gateway.payouts import rebalances_store as store
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, FeeAboveCap, FeesUnknown, RefillNotPossible
from gateway.payouts.rebalances import Direction, State, Trigger
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.payouts.refill_accounts import CONFLICT as CONFLICT
from gateway.payouts.refill_accounts import FAILED as FAILED
from gateway.payouts.refill_accounts import ColdAccount
from gateway.payouts.safe_plans_store import SafePlanRow
from ledger.errors import StaleState
from watchers import coins, nonces, outgoing, registry, switches
from watchers.addresses import AddressRow
from watchers.errors import CoinTaken, SignedFileRefused
from watchers.outgoing import OutgoingDraft, OutgoingRow, OutgoingState
from watchers.switches import Action

LOOK_AGAIN_SECONDS: Final = 30.0
LOOKED_AT_MAX: Final = 100  # refills in one pass; a network has one or two open

_ENDED: Final = (State.DECLINED, State.CANCELLED, State.FAILED)
_UNSENT: Final = (OutgoingState.BUILT, OutgoingState.SIGNED)
_UNSIGNED: Final = (OutgoingState.BUILT, OutgoingState.REFUSED)

log = get_logger(__name__)


class RefillStep:
    """The refills of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._seen: ColdAccount | None = None  # only paces; losing it is harmless
        self._look_at_seconds = 0.0

    async def run(self) -> bool:
        """One pass; whether something moved. Raises NodeUnavailable."""
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            found = await refills_store.to_look_at(
                uow, network=lane.network, at=lane.now(), limit=LOOKED_AT_MAX
            )
        has_moved = False
        seen = await self._look() if found and lane.is_account_based else None
        for rebalance_id in found:
            try:
                if await lane.run(partial(self._one, rebalance_id=rebalance_id, seen=seen)):
                    lane.crash("payout.refill_moved")
                    has_moved = True
            except (StaleState, CoinTaken, FeesUnknown, FeeAboveCap) as error:  # the next pass
                log.info("payout.refill_waits", rebalance_id=str(rebalance_id), detail=str(error))
            except (BrokenAttempt, SignedFileRefused) as error:  # it stops no other one
                await lane.run(
                    partial(self._tell_broken, rebalance_id=rebalance_id, detail=str(error))
                )
        return has_moved

    async def _tell_broken(self, uow: Uow, *, rebalance_id: UUID, detail: str) -> None:
        log.error("payout.refill_broken", rebalance_id=str(rebalance_id), detail=detail)
        await attempts.alarm(self._lane, uow, FAILED, detail, object_id=rebalance_id)

    async def _look(self) -> ColdAccount | None:
        """The cold account as a node saw it a moment ago; None where there is none. People take
        days: nodes are not asked in each pass."""
        lane, now_seconds = self._lane, self._lane.clock.monotonic_seconds()
        if self._seen is not None and now_seconds < self._look_at_seconds:
            return self._seen
        async with lane.database.unit_of_work() as uow:
            receive = await rebalance_plan.cold_address(uow, lane.registry, lane.network)
        if receive is None:
            return None
        self._seen = await refill_accounts.look(lane, receive)
        self._look_at_seconds = now_seconds + LOOK_AGAIN_SECONDS
        return self._seen

    async def _one(self, uow: Uow, *, rebalance_id: UUID, seen: ColdAccount | None) -> bool:
        """The next step of one refill, its row locked before its tx."""
        row = await store.get(uow, rebalance_id, lock=True)
        if row is None or row.direction != Direction.COLD_TO_HOT:
            return False
        if row.state in (State.PROPOSED, State.APPROVED) and row.valid_until <= self._lane.now():
            lane = self._lane
            await rebalances.cancel(uow, row, code=rebalances.EXPIRED, ids=lane.ids, at=lane.now())
            return True
        if row.state == State.PROPOSED:
            return False
        if row.state == State.APPROVED:
            return await self._build(uow, row, seen)
        if row.attempt_id is None and row.state in _ENDED:
            return False  # somebody said so since it was found
        plan = await safe_plans_store.of_rebalance(uow, row.id)
        if plan is not None and (row.attempt_id == plan.id or row.state == State.CANCELLED):
            safe = None if seen is None else seen.safe
            return await safe_refills.watch(self._lane, uow, row, plan, seen=safe)
        tx = await self._tx(uow, row)
        if plan is not None and row.state == State.SIGNED and tx.state in _UNSIGNED:
            if tx.state is OutgoingState.REFUSED:  # a recovery took it apart
                await safe_refills.unbuild(self._lane, uow, row, plan)
            return tx.state is OutgoingState.REFUSED
        match State(row.state):
            case State.UNSIGNED_READY:
                return await self._watch_unsigned(uow, row, tx, seen)
            case State.CANCELLED if tx.state is OutgoingState.BUILT:
                await outgoing.drop_unsigned(uow, attempt_id=tx.id, at=self._lane.now())
                return True
            case State.SIGNED if tx.state is OutgoingState.BUILT:
                return await self._take_over(uow, row, tx)
            case State.SIGNED if tx.state not in _UNSENT:
                await self._move(uow, row, Trigger.SEND, txid=tx.txid)
                return True
            case State.SENT:
                return await self._end(uow, row, tx, plan)
            case State.DONE | State.FAILED if tx.raw is not None and not ends.says_so(
                [tx], is_done=row.state == State.DONE, code=row.code, attempt_id=row.attempt_id
            ):
                await self._move(uow, row, Trigger.REOPEN, code=None)
                return True
            case _:
                return False

    # -- building

    async def _build(self, uow: Uow, row: RebalanceRow, seen: ColdAccount | None) -> bool:
        lane = self._lane
        policy = lane.registry.policy.rebalances[row.asset]
        flaw = await rebalances.people_flaw(uow, row, policy=policy)
        if flaw is not None:
            await self._refuse(uow, row, flaw)
            return True
        if await self._is_stopped(uow, row):
            return False
        try:
            receive = await self._receive(uow, row, seen)
            if lane.spec.safe is not None and seen is not None:
                return await safe_refills.build(lane, uow, row, receive, account=seen)
            draft = await self._draft(uow, row, receive, seen)
        except RefillNotPossible as error:
            await self._refuse(uow, row, str(error))
            return True
        if draft is None:
            return False
        if draft.inputs:
            await coins.reserve(uow, attempt_id=draft.id, outpoints=draft.inputs, is_cold=True)
        await outgoing.record(uow, draft, at=lane.now())
        await self._move(uow, row, Trigger.BUILD, attempt_id=draft.id, txid=draft.expected_txid)
        log.info(
            "payout.refill_built",
            network=lane.network,
            rebalance_id=str(row.id),
            attempt_id=str(draft.id),
            txid=draft.expected_txid,
            coins=len(draft.inputs),
            fee_minor=str(draft.fee_cap_minor),
        )
        return True

    async def _receive(self, uow: Uow, row: RebalanceRow, seen: ColdAccount | None) -> AddressRow:
        """The cold wallet's own address. Raises RefillNotPossible."""
        lane = self._lane
        receive = await rebalance_plan.cold_address(uow, lane.registry, lane.network)
        if receive is None or (lane.is_account_based and seen is None):
            raise RefillNotPossible("no_cold_wallet")
        if not await refill_accounts.is_hot(
            uow, network=lane.network, address=row.address, key=row.address_key
        ):
            raise RefillNotPossible("not_a_hot_address")
        return receive

    async def _draft(
        self, uow: Uow, row: RebalanceRow, receive: AddressRow, seen: ColdAccount | None
    ) -> OutgoingDraft | None:
        """What people sign; None: not now. Raises RefillNotPossible."""
        lane = self._lane
        if seen is not None:
            return await refill_accounts.draft(lane, uow, row, receive, seen=seen)
        return await refill_coins.draft(lane, uow, row, receive)

    # -- what comes back

    async def _watch_unsigned(
        self, uow: Uow, row: RebalanceRow, tx: OutgoingRow, seen: ColdAccount | None
    ) -> bool:
        """While people sign: was it sent by them, or are its coins or its number gone?"""
        if tx.raw is not None:
            log.warning("payout.refill_sent_outside", rebalance_id=str(row.id), txid=tx.txid)
            await self._move(uow, row, Trigger.SIGN)
            return True
        if tx.state is OutgoingState.REFUSED:
            await self._move(uow, row, Trigger.UNBUILD, attempt_id=None, txid=None)
            return True
        lane = self._lane
        if tx.nonce is None:
            rivals = await refills_store.spent_coins(uow, tx.id)
            lost = f"spent by {', '.join(rivals)}" if rivals else ""
        else:
            is_used = seen is not None and seen.mined_count > tx.nonce
            lost = f"number {tx.nonce} of {tx.sender_key} was used" if is_used else ""
        if not lost:
            return False
        await outgoing.drop_unsigned(uow, attempt_id=tx.id, at=lane.now())
        if tx.nonce is not None and tx.sender_key is not None:  # used: nobody gets it again
            await nonces.claim(
                uow,
                network=lane.network,
                sender_key=tx.sender_key,
                nonce=tx.nonce,
                attempt_id=tx.id,
            )
        await self._alarm(uow, row, CONFLICT, lost)
        await rebalances.cancel(uow, row, code=CONFLICT, ids=lane.ids, at=lane.now())
        return True

    async def _take_over(self, uow: Uow, row: RebalanceRow, tx: OutgoingRow) -> bool:
        """The signatures are whole: the plan's own tx may be sent. All is looked at again here,
        since the process that took the file has no say over what is sent."""
        lane = self._lane
        paid = tx.payments[0]
        if not await refill_accounts.is_hot(
            uow, network=lane.network, address=paid.address, key=paid.key
        ):
            raise BrokenAttempt(f"attempt {tx.id} does not pay a hot address of ours")
        signatures = await refills_store.of_attempt(uow, tx.id)
        progress = registry.cold_progress(
            lane.spec, unsigned=tx.unsigned, signatures=signatures, sender_key=tx.sender_key
        )
        if progress.raw is None or progress.txid is None:
            raise BrokenAttempt(f"rebalance {row.id} is signed, and its signatures are not whole")
        registry.cold_signatures(
            lane.spec, unsigned=tx.unsigned, upload=progress.raw, sender_key=tx.sender_key
        )
        await outgoing.mark_signed(
            uow, attempt_id=tx.id, raw=progress.raw, txid=progress.txid, at=lane.now()
        )
        log.info(
            "payout.refill_signed",
            network=lane.network,
            rebalance_id=str(row.id),
            attempt_id=str(tx.id),
            txid=progress.txid,
        )
        return True

    async def _end(
        self, uow: Uow, row: RebalanceRow, tx: OutgoingRow, plan: SafePlanRow | None
    ) -> bool:
        is_paid = tx.state is OutgoingState.FINAL and tx.is_paid_as_planned is True
        if is_paid or tx.state is OutgoingState.REVERTED:
            if tx.block_hash is None or tx.settled_block_hash != tx.block_hash:
                return False  # not before the books hold it
        if is_paid:
            await self._move(uow, row, Trigger.CONFIRM)
            await attempts.clear(self._lane, uow, FAILED, objects=[row.id])
            return True
        if tx.state is OutgoingState.REPLACED:
            await self._alarm(uow, row, FAILED, f"{tx.txid} lost to {tx.conflict_txid}")
            await self._fail(uow, row, plan, "coins_spent")
            return True
        if tx.state in (OutgoingState.REVERTED, OutgoingState.FINAL):  # by evidence (P29)
            is_reverted = tx.state is OutgoingState.REVERTED
            code = ends.REVERTED if is_reverted else ends.DIFFERENT
            await self._alarm(uow, row, FAILED, f"{tx.txid}: {code}")
            await self._fail(uow, row, plan, code)
            return True
        return False

    async def _fail(self, uow: Uow, row: RebalanceRow, plan: SafePlanRow | None, code: str) -> None:
        if plan is not None:  # its number is still the Safe's next one, or it is gone
            await safe_plans_store.drop(uow, plan.id, at=self._lane.now())
        await self._move(uow, row, Trigger.FAIL, code=code)

    async def _refuse(self, uow: Uow, row: RebalanceRow, code: str) -> None:
        await self._alarm(uow, row, FAILED, code)
        await self._move(uow, row, Trigger.REFUSE, code=code)

    async def _alarm(self, uow: Uow, row: RebalanceRow, kind: str, detail: str) -> None:
        log.warning(f"payout.{kind}", rebalance_id=str(row.id), detail=detail)
        await attempts.alarm(self._lane, uow, kind, f"{row.asset}: {detail}", object_id=row.id)

    async def _move(
        self, uow: Uow, row: RebalanceRow, trigger: Trigger, **changes: Any
    ) -> RebalanceRow:
        lane = self._lane
        return await rebalances.move(uow, row, trigger, changes, ids=lane.ids, at=lane.now())

    async def _tx(self, uow: Uow, row: RebalanceRow) -> OutgoingRow:
        tx = None
        if row.attempt_id is not None:
            tx = await outgoing.get(uow, row.attempt_id, is_locked=True)
        if tx is None:
            raise BrokenAttempt(f"rebalance {row.id} has no transaction")
        return tx

    async def _is_stopped(self, uow: Uow, row: RebalanceRow) -> bool:
        for action in (Action.BUILD, Action.SIGN):
            if await switches.is_stopped(uow, network=row.network, asset=row.asset, action=action):
                return True
        return False
