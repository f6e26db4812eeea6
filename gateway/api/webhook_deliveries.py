"""Webhook deliveries: their log, and sending again (CONTRACT 6, FEATURES E4).

A delivery that is sent again keeps its id, its webhook-id and its body, and begins its schedule
anew. The order per object stays: only the oldest pending event of (endpoint, object) is tried.
"""

from datetime import timedelta
from uuid import UUID

from config.ids import parse_public_id
from gateway.api import deliveries_store as store
from gateway.api import webhook_endpoints_store as endpoints_store
from gateway.api.deliveries_store import DeliveryRow
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.webhook_endpoints_store import EndpointRow
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_deliveries import (
    DeliveryOut,
    DeliveryQuery,
    RecoverIn,
    RecoverOut,
    WebhookTestOut,
)
from gateway.api.wire_query import Page, decode_cursor, limit_of, moment_of, next_cursor
from gateway.errors import Conflict, NotFound, invalid_field
from gateway.webhooks.relay import ALARM_PARKED
from gateway.webhooks.store import OPERATOR
from ledger import outbox

SCOPES = frozenset({"webhooks:write"})
RECOVER_MAX = 5_000  # of one call: the brand's numbering waits while they are queued
WINDOW_MAX = timedelta(days=90)
TEST_TYPE = "webhook.test"
TEST_KIND = "webhook_endpoint"
"""The object of a test event is the endpoint itself: no other endpoint gets it."""


@endpoint(
    "GET",
    "/v1/webhook_deliveries",
    "Deliveries, newest first.",
    answers=Page[DeliveryOut],
    query=DeliveryQuery,
    scopes=SCOPES,
)
async def list_deliveries(call: Call) -> Page[DeliveryOut]:
    """By endpoint, event and state."""
    query: DeliveryQuery = call.query
    limit = limit_of(query.limit)
    rows = await store.find(
        call.uow,
        brand=call.one_brand,
        endpoint_id=_id(call, TEST_KIND, query.endpoint, field="endpoint"),
        event_id=_id(call, "event", query.event, field="event"),
        state=query.state,
        before=decode_cursor(query.cursor),
        limit=limit,
    )
    return Page[DeliveryOut](
        items=[_wire(call, row) for row in rows],
        next_cursor=next_cursor([row.id for row in rows], limit=limit),
    )


@endpoint("GET", "/v1/webhook_deliveries/{id}", "One delivery.", answers=DeliveryOut, scopes=SCOPES)
async def get_delivery(call: Call) -> DeliveryOut:
    """By id."""
    return _wire(call, await _visible(call))


@endpoint(
    "POST",
    "/v1/webhook_deliveries/{id}/redeliver",
    "Send it again, whatever became of it; a new schedule begins.",
    answers=DeliveryOut,
    status=202,
    scopes=SCOPES,
    idempotency=Idempotency.OPTIONAL,
)
async def redeliver(call: Call) -> Answer:
    """Pending: due now. Behind an older event of its object it waits for that one, as ever."""
    row = await _visible(call)
    await _endpoint(call, row.endpoint_id)
    await store.send_again(
        call.uow,
        endpoint_id=row.endpoint_id,
        delivery_ids=[row.id],
        event_ids=[row.event_id],
        at=call.at,
    )
    await store.clear_alarms(call.uow, kind=ALARM_PARKED, delivery_ids=[row.id], at=call.at)
    again = await store.get(call.uow, row.id)
    if again is None:
        raise RuntimeError("a delivery that was just queued is not there")
    return Answer(body=_wire(call, again))


