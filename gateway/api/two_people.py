"""How two people decide one thing: the first proposes, another agrees to exactly that.

Owns the rules that every such decision shares: two persons and not two keys (A31), the same
content, the subject as the first one saw it, a proposer whose key still counts, and a time limit.
What is decided, and what then happens, is the caller's: it locks the subject before it asks here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from gateway.api import approvals_store as store
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import Call
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_control import Approval
from gateway.errors import Conflict, Forbidden, Refusal
from gateway.payouts.approvals import Staff
from gateway.payouts.errors import DecisionRefused

_SUBJECTS = {
    "inflow": "inflow",
    "break": "reconciliation_break",
    "deposit_release": "deposit",
}
"""Kinds whose subject is an object, and what kind of object."""
VALID_SECONDS = 24 * 3600  # CONTRACT 5 gives an approval the same day


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What is to be decided. `subject_version` is that of the subject now."""

    kind: str
    subject: str
    subject_version: int
    content: Mapping[str, str | int | None]
    reason: str


def person_of(call: Call) -> str:
    """The person behind the key. Raises Forbidden for a machine."""
    if call.principal.person is None:
        raise Forbidden("wrong_principal", "A person's own key is required.")
    return call.principal.person


def staff_of(call: Call) -> Staff:
    """The person with what they signed, as the signer will read it. Raises Forbidden."""
    return Staff(key_id=call.principal.key_id, person=person_of(call), signed=call.caller.signed)


def refusal(error: DecisionRefused) -> Refusal:
    """A decision that payouts refuses, as the API answers it."""
    kind = Forbidden if error.code == "same_person" else Conflict
    return kind(error.code, error.detail)


def check_operator(call: Call, *, roles: frozenset[str], scopes: frozenset[str]) -> None:
    """It concerns all brands: no person of one brand, and a role and a scope for it.

    Raises Forbidden. An endpoint asks for them, too; the way by `POST /v1/approvals/{id}` has only
    this.
    """
    if call.principal.brand is not None or not call.principal.roles & roles:
        raise Forbidden("missing_role", f"One of these roles: {', '.join(sorted(roles))}.")
    if not call.principal.scopes & scopes:
        raise Forbidden("missing_scope", f"The key needs {' or '.join(sorted(scopes))}.")


async def propose_or_agree(call: Call, proposal: Proposal) -> ApprovalRow:
    """The decision: `pending_approval` after the first person, `done` after the second.

    Raises Conflict (`other_content`) and Forbidden (`same_person`).
    """
    found = await _open(call, proposal)
    if found is None:
        found = await _insert(call, proposal)
        if found is not None:
            return found
        found = await _open(call, proposal)  # another call proposed in this moment
    if found is None:
        raise Conflict("proposed_meanwhile", "Another person has just proposed; call again.")
    if found.content != dict(proposal.content):
        raise Conflict("other_content", "Something else was proposed for this; decline that first.")
    if found.proposed_person == person_of(call) and found.proposed_by == call.principal.key_id:
        return found  # the first person asks again
    return await agree(call, found)


async def agree(call: Call, found: ApprovalRow) -> ApprovalRow:
    """The second person's consent to an open decision."""
    person = person_of(call)
    if person == found.proposed_person:
        raise Forbidden("same_person", "Another person than the one who proposed must agree.")
    if not await store.is_key_valid(call.uow, found.proposed_by, at=call.at):
        raise Conflict("proposer_left", "The key of the first person counts no more; decline it.")
    return await _decided(call, found, "done")


async def decline(call: Call, found: ApprovalRow) -> ApprovalRow:
    """Anyone who could agree may say no; who proposed may take it back."""
    return await _decided(call, found, "declined")


def is_expired(call: Call, row: ApprovalRow) -> bool:
    """Whether its time has passed."""
    return row.expires_at is not None and row.expires_at <= call.at


def wire(call: Call, row: ApprovalRow) -> Approval:
    """The decision as integrators see it."""
    context = call.services.wire
    named = _SUBJECTS.get(row.kind)
    return Approval.model_validate(
        {
            "id": context.id("approval", row.id),
            "kind": row.kind,
            "subject": row.subject if named is None else context.id(named, UUID(str(row.subject))),
            "content": dict(row.content),
            "reason": row.reason,
            "state": row.state,
            "proposed_by": row.proposed_person,
            "decided_by": row.decided_person,
            "created_at": rfc3339(row.created_at),
            "expires_at": optional_time(row.expires_at),
            "decided_at": optional_time(row.decided_at),
        }
    )


async def _open(call: Call, proposal: Proposal) -> ApprovalRow | None:
    """The open decision about the subject; one that no longer fits is closed and forgotten."""
    found = await store.lock_open(call.uow, kind=proposal.kind, subject=proposal.subject)
    if found is None:
        return None
    if is_expired(call, found) or found.subject_version != proposal.subject_version:
        await _decided(call, found, "expired")
        return None
    return found


async def _insert(call: Call, proposal: Proposal) -> ApprovalRow | None:
    return await store.insert(
        call.uow,
        approval_id=call.services.ids.new_id(),
        kind=proposal.kind,
        subject=proposal.subject,
        subject_version=proposal.subject_version,
        content=proposal.content,
        reason=proposal.reason,
        key_id=call.principal.key_id,
        person=person_of(call),
        at=call.at,
        expires_at=call.at + timedelta(seconds=VALID_SECONDS),
    )


async def _decided(call: Call, found: ApprovalRow, state: str) -> ApprovalRow:
    row = await store.decide(
        call.uow,
        approval_id=found.id,
        state=state,
        key_id=call.principal.key_id,
        person=person_of(call),
        at=call.at,
    )
    if row is None:
        raise Conflict("decided", "This has been decided.")
    return row
