"""Wire models of sweeps and of the policy that they follow."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

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
from gateway.api.wire_control import Approval
from gateway.api.wire_query import PageQuery

Standing = Literal[
    "waiting",
    "gas_planned",
    "gas_sent",
    "gas_ready",
    "planned",
    "signed",
    "sent",
    "swept",
    "failed",
    "unsweepable",
]
Amount = Annotated[str, Field(max_length=100, description="Decimal string in asset units.")]
Permille = Annotated[int, Field(ge=1, le=1_000)]


class SweepQuery(PageQuery):
    """A list of sweeps, narrowed."""

    network: NetworkName | None = None
    asset: AssetId | None = None
    state: Standing | None = None


class Sweep(Stated):
    """What a deposit address holds of one asset, on its way to the hot wallet."""

    network: str
    asset: str
    address: str
    amount: AmountOut = Field(description="Of its deposits.")
    amount_minor: MinorOut
    moved: AmountOut | None = Field(description="By its tx; of the native coin less its fee.")
    deposits: int
    state: Standing
    code: str | None = Field(description="Why it waits, failed or stays.")
    reason: str | None = Field(description="threshold, age, exposure or request.")
    tries: int = Field(description="Txs of it that moved nothing.")
    txid: str | None
    look_at: Time = Field(description="Not looked at before.")
    oldest_at: Time = Field(description="Its first deposit is final since.")
    created_at: Time
    state_at: Time


class SweepIn(Body):
    """What a person wants swept now: of one network, of one asset, or everything that waits.

    With `dry_run` nothing is asked for. Only what costs more than it is worth stays.
    """

    network: NetworkName | None = None
    asset: AssetId | None = None
    dry_run: bool = False


class SweepAsked(Wire):
    """What was asked for: one line per asset and state."""

    dry_run: bool
    sweeps: int
    waiting: list["SweepTotal"]


class SweepTotal(Wire):
    """What waits or stays of one asset in one state."""

    asset: str
    state: Standing
    sweeps: int
    amount: AmountOut
    amount_minor: MinorOut


class SweepRuleIn(Body):
    """When what one deposit address holds of an asset is swept: at `threshold` while the fee is at
    most `fee_permille` of it; forced at `max_age_hours` or `exposure`, up to
    `forced_fee_permille`."""

    asset: AssetId
    threshold: Amount | None = None
    max_age_hours: int | None = Field(default=None, ge=1, le=8_784)
    exposure: Amount | None = None
    fee_permille: Permille | None = None
    forced_fee_permille: Permille | None = None
    cheap_hours: bool | None = None


class GasRuleIn(Body):
    """A network's gas account: filled from hot to `account_target` when below `account_min`."""

    network: NetworkName
    account_min: Amount | None = None
    account_target: Amount | None = None
    refill_day_max: Amount | None = None
    top_up_day_max: Amount | None = None
    rate_max_wei: str | None = Field(
        default=None, pattern=r"^[1-9][0-9]{0,29}$", description="Wei per gas, base fee and tip."
    )


class SweepPolicyIn(Body):
    """A whole new version. `base_version` is the one that it was written against."""

    base_version: int = Field(ge=0)
    rules: list[SweepRuleIn] = Field(max_length=200)
    gas: list[GasRuleIn] = Field(default_factory=list, max_length=200)
    reason: str = Field(min_length=1, max_length=500)


class SweepPolicyOut(Wire):
    """The version in force."""

    version: int
    livemode: bool
    rules: list[SweepRuleIn]
    gas: list[GasRuleIn]
    proposed_by: str | None
    approved_by: str | None
    created_at: Time | None


class SweepPolicyAnswer(Wire):
    """The policy as it stands, and the decision that a new version waits for."""

    policy: SweepPolicyOut
    approval: Approval | None


def sweep(snapshot: Mapping[str, Any], *, context: WireContext) -> Sweep:
    """A sweep from its neutral fields."""
    asset, moved = snapshot["asset"], snapshot["moved"]
    return Sweep(
        id=context.id("sweep", snapshot["id"]),
        version=snapshot["version"],
        brand=snapshot["brand"],
        livemode=context.livemode,
        network=snapshot["network"],
        asset=asset,
        address=snapshot["address"],
        amount=context.amount(int(snapshot["amount"]), asset),
        amount_minor=snapshot["amount"],
        moved=None if moved is None else context.amount(int(moved), asset),
        deposits=snapshot["deposits"],
        state=snapshot["state"],
        code=snapshot["code"],
        reason=snapshot["reason"],
        tries=snapshot["tries"],
        txid=snapshot["txid"],
        **{
            name: rfc3339(snapshot[name])
            for name in ("look_at", "oldest_at", "created_at", "state_at")
        },
    )
