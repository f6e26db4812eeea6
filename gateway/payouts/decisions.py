"""What staff decide about one withdrawal: approve, decline, expedite, and exits of signed ones.

Owns which state allows which decision. The caller has locked the row, which is what lets exactly
one of cancel, approve, expire and sign win (A33). What nothing was signed for is decided here and
now; what may be on the chain is only signed here, and carried out by the payout lane, which alone
may look at the transactions under their locks (`exits.py`, `aborts.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from config.policy import Policy
from gateway import withdrawals_store as store
from gateway.errors import TooLate
from gateway.payouts import approvals, withdrawals
from gateway.payouts.approvals import TWO_PEOPLE, Action, Staff
from gateway.payouts.errors import DecisionRefused, MaybeSigned
from gateway.payouts.withdrawals import CLEARING, END_STATES, ON_CHAIN, State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from watchers import deposit_commands, outgoing

DECLINED_BY_STAFF: Final = "declined_by_staff"
DEPOSIT_ORPHANED: Final = "deposit_orphaned"
NOT_FASTER: Final = END_STATES | {State.CONFIRMING, State.CANCELLING}
"""States in which a faster class changes nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Who decides, when, and by which policy."""

    staff: Staff
    policy: Policy
    ids: Ids
    at: datetime


async def approve(uow: Uow, row: WithdrawalRow, desk: Desk) -> WithdrawalRow:
    """One person's consent; with the last one that is missing it goes on.

    Raises DecisionRefused, and MaybeSigned for a row that the signer was asked for.
    """
    _refuse_signed(row)
    if row.deposit_id is not None and (
        row.state == State.PENDING_APPROVAL or row.code == DEPOSIT_ORPHANED
    ):
        raise DecisionRefused("sign_the_refund", "People agree to it by the refund itself.")
    await _check_approvable(uow, row, desk)
    await approvals.sign(uow, row, Action.APPROVE, desk.staff, ids=desk.ids, at=desk.at)
    still, _ = await approvals.missing(uow, row)
    if still:
        return row
    if not row.is_reserved:  # held while it waited for clearing
        trigger, code = Trigger.RESUME_WAITING, CLEARING
    else:
        trigger, code = Trigger.APPROVE, None
    return await withdrawals.move(
        uow, row, trigger, ids=desk.ids, at=desk.at, changes={"code": code}
    )


async def decline(uow: Uow, row: WithdrawalRow, desk: Desk) -> WithdrawalRow:
    """End what nothing was signed for; its hold is released. Twice is once.

    Raises TooLate, and MaybeSigned for a row that the signer was asked for.
    """
    if row.state == State.DECLINED:
        return row
    if row.state == State.ON_HOLD:
        _refuse_signed(row)
    await approvals.sign(uow, row, Action.DECLINE, desk.staff, ids=desk.ids, at=desk.at)
    return await withdrawals.give_up(
        uow, row, Trigger.DECLINE, ids=desk.ids, at=desk.at, code=DECLINED_BY_STAFF
    )


async def expedite(uow: Uow, row: WithdrawalRow, desk: Desk) -> WithdrawalRow:
    """Put it on the urgent class: its promise counts from now, and never gets later.

    No transition: the state stays; who asked for it stays with it. Raises TooLate.
    """
    if row.state in NOT_FASTER:
        raise TooLate(row.state)
    await approvals.sign(uow, row, Action.EXPEDITE, desk.staff, ids=desk.ids, at=desk.at)
    if row.fee_class == "urgent":
        return row
    seconds = desk.policy.classes["urgent"].promise_seconds
    promise_at = min(row.promise_at, desk.at + timedelta(seconds=seconds))
    await store.expedite(uow, row.id, promise_at=promise_at)
    return replace(row, fee_class="urgent", promise_at=promise_at)


async def sign_about_dead(
    uow: Uow, row: WithdrawalRow, action: Action, dead_txids: Sequence[str], desk: Desk
) -> bool:
    """One person's word that every txid of it is dead; True with the second: payouts act on it.

    `dead_txids` must be exactly what was ever signed for it. Raises DecisionRefused.
    """
    if row.deposit_id is not None and action is Action.REISSUE:
        raise DecisionRefused("not_of_a_refund", "The signer sends a deposit back once.")
    if row.state != State.ON_HOLD or row.txid is None:
        raise DecisionRefused("wrong_state", f"Nothing of it is dead: it is {row.state}.")
    signed = await signed_txids(uow, row.id)
    if list(dead_txids) != sorted(signed):
        raise DecisionRefused(
            "other_txids",
            f"Name exactly the txids that were signed for it, sorted: {' '.join(sorted(signed))}",
        )
    people = await approvals.sign(
        uow, row, action, desk.staff, txids=dead_txids, ids=desk.ids, at=desk.at
    )
    return len(people) >= TWO_PEOPLE


async def sign_abort(uow: Uow, row: WithdrawalRow, txid: str, desk: Desk) -> bool:
    """One person's word that it shall not be paid; True with the second: payouts try to replace it.

    Raises DecisionRefused: it is not on its way, rides with others, or has another txid.
    """
    if row.deposit_id is not None:
        raise DecisionRefused("not_of_a_refund", "A refund that was signed is not aborted.")
    if row.state not in ON_CHAIN or row.attempt_id is None:
        raise DecisionRefused("wrong_state", f"It cannot be aborted: it is {row.state}.")
    if row.txid != txid:
        raise DecisionRefused("other_txid", f"Its transaction is {row.txid}.")
    if await store.member_count(uow, row.attempt_id) != 1:
        raise DecisionRefused("batched", "A transaction that pays others too is never aborted.")
    people = await approvals.sign(
        uow, row, Action.ABORT, desk.staff, txids=[txid], ids=desk.ids, at=desk.at
    )
    return len(people) >= TWO_PEOPLE


async def signed_txids(uow: Uow, withdrawal_id: UUID) -> frozenset[str]:
    """Every txid that was ever signed for a withdrawal."""
    found = [await outgoing.get(uow, item) for item in await store.attempts_of(uow, withdrawal_id)]
    return frozenset(tx.txid for tx in found if tx is not None and tx.txid is not None)


def _refuse_signed(row: WithdrawalRow) -> None:
    if row.sign_requested_at is not None or row.txid is not None:
        raise MaybeSigned(f"{row.id}: the signer was asked for it")


async def _check_approvable(uow: Uow, row: WithdrawalRow, desk: Desk) -> None:
    if row.state not in (State.PENDING_APPROVAL, State.ON_HOLD):
        raise DecisionRefused("wrong_state", f"There is nothing to approve: it is {row.state}.")
    limit = timedelta(seconds=desk.policy.limits.pending_approval_seconds)
    is_late = row.state == State.PENDING_APPROVAL and row.state_at + limit <= desk.at
    if is_late or row.valid_until <= desk.at:
        raise DecisionRefused("expired", "Its time has passed; it ends by itself.")
    if row.code == DEPOSIT_ORPHANED and await deposit_commands.orphaned_anew(
        uow, brand=row.brand, player_id=row.player_id, known=row.orphaned_known
    ):
        raise DecisionRefused("deposit_orphaned", "A deposit of the player is not back yet.")
