"""Refunds: what two people of compliance sign, and the withdrawal that comes of it (CONTRACT 4, 8).

Owns the rules of people, as set-ups have them: a person and not a machine, two of them over the
very same words, one refund of a deposit. The first one sets the value aside (`pending_approval`),
the second one lets it go (`queued`). The raw requests are kept: the signer believes only them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from config.policy import Policy
from gateway import withdrawals_store
from gateway.payouts import approvals, withdrawals
from gateway.payouts import refunds_store as store
from gateway.payouts.acceptance import Steps, walked
from gateway.payouts.approvals import Staff
from gateway.payouts.errors import DecisionRefused
from gateway.payouts.refund_deposits import KIND
from gateway.payouts.withdrawals import State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger import holds, outbox
from ledger.holds import HoldSource
from ledger.outbox import Event
from watchers import deposit_refunds
from watchers.deposit_commands import DepositRow
from watchers.errors import DepositStays

FEE_CLASS: Final = "normal"
AWAITED: Final = "refund_approval"
"""Code of a refund that another person must sign."""

ASKED: Final[Steps] = (
    (Trigger.RESERVE, {"is_reserved": True}),
    (Trigger.ASK_APPROVAL, {"code": AWAITED}),
)
"""How far the first person takes it, from `received` on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a person signed, understood. `address_key` is what the address means to its chain."""

    deposit_id: UUID
    asset: str
    address: str
    address_key: str
    amount_minor: int
    valid_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Who signs, when, and by which policy. `is_operator`: the person is of no single brand."""

    staff: Staff
    is_operator: bool
    policy: Policy
    ids: Ids
    at: datetime


async def propose_or_agree(
    uow: Uow, words: Words, deposit: DepositRow, desk: Desk
) -> WithdrawalRow:
    """The refund as it stands after this person's signature: `pending_approval` after the first
    one, `queued` with the second. The same person again changes nothing.

    The caller locked the deposit and said who acts. Raises DecisionRefused, DepositStays.
    """
    standing = await withdrawals_store.refund_of(uow, deposit.id)
    if standing is None:
        return await _propose(uow, words, deposit, desk)
    row = await withdrawals_store.get(uow, standing.id, lock=True)
    if row is None or words_of(row) != words:
        raise DecisionRefused(
            "other_content", "Another refund of this deposit stands; decline that first."
        )
    signed = await store.requests(uow, row.id)
    limit = timedelta(seconds=desk.policy.limits.pending_approval_seconds)
    is_late = row.state_at + limit <= desk.at or row.valid_until <= desk.at
    if not approvals.is_further(
        signed,
        desk.staff,
        state=row.state,
        is_open=row.state == State.PENDING_APPROVAL,
        expired="It ends by itself; then propose it again." if is_late else None,
    ):
        return row
    if not deposit_refunds.is_final(deposit):
        raise DepositStays("not_final", "Its block left the chain meanwhile.")
    await _keep(uow, row.id, desk)
    return await withdrawals.move(
        uow, row, Trigger.APPROVE, ids=desk.ids, at=desk.at, changes={"code": None}
    )


def words_of(row: WithdrawalRow) -> Words:
    """What people sign about it."""
    if row.deposit_id is None:
        raise ValueError(f"{row.id} is no refund")
    return Words(
        deposit_id=row.deposit_id,
        asset=row.asset,
        address=row.address,
        address_key=row.address_key,
        amount_minor=row.amount_minor,
        valid_until=row.valid_until,
    )


async def place(uow: Uow, row: WithdrawalRow, source: HoldSource, *, at: datetime) -> None:
    """Set its value aside, out of where the deposit's stands. Raises InsufficientFunds."""
    await holds.place_aside(uow, withdrawals.hold_request(row), source=source, at=at)


def received(
    words: Words, deposit: DepositRow, *, promise_seconds: int, ids: Ids, at: datetime
) -> WithdrawalRow:
    """A refund that is not stored yet."""
    return WithdrawalRow(
        id=ids.new_id(),
        brand=deposit.brand,
        request_id=f"refund:{ids.new_id()}",
        kind=KIND,
        player_id=deposit.player_id,
        network=deposit.network,
        asset=words.asset,
        address=words.address,
        address_key=words.address_key,
        amount_minor=words.amount_minor,
        pam_balance_minor=0,
        fee_class=FEE_CLASS,
        fee_mode="brand",
        metadata={},
        state=State.RECEIVED.value,
        code=None,
        is_reserved=False,
        version=1,
        attempt_id=None,
        txid=None,
        valid_until=words.valid_until,
        promise_at=at + timedelta(seconds=promise_seconds),
        sign_requested_at=None,
        accepted_at=at,
        state_at=at,
        deposit_id=deposit.id,
    )


async def _propose(uow: Uow, words: Words, deposit: DepositRow, desk: Desk) -> WithdrawalRow:
    source = deposit_refunds.source_of(deposit)
    if source is HoldSource.UNALLOCATED and not desk.is_operator:
        raise DecisionRefused("not_of_a_brand", "Its value is the house's: the operator decides.")
    promise = desk.policy.classes[FEE_CLASS].promise_seconds
    row = received(words, deposit, promise_seconds=promise, ids=desk.ids, at=desk.at)
    await deposit_refunds.begin(uow, deposit, ids=desk.ids, at=desk.at)
    await place(uow, row, source, at=desk.at)
    told: list[Event] = []
    row = walked(row, ASKED, told, ids=desk.ids)
    if not await withdrawals_store.insert_refund(uow, row):
        raise DecisionRefused("refund_open", "A refund of this deposit stands.")
    await outbox.append_many(uow, told, at=desk.at)
    await _keep(uow, row.id, desk)
    return row


async def _keep(uow: Uow, refund_id: UUID, desk: Desk) -> None:
    staff = desk.staff
    await store.add_request(
        uow, refund_id, person=staff.person, key_id=staff.key_id, signed=staff.signed, at=desk.at
    )
