"""`POST /v1/node_pardons`: two people let a node that lied count again before its time (N05).

It ends the time alone: the node still gives its honest looks. What it comes to is
`watchers/node_pardons.py`.
"""

from gateway.api import switches, two_people
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.two_people import Proposal, person_of
from gateway.api.wire_base import rfc3339
from gateway.api.wire_control import NodePardonAnswer, NodePardonIn
from gateway.auth import PrincipalKind
from gateway.errors import Conflict
from watchers import node_pardons
from watchers.node_pardons import Barred

KIND = "node_pardon"
NOT_BARRED = "This node is not barred, or two people have ended that. GET /v1/networks lists nodes."


@endpoint(
    "POST",
    "/v1/node_pardons",
    "Let a node that lied count again before its time; the same call by a second person does it.",
    answers=NodePardonAnswer,
    body=NodePardonIn,
    scopes=switches.WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=switches.ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def pardon_node(call: Call) -> Answer:
    """202 while it waits for the second person; 409 for a node that is not barred."""
    check_principal(call)
    body: NodePardonIn = call.body
    node = await _barred(call, body.network, body.node)
    decision = await two_people.propose_or_agree(
        call,
        Proposal(
            kind=KIND,
            subject=f"{node.network}/{node.label}",
            subject_version=node.lies,
            content={"network": node.network, "node": node.label, "cause": node.cause},
            reason=body.reason,
        ),
    )
    if decision.state == "done":
        await _grant(call, node, decision)
    answer = NodePardonAnswer(
        network=node.network,
        node=node.label,
        lies=node.lies,
        barred_until=rfc3339(node.barred_until),
        approval=two_people.wire(call, decision),
    )
    return Answer(body=answer, status=200 if decision.state == "done" else 202)


async def approve(call: Call, row: ApprovalRow) -> ApprovalRow:
    """The second person's consent by `POST /v1/approvals/{id}`, checked before."""
    node = await _barred(call, str(row.content["network"]), str(row.content["node"]))
    if node.lies != row.subject_version:
        raise Conflict("changed_meanwhile", "The node has lied again since; propose it again.")
    decision = await two_people.agree(call, row)
    await _grant(call, node, decision)
    return decision


def check_principal(call: Call) -> None:
    """Every brand's money rests on the nodes: the operator's people with a role of control."""
    two_people.check_operator(call, roles=switches.ROLES, scopes=switches.WRITE)


async def _barred(call: Call, network: str, label: str) -> Barred:
    found = await node_pardons.barred(call.uow, network=network, label=label, at=call.at)
    if found is None:
        raise Conflict("not_barred", NOT_BARRED)
    return found


async def _grant(call: Call, node: Barred, decision: ApprovalRow) -> None:
    await node_pardons.grant(
        call.uow,
        node,
        reason=decision.reason or "",
        proposed_by=decision.proposed_person,
        approved_by=person_of(call),
        ids=call.services.ids,
        at=call.at,
    )
