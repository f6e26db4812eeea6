"""The simulated year by which choices of coins are compared."""

import pytest

from gateway.sandbox.bench_fee_year import SEED
from gateway.sandbox.fee_year import HELD_LEAST, REFILL, median_rate, play, size_vb, year
from tests.support.bdk_year import play_bdk
from watchers.chains.bitcoin import build


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 2), (7, 30), (252, 252), (253, 300)])
def test_sizes_are_those_of_the_builder(inputs: int, outputs: int) -> None:
    expected = build.size_vb(inputs=inputs, outputs=["0014" + "00" * 20] * outputs)

    assert size_vb(inputs=inputs, outputs=outputs) == expected


def test_one_seed_is_one_year() -> None:
    assert year(7, 50) == year(7, 50)
    assert year(7, 50) != year(8, 50)


def test_a_year_never_pays_more_than_it_holds() -> None:
    held = 0
    for step in year(1):
        held += sum(step.deposits) - sum(step.payments)
        assert held >= min(HELD_LEAST, REFILL) - max(step.payments)


def test_coins_and_fees_of_a_year_add_up() -> None:
    steps = year(3, 200)

    bill = play(steps)

    received = sum(len(step.deposits) for step in steps)
    assert bill.inputs + bill.coins_left >= received
    assert bill.left_minor == -(-bill.coins_left * 68 * median_rate(steps) // 1_000)
    assert bill.total_minor == bill.fees_minor + bill.left_minor


def test_bdk_pays_more_for_the_same_months() -> None:
    """ADR 0024 has the whole year; the first weeks know no rate to call cheap."""
    steps = year(SEED, 150)

    ours, theirs = play(steps), play_bdk(steps)

    assert ours.total_minor < theirs.total_minor
