"""Polling follows the block time and never waits longer than configured."""

import pytest

from watchers.polling import (
    MEMPOOL_PAUSE_SECONDS_MAX,
    POLL_SECONDS_MIN,
    MempoolPace,
    PollPace,
)


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


def test_a_mempool_is_looked_at_for_a_tenth_of_the_time() -> None:
    pace = MempoolPace()
    assert pace.is_due(at_seconds=100.0)
    pace.looked(from_seconds=100.0, to_seconds=100.25)
    assert not pace.is_due(at_seconds=102.4)
    assert pace.is_due(at_seconds=102.5)
    pace.looked(from_seconds=102.5, to_seconds=102.5)
    assert pace.is_due(at_seconds=102.5)


def test_a_slow_mempool_waits_no_longer_than_its_limit() -> None:
    pace = MempoolPace()
    pace.looked(from_seconds=0.0, to_seconds=30.0)
    assert not pace.is_due(at_seconds=29.9 + MEMPOOL_PAUSE_SECONDS_MAX)
    assert pace.is_due(at_seconds=30.0 + MEMPOOL_PAUSE_SECONDS_MAX)
