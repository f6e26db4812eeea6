"""What lies at a deposit address is swept for a reason, and at a fee that is worth it (T5, N13)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from config.sweep_policy import SweepRule
from gateway.payouts import sweep_choice
from gateway.payouts.sweep_choice import Offer, Reason, judge

NOW = datetime(2026, 5, 1, tzinfo=UTC)
RULE = SweepRule(
    asset="eth:USDT",
    threshold_minor=100,
    max_age=timedelta(days=7),
    exposure_minor=1_000,
    fee_permille=10,
    forced_fee_permille=500,
)
OFFER = Offer(
    amount_minor=100,
    value_minor=10_000,
    fee_minor=100,
    least_fee_minor=50,
    is_cheap=True,
    is_requested=False,
    oldest_at=NOW - timedelta(hours=1),
)


def told(offer: Offer, rule: SweepRule = RULE) -> tuple[Reason | None, str | None, bool]:
    found = judge(offer, rule, now=NOW)
    return found.reason, found.code, found.is_dust


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (Reason.THRESHOLD, None, False)),
        ({"amount_minor": 99}, (None, "below_threshold", False)),
        ({"fee_minor": 101}, (None, "fee_too_high", False)),
        ({"value_minor": None}, (None, "rate_unknown", False)),
        ({"amount_minor": 1_000, "fee_minor": 5_000}, (Reason.EXPOSURE, None, False)),
        ({"amount_minor": 1_000, "fee_minor": 5_001}, (None, "fee_too_high", False)),
        (
            {"amount_minor": 1, "oldest_at": NOW - timedelta(days=7)},
            (Reason.AGE, None, False),
        ),
        ({"fee_minor": 9_000, "least_fee_minor": 5_001}, (None, "uneconomic", True)),
        (
            {"oldest_at": NOW - timedelta(days=8), "fee_minor": 9_000, "least_fee_minor": 5_001},
            (None, "uneconomic", True),  # age forces no sweep that costs what it brings
        ),
        ({"is_requested": True, "fee_minor": 9_999}, (Reason.REQUEST, None, False)),
        ({"is_requested": True, "fee_minor": 10_000}, (None, "uneconomic", True)),
        ({"is_requested": True, "value_minor": None}, (Reason.REQUEST, None, False)),
    ],
)
def test_t5_n13_a_sweep_is_due_for_a_reason_and_at_a_part_of_what_it_brings(
    changes: dict[str, object], expected: tuple[Reason | None, str | None, bool]
) -> None:
    assert told(replace(OFFER, **changes)) == expected  # type: ignore[arg-type]


def test_n13_cheap_hours_hold_up_a_threshold_and_never_what_is_forced() -> None:
    rule = replace(RULE, cheap_hours=True)
    dear = replace(OFFER, is_cheap=False)
    assert told(dear, rule) == (None, "waits_for_cheap_gas", False)
    assert told(replace(OFFER, is_cheap=True), rule) == (Reason.THRESHOLD, None, False)
    old = replace(dear, oldest_at=NOW - timedelta(days=7))
    assert told(old, rule) == (Reason.AGE, None, False)


def test_without_a_rule_nothing_is_due_but_what_a_person_asks_for() -> None:
    rule = SweepRule(asset="eth:USDT")
    rich = replace(OFFER, amount_minor=10**30, value_minor=10**30)
    assert told(rich, rule) == (None, "below_threshold", False)
    assert told(replace(rich, is_requested=True), rule) == (Reason.REQUEST, None, False)


def test_d57_each_failure_doubles_the_pause_up_to_a_bound() -> None:
    hour, day = timedelta(hours=1), timedelta(days=1)
    pauses = [sweep_choice.pause(tries, least=hour, most=day) for tries in (1, 2, 3, 5, 6, 99)]
    assert pauses == [hour, 2 * hour, 4 * hour, 16 * hour, day, day]
