"""What came and went by the hour: the history that forecasts are made of.

Owns `gateway.flow_hours`. Hours are summed once they are over, and again for two days, so that what
was cancelled, reversed or replaced meanwhile leaves them. Amounts are minor units.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from config.database import Uow
from config.ids import uuid7
from gateway.treasury import store
from gateway.treasury.forecast import BACKTEST_WEEKS, HOURS_MAX, WEEK, WEEKS_MAX, Series

SECONDS_PER_HOUR = 3_600
AGAIN_HOURS = 48  # summed anew each hour
HOURS_PER_PASS = 168  # of an old history; the next pass goes on
HISTORY_HOURS = (WEEKS_MAX + BACKTEST_WEEKS) * WEEK + HOURS_MAX
PURPOSES: Final = ("withdrawal", "reissue", "refund")  # what pays others from the hot wallet
ID_MARGIN = timedelta(hours=1)  # an id is older than what its row tells, and clocks differ


class Flow(StrEnum):
    """What is summed."""

    INFLOW = "inflow"
    """Deposits that were first seen in the hour and count."""
    DEMAND = "demand"
    """Withdrawals that were accepted in the hour and not given up."""
    OUTFLOW = "outflow"
    """Payouts that were signed in the hour; a replacement is no second one."""


def hour_of(moment: datetime) -> int:
    """The hour that a moment lies in, hours since 1970."""
    return int(moment.timestamp()) // SECONDS_PER_HOUR


def moment_of(hour: int) -> datetime:
    """The beginning of an hour."""
    return datetime.fromtimestamp(hour * SECONDS_PER_HOUR, tz=UTC)


def id_floor(moment: datetime) -> UUID:
    """No id that was drawn at this moment or later is below this one."""
    return uuid7(at=moment, entropy=bytes(10))


async def sum_up(uow: Uow, *, network: str, assets: Sequence[str], at: datetime) -> bool:
    """Sum the hours that are over; True when older ones are left for the next pass."""
    now = hour_of(at)
    mark = await store.mark(uow, network=network)
    if mark is None:
        begun = await store.first_moment(uow, network=network)
        first = next_hour = now if begun is None else min(now, hour_of(begun))
    else:
        first, next_hour = mark["first_hour"], mark["next_hour"]
    if mark is not None and next_hour >= now:
        return False
    start = max(first, next_hour - AGAIN_HOURS)
    end = min(now, next_hour + HOURS_PER_PASS)
    if start < end:
        await store.sum_hours(
            uow,
            network=network,
            assets=assets,
            purposes=PURPOSES,
            hours=(start, end),
            moments=(moment_of(start), moment_of(end)),
            ids=(id_floor(moment_of(start) - ID_MARGIN), id_floor(moment_of(end) + ID_MARGIN)),
        )
    await store.set_mark(uow, network=network, first_hour=first, next_hour=end)
    return end < now


async def series(uow: Uow, *, network: str, asset: str, flow: Flow) -> Series | None:
    """The history of an asset, as far as a back-test looks back; None before any hour was summed.

    It begins with the first hour that brought anything at all: before that the asset was not in
    use, which is no history of it.
    """
    mark = await store.mark(uow, network=network)
    if mark is None:
        return None
    begun = await store.first_flow(uow, asset=asset)
    begun = mark["next_hour"] if begun is None else min(begun, mark["next_hour"])
    first = max(mark["first_hour"], begun, mark["next_hour"] - HISTORY_HOURS)
    amounts = [0] * (mark["next_hour"] - first)
    for row in await store.flows(uow, asset=asset, first_hour=first):
        if row["hour"] < mark["next_hour"]:
            amounts[row["hour"] - first] = int(row[flow.value])
    return Series(first_hour=first, amounts=tuple(amounts))


async def signed_since(
    uow: Uow, *, network: str, since: datetime, built_since: datetime | None = None
) -> dict[str, int]:
    """What payouts pay that were signed since a moment, or are built and not signed, however long
    ago; by asset. What was built before `built_since` is settled and does not count."""
    return await store.outflow_since(
        uow,
        network=network,
        purposes=PURPOSES,
        since=since,
        low=id_floor(since - ID_MARGIN),
        built_since=built_since,
    )
