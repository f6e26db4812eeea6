"""`/v1/policies/limits`: how much may leave a brand alone, and from where on people must agree.

A new version takes two people; it is stored beside the old ones, and what was judged keeps the
version that judged it. A brand's key sees the rules that may concern it.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from config.errors import ConfigError
from config.limit_policy import parse_limits
from gateway.api import two_people
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.two_people import Proposal, person_of
from gateway.api.wire_base import optional_time
from gateway.api.wire_staff import LimitRuleIn, LimitsAnswer, LimitsIn, LimitsOut
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, Forbidden, invalid_field
from gateway.payouts import limits
from gateway.payouts.limits import LimitVersion
from ledger import outbox

KIND = "limits"
ROLES = frozenset({"risk", "treasury", "admin"})
WRITE = frozenset({"policies:write"})
READ = WRITE | {"withdrawals:read", "withdrawals:write", "withdrawals:approve"}
OBJECT_ID = UUID(bytes=b"limits".ljust(16, b"\0"))  # of events; no meaning


@endpoint(
    "GET",
    "/v1/policies/limits",
    "Limits of withdrawals in force.",
    answers=LimitsOut,
    scopes=READ,
)
async def get_limits(call: Call) -> LimitsOut:
    """The newest version; a brand's key sees its own rules and those for everybody."""
    return _wire(call, await limits.latest(call.uow))


@endpoint(
    "PUT",
    "/v1/policies/limits",
    "Replace the limits; the same call by a second person puts them in force.",
    answers=LimitsAnswer,
    body=LimitsIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def put_limits(call: Call) -> Answer:
    """202 while it waits for the second person, 200 in force; 409 when the base has moved."""
    check_principal(call)
    body: LimitsIn = call.body
    content = body.model_dump(include={"limits"}, exclude_none=True)
    _check(call, content)
    found = await limits.latest_locked(call.uow)
    if found.version != body.base_version:
        if found.version == body.base_version + 1 and found.content == content:
            return _answer(call, found, None)  # the call that put it in force, again
        raise Conflict("version_moved", f"Version {found.version} is in force; start from it.")
    decision = await two_people.propose_or_agree(
        call,
        Proposal(
            kind=KIND,
            subject=KIND,
            subject_version=found.version,
            content={"policy": json.dumps(content, sort_keys=True)},
            reason=body.reason,
        ),
    )
    if decision.state != "done":
        return _answer(call, found, decision, status=202)
    return _answer(call, await _put(call, decision), decision)


async def approve(call: Call, row: ApprovalRow) -> ApprovalRow:
    """The second person's consent by `POST /v1/approvals/{id}`, checked before."""
    if (await limits.latest_locked(call.uow)).version != row.subject_version:
        raise Conflict("changed_meanwhile", "Another version is in force; propose it again.")
    decision = await two_people.agree(call, row)
    await _put(call, decision)
    return decision


def check_principal(call: Call) -> None:
    """The operator's policy: no person of one brand, and only who answers for risk."""
    if call.principal.brand is not None or not call.principal.roles & ROLES:
        raise Forbidden("missing_role", f"One of these roles: {', '.join(sorted(ROLES))}.")
    if not call.principal.scopes & WRITE:
        raise Forbidden("missing_scope", "The key needs policies:write.")


def _check(call: Call, content: Mapping[str, Any]) -> None:
    """What the model cannot know. Raises Invalid."""
    registry = call.services.registry
    try:
        found = parse_limits(
            content,
            version=0,
            assets=registry.assets,
            reference=registry.policy.reference,
            is_strict=True,
        )
    except ConfigError as error:
        field, _, detail = str(error).partition(": ")
        raise invalid_field(field, "invalid", f"{detail}.") from error
    named = {rule.brand for rule in found.rules if rule.brand is not None}
    unknown = sorted(named - set(registry.settings.brands))
    if unknown:
        raise invalid_field("brand", "unknown_brand", f"There is no brand {unknown[0]}.")


async def _put(call: Call, decision: ApprovalRow) -> LimitVersion:
    """Store the version that both agreed to, and tell the operator's stream."""
    content = json.loads(str(decision.content["policy"]))
    version = decision.subject_version + 1
    is_new = await limits.put(
        call.uow,
        version=version,
        content=content,
        proposed_by=decision.proposed_person,
        approved_by=person_of(call),
        at=call.at,
    )
    if not is_new:
        raise Conflict("changed_meanwhile", "Another version is in force; propose it again.")
    await outbox.append(
        call.uow,
        event_id=call.services.ids.new_id(),
        brand=None,
        type="policy.changed",
        object_kind="policy",
        object_id=OBJECT_ID,
        object_version=version,
        previous_state=None,
        snapshot={
            "id": KIND,
            "version": version,
            "brand": "operator",
            "content": content,
            "proposed_by": decision.proposed_person,
            "approved_by": person_of(call),
            "reason": decision.reason,
        },
        at=call.at,
    )
    return await limits.latest(call.uow)


def _answer(
    call: Call, found: LimitVersion, decision: ApprovalRow | None, *, status: int = 200
) -> Answer:
    body = LimitsAnswer(
        policy=_wire(call, found),
        approval=None if decision is None else two_people.wire(call, decision),
    )
    return Answer(body=body, status=status)


def _wire(call: Call, found: LimitVersion) -> LimitsOut:
    brand = call.principal.brand
    reference = call.services.registry.policy.reference
    theirs = [row for row in found.content["limits"] if brand in (None, row.get("brand", brand))]
    return LimitsOut(
        version=found.version,
        livemode=call.services.wire.livemode,
        currency=reference.currency,
        currency_decimals=reference.decimals,
        limits=[LimitRuleIn(**row) for row in theirs],
        proposed_by=found.proposed_by if brand is None else None,
        approved_by=found.approved_by if brand is None else None,
        created_at=optional_time(found.created_at),
    )
