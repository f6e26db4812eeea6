"""Polling follows the block time and never waits longer than configured."""

import pytest

from watchers.polling import POLL_SECONDS_MIN, PollPace


@pytest.mark.parametrize(
    ("block_seconds", "wait_seconds"), [(600, 5.0), (12, 1.5), (2, POLL_SECONDS_MIN)]
)
def test_the_wait_is_an_eighth_of_a_block_within_its_limits(
    block_seconds: int, wait_seconds: float
) -> None:
    pace = PollPace(poll_seconds=5.0)
    assert pace.wait_seconds == 5.0
    for n in range(10):
        pace.blocks_came(1, at_seconds=float(n * block_seconds))
    assert pace.wait_seconds == wait_seconds


def test_catching_up_is_no_block_time() -> None:
    pace = PollPace(poll_seconds=5.0)
    for n in range(10):
        pace.blocks_came(100, at_seconds=n / 10)
    assert pace.wait_seconds == 5.0


def test_one_late_block_changes_little() -> None:
    pace = PollPace(poll_seconds=60.0)
    for n in range(10):
        pace.blocks_came(1, at_seconds=float(n * 12))
    pace.blocks_came(1, at_seconds=9 * 12.0 + 36)
    assert pace.wait_seconds == 2.25  # (12 + (36 - 12) / 4) / 8
