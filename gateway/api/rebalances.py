"""`/v1/rebalances`: moves between hot, warm and cold are planned, proposed, approved and declined.

`plan` moves nothing. Each approval is a person's signature over the whole move, which is kept: the
signer reads the same bytes (CONTRACT 8).
"""

from typing import Literal

from gateway.api import two_people, wire_rebalances
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.switches import check_operator
from gateway.api.wire_base import rfc3339
from gateway.api.wire_query import Page, decode_cursor, limit_of, moment_of, next_cursor
from gateway.api.wire_rebalances import (
    PlannedRebalance,
    RebalanceApproveIn,
    RebalanceDeclineIn,
    RebalanceDetail,
    RebalancePlan,
    RebalancePlanIn,
    RebalanceQuery,
)
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, NotFound, invalid_field
from gateway.payouts import rebalance_plan, rebalances, rebalances_store
from gateway.payouts.errors import DecisionRefused
from gateway.payouts.rebalance_plan import Need
from gateway.payouts.rebalances import Direction, Wish, Words
from gateway.payouts.rebalances_store import RebalanceRow
from ledger import accounts, balances
from ledger.errors import AmountError
from ledger.money import parse_amount
from watchers import addresses
from watchers.addresses import AddressRole, AddressRow
from watchers.errors import PoolEmpty

KIND = "rebalance"
ROLES = frozenset({"treasury", "admin"})
READ = frozenset({"treasury:read", "treasury:write", "admin"})
WRITE = frozenset({"treasury:write", "admin"})
STAFF = frozenset({PrincipalKind.STAFF})


