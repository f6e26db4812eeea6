"""Whether what lies at a deposit address is worth its gas now (T5, N13). Pure, integers only.

A sweep is due by what lies there, if its fee is a small part of it and, where the rule says so, gas
is cheap; age and exposure force it at a larger part; a person's word at any fee that is below the
value. What would cost more than that is no loss and no wrong balance: it stays, shown apart.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from config.sweep_policy import WHOLE_PERMILLE, SweepRule

UNECONOMIC: Final = "uneconomic"
RATE_UNKNOWN: Final = "rate_unknown"
BELOW_THRESHOLD: Final = "below_threshold"
FEE_TOO_HIGH: Final = "fee_too_high"
CHEAP_HOURS: Final = "waits_for_cheap_gas"


class Reason(StrEnum):
    """Why a sweep is due."""

    THRESHOLD = "threshold"
    """Enough lies there."""
    AGE = "age"
    """It has been there too long."""
    EXPOSURE = "exposure"
    """Too much lies at one address."""
    REQUEST = "request"
    """A person wants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What could be swept. `amount_minor` of the asset, lying there since `oldest_at`;
    `value_minor` is its worth in the native coin, None without a fresh rate; `fee_minor` what it
    would cost now, top-up included; `least_fee_minor` at the cheapest rate of the last weeks."""

    amount_minor: int
    value_minor: int | None
    fee_minor: int
    least_fee_minor: int
    is_cheap: bool
    is_requested: bool
    oldest_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reason`: it is due. Otherwise `code` says what it waits for; `is_dust`: it is not worth its
    gas at any rate of the last weeks."""

    reason: Reason | None = None
    code: str | None = None
    is_dust: bool = False


def judge(offer: Offer, rule: SweepRule, *, now: datetime) -> Verdict:
    """What to do with it."""
    if offer.is_requested:
        is_worth = offer.value_minor is None or offer.fee_minor < offer.value_minor
        return (
            Verdict(reason=Reason.REQUEST) if is_worth else Verdict(code=UNECONOMIC, is_dust=True)
        )
    if offer.value_minor is None:
        return Verdict(code=RATE_UNKNOWN)
    forced = _forced(offer, rule, now)
    most = rule.forced_fee_permille if forced is not None else rule.fee_permille
    if not _is_within(offer.least_fee_minor, offer.value_minor, rule.forced_fee_permille):
        return Verdict(code=UNECONOMIC, is_dust=True)
    if not _is_within(offer.fee_minor, offer.value_minor, most):
        return Verdict(code=FEE_TOO_HIGH)
    if forced is not None:
        return Verdict(reason=forced)
    if rule.threshold_minor is None or offer.amount_minor < rule.threshold_minor:
        return Verdict(code=BELOW_THRESHOLD)
    if rule.cheap_hours and not offer.is_cheap:
        return Verdict(code=CHEAP_HOURS)
    return Verdict(reason=Reason.THRESHOLD)


def _forced(offer: Offer, rule: SweepRule, now: datetime) -> Reason | None:
    if rule.exposure_minor is not None and offer.amount_minor >= rule.exposure_minor:
        return Reason.EXPOSURE
    if rule.max_age is not None and now - offer.oldest_at >= rule.max_age:
        return Reason.AGE
    return None


def _is_within(fee_minor: int, value_minor: int, permille: int) -> bool:
    return fee_minor * WHOLE_PERMILLE <= value_minor * permille


def pause(tries: int, *, least: timedelta, most: timedelta) -> timedelta:
    """How long a failed sweep waits: twice as long after each failure."""
    doublings = min(max(tries - 1, 0), 20)
    return min(least * (1 << doublings), most)
