"""Withdrawals: order, read, list, cancel (CONTRACT 3 and 5).

`api.orders` turns the signed body into an `Order`. What is malformed is refused with 4xx and leaves
nothing; what a rule refuses becomes an object in state `rejected`.
"""

from collections.abc import Mapping
from typing import Any

from config.ids import Ids
from gateway import clients_store, withdrawals_store
from gateway.api import order_groups, orders, wire_objects
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.strict_json import parse_body
from gateway.api.timeline import timeline
from gateway.api.wire_objects import Withdrawal
from gateway.api.wire_query import (
    Page,
    WithdrawalQuery,
    decode_cursor,
    limit_of,
    moment_of,
    next_cursor,
)
from gateway.api.wire_resources import CancelIn, Timeline, WithdrawalIn
from gateway.auth import PrincipalKind
from gateway.errors import (
    Conflict,
    Invalid,
    NotFound,
    RequestMismatch,
    TooLate,
    Unavailable,
    invalid_field,
)
from gateway.idempotency import canonical_json
from gateway.payouts import acceptance, recovery_store, void_store, withdrawals
from gateway.payouts.acceptance import BalanceMode, Order
from gateway.payouts.limits import LimitTerms
from gateway.payouts.withdrawals import State, withdrawal_snapshot
from gateway.withdrawals_store import Filters, WithdrawalRow
from watchers import switches
from watchers.switches import Action

STOPPED_RETRY_SECONDS = 60  # people start again; nobody gains by asking more often
READ = frozenset({"withdrawals:read", "withdrawals:write"})
WRITE = frozenset({"withdrawals:write"})


@endpoint(
    "POST",
    "/v1/withdrawals",
    "Order a payout. The signed body itself is what the signer pays.",
    answers=Withdrawal,
    status=202,
    body=WithdrawalIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.CLIENT}),
    idempotency=Idempotency.REQUIRED,
    prepare=orders.destination,
    together=order_groups.join,
    is_order=True,
    is_routine=True,
)
async def create_withdrawal(call: Call) -> Answer:
    """One unit of work: keys, row, signed bytes, hold, events. Most go together with others."""
    await orders.refuse_house(call, call.body, call.prepared)
    return await place(call, await orders.read_order(call, call.body, call.prepared))


async def place(call: Call, order: Order) -> Answer:
    """Accept an order in the call's unit of work; the same request_id again is its object.

    `call.raw_body` is the order as it was sent.
    """
    mode = await clients_store.balance_mode(call.uow, order.brand)
    if mode is None:
        raise NotFound
    if await switches.is_stopped(
        call.uow, network=order.network, asset=order.asset, action=Action.ACCEPT
    ):
        return await _not_accepting(call, order)
    try:
        row = await acceptance.accept(
            call.uow,
            order,
            balance_mode=BalanceMode(mode),
            terms=LimitTerms.of(call.services.registry),
            ids=_ids(call),
            at=call.at,
        )
    except RequestMismatch:
        return await _first_answer(call, order)
    return Answer(body=_wire(call, row))


@endpoint(
    "GET",
    "/v1/withdrawals",
    "Withdrawals, newest first; with request_id the one that stands for it, or 404.",
    answers=Page[Withdrawal],
    alternative=Withdrawal,
    query=WithdrawalQuery,
    scopes=READ,
)
async def list_withdrawals(call: Call) -> Page[Withdrawal] | Withdrawal:
    """A page. `?request_id=` is a look-up: the withdrawal itself, or 404 (CONTRACT 1)."""
    query: WithdrawalQuery = call.query
    if query.request_id is not None:
        return await _by_request_id(call, query.request_id)
    limit = limit_of(query.limit)
    if query.state is not None and query.state not in set(State):
        raise invalid_field("state", "invalid", "This is not a state of withdrawals.")
    rows = await withdrawals_store.find(
        call.uow,
        brand=call.one_brand,
        filters=Filters(
            state=query.state,
            player_id=query.player_id,
            asset=query.asset,
            txid=query.txid,
            created_after=moment_of(query.created_after, field="created_after"),
        ),
        before=decode_cursor(query.cursor),
        limit=limit,
    )
    cursor = next_cursor([row.id for row in rows], limit=limit)
    return Page[Withdrawal](items=[_wire(call, row) for row in rows], next_cursor=cursor)


@endpoint("GET", "/v1/withdrawals/{id}", "One withdrawal.", answers=Withdrawal, scopes=READ)
async def get_withdrawal(call: Call) -> Withdrawal:
    """By id."""
    row = await withdrawals_store.get(call.uow, call.object_id("withdrawal"))
    if row is None:
        raise NotFound
    return _wire(call, row)


