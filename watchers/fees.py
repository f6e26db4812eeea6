"""Fee quotes: sampled from the node into a table by the watcher, read by payouts and the API.

Owns `chain.fee_samples`. It must not decide a fee: that is the payouts' fee policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median_high

from config.database import Uow
from watchers import store
from watchers.chain import FeeQuote

KEEP_SAMPLES = timedelta(hours=24)
KEEP_HOURLY = timedelta(days=60)  # one of each hour: what is cheap is a question of weeks
CHEAP_HOURS_MIN = 48  # below that nobody knows
CHEAP_SHARE = 0.2  # of the hours are at least as cheap (docs/BENCHMARKS.md, ADR 0024)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeSample:
    """A quote and when it was taken."""

    quote: FeeQuote
    sampled_at: datetime


def median_quote(quotes: Sequence[FeeQuote]) -> FeeQuote:
    """Each number's median over at least one quote, the higher one of two; of the targets those
    that all of them have."""
    targets = set.intersection(*(set(quote.rates) for quote in quotes))
    return FeeQuote(
        rates={
            target: median_high(quote.rates[target] for quote in quotes)
            for target in sorted(targets)
        },
        floor=median_high(quote.floor for quote in quotes),
        base_fee=median_high(quote.base_fee for quote in quotes),
    )


async def record(uow: Uow, *, network: str, quote: FeeQuote, at: datetime) -> None:
    """Store a quote; of those older than a day one per hour stays, for some weeks."""
    await store.insert_fee_sample(
        uow,
        network=network,
        at=at,
        rates=quote.rates,
        floor=quote.floor,
        base_fee=quote.base_fee,
    )
    await store.prune_fee_samples(
        uow, network=network, thin_before=at - KEEP_SAMPLES, before=at - KEEP_HOURLY
    )


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


async def cheap_rate(uow: Uow, *, network: str) -> int:
    """The rate (as in `FeeQuote.rates`, with the base fee) that a fifth of the last weeks' hours
    did not exceed, by the lowest of each quote; 0 while too little is known."""
    hours, rate = await store.cheap_fee_rate(uow, network=network, share=CHEAP_SHARE)
    return rate if hours >= CHEAP_HOURS_MIN else 0
