"""How an order becomes a withdrawal: the rules that it meets, in one unit of work.

Owns acceptance only: the player's lock, the row with its signed bytes, and the first answer of the
rules. Every change of state after that is `payouts.withdrawals`'s. It never commits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from config.database import Conflict, Uow
from config.ids import Ids
from config.limit_policy import Judgement
from gateway import withdrawals_store as store
from gateway.errors import RequestMismatch
from gateway.payouts import limits, void_store
from gateway.payouts.limits import Asking, LimitTerms
from gateway.payouts.network_fee import NetworkFee
from gateway.payouts.withdrawals import (
    CLEARING,
    WITHDRAWALS,
    State,
    Trigger,
    event_of,
    hold_request,
    withdrawal_snapshot,
)
from gateway.withdrawals_store import NewWithdrawal, WithdrawalRow
from ledger import accounts, balances, holds, outbox
from ledger.outbox import Event
from signer.protocol import Authorisation
from watchers import deposit_commands
from watchers.deposit_commands import Locked

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
    balance_mode: BalanceMode,
    terms: LimitTerms,
    ids: Ids,
    at: datetime,
) -> WithdrawalRow:
    """`accept_many` of one, with the player's lock. Waits for whoever holds that.

    Raises RequestMismatch when its (brand, request_id) stands already, before anything is written:
    the caller compares the stored body.
    """
    await balances.lock_player(uow, brand=order.brand, player_id=order.player_id)
    if await store.by_request_id(uow, brand=order.brand, request_id=order.request_id) is not None:
        raise RequestMismatch(order.request_id)
    [row] = await accept_many(uow, [order], balance_mode=balance_mode, terms=terms, ids=ids, at=at)
    return row


async def accept_many(
    uow: Uow,
    orders: Sequence[Order],
    *,
    balance_mode: BalanceMode,
    terms: LimitTerms,
    ids: Ids,
    at: datetime,
) -> list[WithdrawalRow]:
    """Store orders of one brand and take each as far as the rules let it, one after the other, in
    the caller's unit of work; the caller holds their players' locks.

    Each ends in `rejected`, `waiting_liquidity`, `pending_approval` or `queued`, with one event
    per state. The number of statements does not depend on that of the orders. Raises Conflict when
    a (brand, request_id) was stored meanwhile: then the unit of work begins anew.
    """
    [brand] = {order.brand for order in orders}
    players = {order.player_id for order in orders}
    unfinished = await deposit_commands.unfinished_by_player(uow, brand=brand, players=players)
    received = [
        _received(
            order,
            withdrawal_id=ids.new_id(),
            orphaned_known=unfinished[order.player_id].lost,
            at=at,
        )
        for order in orders
    ]
    refusals = [
        _refusal(order, unfinished[order.player_id].locked, balance_mode=balance_mode)
        for order in orders
    ]
    asked = [
        _asking(order, row.id)
        for order, row, code in zip(orders, received, refusals, strict=True)
        if code is None
    ]
    judged = await limits.take_many(uow, asked, terms=terms, at=at)
    judgements = dict(zip((asking.withdrawal_id for asking in asked), judged, strict=True))
    judgements |= {
        row.id: Judgement(is_rejected=True, code=code)
        for row, code in zip(received, refusals, strict=True)
        if code is not None
    }
    passed = [row for row in received if not judgements[row.id].is_rejected]
    placed = await holds.place_many(uow, [hold_request(row) for row in passed], at=at)
    is_placed = dict(zip((row.id for row in passed), placed, strict=True))
    told: list[Event] = []
    rows = [
        walked(row, _steps(judgements[row.id], is_placed.get(row.id)), told, ids=ids)
        for row in received
    ]
    await _store(uow, orders, rows, at=at)
    await outbox.append_many(uow, told, at=at)
    return rows


Steps = Sequence[tuple[Trigger, Mapping[str, Any]]]
"""Transitions in their order, each with the further columns that change."""


def _steps(judgement: Judgement, is_placed: bool | None) -> Steps:
    """What acceptance comes to, from `received` on."""
    if judgement.is_rejected:
        return ((Trigger.REFUSE, {"code": judgement.code}),)
    if not is_placed:
        return ((Trigger.CLEARING_SHORT, {"code": CLEARING}),)
    onward = Trigger.ASK_APPROVAL if judgement.approvals else Trigger.ENQUEUE
    code = judgement.code if judgement.approvals else None
    return ((Trigger.RESERVE, {"is_reserved": True}), (onward, {"code": code}))


def walked(row: WithdrawalRow, steps: Steps, told: list[Event], *, ids: Ids) -> WithdrawalRow:
    """The row at the end of its steps; the event of each state, the first one's too."""
    shown, previous = withdrawal_snapshot(row), None
    columns: dict[str, Any] = {}
    for trigger, changes in ((None, {}), *steps):
        if trigger is not None:
            previous = shown["state"]
            state = WITHDRAWALS.next(State(previous), trigger).value
            columns |= {"state": state, "version": shown["version"] + 1, **changes}
            shown |= {name: value for name, value in columns.items() if name in shown}
        event_type = f"withdrawal.{shown['state']}"
        told.append(
            event_of(row, previous=previous, event_type=event_type, ids=ids, shown=dict(shown))
        )
    return replace(row, **columns)


async def _store(
    uow: Uow, orders: Sequence[Order], rows: Sequence[WithdrawalRow], *, at: datetime
) -> None:
    """The rows where their acceptance ends, once: the database writes the way there into their
    history. Behind every lock that acceptance takes, so that who waits for a request_id here is
    waited for by nobody."""
    new = [
        NewWithdrawal(row=row, key_id=order.key_id, signed=order.signed, batch_id=order.batch_id)
        for order, row in zip(orders, rows, strict=True)
    ]
    if await store.insert_many(uow, new) != len(new):
        raise Conflict
    refused = [row for row in rows if row.state == State.REJECTED]
    if refused:
        await void_store.add(uow, *refused, at=at)  # the signer must never pay them (S25)


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
    locked = await deposit_commands.locked_by_asset(
        uow, brand=order.brand, player_id=order.player_id
    )
    refusal = _refusal(order, locked, balance_mode=balance_mode)
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


def _refusal(
    order: Order, locked: Mapping[str, Locked], *, balance_mode: BalanceMode
) -> str | None:
    """The code of the rule that says no, by what is locked of the player (CONTRACT 1), or None."""
    if order.amount_minor < order.minimum_minor:
        return BELOW_MINIMUM
    charge = order.charge
    if charge is not None and charge.refusal is not None:
        return charge.refusal
    if charge is not None and order.amount_minor - (charge.fee_minor or 0) < order.minimum_minor:
        return BELOW_MINIMUM_AFTER_FEE
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
