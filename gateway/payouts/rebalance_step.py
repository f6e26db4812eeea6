"""Moves that the signer signs: planned, signed, followed, made dearer when late (CONTRACT 8, T6).

Owns `approved` to `done` of a direction between hot, warm and cold, and what the system does by
itself: it proposes an overflow, and takes back what is past its time or not needed. The broadcaster
sends, `own_moves` books fee and value at finality; a row is `done` after that, never before.
"""

from collections.abc import Sequence
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import (
    asking,
    attempts,
    ends,
    move_bumps,
    rebalance_build,
    rebalance_plan,
    rebalances,
    refusals,
)
from gateway.payouts import rebalances_store as store
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt, BumpCapped, FeeAboveCap, FeesUnknown
from gateway.payouts.nonce_order import NonceOrder
from gateway.payouts.rebalance_plan import Need
from gateway.payouts.rebalances import (
    EXPIRED,
    NOT_NEEDED,
    Direction,
    State,
    Trigger,
    Wish,
)
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.payouts.refusals import KNOWS_MORE, SIGNER_KNOWS_MORE
from ledger.errors import StaleState
from signer.protocol import Purpose, Refusal, SignedTx, SignRequest
from watchers import addresses, nonces, outgoing, outgoing_families, switches
from watchers.addresses import AddressRole
from watchers.errors import CoinTaken, PoolEmpty
from watchers.nonces import Below
from watchers.outgoing import OutgoingRow, OutgoingState
from watchers.switches import Action

OPEN_MAX: Final = 20  # moves of a network in some states looked at in one pass
LOOK_SECONDS: Final = 60.0  # bands are looked at once a minute
PEOPLE_SHOWN: Final = 2  # from so many on, the signer is shown what people signed

FAILED: Final = "rebalance_failed"
"""Alarm: a move between wallets did not come about as people wanted; by rebalance."""

REFERENCE_USED: Final = "already_paid"  # signer.errors.RefusalCode

_BEGUN: Final = (State.PLANNED, State.SIGNED, State.SENT)
"""What holds coins or a number: it never waits for what only wants some."""

log = get_logger(__name__)


class _Gate(Enum):
    """How a built attempt left the gate."""

    OPEN = auto()
    """It is committed that the signer is asked: ask."""
    SHUT = auto()
    """Not now, or signed already."""
    LATE = auto()
    """Built for another hour, or its family is in a block: it goes, unless it was signed."""


