"""Wire models of moves between hot, warm and cold."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from gateway.api.wire_base import (
    AmountOut,
    AssetId,
    Body,
    MinorOut,
    NetworkName,
    Stated,
    Time,
    Wire,
    WireContext,
    rfc3339,
)
from gateway.api.wire_query import PageQuery

Way = Literal["hot_to_cold", "cold_to_hot", "hot_to_warm", "warm_to_hot"]
Standing = Literal[
    "proposed",
    "approved",
    "planned",
    "unsigned_ready",
    "signed",
    "sent",
    "done",
    "failed",
    "declined",
    "cancelled",
]


class RebalanceQuery(PageQuery):
    """A list of rebalances, narrowed."""

    asset: AssetId | None = None
    state: Standing | None = None
    direction: Way | None = None


class RebalancePlanIn(Body):
    """What to plan: nothing for every wallet outside its band, or one move. Nothing is moved.

    With `propose` it becomes a request that people approve.
    """

    propose: bool = False
    asset: AssetId | None = None
    direction: Way | None = Field(default=None, description="With `asset`.")
    amount: str | None = Field(
        default=None,
        description="Decimal string in asset units; without it, as much as the band asks for.",
    )
    reason: str | None = Field(
        default=None, min_length=1, max_length=500, description="Required to propose."
    )


class RebalanceApproveIn(Body):
    """What a person signs: this rebalance, in these words. The signer reads these very bytes."""

    rebalance_id: str
    direction: Way
    network: NetworkName
    asset: AssetId
    address: str
    amount: str = Field(description="Decimal string in asset units.")
    valid_until: str = Field(description="RFC 3339, as the rebalance says it.")


class RebalanceDeclineIn(Body):
    """Why not."""

    reason: str = Field(min_length=1, max_length=500)
    dry_run: bool = Field(default=False, description="Say whether it could be; change nothing.")


class PlannedRebalance(Wire):
    """What would bring a hot wallet back to its target."""

    asset: str
    network: str
    direction: Way
    amount: AmountOut
    amount_minor: MinorOut
    reason: str = Field(
        description="`payouts_wait`, `below_min`, `forecast`, `above_max`, or what was given."
    )
    id: str | None = Field(description="Of the open request for it; null: there is none.")
    state: Standing | None


class RebalancePlan(Wire):
    """A plan: nothing was moved."""

    created_at: Time
    items: list[PlannedRebalance]


class Rebalance(Stated):
    """One move between two wallets."""

    network: str
    asset: str
    direction: Way
    amount: AmountOut
    amount_minor: MinorOut
    address: str = Field(description="Where it goes: an own address.")
    reason: str
    forecast: str | None = Field(description="Why now, as it was known then.")
    state: Standing
    code: str | None = Field(
        description="Why it failed, was declined or cancelled; or waits (`signer_cap`)."
    )
    people_needed: int = Field(description="How many people sign it.")
    requested_by: str | None = Field(description="Null: the system.")
    txid: str | None
    valid_until: Time
    created_at: Time
    updated_at: Time


class RebalanceDetail(Rebalance):
    """One move, with who signed it."""

    signed_by: list[str]


def rebalance(snapshot: Mapping[str, Any], *, context: WireContext) -> Rebalance:
    """A rebalance from its neutral fields; it is the operator's."""
    return Rebalance(**_fields(snapshot, context))


def detail(
    snapshot: Mapping[str, Any], *, signed_by: Sequence[str], context: WireContext
) -> RebalanceDetail:
    """The same with who signed it."""
    return RebalanceDetail(**_fields(snapshot, context), signed_by=list(signed_by))


def _fields(snapshot: Mapping[str, Any], context: WireContext) -> dict[str, Any]:
    amount = int(snapshot["amount"])
    plain = (
        "version", "network", "asset", "direction", "address", "reason", "forecast", "state",
        "code", "people_needed", "requested_by", "txid",
    )  # fmt: skip
    return {
        **{name: snapshot[name] for name in plain},
        "id": context.id("rebalance", snapshot["id"]),
        "brand": "operator",
        "livemode": context.livemode,
        "amount": context.amount(amount, snapshot["asset"]),
        "amount_minor": str(amount),
        "valid_until": rfc3339(snapshot["valid_until"]),
        "created_at": rfc3339(snapshot["created_at"]),
        "updated_at": rfc3339(snapshot["state_at"]),
    }
