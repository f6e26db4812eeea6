"""`/v1/approvals`: what waits for a second person, and that person's answer (CONTRACT 3, A31)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias
from uuid import UUID

from gateway.api import (
    adjustments,
    deposit_decisions,
    inflows,
    inflows_store,
    limit_policies,
    node_pardons,
    policies,
    rates,
    reconciliation_breaks,
    recoveries,
    sweep_policies,
    switches,
    two_people,
)
from gateway.api import (
    approvals_store as store,
)
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import NOT_CLIENTS, Call, Idempotency, endpoint
from gateway.api.wire_control import Approval, ApprovalIn
from gateway.api.wire_query import FilterQuery, Page, decode_cursor, limit_of, next_cursor
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, Forbidden, NotFound, invalid_field

Check: TypeAlias = Callable[[Call], None]
Approve: TypeAlias = Callable[[Call, ApprovalRow], Awaitable[ApprovalRow]]

ROLES = switches.ROLES | inflows.TREASURY
STATES = frozenset({"pending_approval", "done", "declined", "expired"})
DECIDED_BY: Mapping[str, tuple[Check, Approve]] = {
    switches.KIND: (switches.check_principal, switches.approve),
    limit_policies.POLICY.kind: (
        limit_policies.POLICY.check_principal,
        limit_policies.POLICY.approve,
    ),
    policies.POLICY.kind: (policies.POLICY.check_principal, policies.POLICY.approve),
    sweep_policies.POLICY.kind: (
        sweep_policies.POLICY.check_principal,
        sweep_policies.POLICY.approve,
    ),
    rates.KIND: (rates.check_principal, rates.approve),
    adjustments.KIND: (adjustments.check_principal, adjustments.approve),
    reconciliation_breaks.KIND: (
        reconciliation_breaks.check_principal,
        reconciliation_breaks.approve,
    ),
    node_pardons.KIND: (node_pardons.check_principal, node_pardons.approve),
    deposit_decisions.KIND: (deposit_decisions.check_principal, deposit_decisions.approve),
    recoveries.KIND: (recoveries.check_principal, recoveries.approve),
}
"""By kind: who may say yes or no, and what a yes does. Inflows are older and keep their own."""


@endpoint(
    "GET",
    "/v1/approvals",
    "Decisions that take two people, newest first; ?state=pending_approval are the open ones.",
    answers=Page[Approval],
    query=FilterQuery,
    scopes=switches.READ,
    kinds=NOT_CLIENTS,
)
async def list_approvals(call: Call) -> Page[Approval]:
    """A page, for the operator."""
    switches.check_operator(call)
    query: FilterQuery = call.query
    if query.state is not None and query.state not in STATES:
        raise invalid_field("state", "invalid", "This is not a state of approvals.")
    limit = limit_of(query.limit)
    rows = await store.find(
        call.uow, state=query.state, before=decode_cursor(query.cursor), limit=limit
    )
    cursor = next_cursor([row.id for row in rows], limit=limit)
    return Page[Approval](items=[two_people.wire(call, row) for row in rows], next_cursor=cursor)


@endpoint(
    "POST",
    "/v1/approvals/{id}",
    "Agree to what another person proposed, which does it, or decline it.",
    answers=Approval,
    body=ApprovalIn,
    scopes=switches.WRITE | deposit_decisions.WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES | deposit_decisions.ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def decide(call: Call) -> Approval:
    """409 for one that is decided, has expired, or no longer fits what it is about."""
    switches.check_operator(call)
    row = await store.get(call.uow, call.object_id("approval"))
    if row is None:
        raise NotFound
    if row.state != "pending_approval":
        raise Conflict("decided", f"This decision is {row.state}.")
    if two_people.is_expired(call, row):
        raise Conflict("expired", "The time to agree has passed; propose it again.")
    if row.kind != deposit_decisions.KIND:  # compliance is let in for its own kind alone
        two_people.check_operator(call, roles=ROLES, scopes=switches.WRITE)
    is_consent = call.body.decision == "approve"
    if row.kind == "inflow":
        if not is_consent:
            raise Conflict("not_declinable", "The assignment of an inflow cannot be declined yet.")
        return two_people.wire(call, await _approve_inflow(call, row))
    check_principal, approve = DECIDED_BY[row.kind]
    check_principal(call)
    return two_people.wire(call, await (approve if is_consent else two_people.decline)(call, row))


async def _approve_inflow(call: Call, row: ApprovalRow) -> ApprovalRow:
    if not call.principal.roles & inflows.TREASURY or "treasury:write" not in call.principal.scopes:
        raise Forbidden("missing_role", "The person needs a role of the treasury.")
    found = await inflows_store.lock(call.uow, inflow_id=UUID(row.subject))
    if found is None or found.state != "pending_approval":
        raise Conflict("decided", "This has been decided.")
    if found.proposed_person == two_people.person_of(call):
        raise Forbidden("same_person", "Another person than the one who proposed must agree.")
    await inflows.execute(call, found)
    decided = await store.get(call.uow, row.id)
    if decided is None:
        raise RuntimeError("a decision that was just taken is not there")
    return decided
