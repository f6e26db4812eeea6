"""Replaces a payment that two people do not want by a transaction that pays nobody (CONTRACT 5).

Owns `cancelling` from the people's signatures to the built bytes: an account's nonce spent on a
transfer of nothing to itself, or the very coins of the payment back to own change. Signing,
sending and settling are those of every further attempt of a family, and either of the two may be
mined: it ends `cancelled` or `completed`. A batch is never aborted, and nothing whose change is
already spent by another payout of ours.
"""

from functools import partial
from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import (
    approvals,
    approvals_store,
    attempts,
    bump_build,
    bump_policy,
    families,
    funds,
    store,
)
from gateway.payouts.approvals import TWO_PEOPLE, Action
from gateway.payouts.attempts import Attempt
from gateway.payouts.bump_build import Need
from gateway.payouts.context import Lane
from gateway.payouts.errors import BumpCapped
from gateway.payouts.rounds import RowRound
from gateway.payouts.withdrawals import ON_CHAIN, State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger.errors import StaleState
from signer.protocol import Purpose
from watchers import coins, outgoing, outgoing_families
from watchers.chain import Outpoint
from watchers.errors import CoinTaken
from watchers.outgoing import OutgoingRow, OutgoingState

DECIDED_MAX: Final = 100  # aborts begun, or built again, in one pass
FEE_CLASS: Final = "urgent"  # it races against the payment
BLOCKED: Final = "abort_blocked"
"""Alarm: two people want an abort that cannot be built, or that the signer refused."""

log = get_logger(__name__)


