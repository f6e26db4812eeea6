"""Amounts: strict text to minor units and back, and exact splitting. No float, ever.

`Decimal` is not used either: its parser takes other digits, exponents, underscores and NaN
(CASES A11), and its default context loses uint256. One ASCII pattern and `int` are enough.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ledger.errors import AmountError

AMOUNT_DIGITS_MAX = 78  # 2**256 - 1 has 78 digits; NUMERIC(78,0) holds it
_AMOUNT = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Minor units of one asset; arithmetic across assets raises."""

    asset: str
    minor: int

    def __add__(self, other: Self) -> "Amount":
        return Amount(asset=self._same(other), minor=self.minor + other.minor)

    def __sub__(self, other: Self) -> "Amount":
        return Amount(asset=self._same(other), minor=self.minor - other.minor)

    def __le__(self, other: Self) -> bool:
        self._same(other)
        return self.minor <= other.minor

    def __lt__(self, other: Self) -> bool:
        self._same(other)
        return self.minor < other.minor

    def _same(self, other: Self) -> str:
        if self.asset != other.asset:
            raise AmountError(f"{self.asset} and {other.asset} are different assets")
        return self.asset


def parse_amount(text: str, *, decimals: int) -> int:
    """Minor units of a positive decimal string in asset units.

    Raises AmountError for signs, exponents, spaces, other digits than ASCII, leading zeros, a bare
    point, zero, more digits than the asset has, and more than 78 digits (A11, A13). Never rounds.
    """
    match = _AMOUNT.fullmatch(text) if len(text) <= 2 * AMOUNT_DIGITS_MAX else None
    if match is None:
        raise AmountError('an amount is a decimal string of ASCII digits, such as "0.05"')
    whole, fraction = match.group(1), match.group(2) or ""
    if len(fraction) > decimals:
        raise AmountError(f"more than {decimals} digits after the point; it is never rounded")
    minor = int(whole + fraction.ljust(decimals, "0"))
    if minor == 0:
        raise AmountError("an amount is more than zero")
    if len(str(minor)) > AMOUNT_DIGITS_MAX:
        raise AmountError(f"more than {AMOUNT_DIGITS_MAX} digits")
    return minor


def parse_balance(text: str, *, decimals: int) -> int:
    """Like `parse_amount`, but zero is a balance too."""
    if re.fullmatch(r"0(\.0+)?", text, re.ASCII) and len(text) <= decimals + 2:
        return 0
    return parse_amount(text, decimals=decimals)


def format_amount(minor: int, *, decimals: int) -> str:
    """The canonical decimal string: no trailing zeros, no exponent. Raises AmountError below 0."""
    if minor < 0:
        raise AmountError("an amount is not negative")
    digits = str(minor).rjust(decimals + 1, "0")
    if decimals == 0:
        return digits
    whole, fraction = digits[:-decimals], digits[-decimals:].rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def split_by_largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in shares proportional to `weights`, summing exactly (largest remainder, L10).

    Ties go to the earlier share. Raises ValueError for a negative total, or without a weight.
    """
    whole = sum(weights)
    if total < 0 or whole <= 0 or any(weight < 0 for weight in weights):
        raise ValueError("split: a total from 0 and at least one positive weight are required")
    shares = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for index in order[: total - sum(shares)]:
        shares[index] += 1
    return shares
