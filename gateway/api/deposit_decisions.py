"""`POST /v1/deposits/{id}/release` and `/reject`: what compliance decides (CONTRACT 3 and 4).

Owns who may decide: a release takes two people, a rejection one, with a reason. What a decision
does is `watchers/deposit_decisions.py`.
"""

from typing import Final
from uuid import UUID

from gateway.api import two_people, wire_objects
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.two_people import Proposal, person_of
from gateway.api.wire_deposit_decisions import DepositDecision, DepositDecisionIn
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, NotFound
from ledger import lifecycle
from watchers import deposit_commands, deposit_decisions
from watchers.deposit_commands import DepositRow
from watchers.errors import DepositStays

KIND: Final = "deposit_release"
ROLES: Final = frozenset({"compliance"})
WRITE: Final = frozenset({"deposits:write"})


@endpoint(
    "POST",
    "/v1/deposits/{id}/release",
    "Credit a deposit that is on hold and final; the same call by a second person does it.",
    answers=DepositDecision,
    body=DepositDecisionIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def release_deposit(call: Call) -> Answer:
    """202 while the second person is missing. Refused as it stands, it is not even proposed."""
    row = await _locked(call, call.object_id("deposit"))
    await _check_release(call, row)
    body: DepositDecisionIn = call.body
    decision = await two_people.propose_or_agree(
        call,
        Proposal(
            kind=KIND,
            subject=str(row.id),
            subject_version=row.version,
            content={
                "asset": row.asset,
                "amount_minor": str(row.amount_minor),
                "player_id": row.player_id,
            },
            reason=body.reason,
        ),
    )
    if decision.state != "done":
        return Answer(body=_wire(call, row, decision), status=202)
    return Answer(body=_wire(call, await _release(call, row, decision), decision))


@endpoint(
    "POST",
    "/v1/deposits/{id}/reject",
    "Refuse a deposit that is on hold, below the minimum or unsupported.",
    answers=DepositDecision,
    body=DepositDecisionIn,
    scopes=WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def reject_deposit(call: Call) -> DepositDecision:
    """It is credited never more by itself; what the books have of it stays where it is."""
    person = person_of(call)
    row = await _locked(call, call.object_id("deposit"))
    await lifecycle.set_actor(call.uow, person, reason=call.body.reason)
    try:
        after = await deposit_decisions.reject(call.uow, row, ids=call.services.ids, at=call.at)
    except DepositStays as error:
        raise Conflict(error.code, str(error)) from error
    return _wire(call, after, None)


async def approve(call: Call, row: ApprovalRow) -> ApprovalRow:
    """The second person's consent by `POST /v1/approvals/{id}`, checked before; releases it."""
    deposit = await _locked(call, UUID(row.subject))
    if deposit.version != row.subject_version:
        raise Conflict("changed_meanwhile", "The deposit has moved since; propose it again.")
    await _check_release(call, deposit)
    decision = await two_people.agree(call, row)
    await _release(call, deposit, decision)
    return decision


def check_principal(call: Call) -> None:
    """Among the decisions of all brands: the operator's compliance."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)


async def _locked(call: Call, deposit_id: UUID) -> DepositRow:
    """As far as the caller may see it; NotFound is said before any lock is asked for."""
    found = await deposit_commands.get(call.uow, deposit_id)
    if found is None:
        raise NotFound
    try:
        return await deposit_decisions.lock(call.uow, found)
    except DepositStays as error:
        raise Conflict(error.code, str(error)) from error


async def _check_release(call: Call, row: DepositRow) -> None:
    try:
        await deposit_decisions.check_release(call.uow, row)
    except DepositStays as error:
        raise Conflict(error.code, str(error)) from error


async def _release(call: Call, row: DepositRow, decision: ApprovalRow) -> DepositRow:
    await lifecycle.set_actor(call.uow, person_of(call), reason=decision.reason)
    family = call.services.registry.chains[row.network].family
    try:
        return await deposit_decisions.release(
            call.uow, row, family=family, ids=call.services.ids, at=call.at
        )
    except DepositStays as error:
        raise Conflict(error.code, str(error)) from error


def _wire(call: Call, row: DepositRow, decision: ApprovalRow | None) -> DepositDecision:
    snapshot = deposit_commands.snapshot(row)
    return DepositDecision(
        deposit=wire_objects.deposit(snapshot, context=call.services.wire),
        approval=None if decision is None else two_people.wire(call, decision),
    )
