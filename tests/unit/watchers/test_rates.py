"""Rates: exact text in and out, and a conversion that never rounds down."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.credit_policy import ReferenceSpec
from watchers.errors import RateRefused
from watchers.rates import Rate, exchange, format_rate, parse_rate, to_reference

AT = datetime(2026, 1, 1, tzinfo=UTC)
RATES = st.tuples(st.integers(0, 10**20 - 1), st.integers(0, 10**18 - 1)).filter(any)


@pytest.mark.parametrize(
    ("amount", "rate", "decimals", "minor"),
    [
        (100_000_000, "64250.5", 8, 6_425_050),  # one bitcoin in cents
        (1, "64250.5", 8, 1),  # a satoshi is 0.06 cents: rounded up
        (10**18, "3000", 18, 300_000),
        (1, "3000", 18, 1),
        (5_000_001, "1", 6, 501),
        (5_000_000, "1", 6, 500),
        (7, "2", 0, 1_400),
        (0, "1", 8, 0),
    ],
)
def test_a_value_is_rounded_up_to_the_cent(
    amount: int, rate: str, decimals: int, minor: int
) -> None:
    found = to_reference(amount, Decimal(rate), asset_decimals=decimals, currency_decimals=2)
    assert found == minor


@given(
    amount=st.integers(0, 10**40),
    rate=RATES,
    asset_decimals=st.integers(0, 30),
    currency_decimals=st.integers(0, 18),
)
def test_the_conversion_is_the_exact_ceiling(
    amount: int, rate: tuple[int, int], asset_decimals: int, currency_decimals: int
) -> None:
    parsed = parse_rate(f"{rate[0]}.{rate[1]:018d}")
    exact = Fraction(parsed) * amount * 10**currency_decimals / 10**asset_decimals
    found = to_reference(
        amount, parsed, asset_decimals=asset_decimals, currency_decimals=currency_decimals
    )
    assert found == -(-exact.numerator // exact.denominator)


@given(rate=RATES)
def test_text_in_is_text_out(rate: tuple[int, int]) -> None:
    parsed = parse_rate(f"{rate[0]}.{rate[1]:018d}")
    assert parse_rate(format_rate(parsed)) == parsed
    assert "E" not in format_rate(parsed)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0.000", "-1", "+1", "1e3", "NaN", "Infinity", "1.", ".5", "01", "\u0661"],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(RateRefused):
        parse_rate(text)


def test_a_rate_is_fresh_for_an_hour_and_not_a_second_longer() -> None:
    rate = Rate(
        id=UUID(int=1),
        asset="btc:BTC",
        currency="USD",
        rate=Decimal(1),
        source="staff",
        as_of=AT,
        entered_by="ada",
        approved_by=None,
        entered_at=AT,
    )
    reference = ReferenceSpec()
    assert rate.is_fresh(at=AT + timedelta(hours=1), reference=reference)
    assert not rate.is_fresh(at=AT + timedelta(hours=1, microseconds=1), reference=reference)


@pytest.mark.parametrize(
    ("amount", "of", "into", "decimals", "into_decimals", "expected"),
    [
        (660_000 * 10**9, "2500", "1", 18, 6, 1_650_000),
        (660_000 * 10**9, "2500", "1.0001", 18, 6, 1_649_836),  # 1,649,835.016...
        (1, "0.000000000000000001", "99999999999999999999", 18, 6, 1),  # never nothing
        (10**8, "65000.5", "2500.25", 8, 18, 25_997_600_239_976_002_400),  # ...399.76 up
        (7, "1", "1", 2, 2, 7),
        (0, "3", "7", 8, 6, 0),
    ],
)
def test_an_exchange_is_exact_and_rounded_up_once(
    amount: int, of: str, into: str, decimals: int, into_decimals: int, expected: int
) -> None:
    found = exchange(
        amount, Decimal(of), Decimal(into), decimals=decimals, into_decimals=into_decimals
    )
    assert found == expected


@given(
    amount=st.integers(min_value=0, max_value=10**30),
    of=st.decimals(min_value="0.000001", max_value="1000000", places=6),
    into=st.decimals(min_value="0.000001", max_value="1000000", places=6),
    decimals=st.integers(min_value=0, max_value=18),
    into_decimals=st.integers(min_value=0, max_value=18),
)
def test_an_exchange_is_the_ceiling_of_the_fraction(
    amount: int, of: Decimal, into: Decimal, decimals: int, into_decimals: int
) -> None:
    exact = Fraction(amount) * Fraction(of) / Fraction(into)
    exact = exact * 10**into_decimals / 10**decimals
    found = exchange(amount, of, into, decimals=decimals, into_decimals=into_decimals)
    assert found == math.ceil(exact)
