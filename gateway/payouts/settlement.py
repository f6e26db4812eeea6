"""Chain facts to states and postings: confirming, completed, failed, reopened.

Owns what a final tx does to the books (CONTRACT 1, Fees): per member Dr in flight / Cr custody and
what the player paid, and its share of the real chain fee, Dr expense / Cr custody, with the block
as effect. What is
final is decided by the watcher alone, success by evidence, never by intent (P29).

A final tx that succeeded but moved something else than planned (a fee-on-transfer token) is
neither paid nor unpaid: crediting back could pay twice. So is a batch whose legs are not all told.
CONTRACT 5 has no state for it, so its withdrawals stay `confirming` and in flight, under the alarm
`paid_differently`, until people decide; nothing moves them by itself but a reorg.
"""

from functools import partial
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts, refund_deposits, store
from gateway.payouts.attempts import Attempt
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from gateway.payouts.rounds import AttemptRound
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger import accounts, holds, journal
from ledger.accounts import Stage
from ledger.errors import StaleState
from ledger.journal import ChainEffect, Entry, Posting, credit, debit
from ledger.money import split_by_largest_remainder
from signer.protocol import Purpose
from watchers import outgoing, switches
from watchers.outgoing import OutgoingRow, OutgoingState

TXS_MAX = 1_000  # own txs looked at per cycle
IN_A_BLOCK = (OutgoingState.MINED, OutgoingState.FINAL, OutgoingState.REVERTED)
NOT_IN_A_BLOCK = (
    OutgoingState.BROADCAST,
    OutgoingState.SEEN,
    OutgoingState.DROPPED,
    OutgoingState.REPLACED,
)

SETTLED_FROM = (State.CONFIRMING, State.CANCELLING)

log = get_logger(__name__)


