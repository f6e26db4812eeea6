"""`/v1/policies/sweep`: when deposits of account chains are swept, and how gas accounts are filled.

A new version takes two people; it is stored beside the old ones, and moves nothing by itself.
"""

from collections.abc import Mapping
from typing import Any

from config.policy_versions import PolicyVersion
from config.registry import Registry
from config.sweep_policy import parse_sweeps
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.versioned_policy import ROLES, WRITE, VersionedPolicy
from gateway.api.wire_base import optional_time
from gateway.api.wire_sweeps import (
    GasRuleIn,
    SweepPolicyAnswer,
    SweepPolicyIn,
    SweepPolicyOut,
    SweepRuleIn,
)
from gateway.auth import PrincipalKind
from gateway.payouts import sweeps

READ = WRITE | {"treasury:read", "treasury:write"}


def _check(content: Mapping[str, Any], registry: Registry) -> set[str | None]:
    parse_sweeps(content, version=0, assets=registry.assets, chains=registry.chains, is_strict=True)
    return set()  # deposit wallets are the operator's to empty, whichever brand's they are


POLICY = VersionedPolicy(kind="sweep", subject="sweep", versions=sweeps.VERSIONS, brands_of=_check)


@endpoint(
    "GET",
    "/v1/policies/sweep",
    "The sweep policy in force.",
    answers=SweepPolicyOut,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def get_sweep_policy(call: Call) -> SweepPolicyOut:
    """The newest version."""
    return _wire(call, await POLICY.versions.latest(call.uow))


@endpoint(
    "PUT",
    "/v1/policies/sweep",
    "Replace the sweep policy; the same call by a second person puts it in force.",
    answers=SweepPolicyAnswer,
    body=SweepPolicyIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def put_sweep_policy(call: Call) -> Answer:
    """202 while it waits for the second person, 200 in force; 409 when the base has moved."""
    body: SweepPolicyIn = call.body
    content = body.model_dump(include={"rules", "gas"}, exclude_none=True)
    outcome = await POLICY.replace(
        call, content, base_version=body.base_version, reason=body.reason
    )
    answer = SweepPolicyAnswer(policy=_wire(call, outcome.version), approval=outcome.approval(call))
    return Answer(body=answer, status=outcome.status)


def _wire(call: Call, found: PolicyVersion) -> SweepPolicyOut:
    return SweepPolicyOut(
        version=found.version,
        livemode=call.services.wire.livemode,
        rules=[SweepRuleIn(**row) for row in found.content["rules"]],
        gas=[GasRuleIn(**row) for row in found.content["gas"]],
        proposed_by=found.proposed_by,
        approved_by=found.approved_by,
        created_at=optional_time(found.created_at),
    )
