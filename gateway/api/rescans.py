"""`/v1/networks/{network}/rescans`: blocks of a network looked at again (docs/adr/0019).

Owns who may ask and which ranges make sense. The watcher of the network does the work and keeps
its place in the same row; asking twice finds nothing twice.
"""

from gateway.api import switches
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.two_people import person_of
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_control import RescanCancel, RescanIn, RescanOut
from gateway.api.wire_query import Page, PageQuery, decode_cursor, limit_of, next_cursor
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, NotFound, invalid_field
from watchers import health, rescans
from watchers.rescans import RANGE_BLOCKS_MAX, RUNNING_MAX, RescanRow, RescanState


@endpoint(
    "GET",
    "/v1/networks/{network}/rescans",
    "Rescans of a network and how far each is, newest first.",
    answers=Page[RescanOut],
    query=PageQuery,
    scopes=switches.READ,
    kinds=NOT_CLIENTS,
)
async def list_rescans(call: Call) -> Page[RescanOut]:
    """A page."""
    switches.check_operator(call)
    network, limit = _network(call), limit_of(call.query.limit)
    rows = await rescans.find(
        call.uow, network=network, before=decode_cursor(call.query.cursor), limit=limit
    )
    cursor = next_cursor([row.id for row in rows], limit=limit)
    return Page[RescanOut](items=[_wire(call, row) for row in rows], next_cursor=cursor)


@endpoint(
    "POST",
    "/v1/networks/{network}/rescans",
    "Look at a range of blocks again; what is recorded stays, what is missing is found.",
    answers=RescanOut,
    body=RescanIn,
    status=201,
    scopes=switches.WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=switches.ROLES,
    idempotency=Idempotency.REQUIRED,
)
async def ask_rescan(call: Call) -> Answer:
    """One person suffices: it can only find what the chain holds, at the usual depths."""
    switches.check_principal(call)
    network, body = _network(call), call.body
    to_height = await _end(call, network, body)
    if len(await rescans.running(call.uow, network=network)) >= RUNNING_MAX:
        raise Conflict("too_many", f"{RUNNING_MAX} rescans of this network have not ended yet.")
    row = await rescans.ask(
        call.uow,
        network=network,
        from_height=body.from_height,
        to_height=to_height,
        asked_by=person_of(call),
        reason=body.reason,
        ids=call.services.ids,
        at=call.at,
    )
    return Answer(body=_wire(call, row), status=201)


@endpoint(
    "POST",
    "/v1/networks/{network}/rescans/{id}/cancel",
    "End a rescan before it is done; what it found stays.",
    answers=RescanOut,
    body=RescanCancel,
    scopes=switches.WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=switches.ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def cancel_rescan(call: Call) -> RescanOut:
    """One person suffices: the range may be asked for again. A cancelled one answers as it stands,
    whoever asks again; 409 `ended` for one that ended by itself."""
    switches.check_operator(call)
    body: RescanCancel = call.body
    row = await rescans.cancel(
        call.uow,
        rescan_id=call.object_id("rescan"),
        network=_network(call),
        cancelled_by=person_of(call),
        reason=body.reason,
        at=call.at,
    )
    if row is None:
        raise NotFound
    if row.state is not RescanState.CANCELLED:
        raise Conflict("ended", f"This rescan is {row.state.value} already.")
    return _wire(call, row)


def _network(call: Call) -> str:
    name = call.path["network"]
    if name not in call.services.registry.chains:
        raise NotFound
    return name


async def _end(call: Call, network: str, body: RescanIn) -> int:
    """The last height of the range. Raises Invalid and Conflict."""
    height = await health.followed_height(call.uow, network)
    if height is None:
        raise Conflict("not_followed", "Nobody follows this network yet.")
    if body.from_height > height:
        raise invalid_field(
            "from_height", "above_cursor", f"The watcher stands at {height}; it comes by there."
        )
    if body.to_height is not None and body.to_height > height:
        raise invalid_field(
            "to_height", "above_cursor", f"The watcher stands at {height}; it comes by there."
        )
    end = height if body.to_height is None else int(body.to_height)
    if end < body.from_height:
        raise invalid_field("to_height", "below_from", "The range ends before it begins.")
    if end - body.from_height >= RANGE_BLOCKS_MAX:
        raise invalid_field(
            "from_height", "range_too_long", f"At most {RANGE_BLOCKS_MAX} blocks at once."
        )
    return end


def _wire(call: Call, row: RescanRow) -> RescanOut:
    return RescanOut(
        id=call.services.wire.id("rescan", row.id),
        network=row.network,
        from_height=row.from_height,
        to_height=row.to_height,
        next_height=row.next_height,
        state=row.state.value,
        found=row.found,
        withheld=row.withheld,
        waits_for=row.waits_for,
        failure=row.failure,
        asked_by=row.asked_by,
        reason=row.reason,
        cancelled_by=row.cancelled_by,
        cancel_reason=row.cancel_reason,
        created_at=rfc3339(row.created_at),
        finished_at=optional_time(row.finished_at),
    )
