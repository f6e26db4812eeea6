"""`/v1/policies/confirmations` and `PUT /v1/players/{player_id}/flags`: how much waits how long.

A new version takes two people; it is stored beside the old ones and moves nothing that is booked.
A brand's key sees the rules that may concern it.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from config.credit_policy import parse_policy
from config.errors import ConfigError
from gateway.api import two_people
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.players import check_player
from gateway.api.two_people import Proposal, person_of
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_policies import (
    CapRuleIn,
    ConfirmationsAnswer,
    ConfirmationsIn,
    ConfirmationsOut,
    PlayerFlagsIn,
    PlayerFlagsOut,
    TierRuleIn,
)
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, Forbidden, invalid_field
from ledger import outbox
from watchers import player_flags, policies
from watchers.policies import PolicyVersion

KIND = "policy"
SUBJECT = "confirmations"
ROLES = frozenset({"risk", "treasury", "admin"})
WRITE = frozenset({"policies:write"})
READ = WRITE | {"deposits:read"}
OBJECT_ID = UUID(bytes=b"confirmations".ljust(16, b"\0"))  # of events; no meaning


@endpoint(
    "GET",
    "/v1/policies/confirmations",
    "Confirmation tiers and exposure caps in force.",
    answers=ConfirmationsOut,
    scopes=READ,
)
async def get_confirmations(call: Call) -> ConfirmationsOut:
    """The newest version; a brand's key sees its own rules and those for everybody."""
    return _wire(call, await policies.latest(call.uow))


@endpoint(
    "PUT",
    "/v1/policies/confirmations",
    "Replace the policy; the same call by a second person puts it in force.",
    answers=ConfirmationsAnswer,
    body=ConfirmationsIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def put_confirmations(call: Call) -> Answer:
    """202 while it waits for the second person, 200 in force; 409 when the base has moved."""
    check_principal(call)
    body: ConfirmationsIn = call.body
    content = body.model_dump(include={"tiers", "caps"}, exclude_none=True)
    _check(call, content)
    found = await policies.latest_locked(call.uow)
    if found.version != body.base_version:
        if found.version == body.base_version + 1 and found.content == content:
            return _answer(call, found, None)  # the call that put it in force, again
        raise Conflict("version_moved", f"Version {found.version} is in force; start from it.")
    decision = await two_people.propose_or_agree(
        call,
        Proposal(
            kind=KIND,
            subject=SUBJECT,
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
    if (await policies.latest_locked(call.uow)).version != row.subject_version:
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


@endpoint(
    "PUT",
    "/v1/players/{player_id}/flags",
    "Replace what the casino says of a player.",
    answers=PlayerFlagsOut,
    body=PlayerFlagsIn,
    scopes=frozenset({"players:write"}),
    idempotency=Idempotency.OPTIONAL,
)
async def put_flags(call: Call) -> PlayerFlagsOut:
    """The group chooses the tiers of what this player pays from now on."""
    brand = call.require_brand()
    body: PlayerFlagsIn = call.body
    found = await player_flags.put(
        call.uow,
        brand=brand,
        player_id=check_player(call.path["player_id"]),
        kyc_level=body.kyc_level,
        group=body.group,
        country=body.country,
        blocked_reasons=body.blocked_reasons,
        changed_by=call.principal.person or call.principal.key_id,
        at=call.at,
    )
    return PlayerFlagsOut(
        id=found.player_id,
        version=found.version,
        brand=brand,
        livemode=call.services.wire.livemode,
        kyc_level=found.kyc_level,
        group=found.group,
        country=found.country,
        blocked_reasons=list(found.blocked_reasons),
        updated_at=rfc3339(found.changed_at),
    )


def _check(call: Call, content: Mapping[str, Any]) -> None:
    """What the model cannot know. Raises Invalid."""
    registry = call.services.registry
    try:
        found = parse_policy(
            content,
            version=0,
            assets=registry.assets,
            reference=registry.policy.reference,
            is_strict=True,
        )
    except ConfigError as error:
        field, _, detail = str(error).partition(": ")
        raise invalid_field(field, "invalid", f"{detail}.") from error
    named = {rule.brand for rule in found.rules} | {cap.brand for cap in found.caps}
    unknown = sorted(
        brand for brand in named if brand is not None and brand not in registry.settings.brands
    )
    if unknown:
        raise invalid_field("brand", "unknown_brand", f"There is no brand {unknown[0]}.")


async def _put(call: Call, decision: ApprovalRow) -> PolicyVersion:
    """Store the version that both agreed to, and tell the operator's stream."""
    content = json.loads(str(decision.content["policy"]))
    version = decision.subject_version + 1
    is_new = await policies.put(
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
            "id": SUBJECT,
            "version": version,
            "brand": "operator",
            "content": content,
            "proposed_by": decision.proposed_person,
            "approved_by": person_of(call),
            "reason": decision.reason,
        },
        at=call.at,
    )
    return await policies.latest(call.uow)


def _answer(
    call: Call, found: PolicyVersion, decision: ApprovalRow | None, *, status: int = 200
) -> Answer:
    body = ConfirmationsAnswer(
        policy=_wire(call, found),
        approval=None if decision is None else two_people.wire(call, decision),
    )
    return Answer(body=body, status=status)


def _wire(call: Call, found: PolicyVersion) -> ConfirmationsOut:
    brand = call.principal.brand
    reference = call.services.registry.policy.reference

    def is_theirs(row: Mapping[str, Any]) -> bool:
        return brand is None or row.get("brand") in (None, brand)

    return ConfirmationsOut(
        version=found.version,
        livemode=call.services.wire.livemode,
        currency=reference.currency,
        currency_decimals=reference.decimals,
        tiers=[TierRuleIn(**row) for row in found.content["tiers"] if is_theirs(row)],
        caps=[CapRuleIn(**row) for row in found.content["caps"] if is_theirs(row)],
        proposed_by=found.proposed_by if brand is None else None,
        approved_by=found.approved_by if brand is None else None,
        created_at=optional_time(found.created_at),
    )
