"""Which months `cage db detach` may take."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.cli.console import REFUSED, USAGE, CliError
from gateway.cli.months import KEPT_DAYS, month_of

FREE = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=KEPT_DAYS)  # of December 2025


def test_a_month_is_free_a_quarter_after_its_end() -> None:
    assert month_of("2025-12", at=FREE) == datetime(2025, 12, 1, tzinfo=UTC)
    assert month_of("2024-02", at=FREE) == datetime(2024, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize("month", ["2025-12", "2026-01", "2027-01"])
def test_a_younger_month_is_refused_with_its_day(month: str) -> None:
    with pytest.raises(CliError) as error:
        month_of(month, at=FREE - timedelta(microseconds=1))
    assert error.value.code == REFUSED
    assert f"{month} may be detached from 202" in str(error.value)


@pytest.mark.parametrize(
    "text", ["2025", "2025-13", "2025-00", "25-01", "2025-1", "2025-01-01", "x"]
)
def test_what_is_no_month_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(CliError) as error:
        month_of(text, at=FREE)
    assert (error.value.code, error.value.hint) == (USAGE, "write it as 2026-01")
