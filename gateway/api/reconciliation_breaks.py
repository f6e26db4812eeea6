"""`/v1/reconciliation_breaks`: what differs now, and what two people know of it (L13).

A difference that stops payouts lets nobody start them while it stands, unless two people explained
it: then at exactly this amount it stops nothing any more. The explanation books nothing.
"""

from uuid import UUID

from gateway.api import switches, two_people
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.two_people import Proposal, person_of
from gateway.api.wire_query import Page
from gateway.api.wire_reconciliations import (
    BreakExplained,
    BreakExplainIn,
    BreakQuery,
    OpenBreak,
    open_break,
)
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, NotFound
from watchers import reconciliations
from watchers.reconciliations import Break

KIND = "break"


@endpoint(
    "GET",
    "/v1/reconciliation_breaks",
    "What the newest comparison of each network found, oldest first.",
    answers=Page[OpenBreak],
    query=BreakQuery,
    scopes=switches.READ | {"ledger:read"},
    kinds=NOT_CLIENTS,
)
async def list_open_breaks(call: Call) -> Page[OpenBreak]:
    """They are few: one page."""
    switches.check_operator(call)
    query: BreakQuery = call.query
    found = await reconciliations.open_breaks(call.uow, network=query.network, asset=query.asset)
    return Page[OpenBreak](items=[_wire(call, item) for item in found], next_cursor=None)


@endpoint(
    "POST",
    "/v1/reconciliation_breaks/{id}/explain",
    "Say what a difference is; the same words by a second person let what it stopped start.",
    answers=BreakExplained,
    body=BreakExplainIn,
    scopes=switches.WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=switches.ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def explain_break(call: Call) -> Answer:
    """202 while it waits for the second person; 409 for one that is closed."""
    check_principal(call)
    found = await reconciliations.get_break(call.uow, call.object_id("reconciliation_break"))
    if found is None:
        raise NotFound
    if not found.is_open:
        raise Conflict("closed", "The newest comparison does not find it any more.")
    explanation = " ".join(call.body.explanation.split())
    if found.explanation == explanation:
        return Answer(body=BreakExplained(item=_wire(call, found), approval=None))
    decision = await two_people.propose_or_agree(
        call,
        Proposal(
            kind=KIND,
            subject=str(found.id),
            subject_version=found.version,
            content={
                "explanation": explanation,
                "account": found.subject,
                "difference_minor": str(found.difference_minor),
            },
            reason=explanation,
        ),
    )
    if decision.state == "done":
        found = await _explain(call, found, decision)
    body = BreakExplained(item=_wire(call, found), approval=two_people.wire(call, decision))
    return Answer(body=body, status=200 if decision.state == "done" else 202)


async def approve(call: Call, row: ApprovalRow) -> ApprovalRow:
    """The second person's consent by `POST /v1/approvals/{id}`, checked before."""
    found = await reconciliations.get_break(call.uow, UUID(row.subject))
    if found is None or found.version != row.subject_version or not found.is_open:
        raise Conflict("changed_meanwhile", "The break has changed since; propose it again.")
    decision = await two_people.agree(call, row)
    await _explain(call, found, decision)
    return decision


def check_principal(call: Call) -> None:
    """It lets payouts of everybody start: the operator's people with a role of control."""
    two_people.check_operator(call, roles=switches.ROLES, scopes=switches.WRITE)


async def _explain(call: Call, found: Break, decision: ApprovalRow) -> Break:
    explained = await reconciliations.explain(
        call.uow,
        break_id=found.id,
        version=decision.subject_version,
        explanation=str(decision.content["explanation"]),
        proposed_by=decision.proposed_person,
        approved_by=person_of(call),
        ids=call.services.ids,
        at=call.at,
    )
    if explained is None:
        raise Conflict("changed_meanwhile", "The break has changed since; propose it again.")
    return explained


def _wire(call: Call, found: Break) -> OpenBreak:
    return open_break(reconciliations.snapshot(found), context=call.services.wire)
