"""Laws of amounts and postings."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.accounts import Side, clearing, custody
from ledger.journal import Posting, credit, debit
from ledger.money import (
    AMOUNT_DIGITS_MAX,
    format_amount,
    parse_amount,
    split_by_largest_remainder,
)

BIG = 2**256 - 1
ASSETS = ("btc:BTC", "eth:ETH", "eth:USDT")


@given(minor=st.integers(1, BIG), decimals=st.integers(0, 18))
def test_l11_parsing_what_was_formatted_gives_the_same_amount(minor: int, decimals: int) -> None:
    assert parse_amount(format_amount(minor, decimals=decimals), decimals=decimals) == minor


@given(minor=st.integers(1, BIG), decimals=st.integers(0, 18))
def test_a_canonical_amount_is_ascii_without_a_needless_zero(minor: int, decimals: int) -> None:
    text = format_amount(minor, decimals=decimals)
    whole, _, fraction = text.partition(".")
    assert text.isascii()
    assert whole == "0" or not whole.startswith("0")
    assert not fraction.endswith("0")
    assert len(text) <= AMOUNT_DIGITS_MAX + 2


@given(
    total=st.integers(0, BIG),
    weights=st.lists(st.integers(0, 2**64), min_size=1, max_size=50).filter(any),
)
def test_l10_shares_sum_to_the_total_and_are_off_by_less_than_one(
    total: int, weights: list[int]
) -> None:
    shares = split_by_largest_remainder(total, weights)
    whole = sum(weights)
    assert sum(shares) == total
    assert all(
        abs(share * whole - total * weight) < whole
        for share, weight in zip(shares, weights, strict=True)
    )


@given(
    st.dictionaries(st.sampled_from(ASSETS), st.lists(st.integers(1, BIG), min_size=1), min_size=1)
)
def test_l01_a_posting_that_exists_balances_in_every_asset(amounts: dict[str, list[int]]) -> None:
    entries = []
    for asset, parts in amounts.items():
        entries.append(debit(custody(asset.partition(":")[0], "hot", asset), sum(parts)))
        entries += [credit(clearing("acme", asset), part) for part in parts]
    posting = Posting(reference="r", kind="test", entries=tuple(entries))
    for asset in amounts:
        signed = [
            entry.amount_minor if entry.side is Side.DEBIT else -entry.amount_minor
            for entry in posting.entries
            if entry.account.asset == asset
        ]
        assert sum(signed) == 0
