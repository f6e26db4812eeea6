"""`GET /v1/events?after=`: the numbered feed, gap-free per brand (CONTRACT 6)."""

from gateway.api import events_store
from gateway.api.endpoint import Answer, Call, endpoint
from gateway.api.wire_base import Wire
from gateway.api.wire_objects import Event
from gateway.api.wire_query import FeedQuery, limit_of, sequence_of
from gateway.errors import Conflict

OPERATOR = "operator"


class Feed(Wire):
    """A piece of the feed, in order; ask again with `after` = `next_after`."""

    items: list[Event]
    next_after: int


@endpoint(
    "GET",
    "/v1/events",
    "The feed of one brand (or of the operator), above `after`.",
    answers=Feed,
    query=FeedQuery,
    scopes=frozenset({"deposits:read", "withdrawals:read", "webhooks:write", "audit:read"}),
    # The feed is gap-free, so that nothing may be left out of it: read all of it, or none.
    client_scopes=frozenset({"deposits:read", "withdrawals:read"}),
)
async def list_events(call: Call) -> Answer:
    """The stored text of each event, byte for byte what a webhook carries.

    Raises Conflict where it would have to leave out what was put away.
    """
    query: FeedQuery = call.query
    after = sequence_of(query.after)
    brand = call.one_brand or OPERATOR
    rows = await events_store.after(call.uow, brand=brand, after=after, limit=limit_of(query.limit))
    bodies = [row.body for row in rows if row.body is not None]
    if len(bodies) < len(rows):  # asked after the rows: what took one away has told the number
        kept_after = await events_store.put_away_up_to(call.uow, brand)
        raise Conflict(
            "events_put_away",
            f"Events up to {kept_after} are no longer in the feed: ask with after={kept_after},"
            " or ask the operator for the archive.",
        )
    last = rows[-1].seq if rows else after
    items = ",".join(bodies)
    return Answer(body=None, raw=f'{{"items":[{items}],"next_after":{last}}}'.encode())
