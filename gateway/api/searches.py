"""`/v1/searches`: what arrived or left and no tx explains, until a person has found out (D45-D48).

Closing books nothing: what is in suspense leaves it by the assignment of its inflow. A balance that
still differs (`unexplained`, `shortfall`) opens a search again at the next comparison; what one
block contradicted is not compared again.
"""

from uuid import UUID

from gateway.api import searches_store as store
from gateway.api import switches
from gateway.api.endpoint import NOT_CLIENTS, Call, Idempotency, endpoint
from gateway.api.searches_store import SearchRow
from gateway.api.two_people import person_of
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_control import SearchClose, SearchOut
from gateway.api.wire_query import Page, SearchQuery, decode_cursor, limit_of, next_cursor
from gateway.auth import PrincipalKind
from gateway.errors import Conflict, NotFound

CHANGED = "changed"


@endpoint(
    "GET",
    "/v1/searches",
    "Differences that no transaction explains, newest first.",
    answers=Page[SearchOut],
    query=SearchQuery,
    scopes=switches.READ,
    kinds=NOT_CLIENTS,
)
async def list_searches(call: Call) -> Page[SearchOut]:
    """A page, for the operator."""
    switches.check_operator(call)
    query: SearchQuery = call.query
    limit = limit_of(query.limit)
    rows = await store.find(
        call.uow,
        network=query.network,
        state=query.state,
        before=decode_cursor(query.cursor),
        limit=limit,
    )
    cursor = next_cursor([row.id for row in rows], limit=limit)
    return Page[SearchOut](items=[_wire(call, row) for row in rows], next_cursor=cursor)


@endpoint(
    "POST",
    "/v1/searches/{id}/close",
    "Say what a person found out about it.",
    answers=SearchOut,
    body=SearchClose,
    scopes=switches.WRITE,
    kinds=frozenset({PrincipalKind.STAFF}),
    roles=switches.ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def close_search(call: Call) -> SearchOut:
    """The same words again answer as they stand; 409 `closed_already` for others."""
    switches.check_operator(call)
    body: SearchClose = call.body
    row = await store.close(
        call.uow,
        call.object_id("search"),
        person=person_of(call),
        outcome=body.outcome,
        at=call.at,
    )
    if row is None:
        raise NotFound
    if row.outcome != body.outcome:
        raise Conflict("closed_already", f"{row.closed_by} closed it: {row.outcome}")
    return _wire(call, row)


def _wire(call: Call, row: SearchRow) -> SearchOut:
    return SearchOut(
        id=call.services.wire.id("search", row.id),
        network=row.network,
        kind=row.kind,
        asset=row.asset,
        subject=_subject(call, row),
        brand=row.brand,
        player_id=row.player_id,
        block_hash=row.block_hash,
        height=row.height,
        claimed_minor=str(int(row.claimed)),
        moved_minor=str(int(row.moved)),
        txids=sorted({str(item["txid"]) for item in row.transfers}),
        state="open" if row.state == "open" else "closed",
        opened_at=rfc3339(row.opened_at),
        closed_at=optional_time(row.closed_at),
        closed_by=row.closed_by,
        outcome=row.outcome,
    )


def _subject(call: Call, row: SearchRow) -> str:
    """Of a tx that was mined again with another effect it is the deposit (D50)."""
    is_deposit = row.kind == CHANGED
    return call.services.wire.id("deposit", UUID(row.subject)) if is_deposit else row.subject
