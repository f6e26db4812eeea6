"""Amounts: what is an amount, what is refused, and that splitting loses nothing."""

import pytest

from ledger.errors import AmountError
from ledger.money import (
    Amount,
    format_amount,
    parse_amount,
    parse_balance,
    split_by_largest_remainder,
)

BIG = 2**256 - 1


@pytest.mark.parametrize(
    ("text", "decimals", "minor"),
    [
        ("0.05", 8, 5_000_000),
        ("1", 8, 100_000_000),
        ("1.0", 8, 100_000_000),
        ("0.00000001", 8, 1),
        ("12", 0, 12),
        (str(BIG), 0, BIG),
    ],
)
def test_an_amount_is_read_exactly(text: str, decimals: int, minor: int) -> None:
    assert parse_amount(text, decimals=decimals) == minor


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        "0",
        "-0",
        "1e5",
        "NaN",
        "sNaN",
        "Infinity",
        "+1",
        " 1 ",
        "1_000",
        "\uff11\uff12",
        "\u0663",
        ".5",
        "1.",
        "00012",
        "0x10",
        "1" * 100,
        "",
        "1\n",
        "1,5",
        "0.000",
    ],
)
def test_a11_what_is_not_an_amount_is_refused(text: str) -> None:
    with pytest.raises(AmountError):
        parse_amount(text, decimals=8)


def test_a13_more_digits_than_the_asset_has_are_never_rounded() -> None:
    with pytest.raises(AmountError, match="never rounded"):
        parse_amount("0.1234567", decimals=6)


def test_l09_more_than_78_digits_are_refused() -> None:
    with pytest.raises(AmountError, match="78"):
        parse_amount("1" + "0" * 60, decimals=18)


@pytest.mark.parametrize(("text", "minor"), [("0", 0), ("0.00", 0), ("0.01", 1)])
def test_a_balance_may_be_zero(text: str, minor: int) -> None:
    assert parse_balance(text, decimals=2) == minor


@pytest.mark.parametrize("text", ["0.000", "-0", "00"])
def test_a_balance_is_written_as_strictly_as_an_amount(text: str) -> None:
    with pytest.raises(AmountError):
        parse_balance(text, decimals=2)


@pytest.mark.parametrize(
    ("minor", "decimals", "text"),
    [
        (50_000_000, 8, "0.5"),
        (1_200_000_000, 8, "12"),
        (1, 8, "0.00000001"),
        (7, 0, "7"),
        (0, 6, "0"),
    ],
)
def test_the_canonical_form_has_no_trailing_zeros(minor: int, decimals: int, text: str) -> None:
    assert format_amount(minor, decimals=decimals) == text


def test_a_negative_amount_has_no_form() -> None:
    with pytest.raises(AmountError):
        format_amount(-1, decimals=8)


def test_l16_amounts_of_two_assets_do_not_mix() -> None:
    ethereum, tron = Amount(asset="eth:USDT", minor=5), Amount(asset="tron:USDT", minor=5)
    for mix in (
        lambda: ethereum + tron,
        lambda: ethereum - tron,
        lambda: ethereum < tron,
        lambda: ethereum <= tron,
    ):
        with pytest.raises(AmountError):
            mix()
    more = ethereum + ethereum
    assert (more - ethereum, ethereum < more, more <= ethereum) == (ethereum, True, False)


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        (10, [1, 1, 1], [4, 3, 3]),
        (0, [1, 2], [0, 0]),
        (7, [0, 1], [0, 7]),
        (100, [50, 30, 20], [50, 30, 20]),
        (1, [1, 2], [0, 1]),
    ],
)
def test_l10_shares_go_to_the_largest_remainder(
    total: int, weights: list[int], shares: list[int]
) -> None:
    assert split_by_largest_remainder(total, weights) == shares


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, []), (1, [0]), (1, [2, -1])])
def test_a_split_needs_a_weight(total: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="split"):
        split_by_largest_remainder(total, weights)
