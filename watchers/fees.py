"""Fee quotes: sampled from the node into a table by the watcher, read by payouts and the API.

Owns `chain.fee_samples`. It must not decide a fee: that is the payouts' fee policy.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from config.database import Uow
from watchers import store
from watchers.chain import FeeQuote

KEEP_SAMPLES = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeSample:
    """A quote and when it was taken."""

    quote: FeeQuote
    sampled_at: datetime


async def record(uow: Uow, *, network: str, quote: FeeQuote, at: datetime) -> None:
    """Store a quote and forget those older than a day."""
    await store.insert_fee_sample(
        uow,
        network=network,
        at=at,
        rates=quote.rates,
        floor=quote.floor,
        base_fee=quote.base_fee,
    )
    await store.prune_fee_samples(uow, network=network, before=at - KEEP_SAMPLES)


async def latest(uow: Uow, *, network: str) -> FeeSample | None:
    """The newest quote, or None before the first; the caller judges its age."""
    row = await store.latest_fee_sample(uow, network=network)
    if row is None:
        return None
    quote = FeeQuote(
        rates={int(target): int(rate) for target, rate in row["rates"].items()},
        floor=int(row["floor"]),
        base_fee=int(row["base_fee"]),
    )
    return FeeSample(quote=quote, sampled_at=row["sampled_at"])
