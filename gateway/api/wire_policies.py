"""Wire models of the credit policy, reference rates and players' flags."""

from typing import Annotated

from pydantic import Field

from gateway.api.wire_base import AssetId, Body, PlayerId, Time, Wire
from gateway.api.wire_control import Approval

Money = Annotated[
    str,
    Field(
        pattern=r"^(0|[1-9][0-9]{0,29})(\.[0-9]{1,18})?$",
        description="Decimal string in the reference currency.",
        examples=["20000.00"],
    ),
]
BrandName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,31}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
RateText = Annotated[
    str,
    Field(
        pattern=r"^(0|[1-9][0-9]{0,19})(\.[0-9]{1,18})?$",
        description="Units of the reference currency per one whole unit of the asset.",
        examples=["64250.5"],
    ),
]
Depth = Annotated[int, Field(ge=1, le=10_000)]


class TierStep(Body):
    """Confirmations for amounts up to `up_to` (asset units; the last step has none)."""

    up_to: str | None = Field(default=None, max_length=100)
    min: Depth = Field(description="Until `provisional`.")
    full: Depth = Field(description="Until `final`.")


class TierRuleIn(Body):
    """Tiers of an asset; for one brand, one group of players, both, or everybody."""

    asset: AssetId
    brand: BrandName | None = None
    group: Word | None = None
    steps: list[TierStep] = Field(min_length=1, max_length=20)


class CapRuleIn(Body):
    """Caps of one brand, or of every brand without a rule of its own; none: no cap."""

    brand: BrandName | None = None
    per_player: Money | None = None
    per_brand: Money | None = None
    per_asset: dict[AssetId, Money] = Field(default_factory=dict, max_length=100)


class ConfirmationsIn(Body):
    """A whole new version. `base_version` is the one that it was written against."""

    base_version: int = Field(ge=0)
    tiers: list[TierRuleIn] = Field(max_length=500)
    caps: list[CapRuleIn] = Field(max_length=500)
    reason: str = Field(min_length=1, max_length=500)


class ConfirmationsOut(Wire):
    """The version in force. Assets without a rule follow `GET /v1/assets`."""

    version: int
    livemode: bool
    currency: str
    currency_decimals: int
    tiers: list[TierRuleIn]
    caps: list[CapRuleIn]
    proposed_by: str | None
    approved_by: str | None
    created_at: Time | None


class ConfirmationsAnswer(Wire):
    """The policy as it stands, and the decision that a new version waits for."""

    policy: ConfirmationsOut
    approval: Approval | None


class RateIn(Body):
    """A rate. Too far from those of the last hour, a second person makes the same call."""

    asset: AssetId
    rate: RateText
    as_of: str | None = Field(default=None, max_length=64, description="RFC 3339; now if missing.")


class RateOut(Wire):
    """One reference rate."""

    asset: AssetId
    currency: str
    rate: RateText
    source: str
    as_of: Time
    entered_by: str
    approved_by: str | None
    is_fresh: bool = Field(description="False: every cap that needs it is full.")


class RateAnswer(Wire):
    """The rate in force, and the decision that another one waits for."""

    rate: RateOut | None
    approval: Approval | None


class PlayerFlagsIn(Body):
    """What the casino says of a player; replaces all of what it said before."""

    kyc_level: Word | None = None
    group: Word | None = None
    country: str | None = Field(default=None, pattern=r"^[A-Z]{2}$", description="ISO 3166-1.")
    blocked_reasons: list[Word] = Field(default_factory=list, max_length=16)


class PlayerFlagsOut(Wire):
    """The flags in force."""

    id: PlayerId
    version: int
    brand: str
    livemode: bool
    kyc_level: str | None
    group: str | None
    country: str | None
    blocked_reasons: list[str]
    updated_at: Time
