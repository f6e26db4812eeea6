"""Reference rates: what one whole unit of an asset is worth, exactly, and since when.

Owns `chain.reference_rates`: append-only, the newest `as_of` counts, and an older one than
`ReferenceSpec.stale_seconds` is no rate (CONTRACT 4). It must not decide a cap. No float: a rate is
a Decimal read from text, a conversion is integer arithmetic, rounded up (a cost).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.assets import AssetSpec
from config.credit_policy import ReferenceSpec
from config.database import Uow
from watchers import rate_store as store
from watchers.errors import RateRefused, RateTooFar

STAFF = "staff"
_RATE = re.compile(r"(0|[1-9][0-9]{0,19})(?:\.([0-9]{1,18}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Currency units per one whole unit of the asset, as of a moment."""

    id: UUID
    asset: str
    currency: str
    rate: Decimal
    source: str
    as_of: datetime
    entered_by: str
    approved_by: str | None
    entered_at: datetime

    def is_fresh(self, *, at: datetime, reference: ReferenceSpec) -> bool:
        """Whether a cap may be judged by it."""
        return at - self.as_of <= timedelta(seconds=reference.stale_seconds)


def parse_rate(text: str) -> Decimal:
    """A rate from text: positive, ASCII digits, at most 20 before and 18 after the point.

    Raises RateRefused.
    """
    match = _RATE.fullmatch(text)
    if match is None or not int(match.group(1) + (match.group(2) or "")):
        raise RateRefused("invalid", "a rate is a positive decimal string, such as '64250.5'")
    return Decimal(text)


def format_rate(rate: Decimal) -> str:
    """Canonical text: no exponent, no trailing zeros."""
    text = format(rate, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_reference(
    amount_minor: int, rate: Decimal, *, asset_decimals: int, currency_decimals: int
) -> int:
    """Minor units of the asset in minor units of the currency, rounded up (HOUSE 11: costs up)."""
    coefficient, exponent = _parts(rate)
    power = exponent + currency_decimals - asset_decimals
    scale: int = 10 ** abs(power)
    product = amount_minor * coefficient
    return product * scale if power >= 0 else -(-product // scale)


def exchange(
    amount_minor: int, of: Decimal, into: Decimal, *, decimals: int, into_decimals: int
) -> int:
    """Minor units of one asset in minor units of another, by their rates in one currency.

    Rounded up once, at the end (HOUSE 11: costs up).
    """
    top, top_exponent = _parts(of)
    bottom, bottom_exponent = _parts(into)
    power = top_exponent - bottom_exponent + into_decimals - decimals
    scale: int = 10 ** abs(power)
    value = amount_minor * top
    if power >= 0:
        return -(-value * scale // bottom)
    return -(-value // (bottom * scale))


def _parts(rate: Decimal) -> tuple[int, int]:
    """Coefficient and power of ten, exactly."""
    _, digits, exponent = rate.as_tuple()
    if not isinstance(exponent, int):
        raise RateRefused("invalid", "a rate is a number")
    return int("".join(str(digit) for digit in digits)), exponent


async def newest(
    uow: Uow, *, assets: Sequence[str], reference: ReferenceSpec
) -> Mapping[str, Rate]:
    """The newest rate of each asset that has one, however old."""
    rows = await store.newest(uow, assets=assets, currency=reference.currency)
    return {row["asset"]: _rate(row) for row in rows}


async def fresh(
    uow: Uow, *, assets: Collection[str], reference: ReferenceSpec, at: datetime
) -> dict[str, Rate]:
    """The newest rate of each asset that has one that counts now."""
    if not assets:
        return {}
    found = await newest(uow, assets=sorted(assets), reference=reference)
    return {
        asset: rate for asset, rate in found.items() if rate.is_fresh(at=at, reference=reference)
    }


def value(
    asset: AssetSpec | None, amount_minor: int, rate: Rate | None, *, reference: ReferenceSpec
) -> int | None:
    """Minor units of the reference currency, rounded up; None without a rate or for an asset that
    is not configured any more."""
    if rate is None or asset is None:
        return None
    return to_reference(
        amount_minor,
        rate.rate,
        asset_decimals=asset.decimals,
        currency_decimals=reference.decimals,
    )


async def history(
    uow: Uow, *, asset: str, reference: ReferenceSpec, before: datetime | None, limit: int
) -> list[Rate]:
    """Rates of an asset, newest first; `before` ended the last page."""
    rows = await store.history(
        uow, asset=asset, currency=reference.currency, before=before, limit=limit
    )
    return [_rate(row) for row in rows]


async def record(
    uow: Uow,
    *,
    rate_id: UUID,
    asset: str,
    rate: Decimal,
    source: str,
    as_of: datetime,
    entered_by: str,
    reference: ReferenceSpec,
    at: datetime,
    approved_by: str | None = None,
) -> Rate:
    """Append a rate. The same again is the same row.

    Raises RateRefused (from the future, too old, or not newer than the last), RateTooFar without
    `approved_by` when it is further than `jump_percent` from any rate of the last `jump_seconds`,
    and for a person's first rate of an asset.
    """
    if as_of > at:
        raise RateRefused("from_the_future", "as_of is ahead of the clock")
    if at - as_of > timedelta(seconds=reference.stale_seconds):
        raise RateRefused("stale", "as_of is too long ago for this rate to count")
    await store.lock(uow, asset=asset, currency=reference.currency)
    last = (await newest(uow, assets=[asset], reference=reference)).get(asset)
    if last is not None and as_of <= last.as_of:
        if (last.as_of, last.rate, last.source) == (as_of, rate, source):
            return last
        raise RateRefused("not_newer", "a rate of this moment or a later one stands")
    if approved_by is None:
        await _check_jump(uow, asset, rate, source=source, reference=reference, at=at)
    row = await store.insert(
        uow,
        rate_id=rate_id,
        asset=asset,
        currency=reference.currency,
        rate=rate,
        source=source,
        as_of=as_of,
        entered_by=entered_by,
        approved_by=approved_by,
        at=at,
    )
    return _rate(row)


async def _check_jump(
    uow: Uow, asset: str, rate: Decimal, *, source: str, reference: ReferenceSpec, at: datetime
) -> None:
    """Against every rate of the window: many small steps are a jump, too."""
    since = at - timedelta(seconds=reference.jump_seconds)
    found = await store.extremes(uow, asset=asset, currency=reference.currency, since=since)
    if found is None:
        if source == STAFF:
            raise RateTooFar("the first rate of an asset takes two people")
        return
    low, high = found
    factor = 100 + reference.jump_percent
    if rate * 100 > low * factor or rate * factor < high * 100:
        raise RateTooFar(
            f"{format_rate(rate)} is more than {reference.jump_percent} % away from "
            f"{format_rate(low)} to {format_rate(high)}"
        )


def _rate(row: RowMapping | Mapping[str, Any]) -> Rate:
    return Rate(**{name: row[name] for name in Rate.__slots__})
