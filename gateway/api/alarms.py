"""`/v1/alarms`: what a person must look at, and that one did.

Clearing says only that somebody looked: an alarm that holds something back is ended by the call
that ends its cause, and is refused here.
"""

from gateway.api import alarms_store as store
from gateway.api import switches
from gateway.api.alarms_store import AlarmRow
from gateway.api.endpoint import NOT_CLIENTS, Call, Idempotency, endpoint
from gateway.api.two_people import person_of
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_control import AlarmOut
from gateway.api.wire_query import FilterQuery, Page, decode_cursor, limit_of, next_cursor
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, NotFound, invalid_field

STATES = {None: None, "open": True, "cleared": False}
HOLDING = frozenset(
    {
        "switch_stopped",
        "reorg_too_deep",
        "invariant_broken",
        "reversals_over_limit",
        "signer_knows_more",
    }
)
"""They stop work while they are open: one person must not let it go on by clearing a list."""


@endpoint(
    "GET",
    "/v1/alarms",
    "Alarms, newest first; ?state=open are those that nobody has cleared.",
    answers=Page[AlarmOut],
    query=FilterQuery,
    scopes=switches.READ,
    kinds=NOT_CLIENTS,
)
async def list_alarms(call: Call) -> Page[AlarmOut]:
    """A page, for the operator."""
    switches.check_operator(call)
    query: FilterQuery = call.query
    if query.state not in STATES:
        raise invalid_field("state", "invalid", "Either open or cleared.")
    limit = limit_of(query.limit)
    rows = await store.find(
        call.uow, is_open=STATES[query.state], before=decode_cursor(query.cursor), limit=limit
    )
    cursor = next_cursor([row.id for row in rows], limit=limit)
    return Page[AlarmOut](items=[_wire(call, row) for row in rows], next_cursor=cursor)


@endpoint(
    "POST",
    "/v1/alarms/{id}/clear",
    "Say that a person has looked at it.",
    answers=AlarmOut,
    scopes=switches.WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=switches.ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def clear_alarm(call: Call) -> AlarmOut:
    """A cleared one answers as it is; 409 `holds_work` for one that is ended by its cause."""
    switches.check_operator(call)
    row = await store.lock(call.uow, call.object_id("alarm"))
    if row is None:
        raise NotFound
    if row.cleared_at is None and row.kind in HOLDING:
        raise Conflict("holds_work", "This ends with its cause; the operations guide says how.")
    row = await store.clear(call.uow, row.id, person=person_of(call), at=call.at)
    return _wire(call, row)


def _wire(call: Call, row: AlarmRow) -> AlarmOut:
    return AlarmOut(
        id=call.services.wire.id("alarm", row.id),
        kind=row.kind,
        network=row.network,
        object_id=None if row.object_id is None else str(row.object_id),
        detail=row.detail,
        raised_at=rfc3339(row.raised_at),
        cleared_at=optional_time(row.cleared_at),
    )