@endpoint(
    "GET",
    "/v1/withdrawals/{id}/timeline",
    "Every change of one withdrawal.",
    answers=Timeline,
    scopes=READ,
)
async def get_withdrawal_timeline(call: Call) -> Timeline:
    """Oldest first."""
    row = await withdrawals_store.get(call.uow, call.object_id("withdrawal"))
    if row is None:
        raise NotFound
    return await timeline(call, "withdrawal", row.id)


@endpoint(
    "POST",
    "/v1/withdrawals/{id}/cancel",
    "Give a withdrawal up; possible until signing is asked for.",
    answers=Withdrawal,
    body=CancelIn,
    scopes=WRITE,
    idempotency=Idempotency.OPTIONAL,
    is_routine=True,
)
async def cancel_withdrawal(call: Call) -> Withdrawal:
    """409 `too_late` afterwards; a cancelled one answers as it is.

    A client's signed cancel travels on to the signer, which never signs the order first then (S25).
    """
    withdrawal_id, body = call.object_id("withdrawal"), call.body
    try:
        row = await withdrawals.cancel(call.uow, withdrawal_id, ids=_ids(call), at=call.at)
    except TooLate as error:
        raise Conflict("too_late", f"It cannot be cancelled any more: {error}.") from error
    if row is None:
        raise NotFound
    if body.request_id not in (None, row.request_id):
        raise invalid_field("request_id", "mismatch", "This withdrawal has another request_id.")
    if call.principal.kind is PrincipalKind.CLIENT:
        await void_store.add_cancel(call.uow, withdrawal_id, call.caller.signed)
    return _wire(call, row)


async def _by_request_id(call: Call, request_id: str) -> Withdrawal:
    row = await withdrawals_store.by_request_id(
        call.uow, brand=call.require_brand(), request_id=request_id
    )
    if row is not None:
        return _wire(call, row)
    if not await recovery_store.are_whole(call.uow, call.services.registry.chains):
        # A 404 is the PAM's leave to credit back (CONTRACT 1); these books may have lost the row.
        raise Unavailable(
            "recovery",
            "The books are being compared with the signer's log, or recovered, and may lack this"
            " request. Nothing may be concluded from its absence: ask again later.",
            retry_after_seconds=STOPPED_RETRY_SECONDS,
        )
    raise NotFound


async def _first_answer(call: Call, order: Order) -> Answer:
    """The same request_id again: the object that stands, if the body is the same (A01)."""
    row = await withdrawals_store.by_request_id(
        call.uow, brand=order.brand, request_id=order.request_id
    )
    body = None if row is None else await withdrawals_store.request_body(call.uow, row.id)
    if row is None or body is None:
        raise RuntimeError("a withdrawal conflicted and is not there")
    if canonical_json(_ordered(body, order.request_id)) != canonical_json(call.raw_body):
        raise Invalid(
            "idempotency_mismatch", "This request_id stands for another withdrawal of the brand."
        )
    return Answer(body=_wire(call, row), is_replayed=True)


def _ordered(body: bytes, request_id: str) -> Mapping[str, Any]:
    """The order in a stored body: itself, or the item of a batch."""
    value = parse_body(body)
    items = value.get("items", [value])
    [found] = [item for item in items if item["request_id"] == request_id]
    return dict(found)


async def _not_accepting(call: Call, order: Order) -> Answer:
    """What stands is told also now. Anything new: nothing is stored, the request_id stays free."""
    stands = await withdrawals_store.by_request_id(
        call.uow, brand=order.brand, request_id=order.request_id
    )
    if stands is not None:
        return await _first_answer(call, order)
    raise _stopped(order)


async def refuse_stopped(call: Call, order: Order) -> None:
    """Raise Unavailable while new withdrawals of the asset are stopped."""
    if await switches.is_stopped(
        call.uow, network=order.network, asset=order.asset, action=Action.ACCEPT
    ):
        raise _stopped(order)


def _stopped(order: Order) -> Unavailable:
    return Unavailable(
        "accept_stopped",
        f"New withdrawals of {order.asset} are stopped. Nothing was stored: send it again later.",
        retry_after_seconds=STOPPED_RETRY_SECONDS,
    )


def _ids(call: Call) -> Ids:
    return call.services.ids


def _wire(call: Call, row: WithdrawalRow) -> Withdrawal:
    return wire_objects.withdrawal(withdrawal_snapshot(row), context=call.services.wire)
