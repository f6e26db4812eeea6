"""`/v1/recoveries`: networks whose books lack what the signer signed (CONTRACT 8, P09).

Owns who may let such a network go on, and when: after the import, after the blocks were looked at
again, by two people. The import itself is `cage recover` on the signer's host.
"""

from gateway.api import switches, two_people
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.two_people import Proposal
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_query import Page, PageQuery, limit_of
from gateway.api.wire_recovery import ConfirmIn, LeftOver, RecoveryAnswer, RecoveryOut
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, Forbidden, NotFound
from gateway.payouts import recovery_store as store
from gateway.payouts.recovery_store import RecoveryRow
from watchers import rescans
from watchers.rescans import RescanState

KIND = "recovery"
ROLES = frozenset({"treasury", "risk", "admin"})


@endpoint(
    "GET",
    "/v1/recoveries",
    "Recoveries of all networks, newest first.",
    answers=Page[RecoveryOut],
    query=PageQuery,
    scopes=switches.READ,
    kinds=NOT_CLIENTS,
)
async def list_recoveries(call: Call) -> Page[RecoveryOut]:
    """They are few: one page."""
    switches.check_operator(call)
    rows = await store.find(call.uow, limit=limit_of(call.query.limit))
    return Page[RecoveryOut](items=[_wire(call, row) for row in rows], next_cursor=None)


@endpoint(
    "POST",
    "/v1/recoveries/{id}/confirm",
    "Let the network go on; the same call by a second person does it.",
    answers=RecoveryAnswer,
    body=ConfirmIn,
    scopes=switches.WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def confirm_recovery(call: Call) -> Answer:
    """202 while it waits for the second person. 409 for one that is not ready."""
    check_principal(call)
    row = await store.get(call.uow, call.object_id(KIND), lock=True)
    if row is None:
        raise NotFound
    body: ConfirmIn = call.body
    await _check_ready(call, row, accept_left_over=body.accept_left_over)
    decision = await two_people.propose_or_agree(
        call,
        Proposal(
            kind=KIND,
            subject=call.services.wire.id(KIND, row.id),
            subject_version=row.version,
            content=_content(row),
            reason=body.reason,
        ),
    )
    if decision.state != "done":
        answer = RecoveryAnswer(recovery=_wire(call, row), approval=two_people.wire(call, decision))
        return Answer(body=answer, status=202)
    row = await _confirm(call, row, decision)
    return Answer(
        body=RecoveryAnswer(recovery=_wire(call, row), approval=two_people.wire(call, decision))
    )


async def approve(call: Call, row: ApprovalRow) -> ApprovalRow:
    """The second person's consent by `POST /v1/approvals/{id}`, checked before."""
    context = call.services.wire
    found = next(
        (
            item
            for item in await store.find(call.uow, limit=500)
            if context.id(KIND, item.id) == row.subject
        ),
        None,
    )
    locked = None if found is None else await store.get(call.uow, found.id, lock=True)
    if locked is None or locked.version != row.subject_version or row.content != _content(locked):
        raise Conflict("changed_meanwhile", "The recovery has changed since; propose it again.")
    await _check_ready(call, locked, accept_left_over=True)  # the first person did
    decision = await two_people.agree(call, row)
    await _confirm(call, locked, decision)
    return decision


def check_principal(call: Call) -> None:
    """It lets money move again for everybody: the person needs one of these roles."""
    switches.check_operator(call)
    if not call.principal.roles & ROLES:
        raise Forbidden("missing_role", f"One of these roles: {', '.join(sorted(ROLES))}.")


async def _check_ready(call: Call, row: RecoveryRow, *, accept_left_over: bool) -> None:
    if row.state != "imported":
        hint = "Run `cage recover` on the signer's host." if row.state == "open" else ""
        raise Conflict("not_imported", f"This recovery is {row.state}. {hint}".strip())
    if row.left_over and not accept_left_over:
        raise Conflict(
            "left_over", f"{len(row.left_over)} signatures could not be imported; see left_over."
        )
    if row.rescan_id is None:
        return
    found = await rescans.find(call.uow, network=row.network)
    rescan = next((item for item in found if item.id == row.rescan_id), None)
    if rescan is None or rescan.state is not RescanState.DONE:
        state = "not there" if rescan is None else rescan.state.value
        raise Conflict("rescan_not_done", f"The blocks are looked at again: {state}.")


async def _confirm(call: Call, row: RecoveryRow, decision: ApprovalRow) -> RecoveryRow:
    people = [decision.proposed_person, str(decision.decided_person)]
    if not await store.confirm(call.uow, row.id, version=row.version, people=people, at=call.at):
        raise Conflict("changed_meanwhile", "The recovery has changed since; propose it again.")
    confirmed = await store.get(call.uow, row.id)
    return row if confirmed is None else confirmed


def _content(row: RecoveryRow) -> dict[str, str | int | None]:
    """What the two people see and agree to."""
    return {
        "network": row.network,
        "cause": row.cause,
        "imported": row.imported,
        "left_over": len(row.left_over),
        "sequence": row.sequence,
    }


def _wire(call: Call, row: RecoveryRow) -> RecoveryOut:
    context = call.services.wire
    return RecoveryOut.model_validate(
        {
            "id": context.id(KIND, row.id),
            "version": row.version,
            "network": row.network,
            "state": row.state,
            "cause": row.cause,
            "detail": row.detail,
            "unknown": row.unknown,
            "imported": row.imported,
            "left_over": [LeftOver.model_validate(item) for item in row.left_over],
            "rescan": None if row.rescan_id is None else context.id("rescan", row.rescan_id),
            "confirmed_by": list(row.confirmed_by),
            "opened_at": rfc3339(row.opened_at),
            "imported_at": optional_time(row.imported_at),
            "confirmed_at": optional_time(row.confirmed_at),
            "closed_at": optional_time(row.closed_at),
        }
    )