class Settlement:
    """The settling step of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._round = AttemptRound(
            lane.network,
            [State.UNCERTAIN, State.SENT, State.CONFIRMING, State.CANCELLING],
            size=TXS_MAX,
        )

    async def run(self) -> None:
        """One pass over attempts whose tx and withdrawals may disagree."""
        async with self._lane.database.unit_of_work() as uow:
            page = await attempts.load_many(uow, await self._round.page(uow), lock=False)
            found = [item.id for item in page if _is_behind(item)]
            # A completed one whose block was orphaned, even if another block has it by now.
            elsewhere = await outgoing.settled_elsewhere(
                uow, network=self._lane.network, limit=TXS_MAX
            )
        lost = (tx.id for tx in elsewhere if not tx.is_own_move)  # those: `own_moves`
        of_refunds = {tx.id for tx in (*(item.tx for item in page), *elsewhere) if _is_refund(tx)}
        for attempt_id in sorted({*found, *lost}):
            is_refund = attempt_id in of_refunds
            work = partial(self._one, attempt_id=attempt_id, is_refund=is_refund)
            try:
                if await self._lane.run(work):
                    self._lane.crash("payout.settled")
            except StaleState as error:
                log.info("payout.stale", attempt_id=str(attempt_id), detail=str(error))

    async def _one(self, uow: Uow, *, attempt_id: UUID, is_refund: bool = False) -> bool:
        """Bring the members in line with the tx; True when the books changed."""
        if is_refund:  # the deposit is locked before the refund and its tx
            riding = await store.members(uow, attempt_id, lock=False)
            await refund_deposits.lock(uow, [member.withdrawal for member in riding])
        attempt = await attempts.load(uow, attempt_id, lock=True)
        has_changed = False
        if attempt.tx.settled_block_hash not in (None, attempt.tx.block_hash):
            await self._reopen(uow, attempt)
            attempt = await attempts.load(uow, attempt_id, lock=True)
            has_changed = True
        if attempt.tx.state in IN_A_BLOCK:
            for row in attempt.rows(State.SENT, State.UNCERTAIN):
                await attempts.move(self._lane, uow, row, Trigger.MINE)
            attempt = await attempts.load(uow, attempt_id, lock=True)
        elif attempt.tx.state in NOT_IN_A_BLOCK:
            for row in attempt.rows(State.CONFIRMING):
                await attempts.move(self._lane, uow, row, Trigger.UNMINE)
        if attempt.tx.state in (OutgoingState.FINAL, OutgoingState.REVERTED):
            has_changed |= await self._settle(uow, attempt)
        return has_changed

    async def _settle(self, uow: Uow, attempt: Attempt) -> bool:
        rows = attempt.rows(*SETTLED_FROM)
        if not rows:
            return False
        tx = attempt.tx
        if tx.is_paid_differently:
            await self._hold(uow, attempt)
            return False
        if tx.block_hash is None or tx.height is None or tx.fee_minor is None:
            raise BrokenAttempt(f"attempt {attempt.id} is final without a block or a fee")
        effect = ChainEffect(network=tx.network, block_hash=tx.block_hash, height=tx.height)
        shares = split_by_largest_remainder(tx.fee_minor, [1] * len(attempt.members))
        is_final = tx.state is OutgoingState.FINAL
        failed: list[WithdrawalRow] = []
        by_output = sorted(attempt.members, key=lambda member: member.output_index)
        for member, share in zip(by_output, shares, strict=True):
            row = member.withdrawal
            if row.state in SETTLED_FROM:
                # A leg fails alone; an abort pays nobody.
                is_payment = is_final and tx.purpose != Purpose.ABORT
                is_paid = is_payment and tx.has_paid(member.output_index)
                await self._post(uow, row, share, effect=effect, is_paid=is_paid)
                failed += [] if is_paid or row.state == State.CANCELLING else [row]
        if failed:
            await self._tell_failed(uow, attempt, failed)
        await outgoing.mark_settled(uow, attempt_id=attempt.id, block_hash=effect.block_hash)
        log.info(
            "payout.settled",
            network=tx.network,
            attempt_id=str(attempt.id),
            txid=tx.txid,
            is_paid_as_planned=tx.is_paid_as_planned,
            members=len(rows),
        )
        return True

    async def _post(
        self, uow: Uow, row: WithdrawalRow, fee_minor: int, *, effect: ChainEffect, is_paid: bool
    ) -> None:
        lane = self._lane
        trigger = Trigger.COMPLETE if is_paid else Trigger.FAIL
        if row.state == State.CANCELLING and not is_paid:
            trigger = Trigger.ABORT_FINAL
        moved = await attempts.move(lane, uow, row, trigger)
        entries: list[Entry] = []
        if is_paid:
            entries += [
                debit(
                    accounts.player(row.brand, row.player_id, Stage.IN_FLIGHT, row.asset),
                    row.amount_minor,
                ),
                credit(accounts.custody(row.network, "hot", row.asset), row.output_minor),
            ]
            if row.fee_charged_minor:
                earned = accounts.fee_recovery(row.asset)
                entries.append(credit(earned, row.fee_charged_minor, brand_tag=row.brand))
            await holds.settle(uow, hold_id=row.id)
            await refund_deposits.completed(uow, moved, ids=lane.ids, at=lane.now())
        else:
            await holds.return_in_flight(
                uow, hold_id=row.id, reference=f"withdrawal:{row.id}:returned", at=lane.now()
            )
            await refund_deposits.ended(uow, moved, ids=lane.ids, at=lane.now())
        if fee_minor:
            native = lane.spec.native_asset
            entries += [
                debit(accounts.network_fee(native), fee_minor, brand_tag=row.brand),
                credit(accounts.custody(row.network, "hot", native), fee_minor),
            ]
        if entries:
            await journal.post(
                uow,
                Posting(
                    reference=_reference(moved.id, moved.version),
                    kind="withdrawal_completed" if is_paid else "withdrawal_failed",
                    entries=tuple(entries),
                    effect=effect,
                ),
                posting_id=lane.ids.new_id(),
                at=lane.now(),
            )

    async def _tell_failed(self, uow: Uow, attempt: Attempt, rows: list[WithdrawalRow]) -> None:
        """A revert has a cause that the next payout may meet too, at the price of its gas: a token
        that is paused, or a receiver that it bars (D57). Nothing is tried again by itself."""
        assets = ", ".join(sorted({row.asset for row in rows}))
        detail = f"{len(rows)} payouts of {assets} failed on chain in {attempt.tx.txid}"
        await attempts.alarm(self._lane, uow, "payout_reverted", detail, object_id=attempt.id)

    async def _hold(self, uow: Uow, attempt: Attempt) -> None:
        """Leave everything as it is, with the evidence before a person; one alarm per tx."""
        tx = attempt.tx
        moved = ", ".join(f"{item.amount_minor} {item.asset} to {item.key}" for item in tx.moved)
        await attempts.alarm(
            self._lane, uow, "paid_differently", f"{tx.txid} is final but moved {moved}",
            object_id=attempt.id,
        )  # fmt: skip

    async def _reopen(self, uow: Uow, attempt: Attempt) -> None:
        """The block of a settled tx left the chain: take the settlement back (CONTRACT 5)."""
        lane = self._lane
        for row in attempt.rows(State.COMPLETED):
            await journal.reverse(
                uow,
                _reference(row.id, row.version),
                new_reference=f"{_reference(row.id, row.version)}:reversed",
                posting_id=lane.ids.new_id(),
                at=lane.now(),
                reason="block_orphaned",
            )
            await holds.reopen(uow, hold_id=row.id)
            moved = await attempts.move(lane, uow, row, Trigger.REOPEN)
            await refund_deposits.reopened(uow, moved, ids=lane.ids, at=lane.now())
            await switches.open_breaker(  # CONTRACT 5: what was final was not
                uow,
                scope=switches.network_scope(lane.network),
                action=switches.Action.ALL,
                reason="a completed payout lost its block",
                actor="payouts",
                ids=lane.ids,
                at=lane.now(),
            )
        for row in attempt.rows(State.FAILED, State.CANCELLED):
            detail = f"{attempt.tx.txid} paid nothing and left the chain; it could still be paid"
            await attempts.alarm(lane, uow, "failed_reopened", detail, object_id=row.id)
        await outgoing.mark_unsettled(uow, attempt_id=attempt.id)
        await attempts.alarm(
            lane, uow, "withdrawal_reopened", f"{attempt.tx.txid} left the chain",
            object_id=attempt.id,
        )  # fmt: skip
        log.error("payout.reopened", network=lane.network, attempt_id=str(attempt.id))


def _reference(withdrawal_id: UUID, version: int) -> str:
    """One settlement per version: a later one, after a reorg, is another posting."""
    return f"withdrawal:{withdrawal_id}:settled:{version}"


def _is_refund(tx: OutgoingRow) -> bool:
    return tx.purpose == Purpose.REFUND


def _is_behind(attempt: Attempt) -> bool:
    """Whether tx and members may disagree; decided again under their locks."""
    tx = attempt.tx
    if tx.settled_block_hash not in (None, tx.block_hash):
        return True
    if tx.state in IN_A_BLOCK:
        is_over = tx.state in (OutgoingState.FINAL, OutgoingState.REVERTED)
        settled = SETTLED_FROM if is_over else ()
        return bool(attempt.rows(State.SENT, State.UNCERTAIN, *settled))
    return tx.state in NOT_IN_A_BLOCK and bool(attempt.rows(State.CONFIRMING))