class AbortStep:
    """The step of one lane that begins aborts and builds their transactions."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._cancelling = RowRound(lane.network, State.CANCELLING, size=DECIDED_MAX)

    async def run(self) -> int:
        """One pass; returns how many were built. Raises FeesUnknown."""
        lane = self._lane
        pairs = [(Action.ABORT.value, [state.value for state in ON_CHAIN])]
        async with lane.database.unit_of_work() as uow:
            decided = await approvals_store.decided(
                uow, network=lane.network, pairs=pairs, limit=DECIDED_MAX
            )
            ids = [item["id"] for item in decided]
            ids += [row.id for row in await self._cancelling.page(uow)]
        built = 0
        for withdrawal_id in ids if lane.spec.can_replace else []:
            try:
                is_built = await lane.run(partial(self._one, withdrawal_id=withdrawal_id))
            except (StaleState, CoinTaken) as error:
                log.info("payout.stale", withdrawal_id=str(withdrawal_id), detail=str(error))
                continue
            except BumpCapped as error:
                await lane.run(partial(self._blocked, withdrawal_id=withdrawal_id, why=str(error)))
                continue
            if is_built:
                built += 1
                lane.crash("payout.abort_planned")
        await lane.run(
            lambda uow: attempts.clear_outside(
                lane, uow, BLOCKED, states=[*ON_CHAIN, State.CANCELLING]
            )
        )
        return built

    async def _one(self, uow: Uow, *, withdrawal_id: UUID) -> bool:
        """Begin it, or build it again after a refusal; False when there is nothing to build."""
        lane = self._lane
        found = (await store.by_ids(uow, [withdrawal_id], lock=True))[0]
        if found.attempt_id is None:
            return False
        attempt, family = await families.locked(uow, found.attempt_id)
        row = next(item for item in attempt.rows() if item.id == withdrawal_id)
        if row.state in ON_CHAIN and not await self._is_signed_by_two(uow, row, family):
            return False
        if row.state not in (*ON_CHAIN, State.CANCELLING) or len(attempt.members) != 1:
            return False
        alive = [tx for tx in family if tx.state is not OutgoingState.REFUSED]
        is_over = any(tx.height is not None or tx.conflict_txid is not None for tx in alive)
        is_in_work = any(tx.state is OutgoingState.BUILT for tx in alive)
        if is_over or is_in_work or any(tx.purpose == Purpose.ABORT for tx in alive):
            return False
        height = await outgoing_families.followed_height(uow, network=lane.network)
        if height is None or any((tx.planned_height or -1) >= height for tx in family):
            return False  # one attempt per block: a refused one is tried at the next
        await self._plan(uow, row, attempt, family, alive[-1], height)
        if row.state != State.CANCELLING:
            await attempts.move(lane, uow, row, Trigger.ABORT)
        await attempts.clear(lane, uow, BLOCKED, objects=[row.id])
        return True

    async def _is_signed_by_two(
        self, uow: Uow, row: WithdrawalRow, family: list[OutgoingRow]
    ) -> bool:
        """About this version, and about a transaction of this family."""
        txids = {tx.txid for tx in family if tx.txid is not None}
        people = {
            item.person
            for item in await approvals.every(uow, row.id)
            if item.action is Action.ABORT
            and item.is_valid
            and item.round == row.version
            and txids.issuperset(item.txids)
        }
        return len(people) >= TWO_PEOPLE

    async def _plan(
        self,
        uow: Uow,
        row: WithdrawalRow,
        attempt: Attempt,
        family: list[OutgoingRow],
        newest: OutgoingRow,
        height: int,
    ) -> None:
        """Bytes, member and reservations, in the unit of work of the caller (write, then act)."""
        lane = self._lane
        quote = await funds.current_quote(lane, uow)
        target = lane.registry.policy.classes[FEE_CLASS].inclusion_blocks[lane.spec.family]
        need = Need(
            rate=max(quote.base_fee, 0) + bump_policy.rate_left(quote, blocks_left=target),
            quote=quote,
            below_size_vb=0,
            below_fee_minor=0,
            room_minor=await funds.room_beside(lane, uow, family_id=newest.family_id),
            share_minor=None,
            for_id=attempt.id,
            height=height,
        )
        if lane.is_account_based:
            built = await bump_build.same_nonce(
                lane, uow, newest, family, need, target_blocks=target, is_abort=True
            )
        else:
            await self._refuse_above_others(uow, newest)
            built = await bump_build.replacement(lane, uow, newest, family, need, is_abort=True)
        await coins.reserve(uow, attempt_id=built.draft.id, outpoints=built.takes)
        await outgoing.record(uow, built.draft, at=lane.now())
        await store.add_members(uow, attempt_id=built.draft.id, outputs=[(row.id, 0)])
        log.info(
            "payout.abort_planned",
            network=lane.network,
            withdrawal_id=str(row.id),
            attempt_id=str(built.draft.id),
            replaces=str(newest.id),
            fee_cap_minor=str(built.draft.fee_cap_minor),
        )

    async def _refuse_above_others(self, uow: Uow, tx: OutgoingRow) -> None:
        """A replacement throws out what spends its change, and that may pay somebody."""
        change = await outgoing_families.change_of(uow, tx.id)
        outpoints = [Outpoint(txid=tx.txid or "", vout=output.vout) for output in change]
        held_by = await coins.holders(uow, network=self._lane.network, outpoints=outpoints)
        if len(held_by) != len(outpoints) or any(item is not None for item in held_by.values()):
            raise BumpCapped("another payout of ours spends its change")

    async def _blocked(self, uow: Uow, *, withdrawal_id: UUID, why: str) -> None:
        found = (await store.by_ids(uow, [withdrawal_id], lock=True))[0]
        if found.state == State.CANCELLING and found.attempt_id is not None:
            attempt, family = await families.locked(uow, found.attempt_id)
            await give_up(self._lane, uow, attempt, family, why)
        else:
            await attempts.alarm(self._lane, uow, BLOCKED, why, object_id=withdrawal_id)


async def give_up(
    lane: Lane, uow: Uow, attempt: Attempt, family: list[OutgoingRow], why: str
) -> None:
    """No abort comes of what people signed: the payment is sent and bumped again, and a person is
    called. It has a new version, so people may sign for an abort once more.

    A withdrawal with a signed abort stays: that one is still on its way. Members and family are
    locked by the caller.
    """
    if any(tx.purpose == Purpose.ABORT and tx.raw is not None for tx in family):
        return
    for row in attempt.rows(State.CANCELLING):
        await attempts.move(lane, uow, row, Trigger.ABORT_REFUSED)
        await attempts.alarm(lane, uow, BLOCKED, why, object_id=row.id)
