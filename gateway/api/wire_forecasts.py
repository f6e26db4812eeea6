"""Wire models of forecasts: what the next hours are expected to bring, and how good that was."""

from typing import Literal

from pydantic import Field

from gateway.api.wire_base import AmountOut, AssetId, MinorOut, Time, Wire
from gateway.api.wire_query import BrandQuery, Text

FlowName = Literal["inflow", "demand", "outflow"]


class ForecastQuery(BrandQuery):
    """Which asset, and how far ahead."""

    asset: Text | None = Field(default=None, description="All assets when missing.")
    hours: Text | None = Field(
        default=None, description="1 to 168; the policy's `horizon_hours` when missing."
    )


class BacktestQuery(ForecastQuery):
    """A back-test is of one asset and one flow."""

    flow: FlowName = "demand"


class QuantilesOut(Wire):
    """The sum of the hours: as likely less as more (p50), nine and ninety-nine of a hundred sums
    are at most that. Null with too little history (`basis` none)."""

    basis: Literal["hour_of_week", "hour_of_day", "all_hours", "none"] = Field(
        description="Which past hours it is made of."
    )
    samples: int = Field(description="How many past sums; below 100 the p99 is the largest.")
    p50: AmountOut | None = None
    p50_minor: MinorOut | None = None
    p90: AmountOut | None = None
    p90_minor: MinorOut | None = None
    p99: AmountOut | None = None
    p99_minor: MinorOut | None = None


class AdviceOut(Wire):
    """What would bring the hot wallet back into its band, or keep it there."""

    direction: Literal["cold_to_hot", "hot_to_cold"]
    amount: AmountOut
    amount_minor: MinorOut
    reason: Literal["payouts_wait", "below_min", "forecast", "above_max"]
    before: Time
    text: str


class ForecastOut(Wire):
    """One asset. `inflow`: deposits; `demand`: withdrawals asked for; `outflow`: payouts signed."""

    asset: AssetId
    starts_at: Time = Field(description="The beginning of the current hour, which is in the sum.")
    hours: int
    history_hours: int = Field(description="How long the house has summed up its hours.")
    inflow: QuantilesOut
    demand: QuantilesOut
    outflow: QuantilesOut
    free: str = Field(description="What the hot wallet has that nobody waits for.")
    free_minor: MinorOut
    advice: AdviceOut | None = Field(description="Null: inside its band and staying there.")


class ForecastsOut(Wire):
    """Every asset that was asked for."""

    items: list[ForecastOut]


class QuantileTestOut(Wire):
    """How one quantile did. Losses are mean pinball losses, in asset units; `naive_loss` is that of
    a forecast that takes all past hours alike."""

    quantile: Literal["p50", "p90", "p99"]
    covered: int = Field(description="Forecasts that held what came.")
    coverage_permille: int = Field(description="Promised are 500, 900 and 990.")
    loss: AmountOut
    loss_minor: MinorOut
    naive_loss: AmountOut
    naive_loss_minor: MinorOut


class BacktestOut(Wire):
    """Forecasts of each hour of the last weeks, made of what was known before it."""

    asset: AssetId
    flow: FlowName
    hours: int
    history_hours: int
    forecasts: int
    skipped: int = Field(description="Hours that had too little history before them.")
    quantiles: list[QuantileTestOut]
