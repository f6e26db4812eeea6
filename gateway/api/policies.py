"""`/v1/policies/confirmations` and `PUT /v1/players/{player_id}/flags`: how much waits how long.

A new version takes two people; it is stored beside the old ones and moves nothing that is booked.
A brand's key sees the rules that may concern it.
"""

from collections.abc import Mapping
from typing import Any

from config.credit_policy import parse_policy
from config.policy_versions import PolicyVersion
from config.registry import Registry
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.players import check_player
from gateway.api.versioned_policy import ROLES, WRITE, VersionedPolicy
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
from watchers import player_flags, policies

READ = WRITE | {"deposits:read"}


def _brands_of(content: Mapping[str, Any], registry: Registry) -> set[str | None]:
    found = parse_policy(
        content,
        version=0,
        assets=registry.assets,
        reference=registry.policy.reference,
        is_strict=True,
    )
    return {rule.brand for rule in found.rules} | {cap.brand for cap in found.caps}


POLICY = VersionedPolicy(
    kind="policy", subject="confirmations", versions=policies.VERSIONS, brands_of=_brands_of
)


@endpoint(
    "GET",
    "/v1/policies/confirmations",
    "Confirmation tiers and exposure caps in force.",
    answers=ConfirmationsOut,
    scopes=READ,
)
async def get_confirmations(call: Call) -> ConfirmationsOut:
    """The newest version; a brand's key sees its own rules and those for everybody."""
    return _wire(call, await POLICY.versions.latest(call.uow))


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
    body: ConfirmationsIn = call.body
    content = body.model_dump(include={"tiers", "caps"}, exclude_none=True)
    outcome = await POLICY.replace(
        call, content, base_version=body.base_version, reason=body.reason
    )
    answer = ConfirmationsAnswer(
        policy=_wire(call, outcome.version), approval=outcome.approval(call)
    )
    return Answer(body=answer, status=outcome.status)


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
