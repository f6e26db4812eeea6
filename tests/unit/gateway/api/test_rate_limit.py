"""GCRA: a burst, then the average, per key."""

from gateway.api.rate_limit import RateLimiter
from tests.support.clock import ManualClock


def test_a_burst_is_let_through_and_then_the_average(clock: ManualClock) -> None:
    limiter = RateLimiter(clock, per_second=2, burst=3)
    assert [limiter.wait_seconds("a") for _ in range(4)] == [0, 0, 0, 1]
    clock.advance(0.5)
    assert [limiter.wait_seconds("a") for _ in range(2)] == [0, 1]


def test_keys_do_not_share_their_limits(clock: ManualClock) -> None:
    limiter = RateLimiter(clock, per_second=1, burst=1)
    assert (limiter.wait_seconds("a"), limiter.wait_seconds("b")) == (0, 0)
    assert limiter.wait_seconds("a") == 1


def test_a_pause_gives_no_more_than_the_burst_back(clock: ManualClock) -> None:
    limiter = RateLimiter(clock, per_second=10, burst=2)
    clock.advance(1000)
    assert [limiter.wait_seconds("a") for _ in range(3)] == [0, 0, 1]
