"""When a failed try is repeated, and when an endpoint is paused (CONTRACT 6)."""

from datetime import timedelta
from uuid import UUID

import pytest

from config.settings import WebhookSettings
from gateway.webhooks.deliveries_store import Claim, EndpointHealth
from gateway.webhooks.delivery import Outcome, Schedule
from gateway.webhooks.relay import health_after
from tests.support.clock import START

SCHEDULE = Schedule.from_settings(WebhookSettings())
ENDPOINT = UUID(int=1)
MINUTE = 60
HOUR = 3600


def claim(*, is_probe: bool = False) -> Claim:
    return Claim(
        delivery_id=UUID(int=2),
        endpoint_id=ENDPOINT,
        object_id=UUID(int=4),
        event_id=UUID(int=3),
        attempts=0,
        first_attempt_at=None,
        claimed_until=START,
        body="{}",
        url="https://pam.example.com/",
        secret_sealed=b"",
        previous_secret_sealed=None,
        previous_until=None,
        is_endpoint_failing=False,
        is_probe=is_probe,
    )


def failed(*, is_probe: bool = False) -> Outcome:
    return Outcome(claim=claim(is_probe=is_probe), status=500, reason="answered 500")


def delivered(*, is_probe: bool = False) -> Outcome:
    return Outcome(claim=claim(is_probe=is_probe), status=204, reason="")


def health(failures: int, *, is_paused: bool = False) -> EndpointHealth:
    return EndpointHealth(
        endpoint_id=ENDPOINT,
        failures_in_a_row=failures,
        is_paused=is_paused,
        next_probe_at=START if is_paused else None,
    )


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 5), (2, 30), (3, 2 * MINUTE), (4, 10 * MINUTE), (5, 30 * MINUTE), (6, HOUR),
     (7, 2 * HOUR), (8, 4 * HOUR), (9, 4 * HOUR), (25, 4 * HOUR)],
)  # fmt: skip
def test_delays_are_those_of_the_contract(failures: int, seconds: int) -> None:
    assert SCHEDULE.delay_seconds(failures) == seconds


def test_tries_go_on_for_72_hours_and_no_longer() -> None:
    tries, at = 1, START
    while (
        later := SCHEDULE.next_attempt_at(failures=tries, first_attempt_at=START, at=at)
    ) is not None:
        tries, at = tries + 1, later
    assert timedelta(hours=68) < at - START <= timedelta(hours=72)
    assert tries == 25


def test_the_twentieth_failure_in_a_row_pauses() -> None:
    assert not health_after(health(18), [failed()], schedule=SCHEDULE, at=START).is_paused
    after = health_after(health(19), [failed()], schedule=SCHEDULE, at=START)
    assert after.is_paused
    assert after.next_probe_at == START + timedelta(seconds=5)


def test_one_success_between_starts_the_count_again() -> None:
    after = health_after(health(19), [delivered(), failed()], schedule=SCHEDULE, at=START)
    assert (after.failures_in_a_row, after.is_paused) == (1, False)


def test_failed_probes_follow_the_schedule() -> None:
    state = health(20, is_paused=True)
    waits = []
    for _ in range(3):
        state = health_after(state, [failed(is_probe=True)], schedule=SCHEDULE, at=START)
        waits.append(state.next_probe_at)
    assert waits == [START + timedelta(seconds=s) for s in (30, 120, 600)]


def test_failures_in_flight_beside_the_pause_move_no_probe() -> None:
    state = health_after(health(19), [failed()] * 16, schedule=SCHEDULE, at=START)
    assert (state.failures_in_a_row, state.next_probe_at) == (20, START + timedelta(seconds=5))


def test_successful_probe_resumes() -> None:
    after = health_after(
        health(23, is_paused=True), [delivered(is_probe=True)], schedule=SCHEDULE, at=START
    )
    assert (after.failures_in_a_row, after.is_paused, after.next_probe_at) == (0, False, None)


def test_endpoint_that_a_person_paused_stays_paused() -> None:
    by_hand = EndpointHealth(
        endpoint_id=ENDPOINT, failures_in_a_row=0, is_paused=True, next_probe_at=None
    )
    assert health_after(by_hand, [delivered(), failed()], schedule=SCHEDULE, at=START) == by_hand
