"""What would bring a hot wallet back into its band, and by when. Pure; it moves nothing.

It plans on what nobody waits for, and on the withdrawals that own history expects. Deposits to come
are left out: they may not come, and on account chains they are not in the hot wallet. Amounts are
minor units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from config.treasury_policy import Band

Direction = Literal["cold_to_hot", "hot_to_cold"]


class Reason(StrEnum):
    """Why value should move."""

    PAYOUTS_WAIT = "payouts_wait"
    """Accepted withdrawals wait for more than there is."""
    BELOW_MIN = "below_min"
    """The wallet is below its minimum."""
    FORECAST = "forecast"
    """It is expected to fall below its minimum within the horizon."""
    ABOVE_MAX = "above_max"
    """The wallet is above its maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Move `amount_minor` in this direction, at the latest at `before`; `need_minor` is what the
    forecast expects to leave until the horizon, 0 without one."""

    direction: Direction
    amount_minor: int
    reason: Reason
    before: datetime
    need_minor: int


def advise(*, free_minor: int, band: Band, needs: Sequence[int], now: datetime) -> Advice | None:
    """None while the wallet is inside its band and stays there.

    `free_minor`: what nobody waits for; `needs`: what is expected to leave within 1, 2, ... hours,
    none without a forecast.
    """
    need = needs[-1] if needs else 0
    goal = min(band.target_minor + need, band.max_minor)
    if free_minor > band.max_minor:
        return Advice(
            direction="hot_to_cold",
            amount_minor=free_minor - goal,
            reason=Reason.ABOVE_MAX,
            before=now,
            need_minor=need,
        )
    found = _shortage(free_minor, band, needs, now)
    if found is None or goal <= free_minor:
        return None
    reason, before = found
    return Advice(
        direction="cold_to_hot",
        amount_minor=goal - free_minor,
        reason=reason,
        before=before,
        need_minor=need,
    )


def _shortage(
    free_minor: int, band: Band, needs: Sequence[int], now: datetime
) -> tuple[Reason, datetime] | None:
    """Why and when the wallet is short. An hour's need is taken to fall due at its beginning."""
    if free_minor < 0:
        return Reason.PAYOUTS_WAIT, now
    if free_minor < band.min_minor:
        return Reason.BELOW_MIN, now
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    for ahead, need in enumerate(needs):
        if free_minor - need < band.min_minor:
            return Reason.FORECAST, max(now, this_hour + timedelta(hours=ahead))
    return None
