"""`/v1/policies/limits`: how much may leave a brand alone, and from where on people must agree.

A new version takes two people; it is stored beside the old ones, and what was judged keeps the
version that judged it. A brand's key sees the rules that may concern it.
"""

from collections.abc import Mapping
from typing import Any

from config.limit_policy import parse_limits
from config.policy_versions import PolicyVersion
from config.registry import Registry
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.versioned_policy import ROLES, WRITE, VersionedPolicy
from gateway.api.wire_base import optional_time
from gateway.api.wire_staff import LimitRuleIn, LimitsAnswer, LimitsIn, LimitsOut
from gateway.auth import PrincipalKind
from gateway.payouts import limits

READ = WRITE | {"withdrawals:read", "withdrawals:write", "withdrawals:approve"}


def _brands_of(content: Mapping[str, Any], registry: Registry) -> set[str | None]:
    found = parse_limits(
        content,
        version=0,
        assets=registry.assets,
        reference=registry.policy.reference,
        is_strict=True,
    )
    return {rule.brand for rule in found.rules}


POLICY = VersionedPolicy(
    kind="limits", subject="limits", versions=limits.VERSIONS, brands_of=_brands_of
)


@endpoint(
    "GET",
    "/v1/policies/limits",
    "Limits of withdrawals in force.",
    answers=LimitsOut,
    scopes=READ,
)
async def get_limits(call: Call) -> LimitsOut:
    """The newest version; a brand's key sees its own rules and those for everybody."""
    return _wire(call, await POLICY.versions.latest(call.uow))


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
    body: LimitsIn = call.body
    content = body.model_dump(include={"limits"}, exclude_none=True)
    outcome = await POLICY.replace(
        call, content, base_version=body.base_version, reason=body.reason
    )
    answer = LimitsAnswer(policy=_wire(call, outcome.version), approval=outcome.approval(call))
    return Answer(body=answer, status=outcome.status)


def _wire(call: Call, found: PolicyVersion) -> LimitsOut:
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
