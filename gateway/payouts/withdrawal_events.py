"""The events of withdrawals: what each says, and the snapshot that it carries.

Owns no state and no posting; the wire forms are rendered from these neutral fields.
"""

from collections.abc import Mapping
from typing import Any

from config.ids import Ids
from gateway.withdrawals_store import WithdrawalRow
from ledger.outbox import Event


def withdrawal_snapshot(row: WithdrawalRow) -> dict[str, Any]:
    """The neutral form that an event carries: minor units as text, ids as uuid text, times ISO."""
    return {
        "id": str(row.id),
        "version": row.version,
        "brand": row.brand,
        "request_id": row.request_id,
        "kind": row.kind,
        "deposit_id": None if row.deposit_id is None else str(row.deposit_id),
        "player_id": row.player_id,
        "network": row.network,
        "asset": row.asset,
        "address": row.address,
        "amount": str(row.amount_minor),
        "fee_class": row.fee_class,
        "fee_mode": row.fee_mode,
        "max_fee": _text(row.max_fee_minor),
        "fee_charged": _text(row.fee_charged_minor),
        "metadata": dict(row.metadata),
        "state": row.state,
        "code": row.code,
        "txid": row.txid,
        "valid_until": row.valid_until.isoformat(),
        "promise_at": row.promise_at.isoformat(),
        "accepted_at": row.accepted_at.isoformat(),
        "state_at": row.state_at.isoformat(),
    }


def _text(minor: int | None) -> str | None:
    return None if minor is None else str(minor)


def event_of(
    row: WithdrawalRow,
    *,
    previous: str | None,
    event_type: str,
    ids: Ids,
    shown: Mapping[str, Any] | None = None,
) -> Event:
    """The event of a row as it is now, or as `shown`, its snapshot of another state."""
    snapshot = withdrawal_snapshot(row) if shown is None else shown
    return Event(
        event_id=ids.new_id(),
        brand=row.brand,
        type=event_type,
        object_kind="withdrawal",
        object_id=row.id,
        object_version=snapshot["version"],
        previous_state=previous,
        snapshot=snapshot,
    )
