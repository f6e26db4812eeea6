"""The call that executes a Safe's refill: built, signed by the signer, followed by its block.

Owns what lies between the owners' last signature and the first send. Hot lane 0 calls the Safe and
pays the gas; the broadcaster sends it, `own_moves` books the value and the fee, `refill_step` ends
it. It is never bumped: its fee is that of the quickest class, as of a set-up.
"""

from asyncio import timeout
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import (
    asking,
    attempts,
    funds,
    rebalances,
    refill_accounts,
    refills_store,
    refusals,
    safe_refills,
)
from gateway.payouts import rebalances_store as store
from gateway.payouts import safe_plans_store as plans
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, FeeAboveCap, FeesUnknown
from gateway.payouts.nonce_order import NonceOrder
from gateway.payouts.rebalances import Direction, State, Trigger
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.payouts.refusals import KNOWS_MORE, SIGNER_KNOWS_MORE
from gateway.payouts.safe_plans_store import SafePlanRow
from ledger.errors import StaleState
from signer.protocol import Purpose, Refusal, SignedTx, SignRequest
from watchers import addresses, nonces, outgoing, registry, switches
from watchers.chain import SafeCallPlan, SafeState
from watchers.errors import SignedFileRefused
from watchers.nonces import Below
from watchers.outgoing import OutgoingDraft, OutgoingRow, OutgoingState
from watchers.switches import Action

OPEN_MAX: Final = 20  # refills of a network in one pass; it has one on its way
TARGET_BLOCKS: Final = 1

log = get_logger(__name__)


class _Gate(Enum):
    """How a built call left the gate."""

    OPEN = auto()
    """It is committed that the signer is asked: ask."""
    SHUT = auto()
    """Not now, or signed already."""
    LATE = auto()
    """A free nonce lies below it, or its fee is of another hour: built anew, unless signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A refill, its plan and its call, locked in this order."""

    row: RebalanceRow
    plan: SafePlanRow
    tx: OutgoingRow


