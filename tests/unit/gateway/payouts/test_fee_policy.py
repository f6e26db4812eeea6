"""N26: whatever an estimator says, the rate lies in [floor, cap] and a tx within its maximum."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.policy import FeePolicy
from gateway.payouts import fee_policy
from gateway.payouts.errors import FeeAboveCap, FeesUnknown
from watchers.chain import FeeQuote
from watchers.fees import FeeSample

BTC = FeePolicy(
    rate_floor=1, rate_cap=300, fee_per_tx_max_minor=2_000_000, cpfp_reserve_minor=10_000
)
ETH = FeePolicy(
    rate_floor=10**6, rate_cap=300 * 10**9, fee_per_tx_max_minor=5 * 10**16, cpfp_reserve_minor=0
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def quote(rates: dict[int, int], *, floor: int = 1_000, base_fee: int = 0) -> FeeQuote:
    return FeeQuote(rates=rates, floor=floor, base_fee=base_fee)


def test_rate_of_the_nearest_quicker_target_is_used() -> None:
    answer = fee_policy.utxo_rate(
        quote({2: 20_000, 6: 9_000, 36: 2_000}), target_blocks=10, policy=BTC
    )

    assert answer == 9_000


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({}, 1_000),  # no estimate at all
        ({2: -1}, 1_000),  # bcoin's "no estimate"
        ({2: 0}, 1_000),
        ({2: 10_000_000}, 300_000),  # 10,000 sat per vB
        ({6: 7_000}, 7_000),  # only a slower target is known
    ],
)
def test_n26_estimator_answers_are_clamped(rates: dict[int, int], expected: int) -> None:
    assert fee_policy.utxo_rate(quote(rates), target_blocks=2, policy=BTC) == expected


def test_rate_never_goes_below_the_mempool_minimum() -> None:
    answer = fee_policy.utxo_rate(quote({2: 2_000}, floor=50_000), target_blocks=2, policy=BTC)

    assert answer == 50_000


def test_p25_mempool_minimum_above_the_cap_waits() -> None:
    with pytest.raises(FeeAboveCap):
        fee_policy.utxo_rate(quote({2: 2_000}, floor=300_001), target_blocks=2, policy=BTC)


def test_account_fee_leaves_headroom_for_the_base_fee() -> None:
    fee = fee_policy.account_fee(
        quote({5: 2 * 10**9}, floor=1, base_fee=10 * 10**9), target_blocks=5, policy=ETH,
        gas_limit=21_000,
    )  # fmt: skip

    assert fee.max_fee_per_gas == 22 * 10**9
    assert fee.max_priority_fee_per_gas == 2 * 10**9
    assert fee.cap_minor == 22 * 10**9 * 21_000


def test_p25_base_fee_above_the_cap_waits() -> None:
    with pytest.raises(FeeAboveCap):
        fee_policy.account_fee(
            quote({5: 1}, base_fee=300 * 10**9), target_blocks=5, policy=ETH, gas_limit=21_000
        )


@given(
    rates=st.dictionaries(
        st.integers(min_value=-5, max_value=200), st.integers(min_value=-(10**20), max_value=10**20)
    ),
    floor=st.integers(min_value=-10, max_value=10**10),
    base=st.integers(min_value=-10, max_value=10**12),
    gas=st.integers(min_value=21_000, max_value=10**6),
)
def test_n26_account_fee_stays_within_every_bound(
    rates: dict[int, int], floor: int, base: int, gas: int
) -> None:
    try:
        fee = fee_policy.account_fee(
            quote(rates, floor=floor, base_fee=base), target_blocks=20, policy=ETH, gas_limit=gas
        )
    except FeeAboveCap:
        return
    assert 0 < fee.max_priority_fee_per_gas <= fee.max_fee_per_gas <= ETH.rate_cap
    assert fee.cap_minor <= ETH.fee_per_tx_max_minor


def test_stale_or_missing_quote_is_refused() -> None:
    fresh = FeeSample(quote=quote({2: 1_000}), sampled_at=NOW)

    assert fee_policy.usable(fresh, now=NOW + timedelta(minutes=10)) is fresh.quote
    with pytest.raises(FeesUnknown):
        fee_policy.usable(fresh, now=NOW + timedelta(minutes=10, seconds=1))
    with pytest.raises(FeesUnknown):
        fee_policy.usable(None, now=NOW)


@pytest.mark.parametrize(
    ("fee", "expected"), [(0, False), (1, True), (2_000_000, True), (2_000_001, False)]
)
def test_n26_absolute_maximum_per_tx(fee: int, expected: bool) -> None:
    assert fee_policy.fits(fee, policy=BTC) is expected
