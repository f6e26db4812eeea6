"""What to move, and by when: every branch, with amounts that can be checked by eye."""

from datetime import UTC, datetime, timedelta

import pytest

from config.treasury_policy import Band
from gateway.treasury.advice import Advice, Reason, advise

BAND = Band(min_minor=100, target_minor=500, max_minor=1_000)
NOW = datetime(2026, 1, 5, 14, 20, tzinfo=UTC)
THIS_HOUR = datetime(2026, 1, 5, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("free", "needs", "expected"),
    [
        (100, (), None),
        (1_000, (), None),
        (500, (50, 100, 400), None),
        (99, (), ("cold_to_hot", 401, Reason.BELOW_MIN, 0)),
        (-50, (), ("cold_to_hot", 550, Reason.PAYOUTS_WAIT, 0)),
        (99, (100, 200), ("cold_to_hot", 601, Reason.BELOW_MIN, 200)),
        (99, (5_000,), ("cold_to_hot", 901, Reason.BELOW_MIN, 5_000)),  # never above the maximum
        (1_001, (), ("hot_to_cold", 501, Reason.ABOVE_MAX, 0)),
        (1_500, (200,), ("hot_to_cold", 800, Reason.ABOVE_MAX, 200)),  # what is needed stays
        (1_500, (5_000,), ("hot_to_cold", 500, Reason.ABOVE_MAX, 5_000)),
        (1_000, (950,), None),  # more than the maximum cannot be held, whatever is expected
    ],
)
def test_advice_now(
    free: int, needs: tuple[int, ...], expected: tuple[str, int, Reason, int] | None
) -> None:
    found = advise(free_minor=free, band=BAND, needs=needs, now=NOW)
    told = found and (found.direction, found.amount_minor, found.reason, found.need_minor)
    assert told == expected
    assert found is None or found.before == NOW


def test_a_forecast_names_the_hour_before_which_the_wallet_is_short() -> None:
    found = advise(free_minor=500, band=BAND, needs=(100, 300, 450, 700), now=NOW)
    assert found == Advice(
        direction="cold_to_hot",
        amount_minor=500,  # target 500 and the 700 that leave, at most 1,000, less what is there
        reason=Reason.FORECAST,
        before=THIS_HOUR + timedelta(hours=2),
        need_minor=700,
    )


def test_what_this_hour_takes_is_needed_now() -> None:
    found = advise(free_minor=500, band=BAND, needs=(401,), now=NOW)
    assert found is not None
    assert (found.reason, found.before) == (Reason.FORECAST, NOW)
