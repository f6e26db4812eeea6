"""When a payout needs a bump and what that may cost: heights and quotes decide, nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.payouts import bump_policy
from gateway.payouts.bump_policy import Waiting, wanted_rate
from gateway.payouts.fee_policy import AccountFee
from watchers.chain import FeeQuote

KVB = 1_000
QUOTE = FeeQuote(rates={2: 20 * KVB, 6: 10 * KVB, 36: 2 * KVB}, floor=KVB, base_fee=0)
CALM = Waiting(
    rate=10 * KVB, quote=QUOTE, target_blocks=6, waited=1, family_waited=1, is_fee_refused=False
)
amounts = st.integers(min_value=0, max_value=10**9)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, None),  # pays what its target asks
        ({"rate": 9_091}, None),  # not a tenth below it
        ({"rate": 9_090}, 10 * KVB),
        ({"rate": 9_090, "waited": 0}, None),  # no block was had yet
        ({"rate": 999, "waited": 0}, 10 * KVB),  # below the mempool's minimum: at once
        ({"is_fee_refused": True, "waited": 0}, 12_500),  # the node says no: 1.25 times at least
        ({"is_fee_refused": True, "rate": 2 * KVB}, 10 * KVB),
        (
            {"waited": 6, "family_waited": 6, "rate": 30 * KVB},
            37_500,
        ),  # overdue, whatever is quoted
        ({"waited": 5, "family_waited": 5, "rate": 30 * KVB}, None),
        ({"waited": 1, "family_waited": 5}, 20 * KVB),  # one block is left
        ({"target_blocks": 36, "rate": 2 * KVB}, None),  # economy is not dearer after one block
        ({"target_blocks": 36, "rate": 2 * KVB, "family_waited": 19}, 10 * KVB),
    ],
)
def test_p25_a_bump_is_due_by_heights_and_quote(
    change: dict[str, int | bool], wanted: int | None
) -> None:
    assert wanted_rate(replace(CALM, **change)) == wanted  # type: ignore[arg-type]


def test_p16_a_base_fee_above_the_cap_of_a_tx_makes_it_due_at_once() -> None:
    quote = FeeQuote(rates={1: 2, 5: 1}, floor=0, base_fee=100)
    waiting = replace(CALM, quote=quote, target_blocks=5, waited=0, rate=99)
    assert wanted_rate(waiting) == 101
    assert wanted_rate(replace(waiting, rate=100)) is None


@given(wanted=amounts, highest=amounts, size=st.integers(1, 100_000), most=amounts)
def test_p25_a_replacement_pays_what_bip_125_asks_and_no_more_than_allowed(
    wanted: int, highest: int, size: int, most: int
) -> None:
    fee = bump_policy.replacement_fee(
        wanted_minor=wanted, size_vb=size, highest_minor=highest, most_minor=most
    )
    least = highest + size  # rules 3 and 4 at 1 sat/vB
    if fee is None:
        assert least > most
    else:
        assert least <= fee <= most
        assert fee >= min(wanted, most)


@given(
    rate=st.integers(1, 10**6), size=st.integers(1, 10**5), below=st.integers(0, 10**5), fee=amounts
)
def test_a_package_reaches_the_rate_with_what_is_below_it(
    rate: int, size: int, below: int, fee: int
) -> None:
    own = bump_policy.package_fee(rate=rate, size_vb=size, below_size_vb=below, below_fee_minor=fee)
    assert (own + fee) * 1_000 >= rate * (size + below)
    assert own * 1_000 >= rate * size


@given(
    max_fee=st.integers(1, 10**12),
    tip=st.integers(0, 10**12),
    wanted=st.integers(0, 10**12),
    base=st.integers(0, 10**12),
    most=st.integers(1, 10**13),
)
def test_p16_both_fields_rise_by_an_eighth_or_nothing_is_done(
    max_fee: int, tip: int, wanted: int, base: int, most: int
) -> None:
    highest = AccountFee(
        max_fee_per_gas=max(max_fee, tip), max_priority_fee_per_gas=tip, gas_limit=21_000
    )
    fee = bump_policy.replacement_gas(
        highest=highest, wanted=wanted, base_fee=base, headroom=2, most_per_gas=most
    )
    if fee is None:
        assert highest.max_fee_per_gas * 1_125 > most * 1_000
    else:
        assert fee.max_fee_per_gas * 1_000 >= highest.max_fee_per_gas * 1_125
        assert fee.max_priority_fee_per_gas * 1_000 >= highest.max_priority_fee_per_gas * 1_125
        assert fee.max_priority_fee_per_gas <= fee.max_fee_per_gas <= most
        assert fee.gas_limit == highest.gas_limit


@given(wanted=amounts, size=st.integers(1, 100_000), floor=st.integers(0, 10**5), most=amounts)
def test_a_child_pays_at_least_what_relays_it(
    wanted: int, size: int, floor: int, most: int
) -> None:
    fee = bump_policy.child_fee(
        wanted_minor=wanted, size_vb=size, floor_sat_per_kvb=floor, most_minor=most
    )
    if fee is not None:
        assert fee * 1_000 >= size * max(floor, KVB)
        assert min(wanted, most) <= fee <= most
