"""`/v1/switches`: one person stops at once, two people start again (CONTRACT 3 and 4).

Owns who may do it and what a start may allow besides: a reorg to a depth and a number of reversals
that the approvers name. What a stop means is `watchers/switches.py` and each step that asks it.
"""

from collections.abc import Mapping

from gateway.api import two_people
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.two_people import Proposal, person_of
from gateway.api.wire_base import rfc3339
from gateway.api.wire_control import SwitchAnswer, SwitchChange, SwitchIn, SwitchOut
from gateway.api.wire_query import Page, PageQuery, limit_of
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, Forbidden, invalid_field
from ledger.errors import AmountError
from ledger.money import format_amount, parse_amount
from watchers import reconciliations, switches
from watchers.switches import Action, GrantKind, Switch, Value

KIND = "switch"
ROLES = frozenset({"treasury", "risk", "admin"})
WRITE = frozenset({"treasury:write", "withdrawals:approve", "admin"})  # one of each of those roles
READ = WRITE | {"treasury:read", "audit:read"}


@endpoint(
    "GET",
    "/v1/switches",
    "Every switch that was ever used, and whether it stops something now.",
    answers=Page[SwitchOut],
    query=PageQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def list_switches(call: Call) -> Page[SwitchOut]:
    """They are few: one page."""
    check_operator(call)
    items = [_wire(call, switch) for switch in await switches.every(call.uow)]
    return Page[SwitchOut](items=items, next_cursor=None)


@endpoint(
    "GET",
    "/v1/switches/history",
    "The last changes of all switches, newest first.",
    answers=Page[SwitchChange],
    query=PageQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def list_changes(call: Call) -> Page[SwitchChange]:
    """At most `limit` of them."""
    check_operator(call)
    context = call.services.wire
    found = await switches.history(call.uow, limit=limit_of(call.query.limit))
    items = [
        SwitchChange(
            id=context.id(KIND, change.switch_id),
            version=change.version,
            scope=change.scope,
            action=change.action.value,
            state="stopped" if change.is_stopped else "running",
            reason=change.reason,
            changed_by=change.changed_by,
            approved_by=change.approved_by,
            changed_at=rfc3339(change.changed_at),
        )
        for change in found
    ]
    return Page[SwitchChange](items=items, next_cursor=None)


@endpoint(
    "POST",
    "/v1/switches",
    "Stop something at once, or start it again; the same call by a second person starts it.",
    answers=SwitchAnswer,
    body=SwitchIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def set_switch(call: Call) -> Answer:
    """200 when it is as asked; 202 while a start waits for the second person."""
    body: SwitchIn = call.body
    _check(call, body)
    if body.state == "stopped":
        return await _stop(call, body)
    await switches.hold(call.uow, scope=body.scope, action=Action(body.action))
    found = await switches.get(call.uow, scope=body.scope, action=Action(body.action))
    is_stopped = found is not None and found.is_stopped
    if not is_stopped and body.accept_reorg_depth is None and body.accept_reversals is None:
        raise Conflict("not_stopped", "This is not stopped. GET /v1/switches lists what is.")
    content = _content(call, body)
    decision = await two_people.propose_or_agree(
        call,
        Proposal(
            kind=KIND,
            subject=f"{body.scope}/{body.action}",
            subject_version=0 if found is None else found.version,
            content=content,
            reason=body.reason,
        ),
    )
    if decision.state != "done":
        return _answer(call, found, decision, status=202)
    return _answer(call, await _start(call, found, decision), decision)


async def approve(call: Call, row: ApprovalRow) -> ApprovalRow:
    """The second person's consent by `POST /v1/approvals/{id}`, checked before; starts it."""
    scope, action = str(row.content["scope"]), Action(str(row.content["action"]))
    await switches.hold(call.uow, scope=scope, action=action)
    found = await switches.get(call.uow, scope=scope, action=action)
    if (0 if found is None else found.version) != row.subject_version:
        raise Conflict("changed_meanwhile", "The switch has changed since; propose it again.")
    decision = await two_people.agree(call, row)
    await _start(call, found, decision)
    return decision


def check_operator(call: Call) -> None:
    """Control is the operator's: a person of one brand neither sees nor touches it."""
    if call.principal.brand is not None:
        raise Forbidden("operator_only", "This is the operator's, not a brand's.")


def check_principal(call: Call) -> None:
    """A switch moves money for everybody: the person needs one of its roles."""
    check_operator(call)
    if not call.principal.roles & ROLES:
        raise Forbidden("missing_role", f"One of these roles: {', '.join(sorted(ROLES))}.")


async def _stop(call: Call, body: SwitchIn) -> Answer:
    await switches.open_breaker(
        call.uow,
        scope=body.scope,
        action=Action(body.action),
        reason=body.reason,
        actor=person_of(call),
        ids=call.services.ids,
        at=call.at,
    )
    stopped = await switches.get(call.uow, scope=body.scope, action=Action(body.action))
    return _answer(call, stopped, None)


async def _start(call: Call, found: Switch | None, decision: ApprovalRow) -> Switch | None:
    """What both agreed to: the grants, and the switch if it stops something."""
    proposed_by, approved_by = decision.proposed_person, person_of(call)
    scope, action = str(decision.content["scope"]), Action(str(decision.content["action"]))
    if found is not None and found.is_stopped:
        await _check_breaks(call, scope, action)
        found = await switches.close_breaker(
            call.uow,
            scope=scope,
            action=action,
            version=decision.subject_version,
            reason=decision.reason or "",
            proposed_by=proposed_by,
            approved_by=approved_by,
            ids=call.services.ids,
            at=call.at,
        )
        if found is None:
            raise Conflict("changed_meanwhile", "The switch has changed since; propose it again.")
    value = decision.content.get("accept_reversals_value_minor")
    currency = call.services.registry.policy.reference.currency
    if value is not None and decision.content.get("currency") != currency:
        raise Conflict("other_currency", "The reference currency has changed; propose it again.")
    for kind, count in _grants(decision.content).items():
        is_valued = kind is GrantKind.REVERSALS and value is not None
        try:
            await switches.grant(
                call.uow,
                network=switches.network_of(scope),
                kind=kind,
                count=count,
                value=Value(minor=int(str(value)), currency=currency) if is_valued else None,
                proposed_by=proposed_by,
                approved_by=approved_by,
                ids=call.services.ids,
                at=call.at,
            )
        except ValueError as error:
            raise Conflict("not_followed", "Nobody follows this network yet.") from error
    return found


async def _check_breaks(call: Call, scope: str, action: Action) -> None:
    """What an open break stops starts once a comparison is clean, or two people explained it."""
    asset, registry = switches.asset_of(scope), call.services.registry
    chain = registry.chains.get(switches.network_of(scope))
    if asset is None or chain is None:
        return
    open_now = await reconciliations.blocking(
        call.uow,
        asset=asset,
        action=action,
        policy=registry.policy.breakers,
        family=chain.family,
    )
    if open_now:
        raise Conflict(
            "break_open",
            f"{open_now[0].kind.value} of {open_now[0].subject} stands. Book what it is and wait "
            "for the next comparison, or explain it: POST /v1/reconciliation_breaks/{id}/explain.",
        )


def _content(call: Call, body: SwitchIn) -> dict[str, str | int | None]:
    """What both must name alike; the value in minor units of a named currency, as the approver
    reads what it was proposed in. A value is added only where one is named."""
    content: dict[str, str | int | None] = body.model_dump(
        exclude={"reason", "state", "accept_reversals_value"}
    )
    if body.accept_reversals_value is None:
        return content
    if body.accept_reversals is None:
        raise invalid_field(
            "accept_reversals_value", "not_applicable", "Only with accept_reversals."
        )
    reference = call.services.registry.policy.reference
    try:
        minor = parse_amount(body.accept_reversals_value, decimals=reference.decimals)
    except AmountError as error:
        raise invalid_field("accept_reversals_value", "invalid", f"{error}.") from error
    shown = format_amount(minor, decimals=reference.decimals)
    return {
        **content,
        "accept_reversals_value": f"{shown} {reference.currency}",
        "accept_reversals_value_minor": str(minor),
        "currency": reference.currency,
    }


def _grants(content: Mapping[str, str | int | None]) -> dict[GrantKind, int]:
    named = {
        GrantKind.REORG: content["accept_reorg_depth"],
        GrantKind.REVERSALS: content["accept_reversals"],
    }
    return {kind: count for kind, count in named.items() if isinstance(count, int)}


def _check(call: Call, body: SwitchIn) -> None:
    """What the model cannot know. Raises Forbidden and Invalid."""
    check_principal(call)
    registry = call.services.registry
    network, asset = switches.network_of(body.scope), switches.asset_of(body.scope)
    is_known = network in registry.chains and (asset is None or asset in registry.assets)
    if body.state == "stopped" and not is_known:
        raise invalid_field("scope", "unknown_scope", "There is no such network or asset.")
    is_whole = asset is None and body.action == "all" and body.state == "running"
    for field in ("accept_reorg_depth", "accept_reversals", "accept_reversals_value"):
        if getattr(body, field) is not None and not is_whole:
            raise invalid_field(
                field, "not_applicable", "Only with the start (running) of all of one network."
            )


def _answer(
    call: Call, switch: Switch | None, decision: ApprovalRow | None, *, status: int = 200
) -> Answer:
    body = SwitchAnswer(
        switch=None if switch is None else _wire(call, switch),
        approval=None if decision is None else two_people.wire(call, decision),
    )
    return Answer(body=body, status=status)


def _wire(call: Call, switch: Switch) -> SwitchOut:
    context = call.services.wire
    return SwitchOut(
        id=context.id(KIND, switch.id),
        version=switch.version,
        brand="operator",
        livemode=context.livemode,
        scope=switch.scope,
        action=switch.action.value,
        state="stopped" if switch.is_stopped else "running",
        reason=switch.reason,
        causes=list(switch.causes),
        changed_by=switch.changed_by,
        approved_by=switch.approved_by,
        stopped_at=rfc3339(switch.stopped_at),
        changed_at=rfc3339(switch.changed_at),
    )