class RebalanceStep:
    """The moves of one lane in one direction. Its memory only paces."""

    def __init__(self, lane: Lane, direction: Direction) -> None:
        self._lane = lane
        self._direction = direction
        self._looked_at_seconds: float | None = None

    async def follow(self) -> None:
        """Go on by what the chain shows."""
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            found = await store.disagreeing(
                uow, network=lane.network, direction=self._direction, limit=OPEN_MAX
            )
        for rebalance_id in found:
            if await self._try(partial(self._follow, rebalance_id=rebalance_id)):
                lane.crash("payout.rebalance_moved")

    async def propose(self) -> None:
        """Once a minute: ask for what is over, take back what nobody needs."""
        lane, now = self._lane, self._lane.clock.monotonic_seconds()
        last = self._looked_at_seconds
        if last is not None and now - last < LOOK_SECONDS:
            return
        self._looked_at_seconds = now
        if await self._try(self._look):
            lane.crash("payout.rebalance_proposed")

    async def run(self) -> bool:
        """Plan, sign and make dearer, what was begun first; whether something was signed. Raises
        SignerUnavailable."""
        lane = self._lane
        async with lane.database.unit_of_work() as uow:
            begun = await self._open(uow, _BEGUN)
            rows = [*begun, *await self._open(uow, (State.APPROVED,))]
        rows = [row for row in rows if not self._is_capped(row)]
        if not rows:
            return False
        await lane.signer.head()  # without a signer nothing takes coins or a nonce (S21)
        is_signed = False
        for row in rows:
            if row.state == State.APPROVED:
                if not await self._try(partial(self._plan, rebalance_id=row.id)):
                    continue
                lane.crash("payout.rebalance_planned")
            elif self._is_bumped(row) and await self._try(partial(self._bump, rebalance_id=row.id)):
                lane.crash("payout.rebalance_bumped")
            is_signed |= await self._sign(row.id)
        return is_signed

    async def _open(self, uow: Uow, states: Sequence[State]) -> list[RebalanceRow]:
        return await store.open_of(
            uow,
            network=self._lane.network,
            direction=self._direction,
            states=states,
            limit=OPEN_MAX,
        )

    async def _try(self, work: Any) -> bool:
        """One unit of work; False when somebody was quicker, or its fee is none to pay: the next
        pass reads anew, and the moves behind it go on in this one."""
        try:
            return bool(await self._lane.run(work))
        except (CoinTaken, StaleState, FeesUnknown, FeeAboveCap, PoolEmpty) as error:
            log.info("payout.rebalance_waits", network=self._lane.network, detail=str(error))
            return False

    def _is_bumped(self, row: RebalanceRow) -> bool:
        """What warm sends pays the quickest class at once: nothing hot is added to it."""
        is_late = row.state in (State.SIGNED, State.SENT)
        return is_late and self._direction is not Direction.WARM_TO_HOT

    def _is_capped(self, row: RebalanceRow) -> bool:
        """Whether the signer's cap of a day was full, too short ago to ask again."""
        is_recent = row.state_at + refusals.CAP_WAIT_MOST > self._lane.now()
        return row.state == State.APPROVED and row.code == refusals.SIGNER_CAP and is_recent

    # What the system does by itself

    async def _look(self, uow: Uow) -> bool:
        lane = self._lane
        found = []
        if self._direction is Direction.HOT_TO_COLD:  # all that the system asks for by itself
            at = lane.now()
            every = await rebalance_plan.needs(uow, lane.registry, network=lane.network, at=at)
            found = [need for need in every if need.direction is self._direction]
        await self._take_back(uow, {need.asset for need in found})
        is_changed = False
        for need in found:
            is_changed |= await self._propose(uow, need)
        return is_changed

    async def _take_back(self, uow: Uow, over: set[str]) -> None:
        lane = self._lane
        for found in await self._open(uow, (State.PROPOSED, State.APPROVED)):
            row = await store.get(uow, found.id, lock=True)
            if row is None or row.state not in (State.PROPOSED, State.APPROVED):
                continue
            is_needless = row.requested_by is None and row.state == State.PROPOSED
            if row.valid_until <= lane.now():
                await rebalances.cancel(uow, row, code=EXPIRED, ids=lane.ids, at=lane.now())
            elif is_needless and row.asset not in over:
                await rebalances.cancel(uow, row, code=NOT_NEEDED, ids=lane.ids, at=lane.now())

    async def _propose(self, uow: Uow, need: Need) -> bool:
        """One open request of the system per asset, and none soon after the last one (P26)."""
        lane = self._lane
        policy = lane.registry.policy.rebalances[need.asset]
        cold = await rebalance_plan.cold_address(uow, lane.registry, lane.network)
        if need.open is not None or cold is None:
            return False
        last = await store.newest_of_the_system(uow, asset=need.asset, direction=self._direction)
        pause = timedelta(seconds=policy.pause_seconds)
        if last is not None and last.state_at + pause > lane.now():
            return False
        wish = Wish(
            network=need.network,
            asset=need.asset,
            direction=self._direction,
            amount_minor=need.amount_minor,
            address=cold.address,
            address_key=cold.key,
            reason=need.reason,
            forecast=None,
            requested_by=None,
        )
        row = await rebalances.propose(uow, wish, policy=policy, ids=lane.ids, at=lane.now())
        if row is None:
            return False
        log.info(
            "payout.rebalance_proposed",
            network=lane.network,
            rebalance_id=str(row.id),
            asset=row.asset,
            amount_minor=str(row.amount_minor),
        )
        return True

    # Plan

    async def _plan(self, uow: Uow, *, rebalance_id: UUID) -> bool:
        lane = self._lane
        row = await store.get(uow, rebalance_id, lock=True)
        if row is None or row.state != State.APPROVED or await self._is_stopped(uow, row):
            return False
        if row.valid_until <= lane.now():
            await rebalances.cancel(uow, row, code=EXPIRED, ids=lane.ids, at=lane.now())
            return False
        flaw = await self._flaw(uow, row)
        if flaw is not None:
            await self._fail(uow, row, Trigger.REFUSE, flaw)
            return False
        draft = await rebalance_build.first(lane, uow, row)
        if isinstance(draft, str):
            log.info("payout.rebalance_waits", rebalance_id=str(row.id), code=draft)
            return False
        await outgoing.record(uow, draft, at=lane.now())
        await self._move(
            uow,
            row,
            Trigger.PLAN,
            {"attempt_id": draft.id, "sign_requested_at": None, "code": None},
        )
        log.info(
            "payout.rebalance_planned",
            network=lane.network,
            rebalance_id=str(row.id),
            attempt_id=str(draft.id),
            fee_cap_minor=str(draft.fee_cap_minor),
        )
        return True

    async def _flaw(self, uow: Uow, row: RebalanceRow) -> str | None:
        """Why it is not carried out (any more), by code."""
        policy = self._lane.registry.policy.rebalances[row.asset]
        flaw = await rebalances.people_flaw(uow, row, policy=policy)
        if flaw is not None:
            return flaw
        to = await addresses.by_text(uow, network=row.network, key=row.address_key)
        wanted = rebalances.TARGETS[self._direction]
        return None if to is not None and to.role is wanted else f"not_{wanted}"

    async def _bump(self, uow: Uow, *, rebalance_id: UUID) -> bool:
        """Build a further attempt of a late one; False while it need not be, or may not."""
        lane = self._lane
        row, family = await self._read(uow, rebalance_id)
        if row.state not in (State.SIGNED, State.SENT) or await self._is_stopped(uow, row):
            return False
        newest = family[-1]
        is_free = all(tx.height is None and tx.conflict_txid is None for tx in family)
        if newest.state is OutgoingState.BUILT or not is_free:
            return False
        try:
            draft = await move_bumps.dearer(
                lane, uow, family, for_id=row.id, target_blocks=rebalance_build.TARGET_BLOCKS
            )
        except FeesUnknown:
            return False
        except BumpCapped as error:
            log.info("payout.rebalance_capped", rebalance_id=str(row.id), detail=str(error))
            return False
        if draft is None:
            return False
        await outgoing.record(uow, draft, at=lane.now())
        log.info("payout.rebalance_bumped", rebalance_id=str(row.id), attempt_id=str(draft.id))
        return True

    # Sign

    async def _sign(self, rebalance_id: UUID) -> bool:
        """Gate, question, answer. What the signer may have signed is never dropped unasked."""
        lane = self._lane
        gate, attempt_id = await lane.run(partial(self._gate, rebalance_id=rebalance_id))
        if gate is _Gate.SHUT or attempt_id is None:
            return False
        lane.crash("payout.rebalance_asked")
        async with lane.database.unit_of_work() as uow:
            row = await store.get(uow, rebalance_id)
            tx = await outgoing.get(uow, attempt_id)
            if row is None or tx is None:
                raise BrokenAttempt(f"rebalance {rebalance_id} has no attempt")
            request = await self._question(uow, row, tx)
        answer = await asking.answer_of(
            lane, request, is_asked=gate is _Gate.OPEN, crash="payout.rebalance_answered"
        )
        if isinstance(answer, SignedTx):
            store_it = partial(self._store, answer=answer)
            await lane.run(partial(store_it, rebalance_id=rebalance_id, attempt_id=tx.id))
            lane.crash("payout.rebalance_signed")
            return True
        drop = partial(self._not_signed, refusal=answer)
        await lane.run(partial(drop, rebalance_id=rebalance_id, attempt_id=tx.id))
        lane.crash("payout.rebalance_refused")
        return False

    async def _gate(self, uow: Uow, *, rebalance_id: UUID) -> tuple[_Gate, UUID | None]:
        lane = self._lane
        row, family = await self._read(uow, rebalance_id)
        tx = family[-1]
        if tx.state is not OutgoingState.BUILT:
            return _Gate.SHUT, None
        below = Below.CLEAR
        if tx.sender_key is not None and tx.replaces_id is None:
            unsigned = await nonces.unsigned(uow, network=lane.network, sender_keys=[tx.sender_key])
            below = NonceOrder(unsigned).below(tx)
        age_seconds = (lane.now() - tx.created_at).total_seconds()
        is_late = age_seconds > lane.registry.policy.limits.planned_seconds
        if below is Below.FREE or is_late or any(item.height is not None for item in family):
            return _Gate.LATE, tx.id
        if below is Below.UNSIGNED or await self._is_stopped(uow, row):
            return _Gate.SHUT, None
        await store.ask(uow, row.id, at=lane.now())
        return _Gate.OPEN, tx.id

    async def _question(self, uow: Uow, row: RebalanceRow, tx: OutgoingRow) -> SignRequest:
        """From committed rows only: the same after every crash."""
        change: dict[int, str] = {}
        if tx.sender_key is None:
            paths, change = await outgoing.signing_paths(uow, tx.id)
        else:
            sender = await addresses.by_text(uow, network=tx.network, key=tx.sender_key)
            if sender is None:
                raise BrokenAttempt(f"attempt {tx.id}: its sender is no address of ours")
            paths = (sender.path,)
        people = await store.requests(uow, row.id) if row.people_needed >= PEOPLE_SHOWN else []
        to = await addresses.by_text(uow, network=row.network, key=row.address_key)
        return SignRequest(
            attempt_id=str(tx.id),
            purpose=Purpose(row.direction),
            network=tx.network,
            worker_epoch=self._lane.lease.fence,
            unsigned=tx.unsigned,
            input_paths=paths,
            change_paths=change,
            payments=(),
            own_path=to.path if to is not None and to.role is not AddressRole.COLD else None,
            replaces=None if tx.replaces_id is None else str(tx.replaces_id),
            approvals=tuple(item.signed for item in people),
        )

    async def _store(
        self, uow: Uow, *, rebalance_id: UUID, attempt_id: UUID, answer: SignedTx
    ) -> None:
        """Signed bytes and txid, before anything is sent."""
        lane = self._lane
        row, family = await self._read(uow, rebalance_id)
        await outgoing.mark_signed(
            uow, attempt_id=attempt_id, raw=answer.raw, txid=answer.txid, at=lane.now()
        )
        for tx in family:
            if tx.height is not None:
                await outgoing_families.note_winner(
                    uow, attempt_id=attempt_id, winner=tx, at=lane.now()
                )
        is_first = row.state == State.PLANNED
        changes = {"attempt_id": attempt_id, "txid": answer.txid}
        if is_first or row.state in (State.SIGNED, State.SENT):
            await self._move(uow, row, Trigger.SIGN if is_first else Trigger.REPLACE, changes)
        log.info(
            "payout.rebalance_signed",
            network=lane.network,
            rebalance_id=str(row.id),
            attempt_id=str(attempt_id),
            txid=answer.txid,
            log_sequence=answer.log_sequence,
        )

    async def _not_signed(
        self, uow: Uow, *, rebalance_id: UUID, attempt_id: UUID, refusal: Refusal | None
    ) -> None:
        """A refusal ends a first attempt, but for a cap that time cures; a further one is dropped,
        and the earlier ones go on. Where the signer knows more, all stays for people to look."""
        lane = self._lane
        row, family = await self._read(uow, rebalance_id)
        is_further = any(tx.raw is not None for tx in family)
        stays = KNOWS_MORE if is_further else KNOWS_MORE - {REFERENCE_USED}
        if refusal is not None and refusal.code in stays:
            detail = f"attempt {attempt_id}: {refusal.code}: {refusal.reason}"
            await attempts.alarm(lane, uow, SIGNER_KNOWS_MORE, detail)
            return
        await outgoing.drop_unsigned(uow, attempt_id=attempt_id, at=lane.now())
        if refusal is not None:
            log.warning("payout.rebalance_refused", rebalance_id=str(row.id), reason=refusal.reason)
        if is_further:
            return
        is_cap = refusal is not None and refusal.code == refusals.CAP_OF_WINDOW
        if refusal is None or is_cap:
            await self._unplan(uow, row, code=refusals.SIGNER_CAP if is_cap else None)
        else:
            await self._fail(uow, row, Trigger.REFUSE, refusal.code)

    async def _unplan(self, uow: Uow, row: RebalanceRow, *, code: str | None = None) -> None:
        changes = {"attempt_id": None, "sign_requested_at": None, "code": code}
        await self._move(uow, row, Trigger.UNPLAN, changes)

    # Follow

    async def _follow(self, uow: Uow, *, rebalance_id: UUID) -> bool:
        row, family = await self._read(uow, rebalance_id)
        signed = [tx for tx in family if tx.raw is not None]
        if row.state == State.PLANNED:
            if not signed and all(tx.state is OutgoingState.REFUSED for tx in family):
                await self._unplan(uow, row)  # a recovery took it apart
                return True
            return False
        ended = ends.ended(signed)
        if row.state in (State.DONE, State.FAILED):
            is_done = row.state == State.DONE
            if not signed or ends.says_so(
                signed, is_done=is_done, code=row.code, attempt_id=row.attempt_id
            ):
                return False
            await self._move(uow, row, Trigger.REOPEN, {"code": None})
            return True
        if row.state == State.SIGNED and any(tx.state is not OutgoingState.SIGNED for tx in signed):
            row = await self._move(uow, row, Trigger.SEND, {})
            if ended is None:
                return True
        if row.state != State.SENT or ended is None:
            return False
        return await self._end(uow, row, ended)

    async def _end(self, uow: Uow, row: RebalanceRow, tx: OutgoingRow) -> bool:
        """By evidence, never by intent (P29); and not before the books hold it."""
        lane = self._lane
        if tx.state is OutgoingState.REPLACED:
            await self._fail(uow, row, Trigger.FAIL, "coins_or_nonce_taken")
            return True
        changes = {"attempt_id": tx.id, "txid": tx.txid}
        planned = sorted((item.asset, item.key, item.amount_minor) for item in tx.payments)
        moved = sorted((item.asset, item.key, item.amount_minor) for item in tx.moved)
        is_different = tx.state is OutgoingState.FINAL and moved != planned
        if is_different:  # the books do not take it: it is a person's case (own_moves)
            await self._fail(uow, row, Trigger.FAIL, ends.DIFFERENT, changes)
        elif tx.block_hash is None or tx.settled_block_hash != tx.block_hash:
            return False
        elif tx.state is OutgoingState.REVERTED:
            await self._fail(uow, row, Trigger.FAIL, ends.REVERTED, changes)
        else:
            await self._move(uow, row, Trigger.CONFIRM, changes)
            await attempts.clear(lane, uow, FAILED, objects=[row.id])
            log.info("payout.rebalance_done", rebalance_id=str(row.id), txid=tx.txid)
        return True

    async def _fail(
        self,
        uow: Uow,
        row: RebalanceRow,
        trigger: Trigger,
        code: str,
        changes: dict[str, Any] | None = None,
    ) -> None:
        detail = f"{row.amount_minor} {row.asset} to {row.address}: {code}"
        await attempts.alarm(self._lane, uow, FAILED, detail, object_id=row.id)
        await self._move(uow, row, trigger, {**(changes or {}), "code": code})

    async def _move(
        self, uow: Uow, row: RebalanceRow, trigger: Trigger, changes: dict[str, Any]
    ) -> RebalanceRow:
        lane = self._lane
        return await rebalances.move(uow, row, trigger, changes, ids=lane.ids, at=lane.now())

    async def _is_stopped(self, uow: Uow, row: RebalanceRow) -> bool:
        for action in (Action.BUILD, Action.SIGN, Action.BROADCAST):
            if await switches.is_stopped(uow, network=row.network, asset=row.asset, action=action):
                return True
        return False

    async def _read(self, uow: Uow, rebalance_id: UUID) -> tuple[RebalanceRow, list[OutgoingRow]]:
        """The row and every attempt of its family, the newest last, locked in this order."""
        row = await store.get(uow, rebalance_id, lock=True)
        if row is None or row.attempt_id is None:
            raise StaleState(f"rebalance {rebalance_id} has no attempt")
        tx = await outgoing.get(uow, row.attempt_id)
        if tx is None:
            raise BrokenAttempt(f"rebalance {rebalance_id} has no transaction")
        return row, await outgoing_families.locked(uow, tx.family_id)
