"""The forecast is an honest count of the past: known answers, and a back-test that can fail."""

import random
from fractions import Fraction

import pytest

from gateway.treasury.forecast import (
    DAY,
    QUANTILES,
    WEEK,
    Basis,
    Series,
    backtest,
    pinball,
    predict,
    quantile,
)

MONDAY = 4 * DAY  # 1970-01-05; any hour will do, as long as weeks line up


def _weeks(count: int, *, base: int, friday: int) -> Series:
    """Each hour `base`, each Friday from 18:00 to 22:00 `friday`."""
    evening = range(4 * DAY + 18, 4 * DAY + 22)
    one = [friday if hour in evening else base for hour in range(WEEK)]
    return Series(first_hour=MONDAY, amounts=tuple(one * count))


def _noisy(weeks: int, *, seed: int) -> Series:
    """A day that swings, with noise; heavy at the top, as payouts are."""
    source = random.Random(seed)
    amounts = [
        int((1 + (hour % DAY)) * 1_000 * source.paretovariate(3)) for hour in range(weeks * WEEK)
    ]
    return Series(first_hour=MONDAY, amounts=tuple(amounts))


@pytest.mark.parametrize(
    ("permille", "expected"), [(500, 5), (900, 9), (990, 10), (1, 1), (1_000, 10)]
)
def test_a_quantile_is_the_nearest_rank_upwards(permille: int, expected: int) -> None:
    assert quantile(list(range(1, 11)), permille) == expected


def test_the_pinball_loss_weighs_both_sides_by_the_quantile() -> None:
    assert pinball(900, forecast=100, actual=110) == 9_000
    assert pinball(900, forecast=110, actual=100) == 1_000
    assert pinball(900, forecast=100, actual=100) == 0


def test_a_busy_evening_is_expected_before_it_comes() -> None:
    series = _weeks(8, base=10, friday=500)
    evening = series.next_hour + 4 * DAY + 20
    found = predict(series, hour=evening, hours=1)
    assert (found.basis, found.samples) == (Basis.HOUR_OF_WEEK, 8 * 5)
    assert found.quantiles == {
        500: 500,
        900: 500,
        990: 500,
    }  # of five hours about it, four are busy
    quiet = predict(series, hour=series.next_hour + 3, hours=1)
    assert set(quiet.quantiles.values()) == {10}


def test_the_sum_of_hours_is_not_the_sum_of_quantiles() -> None:
    """Value comes in one of two hours, never in both: the sum is as certain as can be."""
    series = Series(first_hour=MONDAY, amounts=(100, 0) * (DAY * 30))
    one, two = (predict(series, hour=series.next_hour, hours=hours) for hours in (1, 2))
    assert one.quantiles[990] == 100
    assert two.quantiles == {500: 100, 900: 100, 990: 100}


def test_little_history_takes_broader_hours_and_then_says_nothing() -> None:
    whole = _weeks(5, base=10, friday=10)
    found = {
        hours: predict(
            Series(first_hour=MONDAY, amounts=whole.amounts[:hours]), hour=MONDAY + hours, hours=2
        )
        for hours in (5 * WEEK, 8 * DAY, 2 * DAY, 12, 0)
    }
    assert [item.basis for item in found.values()] == [
        Basis.HOUR_OF_WEEK, Basis.HOUR_OF_DAY, Basis.ALL_HOURS, Basis.NONE, Basis.NONE,
    ]  # fmt: skip
    assert found[12].quantiles == {}
    assert found[2 * DAY].quantiles[500] == 20


def test_only_hours_that_are_over_are_looked_at() -> None:
    """A window that reaches into the hours to come is no sample: the last known hour is large."""
    series = Series(first_hour=MONDAY, amounts=(*[0] * 100, 1_000))
    assert predict(series, hour=series.next_hour, hours=24).samples == 101 - 24 + 1


@pytest.mark.parametrize(("ahead", "hours"), [(-1, 1), (0, 0), (0, WEEK + 1)])
def test_a_question_about_the_past_or_too_far_is_refused(ahead: int, hours: int) -> None:
    series = _weeks(4, base=1, friday=1)
    with pytest.raises(ValueError, match="hours"):
        predict(series, hour=series.next_hour + ahead, hours=hours)


def test_a_backtest_of_a_regular_past_has_no_loss_and_beats_the_naive_one() -> None:
    found = backtest(_weeks(12, base=10, friday=900), hours=24)
    assert (found.forecasts, found.skipped) == (8 * WEEK, 0)
    for item in found.quantiles:
        assert item.covered >= found.forecasts * item.permille // 1_000
        assert item.loss_minor < item.naive_loss_minor


def test_a_backtest_tells_when_the_past_was_no_guide() -> None:
    """Six weeks of ten, then two of a thousand: coverage breaks down, and it says so."""
    series = Series(first_hour=MONDAY, amounts=(10,) * (6 * WEEK) + (1_000,) * (2 * WEEK))
    found = backtest(series, hours=6, weeks=2)
    assert found.quantiles[1].permille == 900
    assert found.quantiles[1].covered < found.forecasts // 2
    assert found.quantiles[1].loss_minor > 100


def test_the_quantiles_of_noise_cover_what_they_promise() -> None:
    found = backtest(_noisy(26, seed=7), hours=4)
    assert found.forecasts == 8 * WEEK
    for item, within in zip(found.quantiles, (60, 40, 20), strict=True):
        promised = Fraction(item.permille, 1_000)
        assert abs(Fraction(item.covered, found.forecasts) - promised) < Fraction(within, 1_000)
        assert item.loss_minor < item.naive_loss_minor


def test_a_backtest_knows_nothing_of_what_comes_after_each_origin() -> None:
    """The last hours changed: forecasts made before them are the same, only their losses differ."""
    series = _noisy(8, seed=3)
    other = Series(
        first_hour=series.first_hour, amounts=(*series.amounts[:-1], series.amounts[-1] + 10**9)
    )
    ours, theirs = (backtest(item, hours=1) for item in (series, other))
    assert [item.permille for item in ours.quantiles] == list(QUANTILES)
    for mine, changed in zip(ours.quantiles, theirs.quantiles, strict=True):
        assert 0 <= mine.covered - changed.covered <= 1
        assert changed.loss_minor >= mine.loss_minor


def test_too_short_a_past_has_no_backtest() -> None:
    found = backtest(Series(first_hour=MONDAY, amounts=(1,) * 10), hours=24)
    assert (found.forecasts, found.skipped) == (0, 0)
