"""Inflows: coins that reached an own address and belong to nobody yet (CONTRACT 1).

Two people move one: the first call records the proposal (202), the same call by another person
executes it. Staff keys only; each call is a signature of that person.
"""

from typing import Literal
from uuid import UUID

from gateway.api import inflows_store as store
from gateway.api import wire_objects
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.inflows_store import AssignmentRow
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_objects import Inflow
from gateway.api.wire_query import FilterQuery, Page, decode_cursor, limit_of, next_cursor
from gateway.api.wire_resources import InflowAssignIn, InflowAssignment
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, Forbidden, NotFound, invalid_field
from watchers import inflows
from watchers.inflows import InflowState

TREASURY = frozenset({"treasury", "finance"})


@endpoint(
    "GET",
    "/v1/inflows",
    "Inflows, newest first.",
    answers=Page[Inflow],
    query=FilterQuery,
    scopes=frozenset({"treasury:read"}),
    kinds=NOT_CLIENTS,
)
async def list_inflows(call: Call) -> Page[Inflow]:
    """A page, for the operator."""
    query: FilterQuery = call.query
    limit = limit_of(query.limit)
    try:
        state = None if query.state is None else InflowState(query.state)
    except ValueError as error:
        raise invalid_field("state", "invalid", "This is not a state of inflows.") from error
    rows = await inflows.find(
        call.uow, state=state, before=decode_cursor(query.cursor), limit=limit
    )
    items = [wire_objects.inflow(inflows.snapshot(row), context=call.services.wire) for row in rows]
    cursor = next_cursor([row.id for row in rows], limit=limit)
    return Page[Inflow](items=items, next_cursor=cursor)


@endpoint(
    "POST",
    "/v1/inflows/{id}/assign",
    "Move an inflow out of suspense; the same call by a second person executes it.",
    answers=InflowAssignment,
    body=InflowAssignIn,
    scopes=frozenset({"treasury:write"}),
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=TREASURY,
    idempotency=Idempotency.REQUIRED,
)
async def assign_inflow(call: Call) -> Answer:
    """202 `pending_approval`, then 200 `done`."""
    inflow_id = call.object_id("inflow")
    target, _, brand = call.body.target.partition(":")
    if brand and brand not in call.services.registry.settings.brands:
        raise invalid_field("as", "unknown_brand", "There is no such brand.")
    inflow = await inflows.get(call.uow, inflow_id)
    if inflow is None:
        raise NotFound
    found = await store.lock(call.uow, inflow_id=inflow_id)
    if found is None:
        if inflow.state is not InflowState.BOOKED:
            raise Conflict("not_booked", "Only an inflow in state booked can be assigned.")
        return await _propose(call, inflow_id, target, brand or None)
    if (found.target, found.brand) != (target, brand or None):
        raise Conflict("other_target", "Another target was proposed for this inflow.")
    if found.state == "done":
        return Answer(body=_wire(call, found))
    return await execute(call, found)


async def _propose(call: Call, inflow_id: UUID, target: str, brand: str | None) -> Answer:
    row = await store.insert(
        call.uow,
        assignment_id=call.services.ids.new_id(),
        inflow_id=inflow_id,
        target=target,
        brand=brand,
        key_id=call.principal.key_id,
        person=_person(call),
        at=call.at,
    )
    if row is None:
        raise Conflict("proposed_meanwhile", "Another person has just proposed; call again.")
    return Answer(body=_wire(call, row), status=202)


async def execute(call: Call, found: AssignmentRow) -> Answer:
    """The second person's consent: the inflow is booked; by the first it changes nothing."""
    person = _person(call)
    if person == found.proposed_person:  # the same person through two keys is one person (A31)
        return Answer(body=_wire(call, found), status=202)
    target: Literal["capital", "clearing"] = "capital" if found.target == "capital" else "clearing"
    inflow = await inflows.assign(
        call.uow,
        inflow_id=found.inflow_id,
        target=target,
        brand=found.brand,
        ids=call.services.ids,
        at=call.at,
    )
    if inflow is None:
        raise Conflict("not_booked", "Only an inflow in state booked can be assigned.")
    row = await store.approve(
        call.uow,
        assignment_id=found.id,
        key_id=call.principal.key_id,
        person=person,
        at=call.at,
    )
    return Answer(body=_wire(call, row))


def _person(call: Call) -> str:
    if call.principal.person is None:
        raise Forbidden("wrong_principal", "A person's own key is required.")
    return call.principal.person


def _wire(call: Call, row: AssignmentRow) -> InflowAssignment:
    wire = call.services.wire
    return InflowAssignment(
        id=wire.id("approval", row.id),
        inflow_id=wire.id("inflow", row.inflow_id),
        target=row.target if row.brand is None else f"{row.target}:{row.brand}",
        state="done" if row.state == "done" else "pending_approval",
        proposed_by=row.proposed_person,
        approved_by=row.approved_person,
        created_at=rfc3339(row.created_at),
        done_at=optional_time(row.done_at),
    )
