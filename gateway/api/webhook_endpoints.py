"""Webhook endpoints: create, list, change, delete (CONTRACT 6).

A secret is made here, shown in this one answer, and kept only sealed; the stored answer of an
idempotent call does not hold it either.
"""

import re
from datetime import timedelta
from typing import Any

from gateway.api import webhook_endpoints_store as store
from gateway.api.endpoint import Answer, Call, Idempotency, endpoint
from gateway.api.events import OPERATOR
from gateway.api.webhook_endpoints_store import EndpointRow
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_query import Page, PageQuery
from gateway.api.wire_resources import WebhookIn, WebhookOut, WebhookPatch
from gateway.errors import Conflict, NotFound, invalid_field
from gateway.webhooks.errors import TargetRefused
from gateway.webhooks.secrets import new_secret, seal
from gateway.webhooks.targets import check_url

SCOPES = frozenset({"webhooks:write"})
ENDPOINTS_MAX = 20  # per brand; each event makes one delivery per endpoint
SECRET_OVERLAP = timedelta(hours=24)  # both secrets sign for so long
_TYPE = re.compile(r"[a-z][a-z_]{0,31}\.(\*|[a-z][a-z_]{0,31})", re.ASCII)


@endpoint(
    "POST",
    "/v1/webhook_endpoints",
    "Add an endpoint. Its secret is shown in this answer only.",
    answers=WebhookOut,
    status=201,
    body=WebhookIn,
    scopes=SCOPES,
    idempotency=Idempotency.OPTIONAL,
)
async def create_endpoint(call: Call) -> Answer:
    """For the caller's brand, or the operator's own stream."""
    body: WebhookIn = call.body
    brand = call.one_brand or OPERATOR
    _check_target(call, body.url)
    if await store.count(call.uow, brand=brand) >= ENDPOINTS_MAX:
        raise Conflict("too_many_endpoints", f"A brand has at most {ENDPOINTS_MAX} endpoints.")
    secret = new_secret(call.services.ids)
    row = await store.insert(
        call.uow,
        endpoint_id=call.services.ids.new_id(),
        brand=brand,
        url=body.url,
        types=_types(body.types),
        secret_sealed=seal(call.services.sealing_key, secret),
        at=call.at,
    )
    return Answer(body=_wire(call, row, secret=secret), stored=_wire(call, row, secret=None))


@endpoint(
    "GET",
    "/v1/webhook_endpoints",
    "Every endpoint.",
    answers=Page[WebhookOut],
    query=PageQuery,
    scopes=SCOPES,
)
async def list_endpoints(call: Call) -> Page[WebhookOut]:
    """At most ENDPOINTS_MAX per brand: one page."""
    rows = await store.find(call.uow, brand=call.one_brand)
    items = [_wire(call, row, secret=None) for row in rows]
    return Page[WebhookOut](items=items, next_cursor=None)


@endpoint("GET", "/v1/webhook_endpoints/{id}", "One endpoint.", answers=WebhookOut, scopes=SCOPES)
async def get_endpoint(call: Call) -> WebhookOut:
    """By id; never with its secret."""
    return _wire(call, await _visible(call), secret=None)


@endpoint(
    "PATCH",
    "/v1/webhook_endpoints/{id}",
    "Change an endpoint; a rotated secret is shown in this answer only.",
    answers=WebhookOut,
    body=WebhookPatch,
    scopes=SCOPES,
    idempotency=Idempotency.OPTIONAL,
)
async def change_endpoint(call: Call) -> Answer:
    """Absent fields stay. `active` resumes a paused endpoint at once."""
    body: WebhookPatch = call.body
    row = await _visible(call, lock=True)
    changes: dict[str, Any] = {}
    if body.url is not None:
        _check_target(call, body.url)
        changes["url"] = body.url
    if body.types is not None:
        changes["types"] = _types(body.types)
    if body.state is not None:
        changes |= {"state": body.state, "failures_in_a_row": 0, "next_probe_at": None}
    secret = None
    if body.rotate_secret:
        secret = new_secret(call.services.ids)
        changes |= {
            "secret_sealed": seal(call.services.sealing_key, secret),
            "previous_secret_sealed": row.secret_sealed,
            "previous_until": call.at + SECRET_OVERLAP,
        }
    changed = await store.update(call.uow, endpoint_id=row.id, changes=changes) if changes else row
    return Answer(
        body=_wire(call, changed, secret=secret), stored=_wire(call, changed, secret=None)
    )


@endpoint(
    "DELETE",
    "/v1/webhook_endpoints/{id}",
    "Remove an endpoint; its deliveries stay on record.",
    answers=WebhookOut,
    scopes=SCOPES,
)
async def delete_endpoint(call: Call) -> WebhookOut:
    """Twice is 404."""
    row = await _visible(call, lock=True)
    gone = await store.update(call.uow, endpoint_id=row.id, changes={"state": "deleted"})
    return _wire(call, gone, secret=None)


async def _visible(call: Call, *, lock: bool = False) -> EndpointRow:
    endpoint_id = call.object_id("webhook_endpoint")
    row = await store.get(call.uow, endpoint_id=endpoint_id, lock=lock)
    if row is None:
        raise NotFound
    return row


def _check_target(call: Call, url: str) -> None:
    try:
        check_url(url, allow_hosts=call.services.registry.settings.webhooks.allow_hosts)
    except TargetRefused as error:
        raise invalid_field("url", "target_refused", str(error)) from error


def _types(values: list[str]) -> list[str]:
    for value in values:
        if not _TYPE.fullmatch(value):
            raise invalid_field("types", "invalid", "A type is `deposit.final` or `deposit.*`.")
    return sorted(set(values))


def _wire(call: Call, row: EndpointRow, *, secret: str | None) -> WebhookOut:
    wire = call.services.wire
    return WebhookOut(
        id=wire.id("webhook_endpoint", row.id),
        version=row.version,
        brand=row.brand,
        livemode=wire.livemode,
        url=row.url,
        types=list(row.types),
        state=row.state,
        failures_in_a_row=row.failures_in_a_row,
        secret=secret,
        previous_secret_until=optional_time(row.previous_until),
        created_at=rfc3339(row.created_at),
    )
