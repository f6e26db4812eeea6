"""What is expected of one asset: its history read, forecasts of each flow, and the refill advice.

Owns the step from rows to the pure parts (`forecast`, `advice`), shared by the API and the watch.
Amounts are minor units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from config.database import Uow
from config.registry import Registry
from config.treasury_policy import PERMILLE
from gateway.treasury import flows, forecast
from gateway.treasury.advice import Advice, advise
from gateway.treasury.flows import Flow
from gateway.treasury.forecast import Forecast, Series
from gateway.treasury.positions import BandPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What withdrawals are expected to take: within 1, 2, ... hours at the policy's quantile, none
    with too little history; and the forecast of the whole horizon, where there is any history."""

    by_hour: tuple[int, ...]
    whole: Forecast | None


def ahead(series: Series, *, hours: int, at: datetime) -> Forecast:
    """The sum of the next `hours`, the current one among them. Raises ValueError."""
    return forecast.predict(series, hour=start_of(series, at), hours=hours)


def start_of(series: Series, at: datetime) -> int:
    """The hour that forecasts begin with: the current one, as soon as it is not in the history."""
    return max(flows.hour_of(at), series.next_hour)


async def need_of(uow: Uow, registry: Registry, asset: str, *, at: datetime) -> Need:
    """What the withdrawals of an asset are expected to take within the policy's horizon."""
    policy = registry.policy.treasury
    network = registry.assets[asset].network
    series = await flows.series(uow, network=network, asset=asset, flow=Flow.DEMAND)
    if series is None:
        return Need(by_hour=(), whole=None)
    spans = range(1, policy.horizon_hours + 1)
    found = forecast.predict_each(series, hour=start_of(series, at), spans=spans)
    permille = PERMILLE[policy.refill_quantile]
    sums = tuple(item.quantiles[permille] for item in found if item.quantiles)
    is_known = len(sums) == len(found)
    return Need(by_hour=sums if is_known else (), whole=found[-1])


def advice_on(item: BandPosition, needs: Sequence[int], *, at: datetime) -> Advice | None:
    """What would bring a hot wallet back into its band, or keep it there."""
    return advise(free_minor=item.free_minor, band=item.band, needs=needs, now=at)