@endpoint(
    "GET",
    "/v1/rebalances",
    "Moves between hot, warm and cold, newest first.",
    answers=Page[RebalanceDetail],
    query=RebalanceQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def list_rebalances(call: Call) -> Page[RebalanceDetail]:
    """A page."""
    check_operator(call)
    query: RebalanceQuery = call.query
    limit = limit_of(query.limit)
    rows = await rebalances_store.find(
        call.uow,
        limit=limit,
        before=decode_cursor(query.cursor),
        asset=query.asset,
        state=query.state,
        direction=query.direction,
    )
    return Page[RebalanceDetail](
        items=[await wire(call, row) for row in rows],
        next_cursor=next_cursor([row.id for row in rows], limit=limit),
    )


@endpoint(
    "GET",
    "/v1/rebalances/{id}",
    "One move.",
    answers=RebalanceDetail,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def get_rebalance(call: Call) -> RebalanceDetail:
    """By id."""
    check_operator(call)
    row = await rebalances_store.get(call.uow, call.object_id(KIND))
    if row is None:
        raise NotFound
    return await wire(call, row)


@endpoint(
    "POST",
    "/v1/rebalances/plan",
    "What would bring hot wallets back into their bands; with `propose` it becomes a request.",
    answers=RebalancePlan,
    body=RebalancePlanIn,
    scopes=READ,
    kinds=NOT_CLIENTS,
    idempotency=Idempotency.OPTIONAL,
)
async def plan_rebalances(call: Call) -> RebalancePlan:
    """Hot against its band by the books, less what payouts wait for; or one move that is given."""
    check_operator(call)
    body: RebalancePlanIn = call.body
    if body.propose:
        two_people.check_operator(call, roles=ROLES, scopes=WRITE)
        if body.reason is None:
            raise invalid_field("reason", "required", "A proposal says why.")
    found = await rebalance_plan.needs(call.uow, call.services.registry, at=call.at)
    if body.asset is not None:
        found = [await _given(call, body, found)]
    elif body.amount is not None or body.direction is not None:
        raise invalid_field("asset", "required", "An amount or a direction is that of an asset.")
    items = []
    for need in found:
        row = need.open
        if body.propose and (row is None or body.asset is not None):
            row = await _propose(call, need, reason=body.reason or need.reason)
        items.append(_planned(call, need, row))
    return RebalancePlan(created_at=rfc3339(call.at), items=items)


@endpoint(
    "POST",
    "/v1/rebalances/{id}/approve",
    "Sign a proposed move; above its limit another person signs the same.",
    answers=RebalanceDetail,
    body=RebalanceApproveIn,
    scopes=WRITE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.REQUIRED,
    is_order=True,
)
async def approve_rebalance(call: Call) -> Answer:
    """202 while another person must sign the same, 200 with the last one (S15)."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)
    row = await _locked(call)
    staff = two_people.staff_of(call)
    words = _words(call)
    try:
        row = await rebalances.approve(
            call.uow,
            row,
            words,
            staff,
            policy=call.services.registry.policy.rebalances[words.asset],
            ids=call.services.ids,
            at=call.at,
        )
    except DecisionRefused as error:
        raise two_people.refusal(error) from error
    status = 202 if row.state == rebalances.State.PROPOSED else 200
    return Answer(body=await wire(call, row), status=status)


@endpoint(
    "POST",
    "/v1/rebalances/{id}/decline",
    "Say no before anything is built.",
    answers=RebalanceDetail,
    body=RebalanceDeclineIn,
    scopes=WRITE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def decline_rebalance(call: Call) -> RebalanceDetail:
    """One person, at once; 409 `too_late` afterwards. With `dry_run` nothing changes."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)
    row, person = await _locked(call), two_people.person_of(call)
    try:
        if call.body.dry_run:
            rebalances.is_declinable(row)
            return await wire(call, row)
        row = await rebalances.decline(
            call.uow,
            row,
            person=person,
            reason=call.body.reason,
            ids=call.services.ids,
            at=call.at,
        )
    except DecisionRefused as error:
        raise two_people.refusal(error) from error
    return await wire(call, row)


async def wire(call: Call, row: RebalanceRow) -> RebalanceDetail:
    """The move as people see it."""
    signed = await rebalances_store.requests(call.uow, row.id)
    return wire_rebalances.detail(
        rebalances.snapshot(row),
        signed_by=[item.person for item in signed],
        context=call.services.wire,
    )


async def _locked(call: Call) -> RebalanceRow:
    row = await rebalances_store.get(call.uow, call.object_id(KIND), lock=True)
    if row is None:
        raise NotFound
    return row


def _words(call: Call) -> Words:
    """What the person signed, understood as the signer will. Raises Invalid."""
    body: RebalanceApproveIn = call.body
    if body.rebalance_id != call.path["id"]:
        raise invalid_field("rebalance_id", "other_id", "The path names another rebalance.")
    until = moment_of(body.valid_until, field="valid_until")
    if until is None:
        raise invalid_field("valid_until", "required", "A moment is required.")
    return Words(
        direction=Direction(body.direction),
        network=body.network,
        asset=body.asset,
        address=body.address,
        amount_minor=_amount_minor(call, body.asset, body.amount),
        valid_until=until,
    )


def _amount_minor(call: Call, asset_id: str, text: str) -> int:
    asset = call.services.registry.assets.get(asset_id)
    if asset is None:
        raise invalid_field("asset", "unknown_asset", "This asset is not configured.")
    try:
        return parse_amount(text, decimals=asset.decimals)
    except AmountError as error:
        raise invalid_field("amount", "invalid", str(error)) from error


async def _given(call: Call, body: RebalancePlanIn, found: list[Need]) -> Need:
    """The move that was named, or what the asset's band asks for. Raises Invalid, Conflict."""
    asset_id = body.asset or ""
    asset = call.services.registry.assets.get(asset_id)
    if asset is None:
        raise invalid_field("asset", "unknown_asset", "This asset is not configured.")
    need = next(
        (
            item
            for item in found
            if item.asset == asset_id and body.direction in (None, item.direction.value)
        ),
        None,
    )
    if body.amount is None:
        if need is None:
            raise Conflict("inside_band", "The band asks for nothing; give an amount.")
        return need
    if body.direction is None:
        raise invalid_field("direction", "required", "An amount has a direction.")
    amount = _amount_minor(call, asset_id, body.amount)
    if amount <= asset.dust_minor:
        raise invalid_field("amount", "too_small", "Less than the chain carries.")
    direction = Direction(body.direction)
    role = direction.partition("_to_")[0]
    held = await balances.balance(call.uow, accounts.custody(asset.network, role, asset_id))
    if held < amount:
        raise Conflict("not_enough", f"The {role} wallet does not hold that much.")
    return Need(
        network=asset.network,
        asset=asset_id,
        direction=direction,
        amount_minor=amount,
        reason=body.reason or "given",
        open=None,
    )


async def _propose(call: Call, need: Need, *, reason: str) -> RebalanceRow:
    uow, registry = call.uow, call.services.registry
    to = await _target(call, need)
    wish = Wish(
        network=need.network,
        asset=need.asset,
        direction=need.direction,
        amount_minor=need.amount_minor,
        address=to.address,
        address_key=to.key,
        reason=reason,
        forecast=None,
        requested_by=two_people.person_of(call),
    )
    row = await rebalances.propose(
        uow,
        wish,
        policy=registry.policy.rebalances[need.asset],
        ids=call.services.ids,
        at=call.at,
    )
    if row is None:  # only requests of the system exclude each other
        raise Conflict("proposed_meanwhile", "It was proposed in this moment; look again.")
    return row


async def _target(call: Call, need: Need) -> AddressRow:
    """Where it goes. Raises Conflict for a wallet that is not there."""
    role, network = rebalances.TARGETS[need.direction], need.network
    if "cold" in need.direction:
        cold = await rebalance_plan.cold_address(call.uow, call.services.registry, network)
        if cold is None:
            raise Conflict("no_cold_wallet", f"[cold.{network}] is not set, or not yet watched.")
        if role is AddressRole.COLD:
            return cold
    try:
        name: Literal["warm", "hot"] = "warm" if role is AddressRole.WARM else "hot"
        return await addresses.own_address(call.uow, network=network, role=name)
    except PoolEmpty as error:
        detail = "Its band is not set, or the signer has not verified its address yet."
        raise Conflict(f"no_{role}_address", detail) from error


def _planned(call: Call, need: Need, row: RebalanceRow | None) -> PlannedRebalance:
    """What would be moved; of an open request, what people are asked to sign."""
    context = call.services.wire
    amount_minor = need.amount_minor if row is None else row.amount_minor
    return PlannedRebalance.model_validate(
        {
            "asset": need.asset,
            "network": need.network,
            "direction": need.direction.value,
            "amount": context.amount(amount_minor, need.asset),
            "amount_minor": str(amount_minor),
            "reason": need.reason,
            "id": None if row is None else context.id(KIND, row.id),
            "state": None if row is None else row.state,
        }
    )