class SafeStep:
    """The calls of one lane's Safe."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self) -> bool:
        """Build and sign; whether something was signed. Raises SignerUnavailable, NodeUnavailable,
        TimeoutError."""
        lane = self._lane
        if lane.spec.safe is None:
            return False
        async with lane.database.unit_of_work() as uow:
            rows = await store.open_of(
                uow,
                network=lane.network,
                direction=Direction.COLD_TO_HOT,
                states=(State.SIGNED,),
                limit=OPEN_MAX,
            )
            found = [(row, await plans.of_rebalance(uow, row.id)) for row in rows]
        waiting = [
            (row, plan) for row, plan in found if plan is not None and not self._is_capped(row)
        ]
        if not waiting:
            return False
        await lane.signer.head()  # without a signer nothing takes a nonce (S21)
        is_signed = False
        for row, plan in waiting:
            if row.attempt_id == plan.id:
                async with timeout(refill_accounts.LOOK_SECONDS):
                    seen = await refill_accounts.safe_state(lane)
                if not await self._try(row.id, partial(self._plan, rebalance_id=row.id, seen=seen)):
                    continue
                lane.crash("payout.safe_call_planned")
            try:
                is_signed |= await self._sign(row.id)
            except StaleState as error:  # somebody was quicker: the next pass reads anew
                log.info("payout.refill_waits", rebalance_id=str(row.id), detail=str(error))
        return is_signed

    def _is_capped(self, row: RebalanceRow) -> bool:
        """Whether the signer's cap of a day was full, too short ago to ask again."""
        is_recent = row.state_at + refusals.CAP_WAIT_MOST > self._lane.now()
        return row.code == refusals.SIGNER_CAP and is_recent

    async def _try(self, rebalance_id: UUID, work: Callable[[Uow], Awaitable[bool]]) -> bool:
        """One unit of work; False when it waits. What is broken stops no other one."""
        lane = self._lane
        try:
            return await lane.run(work)
        except (StaleState, FeesUnknown, FeeAboveCap) as error:
            log.info("payout.refill_waits", rebalance_id=str(rebalance_id), detail=str(error))
        except (BrokenAttempt, SignedFileRefused) as error:
            log.error("payout.refill_broken", rebalance_id=str(rebalance_id), detail=str(error))
            await lane.run(partial(self._alarm, rebalance_id=rebalance_id, detail=str(error)))
        return False

    async def _alarm(self, uow: Uow, *, rebalance_id: UUID, detail: str) -> None:
        kind = refill_accounts.FAILED
        await attempts.alarm(self._lane, uow, kind, detail, object_id=rebalance_id)

    # -- building

    async def _plan(self, uow: Uow, *, rebalance_id: UUID, seen: SafeState | None) -> bool:
        lane = self._lane
        row = await store.get(uow, rebalance_id, lock=True)
        plan = None if row is None else await plans.of_rebalance(uow, row.id)
        if row is None or plan is None or row.state != State.SIGNED or row.attempt_id != plan.id:
            return False
        if seen is None or seen.nonce != plan.nonce or await self._is_stopped(uow, row):
            return False  # a number that was used is the follower's to tell
        signatures = await self._signatures(uow, row, plan, seen)
        gas_limit = lane.chain.writer.safe_gas(row.asset, signatures=len(signatures))
        place = (await funds.load_account(lane, uow)).of_setup(
            asset=lane.spec.native_asset,
            amount_minor=0,
            is_back=False,
            gas_limit=gas_limit,
            blocks=TARGET_BLOCKS,
        )
        if isinstance(place, str):
            await self._alarm(uow, rebalance_id=row.id, detail=f"{row.asset}: waits for {place}")
            return False
        attempt_id = lane.ids.new_id()
        nonce = await nonces.allocate(
            uow, network=lane.network, sender_key=place.sender.key, attempt_id=attempt_id
        )
        unsigned = lane.chain.writer.build(
            SafeCallPlan(
                sender=place.sender.derived(),
                nonce=nonce,
                typed=plan.typed,
                signatures=signatures,
                gas_limit=place.fee.gas_limit,
                max_fee_per_gas=place.fee.max_fee_per_gas,
                max_priority_fee_per_gas=place.fee.max_priority_fee_per_gas,
            )
        )
        draft = OutgoingDraft(
            id=attempt_id,
            network=lane.network,
            purpose=Purpose.SAFE_REFILL.value,
            family_id=attempt_id,
            unsigned=unsigned.data,
            payments=(rebalances.payment_of(row),),
            fee_cap_minor=place.fee.cap_minor,
            sender_key=place.sender.key,
            nonce=nonce,
            payer_key=plan.safe_key,
        )
        await outgoing.record(uow, draft, at=lane.now())
        changes = {"attempt_id": attempt_id, "sign_requested_at": None, "code": None}
        await self._move(uow, row, changes)
        log.info(
            "payout.safe_call_planned",
            network=lane.network,
            rebalance_id=str(row.id),
            attempt_id=str(attempt_id),
            fee_cap_minor=str(draft.fee_cap_minor),
        )
        return True

    async def _signatures(
        self, uow: Uow, row: RebalanceRow, plan: SafePlanRow, seen: SafeState
    ) -> tuple[bytes, ...]:
        """What the Safe takes, looked at again here: the process that took them has no say over
        what is sent. Raises BrokenAttempt, SignedFileRefused."""
        lane = self._lane
        if plan.typed != safe_refills.typed_of(lane, row, safe_key=plan.safe_key, nonce=plan.nonce):
            raise BrokenAttempt(f"rebalance {row.id}: its typed data is not the plan")
        if not await refill_accounts.is_hot(
            uow, network=row.network, address=row.address, key=row.address_key
        ):
            raise BrokenAttempt(f"rebalance {row.id} does not pay a hot address of ours")
        given = await refills_store.of_attempt(uow, plan.id)
        verified = [
            one
            for item in given
            for one in registry.safe_signature(plan.typed, item.signature, owners=plan.owners)
        ]
        progress = registry.safe_progress(verified, owners=seen.owners, threshold=seen.threshold)
        if progress.raw is None:
            raise BrokenAttempt(f"rebalance {row.id}: too few of the Safe's owners of now signed")
        return tuple(progress.raw[at : at + 65] for at in range(0, len(progress.raw), 65))

    # -- signing

    async def _sign(self, rebalance_id: UUID) -> bool:
        """Gate, question, answer. What the signer may have signed is never dropped unasked."""
        lane = self._lane
        gate = await lane.run(partial(self._gate, rebalance_id=rebalance_id))
        if gate is _Gate.SHUT:
            return False
        lane.crash("payout.safe_call_asked")
        async with lane.database.unit_of_work() as uow:
            call = await self._read(uow, rebalance_id, is_locked=False)
            request = await self._question(uow, call)
        answer = await asking.answer_of(
            lane, request, is_asked=gate is _Gate.OPEN, crash="payout.safe_call_answered"
        )
        if isinstance(answer, SignedTx):
            await lane.run(partial(self._store, rebalance_id=rebalance_id, answer=answer))
            lane.crash("payout.safe_call_signed")
            return True
        await lane.run(partial(self._not_signed, rebalance_id=rebalance_id, refusal=answer))
        lane.crash("payout.safe_call_refused")
        return False

    async def _gate(self, uow: Uow, *, rebalance_id: UUID) -> _Gate:
        lane = self._lane
        call = await self._read(uow, rebalance_id)
        tx = call.tx
        if call.row.state != State.SIGNED or tx.state is not OutgoingState.BUILT:
            return _Gate.SHUT
        sender = tx.sender_key or ""
        unsigned = await nonces.unsigned(uow, network=lane.network, sender_keys=[sender])
        below = NonceOrder(unsigned).below(tx)
        age_seconds = (lane.now() - tx.created_at).total_seconds()
        is_late = age_seconds > lane.registry.policy.limits.planned_seconds
        if below is Below.FREE or is_late:
            return _Gate.LATE
        if below is Below.UNSIGNED or await self._is_stopped(uow, call.row):
            return _Gate.SHUT
        await store.ask(uow, rebalance_id, at=lane.now())
        return _Gate.OPEN

    async def _question(self, uow: Uow, call: _Call) -> SignRequest:
        """From committed rows only: the same after every crash."""
        tx = call.tx
        sender = await addresses.by_text(uow, network=tx.network, key=tx.sender_key or "")
        hot = await addresses.by_text(uow, network=tx.network, key=tx.payments[0].key)
        if sender is None or hot is None:
            raise BrokenAttempt(f"attempt {tx.id}: sender or receiver is no address of ours")
        return SignRequest(
            attempt_id=str(tx.id),
            purpose=Purpose.SAFE_REFILL,
            network=tx.network,
            worker_epoch=self._lane.lease.fence,
            unsigned=tx.unsigned,
            input_paths=(sender.path,),
            change_paths={},
            payments=(),
            own_path=hot.path,
        )

    async def _store(self, uow: Uow, *, rebalance_id: UUID, answer: SignedTx) -> None:
        """Signed bytes and txid, before anything is sent."""
        lane = self._lane
        call = await self._read(uow, rebalance_id)
        await outgoing.mark_signed(
            uow, attempt_id=call.tx.id, raw=answer.raw, txid=answer.txid, at=lane.now()
        )
        await self._move(uow, call.row, {"txid": answer.txid})
        log.info(
            "payout.safe_call_signed",
            network=lane.network,
            rebalance_id=str(rebalance_id),
            attempt_id=str(call.tx.id),
            txid=answer.txid,
            log_sequence=answer.log_sequence,
        )

    async def _not_signed(self, uow: Uow, *, rebalance_id: UUID, refusal: Refusal | None) -> None:
        """A refusal ends it, but for a cap that time cures. Where the signer knows more of its
        nonce, all stays for people to look."""
        lane = self._lane
        call = await self._read(uow, rebalance_id)
        if refusal is not None and refusal.code in KNOWS_MORE:
            detail = f"attempt {call.tx.id}: {refusal.code}: {refusal.reason}"
            await attempts.alarm(lane, uow, SIGNER_KNOWS_MORE, detail)
            return
        await outgoing.drop_unsigned(uow, attempt_id=call.tx.id, at=lane.now())
        is_cap = refusal is not None and refusal.code == refusals.CAP_OF_WINDOW
        if refusal is None or is_cap:
            code = refusals.SIGNER_CAP if is_cap else None
            await safe_refills.unbuild(lane, uow, call.row, call.plan, code=code)
            return
        detail = f"{refusal.code}: {refusal.reason}"
        await safe_refills.fail(lane, uow, call.row, call.plan, code=refusal.code, detail=detail)

    # -- shared

    async def _read(self, uow: Uow, rebalance_id: UUID, *, is_locked: bool = True) -> _Call:
        row = await store.get(uow, rebalance_id, lock=is_locked)
        plan = None if row is None else await plans.of_rebalance(uow, row.id)
        if row is None or row.attempt_id is None or plan is None:
            raise StaleState(f"rebalance {rebalance_id} has no plan of a Safe")
        tx = await outgoing.get(uow, row.attempt_id, is_locked=is_locked)
        if tx is None:
            raise StaleState(f"rebalance {rebalance_id} has no call")
        return _Call(row=row, plan=plan, tx=tx)

    async def _move(self, uow: Uow, row: RebalanceRow, changes: Mapping[str, object]) -> None:
        lane = self._lane
        await rebalances.move(uow, row, Trigger.EXECUTE, dict(changes), ids=lane.ids, at=lane.now())

    async def _is_stopped(self, uow: Uow, row: RebalanceRow) -> bool:
        for action in (Action.BUILD, Action.SIGN):
            if await switches.is_stopped(uow, network=row.network, asset=row.asset, action=action):
                return True
        return False
