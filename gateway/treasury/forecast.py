"""What the next hours will bring, by what the same hours of past weeks brought.

Owns the forecast and its back-test, both pure and in integers: an empirical distribution, no model.
The sum of the next `hours` is compared with sums of as many hours that began at the same hour of
the week, two hours about it, in the last 26 weeks; with less history at the same hour of the day,
then at any hour. A quantile is a sum that really occurred (nearest rank, upwards), so that with
fewer than 100 sums the 99th is the largest. Amounts are minor units, quantiles permille.
"""

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

QUANTILES: Final = (500, 900, 990)
DAY: Final = 24
WEEK: Final = 7 * DAY
WEEKS_MAX: Final = 26  # older weeks were another business
NEAR_WEEK: Final = 2  # hours about the same hour of the week
NEAR_DAY: Final = 1  # hours about the same hour of the day
SAMPLES_MIN: Final = 20  # fewer sums say nothing; five weeks have them by the hour of the week
HOURS_MAX: Final = WEEK
BACKTEST_WEEKS: Final = 8


class Basis(StrEnum):
    """Which past hours a forecast is made of."""

    HOUR_OF_WEEK = "hour_of_week"
    """The same hour of past weeks, and two about it."""
    HOUR_OF_DAY = "hour_of_day"
    """The same hour of past days, and one about it: less than five weeks of history."""
    ALL_HOURS = "all_hours"
    """Every past hour: some days of history."""
    NONE = "none"
    """Too little history to say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What each hour brought, the first of them being `first_hour` (hours since 1970)."""

    first_hour: int
    amounts: tuple[int, ...]

    @property
    def next_hour(self) -> int:
        """The first hour that is not in it."""
        return self.first_hour + len(self.amounts)

    def sums(self) -> list[int]:
        """The sum of all hours before each place, one more than there are hours."""
        return [0, *accumulate(self.amounts)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The sum of the hours from `hour` on: `quantiles` is empty with too little history."""

    hour: int
    hours: int
    basis: Basis
    samples: int
    quantiles: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileTest:
    """How one quantile did: `covered` of the forecasts held the sum that came. Losses are pinball
    losses per forecast, minor units, rounded down; the naive one takes any past hours alike."""

    permille: int
    covered: int
    loss_minor: int
    naive_loss_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """Forecasts of the past, each from what was known before it. `skipped`: had too little."""

    hours: int
    forecasts: int
    skipped: int
    quantiles: tuple[QuantileTest, ...]


def predict(series: Series, *, hour: int, hours: int) -> Forecast:
    """The sum of the `hours` from `hour` on. Raises ValueError for an hour inside the series, or
    for more hours than a week."""
    return predict_each(series, hour=hour, spans=[hours])[0]


def predict_each(series: Series, *, hour: int, spans: Sequence[int]) -> list[Forecast]:
    """`predict` for several spans of hours from the same hour on."""
    if hour < series.next_hour or not all(1 <= hours <= HOURS_MAX for hours in spans):
        raise ValueError(f"from {hour} for {spans} hours: 1 to {HOURS_MAX} after the history")
    sums, first, end = series.sums(), series.first_hour, series.next_hour
    return [_predict(sums, first, end, hour=hour, hours=hours) for hours in spans]


def backtest(series: Series, *, hours: int, weeks: int = BACKTEST_WEEKS) -> Backtest:
    """Forecast every hour of the last `weeks` that is over, as it would have been forecast then."""
    sums, first = series.sums(), series.first_hour
    last = series.next_hour - hours
    start = max(first + hours, last + 1 - weeks * WEEK)
    climate = sorted(sums[place + hours] - sums[place] for place in range(start - hours - first))
    covered, loss, naive = (dict.fromkeys(QUANTILES, 0) for _ in range(3))
    count = skipped = 0
    for origin in range(start, last + 1):
        place = origin - first
        insort(climate, sums[place] - sums[place - hours])  # the window that has just ended
        found = _predict(sums, first, origin, hour=origin, hours=hours)
        if not found.quantiles:
            skipped += 1
            continue
        count += 1
        actual = sums[place + hours] - sums[place]
        for permille, amount in found.quantiles.items():
            covered[permille] += actual <= amount
            loss[permille] += pinball(permille, forecast=amount, actual=actual)
            other = quantile(climate, permille)
            naive[permille] += pinball(permille, forecast=other, actual=actual)
    return Backtest(
        hours=hours,
        forecasts=count,
        skipped=skipped,
        quantiles=tuple(
            QuantileTest(
                permille=permille,
                covered=covered[permille],
                loss_minor=loss[permille] // (1_000 * max(count, 1)),
                naive_loss_minor=naive[permille] // (1_000 * max(count, 1)),
            )
            for permille in QUANTILES
        ),
    )


def quantile(ordered: Sequence[int], permille: int) -> int:
    """The nearest rank, upwards, of amounts in order. Raises IndexError for none."""
    return ordered[-(-permille * len(ordered) // 1_000) - 1]


def pinball(permille: int, *, forecast: int, actual: int) -> int:
    """The loss of a quantile forecast (Koenker and Bassett 1978), times 1,000."""
    if actual >= forecast:
        return permille * (actual - forecast)
    return (1_000 - permille) * (forecast - actual)


def _predict(sums: Sequence[int], first: int, end: int, *, hour: int, hours: int) -> Forecast:
    """From the hours [first, end) alone."""
    basis, found = Basis.NONE, list[int]()
    for candidate, step, near in (
        (Basis.HOUR_OF_WEEK, WEEK, NEAR_WEEK),
        (Basis.HOUR_OF_DAY, DAY, NEAR_DAY),
        (Basis.ALL_HOURS, 1, 0),
    ):
        starts = _starts(first, end - hours, hour=hour, step=step, near=near)
        if len(starts) >= SAMPLES_MIN:
            basis = candidate
            found = sorted(sums[s - first + hours] - sums[s - first] for s in starts)
            break
    return Forecast(
        hour=hour,
        hours=hours,
        basis=basis,
        samples=len(found),
        quantiles={permille: quantile(found, permille) for permille in QUANTILES} if found else {},
    )


def _starts(first: int, last: int, *, hour: int, step: int, near: int) -> list[int]:
    """Hours in [first, last] that lie whole steps before `hour`, or up to `near` about that."""
    earliest = max(first, hour - WEEKS_MAX * WEEK)
    return [
        start
        for middle in range(hour - step, earliest - near - 1, -step)
        for start in range(middle - near, middle + near + 1)
        if earliest <= start <= last
    ]
