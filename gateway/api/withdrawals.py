"""Withdrawals: order, read, list, cancel (CONTRACT 3 and 5).

Turns a signed body into an `Order` of the lifecycle module. What is malformed is refused with 4xx
and leaves nothing; what a rule refuses becomes an object in state `rejected`.
"""

import re
from datetime import UTC, datetime, timedelta

from config.assets import AssetSpec
from config.ids import Ids
from gateway import clients_store, withdrawals_store
from gateway.api import wire_objects
from gateway.api.endpoint import Answer, Call, Idempotency, Services, endpoint
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
from gateway.payouts import acceptance, void_store, withdrawals
from gateway.payouts.acceptance import BalanceMode, Order
from gateway.payouts.limits import LimitTerms
from gateway.payouts.withdrawals import State, withdrawal_snapshot
from gateway.withdrawals_store import Filters, WithdrawalRow
from ledger.errors import AmountError
from ledger.money import parse_amount, parse_balance
from watchers import addresses, switches
from watchers.addresses import AddressRole
from watchers.chain import Destination
from watchers.errors import InvalidAddress
from watchers.switches import Action

STOPPED_RETRY_SECONDS = 60  # people start again; nobody gains by asking more often
READ = frozenset({"withdrawals:read", "withdrawals:write"})
WRITE = frozenset({"withdrawals:write"})
# The signer's grammar too: what it would refuse is refused here, before the PAM is told yes.
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|\+00:00)", re.ASCII
)


async def _destination(services: Services, body: WithdrawalIn) -> Destination:
    """The parsed address; own hot, change and gas addresses are no destinations (A20).

    Those belong to no brand, so that this looks with the view of all brands, before the call's
    own unit of work. Own addresses never stop being own.
    """
    asset = _asset(services, body.asset)
    try:
        found = services.codecs[asset.network].parse(body.address)
    except InvalidAddress as error:
        raise invalid_field(
            "address", "invalid_address", f"{error.reason}; {error.remedy}"
        ) from error
    contracts = {
        spec.contract.lower()
        for spec in services.registry.assets.values()
        if spec.network == asset.network and spec.contract is not None
    }
    if found.key.lower() in contracts:  # A18
        raise invalid_field("address", "invalid_address", "This is the contract of a token.")
    async with services.database.unit_of_work() as uow:
        own = await addresses.by_text(uow, network=asset.network, key=found.key)
    if own is not None and (own.role is not AddressRole.DEPOSIT or own.player_id is None):
        raise invalid_field("address", "own_address", "This address belongs to the gateway.")
    return found


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
    prepare=_destination,
    is_order=True,
)
async def create_withdrawal(call: Call) -> Answer:
    """One unit of work: keys, row, signed bytes, hold, events."""
    order = _order(call)
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
            withdrawal_id=call.services.ids.new_id(),
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
    if row is None:
        raise NotFound
    return _wire(call, row)


async def _first_answer(call: Call, order: Order) -> Answer:
    """The same request_id again: the object that stands, if the body is the same (A01)."""
    row = await withdrawals_store.by_request_id(
        call.uow, brand=order.brand, request_id=order.request_id
    )
    body = None if row is None else await withdrawals_store.request_body(call.uow, row.id)
    if row is None or body is None:
        raise RuntimeError("a withdrawal conflicted and is not there")
    if canonical_json(parse_body(body)) != canonical_json(call.raw_body):
        raise Invalid(
            "idempotency_mismatch", "This request_id stands for another withdrawal of the brand."
        )
    return Answer(body=_wire(call, row), is_replayed=True)


async def _not_accepting(call: Call, order: Order) -> Answer:
    """What stands is told also now. Anything new: nothing is stored, the request_id stays free."""
    stands = await withdrawals_store.by_request_id(
        call.uow, brand=order.brand, request_id=order.request_id
    )
    if stands is not None:
        return await _first_answer(call, order)
    raise Unavailable(
        "accept_stopped",
        f"New withdrawals of {order.asset} are stopped. Nothing was stored: send it again later.",
        retry_after_seconds=STOPPED_RETRY_SECONDS,
    )


def _order(call: Call) -> Order:
    body: WithdrawalIn = call.body
    services = call.services
    if body.fee_mode == "player" or body.max_fee is not None:
        raise invalid_field(
            "fee_mode", "not_supported", "Only fee_mode brand is served by this release."
        )
    asset = _asset(services, body.asset)
    destination: Destination = call.prepared
    return Order(
        brand=call.require_brand(),
        request_id=body.request_id,
        player_id=body.player_id,
        network=asset.network,
        asset=asset.id,
        address=destination.address,
        address_key=destination.key,
        amount_minor=_amount(body.amount, asset),
        pam_balance_minor=_balance(body.pam_balance, asset),
        minimum_minor=asset.minimum_withdrawal_minor,
        fee_class=body.fee_class,
        metadata=_metadata(body.metadata),
        valid_until=_valid_until(call, body.valid_until),
        promise_at=call.at
        + timedelta(seconds=services.registry.policy.classes[body.fee_class].promise_seconds),
        key_id=call.principal.key_id,
        signed=call.caller.signed,
    )


def _asset(services: Services, asset_id: str) -> AssetSpec:
    asset = services.registry.assets.get(asset_id)
    if asset is None:
        raise invalid_field("asset", "unknown_asset", "This asset is not served.")
    return asset


def _amount(text: str, asset: AssetSpec) -> int:
    try:
        return parse_amount(text, decimals=asset.decimals)
    except AmountError as error:
        raise invalid_field("amount", "invalid_amount", str(error)) from error


def _balance(text: str, asset: AssetSpec) -> int:
    """What is left after the debit: the one amount that may be zero."""
    try:
        return parse_balance(text, decimals=asset.decimals)
    except AmountError as error:
        raise invalid_field("pam_balance", "invalid_amount", str(error)) from error


def _valid_until(call: Call, text: str | None) -> datetime:
    """By default and at most so long after the signature's `created` (CONTRACT 3)."""
    limits = call.services.registry.policy.limits
    created = call.caller.created
    if text is None:
        return created + timedelta(seconds=limits.valid_until_default_seconds)
    try:
        moment = datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        raise invalid_field("valid_until", "invalid", "RFC 3339 in UTC is required.")
    moment = moment.astimezone(UTC)
    if moment <= call.at:
        raise invalid_field("valid_until", "passed", "This moment has passed.")
    if moment > created + timedelta(seconds=limits.valid_until_max_seconds):
        raise invalid_field("valid_until", "too_far", "At most 30 days after `created`.")
    return moment


def _metadata(value: dict[str, str] | None) -> dict[str, str]:
    for key, item in (value or {}).items():
        is_long = len(key) > 64 or len(item) > 512
        if is_long or "\x00" in key or "\x00" in item:
            raise invalid_field(
                "metadata", "invalid", "Keys up to 64, values up to 512 characters, no NUL."
            )
    return value or {}


def _ids(call: Call) -> Ids:
    return call.services.ids


def _wire(call: Call, row: WithdrawalRow) -> Withdrawal:
    return wire_objects.withdrawal(withdrawal_snapshot(row), context=call.services.wire)
