"""Wire JSON of objects and events (CONTRACT 3 and 6).

The API, the feed and the webhooks render a neutral snapshot (`ledger.events.snapshot`) here, so
that an object looks the same everywhere. It must not read the database. The models themselves are
in the `wire_*.py` modules.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.api import (
    wire_objects,
    wire_rebalances,
    wire_reconciliations,
    wire_sweeps,
    wire_wallets,
)
from gateway.api.wire_base import WireContext, rfc3339

__all__ = ["WireContext", "render_event", "render_object", "rfc3339"]


def render_object(
    kind: str, snapshot: Mapping[str, Any], *, context: WireContext
) -> dict[str, Any]:
    """The wire object of an event's snapshot. Kinds without a model show their plain fields."""
    match kind:
        case "deposit":
            return wire_objects.deposit(snapshot, context=context).model_dump()
        case "withdrawal":
            return wire_objects.withdrawal(snapshot, context=context).model_dump()
        case "address":
            return wire_objects.address(snapshot, context=context).model_dump()
        case "inflow":
            return wire_objects.inflow(snapshot, context=context).model_dump()
        case "rebalance":
            return wire_rebalances.rebalance(snapshot, context=context).model_dump()
        case "sweep":
            return wire_sweeps.sweep(snapshot, context=context).model_dump()
        case "switch":
            named = {"id": context.id("switch", snapshot["id"]), "livemode": context.livemode}
            times = {name: rfc3339(snapshot[name]) for name in ("stopped_at", "changed_at")}
            return {**snapshot, **times, **named}
        case "wallet":
            return wire_wallets.band_event(snapshot, context=context)
        case "reconciliation_break":
            return wire_reconciliations.open_break(snapshot, context=context).model_dump()
        case _:
            return {**snapshot, "livemode": context.livemode}


def render_event(
    *,
    event_id: UUID,
    seq: int,
    event_type: str,
    created_at: datetime,
    brand: str,
    object_kind: str,
    object_version: int,
    previous_state: str | None,
    snapshot: Mapping[str, Any],
    context: WireContext,
) -> dict[str, Any]:
    """The body of CONTRACT 6: what the feed lists and every delivery sends."""
    return {
        "id": context.id("event", event_id),
        "seq": seq,
        "type": event_type,
        "created_at": rfc3339(created_at),
        "brand": brand,
        "object": render_object(object_kind, snapshot, context=context),
        "object_version": object_version,
        "previous_state": previous_state,
    }
