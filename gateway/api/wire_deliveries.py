"""Wire models of webhook deliveries."""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import Body, Stated, Time, Wire
from gateway.api.wire_query import PageQuery, Text


class DeliveryQuery(PageQuery):
    """A list of deliveries, narrowed."""

    endpoint: Text | None = Field(default=None, description="we_...")
    event: Text | None = Field(default=None, description="evt_...")
    state: Literal["pending", "delivered", "parked"] | None = None


class DeliveryOut(Stated):
    """One event for one endpoint. `is_waiting`: an older event of the same object goes first."""

    endpoint_id: str
    event_id: str
    type: str
    seq: int
    object_version: int
    state: str
    is_waiting: bool
    attempts: int
    first_attempt_at: Time | None
    next_attempt_at: Time | None = Field(description="Null unless it is pending.")
    last_status: int | None
    last_error: str | None
    delivered_at: Time | None
    created_at: Time


class RecoverIn(Body):
    """Which events: from `since` to before `until` (now when missing), by their own time."""

    since: str = Field(description="RFC 3339.")
    until: str | None = Field(default=None, description="RFC 3339.")


class RecoverOut(Wire):
    """What was queued. `next_since`: ask again from there; null when all of it is queued."""

    queued: int
    next_since: Time | None


class WebhookTestOut(Wire):
    """The event that the endpoint alone will get: see its delivery by `?event=`."""

    event_id: str