@endpoint(
    "POST",
    "/v1/webhook_endpoints/{id}/recover",
    "Queue every event of a time that the endpoint parked or never had.",
    answers=RecoverOut,
    status=202,
    body=RecoverIn,
    scopes=SCOPES,
    idempotency=Idempotency.OPTIONAL,
)
async def recover_endpoint(call: Call) -> Answer:
    """At most RECOVER_MAX events a call; what was delivered is not sent again."""
    body: RecoverIn = call.body
    row = await _endpoint(call, call.object_id(TEST_KIND))
    since = moment_of(body.since, field="since")
    until = moment_of(body.until, field="until") or call.at
    if since is None or since >= until:
        raise invalid_field("since", "invalid", "`since` lies before `until`.")
    if until - since > WINDOW_MAX:
        raise invalid_field("since", "too_long", f"At most {WINDOW_MAX.days} days at once.")
    missed = await store.missed(
        call.uow,
        endpoint_id=row.id,
        brand=row.brand,
        types=row.types,
        since=since,
        until=until,
        limit=RECOVER_MAX,
    )
    queued = 0
    if missed:
        queued = await store.send_again(
            call.uow,
            endpoint_id=row.id,
            delivery_ids=[item.delivery_id or call.services.ids.new_id() for item in missed],
            event_ids=[item.event_id for item in missed],
            at=call.at,
        )
        parked = [item.delivery_id for item in missed if item.delivery_id is not None]
        await store.clear_alarms(call.uow, kind=ALARM_PARKED, delivery_ids=parked, at=call.at)
    is_full = len(missed) == RECOVER_MAX
    return Answer(
        body=RecoverOut(
            queued=queued, next_since=rfc3339(missed[-1].created_at) if is_full else None
        )
    )


@endpoint(
    "POST",
    "/v1/webhook_endpoints/{id}/test",
    "Send this endpoint, and no other, an event of type `webhook.test`.",
    answers=WebhookTestOut,
    status=202,
    scopes=SCOPES,
    idempotency=Idempotency.OPTIONAL,
)
async def test_endpoint(call: Call) -> Answer:
    """The event goes the road of all others: number, signature, schedule, log."""
    row = await _endpoint(call, call.object_id(TEST_KIND))
    if row.state != "active":
        raise Conflict("endpoint_paused", 'Resume it first: PATCH {"state": "active"}.')
    event_id = call.services.ids.new_id()
    event = outbox.Event(
        event_id=event_id,
        brand=None if row.brand == OPERATOR else row.brand,
        type=TEST_TYPE,
        object_kind=TEST_KIND,
        object_id=row.id,
        object_version=row.version,
        previous_state=None,
        snapshot={
            "id": call.services.wire.id(TEST_KIND, row.id),
            "version": row.version,
            "brand": row.brand,
            "state": row.state,
            "requested_by": call.principal.key_id,
        },
    )
    await outbox.append_many(call.uow, [event], at=call.at)
    return Answer(body=WebhookTestOut(event_id=call.services.wire.id("event", event_id)))


async def _visible(call: Call) -> DeliveryRow:
    row = await store.get(call.uow, call.object_id("delivery"))
    if row is None or call.one_brand not in (None, row.brand):
        raise NotFound
    return row


async def _endpoint(call: Call, endpoint_id: UUID) -> EndpointRow:
    row = await endpoints_store.get(call.uow, endpoint_id=endpoint_id, lock=False)
    if row is None or call.one_brand not in (None, row.brand):
        raise NotFound
    return row


def _id(call: Call, kind: str, text: str | None, *, field: str) -> UUID | None:
    if text is None:
        return None
    livemode = call.services.registry.settings.livemode
    found = parse_public_id(kind, text, livemode=livemode)
    if found is None:
        raise invalid_field(field, "invalid", "This is no id of this kind.")
    return found


def _wire(call: Call, row: DeliveryRow) -> DeliveryOut:
    wire, is_pending = call.services.wire, row.state == "pending"
    return DeliveryOut(
        id=wire.id("delivery", row.id),
        version=row.attempts + 1,
        brand=row.brand,
        livemode=wire.livemode,
        endpoint_id=wire.id(TEST_KIND, row.endpoint_id),
        event_id=wire.id("event", row.event_id),
        type=row.type,
        seq=row.seq,
        object_version=row.object_version,
        state=row.state,
        is_waiting=is_pending and not row.is_oldest,
        attempts=row.attempts,
        first_attempt_at=optional_time(row.first_attempt_at),
        next_attempt_at=rfc3339(row.next_attempt_at) if is_pending else None,
        last_status=row.last_status,
        last_error=row.last_error,
        delivered_at=optional_time(row.delivered_at),
        created_at=rfc3339(row.created_at),
    )
