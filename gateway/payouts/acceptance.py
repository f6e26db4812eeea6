"""How an order becomes a withdrawal: the rules that it meets, in one unit of work.

Owns acceptance only: the player's lock, the row with its signed bytes, and the first answer of the
rules. Every change of state after that is `payouts.withdrawals`'s. It never commits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from config.limit_policy import Judgement
from gateway import withdrawals_store as store
from gateway.errors import RequestMismatch
from gateway.payouts import limits
from gateway.payouts.limits import Asking, LimitTerms
from gateway.payouts.network_fee import NetworkFee
from gateway.payouts.withdrawals import CLEARING, State, Trigger, event_of, move, reserve
from gateway.withdrawals_store import WithdrawalRow
from ledger import accounts, balances, outbox
from signer.protocol import Authorisation
from watchers import deposit_commands

BELOW_MINIMUM = "below_minimum"  # codes of a rejected order
BELOW_MINIMUM_AFTER_FEE = "below_minimum_after_fee"
FEE_ABOVE_MAX = "fee_above_max_fee"
NOT_FINAL = "not_final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The player's part of the network fee, in minor units of the asset (`fee_mode: player`).

    `fee_minor` is None where it cannot be told; then `refusal` says by code why.
    """

    max_minor: int
    fee_minor: int | None
    refusal: str | None

    @classmethod
    def of(cls, fee: NetworkFee, *, max_minor: int) -> "Charge":
        """The whole estimate, or nothing: the house never pays what the player's maximum lacks."""
        if fee.asset_minor is None:
            return cls(max_minor=max_minor, fee_minor=None, refusal=fee.problem)
        if fee.asset_minor > max_minor:
            return cls(max_minor=max_minor, fee_minor=None, refusal=FEE_ABOVE_MAX)
        return cls(max_minor=max_minor, fee_minor=fee.asset_minor, refusal=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A valid request: parsed, of a known asset and to a parsed address. Minor units of `asset`.

    `signed` is the client's HTTP request as received, `key_id` the key that signed it. `charge` is
    what the player pays of it; None where the brand does.
    """

    brand: str
    request_id: str
    player_id: str
    network: str
    asset: str
    address: str
    address_key: str
    amount_minor: int
    pam_balance_minor: int
    minimum_minor: int
    fee_class: str
    metadata: Mapping[str, Any]
    valid_until: datetime
    promise_at: datetime
    key_id: str
    signed: Authorisation
    charge: Charge | None = None
    batch_id: UUID | None = None
    """Where the signed body is kept when it is that of a batch."""


class BalanceMode(StrEnum):
    """How a brand's players hold their money (CONTRACT 1, lock rule)."""

    SHARED = "shared"
    """One balance behind all assets: unfinished value in any other asset refuses."""
    PER_ASSET = "per_asset"
    """Each asset stands alone."""


async def accept(
    uow: Uow,
    order: Order,
    *,
    withdrawal_id: UUID,
    balance_mode: BalanceMode,
    terms: LimitTerms,
    ids: Ids,
    at: datetime,
) -> WithdrawalRow:
    """Store a request and take it as far as the rules let it, in the caller's unit of work.

    Ends in `rejected`, `waiting_liquidity`, `pending_approval` or `queued`, with one event per
    state. Raises RequestMismatch when (brand, request_id) stands already: the caller
    compares the stored body.
    """
    await balances.lock_player(uow, brand=order.brand, player_id=order.player_id)
    known = await deposit_commands.lost(uow, brand=order.brand, player_id=order.player_id)
    row = _received(order, withdrawal_id=withdrawal_id, orphaned_known=known, at=at)
    if not await store.insert(
        uow, row, key_id=order.key_id, signed=order.signed, batch_id=order.batch_id
    ):
        raise RequestMismatch(order.request_id)
    told = [event_of(row, previous=None, event_type="withdrawal.received", ids=ids)]
    code = await _refusal(uow, order, balance_mode=balance_mode)
    judged = Judgement()
    if code is None:
        judged = await limits.take(uow, _asking(order, row.id), terms=terms, at=at)
        code = judged.code if judged.is_rejected else None
    if code is not None:
        changes = {"code": code}
        row = await move(uow, row, Trigger.REFUSE, ids=ids, at=at, changes=changes, told=told)
    else:
        row = await reserve(uow, row, ids=ids, at=at, is_free=judged.approvals == 0, told=told)
    await outbox.append_many(uow, told, at=at)
    return row


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Where an order would stand after its acceptance."""

    state: State
    code: str | None


async def foresee(
    uow: Uow, order: Order, *, balance_mode: BalanceMode, terms: LimitTerms, at: datetime
) -> Verdict:
    """What `accept` would come to now (W7). It reads only: nothing is stored, nobody waits for it,
    and a moment later it may be different."""
    refusal = await _refusal(uow, order, balance_mode=balance_mode)
    if refusal is not None:
        return Verdict(state=State.REJECTED, code=refusal)
    judged = await limits.ask(uow, _asking(order, UUID(int=0)), terms=terms, at=at)
    if judged.is_rejected:
        return Verdict(state=State.REJECTED, code=judged.code)
    free = await balances.balance(uow, accounts.clearing(order.brand, order.asset))
    if free < order.amount_minor:
        return Verdict(state=State.WAITING_LIQUIDITY, code=CLEARING)
    if judged.approvals:
        return Verdict(state=State.PENDING_APPROVAL, code=judged.code)
    return Verdict(state=State.QUEUED, code=None)


async def _refusal(uow: Uow, order: Order, *, balance_mode: BalanceMode) -> str | None:
    """The code of the rule that says no, under the player's lock (CONTRACT 1), or None."""
    if order.amount_minor < order.minimum_minor:
        return BELOW_MINIMUM
    charge = order.charge
    if charge is not None and charge.refusal is not None:
        return charge.refusal
    if charge is not None and order.amount_minor - (charge.fee_minor or 0) < order.minimum_minor:
        return BELOW_MINIMUM_AFTER_FEE
    locked = await deposit_commands.locked_by_asset(
        uow, brand=order.brand, player_id=order.player_id
    )
    for asset, value in locked.items():
        unfinished = value.provisional + value.orphaned
        if asset == order.asset:
            if unfinished > order.pam_balance_minor:
                return NOT_FINAL
        elif unfinished > 0 and balance_mode is BalanceMode.SHARED:
            return NOT_FINAL
    return None


def _asking(order: Order, withdrawal_id: UUID) -> Asking:
    return Asking(
        withdrawal_id=withdrawal_id,
        brand=order.brand,
        player_id=order.player_id,
        asset=order.asset,
        amount_minor=order.amount_minor,
    )


def _received(
    order: Order, *, withdrawal_id: UUID, orphaned_known: tuple[UUID, ...], at: datetime
) -> WithdrawalRow:
    charge = order.charge
    return WithdrawalRow(
        id=withdrawal_id,
        brand=order.brand,
        request_id=order.request_id,
        kind="withdrawal",
        player_id=order.player_id,
        network=order.network,
        asset=order.asset,
        address=order.address,
        address_key=order.address_key,
        amount_minor=order.amount_minor,
        pam_balance_minor=order.pam_balance_minor,
        fee_class=order.fee_class,
        fee_mode="brand" if charge is None else "player",
        metadata=order.metadata,
        state=State.RECEIVED.value,
        code=None,
        is_reserved=False,
        version=1,
        attempt_id=None,
        txid=None,
        valid_until=order.valid_until,
        promise_at=order.promise_at,
        sign_requested_at=None,
        accepted_at=at,
        state_at=at,
        orphaned_known=orphaned_known,
        max_fee_minor=None if charge is None else charge.max_minor,
        fee_charged_minor=None if charge is None else charge.fee_minor,
    )
