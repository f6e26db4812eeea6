"""ETA of a deposit to `provisional` and to `final`, of a payout to `final`, as p50 and p90 (R10).
A guess, never a rule.

Blocks of a UTXO chain come as a Poisson process (Nakamoto 2008, section 11): the time to k of them
is Erlang distributed, however long the last one is ago. Blocks of an EVM chain come in slots. The
mean is that of our own block history. Pure, integers and Decimal; no step of a deposit reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache

from sqlalchemy import RowMapping

from config.chains import ChainSpec, Family, Finality
from config.database import Uow
from watchers import eta_store as store
from watchers import fees
from watchers.chain import FeeQuote
from watchers.deposits import DepositRow, DepositState

HISTORY_BLOCKS = 101  # 100 intervals
HISTORY_BLOCKS_MIN = 11  # fewer say nothing: the chain's own target counts
DRIFT_MAX = 4  # an observed mean outside a quarter to four times the target is bounded there
TARGET_UNKNOWN_BLOCKS = 6  # nobody sampled the fees yet
SLOW_FACTOR = 3  # below the slowest sampled rate: three times its target
EPOCH_BLOCKS = 32  # the chain's own finality moves by epochs (Ethereum consensus specs)
BLOCKS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How blocks come: the mean between two of them, in milliseconds."""

    is_random: bool
    mean_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """How many blocks are missing, as p50 and p90."""

    p50: int
    p90: int

    def plus(self, blocks: int) -> "Blocks":
        """So many more."""
        return Blocks(p50=self.p50 + blocks, p90=self.p90 + blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """Blocks that are missing (p50), and how long they take."""

    blocks: int
    p50_seconds: int
    p90_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositEta:
    """None: the step was done, or will not come by itself (a full cap; then it waits for final)."""

    provisional: Eta | None
    final: Eta | None


def pace_of(spec: ChainSpec, *, blocks: int, seconds: int) -> Pace:
    """The mean of the last blocks, bounded around the chain's target. Pure."""
    target_ms = spec.block_seconds * 1_000
    mean_ms = target_ms
    if blocks >= HISTORY_BLOCKS_MIN:
        observed_ms = seconds * 1_000 // (blocks - 1)
        mean_ms = max(target_ms // DRIFT_MAX, min(observed_ms, target_ms * DRIFT_MAX))
    return Pace(is_random=spec.family is Family.BITCOIN, mean_ms=mean_ms)


def time_of(pace: Pace, blocks: Blocks) -> Eta:
    """How long so many blocks take; p50 <= p90, and more blocks are never sooner. Pure."""
    low, high = min(blocks.p50, BLOCKS_MAX), min(max(blocks.p50, blocks.p90), BLOCKS_MAX)
    if pace.is_random:
        p50_ms = erlang_milli(low, 50) * pace.mean_ms // 1_000
        p90_ms = erlang_milli(high, 90) * pace.mean_ms // 1_000
    else:  # one slot more, and one in twenty missed
        p50_ms = low * pace.mean_ms
        p90_ms = (high * 105 // 100 + 1) * pace.mean_ms if high else 0
    return Eta(blocks=low, p50_seconds=-(-p50_ms // 1_000), p90_seconds=-(-p90_ms // 1_000))


@lru_cache(maxsize=4_096)
def erlang_milli(blocks: int, percent: int) -> int:
    """The time within which `blocks` come with `percent` probability, in thousandths of the mean,
    rounded up. Pure: by bisection over the Poisson sum."""
    if blocks <= 0:
        return 0
    low, high = 0, 1_000 * (3 * blocks + 10)
    while low < high:
        middle = (low + high) // 2
        if _reached(blocks, middle) * 100 >= percent:
            high = middle
        else:
            low = middle + 1
    return low


def _reached(blocks: int, milli: int) -> Decimal:
    """P(at least `blocks` blocks within milli/1000 means)."""
    with localcontext() as context:
        context.prec = 30
        rate = Decimal(milli) / 1_000
        term = (-rate).exp()
        below = term
        for number in range(1, blocks):
            term = term * rate / number
            below += term
        return 1 - below


def inclusion(fee_rate: int | None, quote: FeeQuote | None) -> Blocks:
    """When a tx of the mempool is in a block: by the fastest sampled target that its rate meets;
    an unknown rate counts as the slowest. Pure. Rates: sat per kvB, wei per gas."""
    if quote is None or not quote.rates:
        return within(TARGET_UNKNOWN_BLOCKS)
    slowest = max(quote.rates)
    if fee_rate is None:
        return within(slowest)
    met = [target for target, rate in quote.rates.items() if quote.base_fee + rate <= fee_rate]
    return within(min(met) if met else slowest * SLOW_FACTOR)


def within(target: int) -> Blocks:
    """A tx that an estimator expects in a block within `target`: half as soon as not. Pure."""
    return Blocks(p50=(target + 1) // 2, p90=target)


def missing(
    deposit: DepositRow,
    *,
    tip: int,
    finality_lag: int | None,
    entry: Blocks,
) -> Mapping[str, Blocks | None]:
    """Blocks until `provisional` and `final`. Pure.

    `entry` is the wait for a block where it has none; `finality_lag` is how far the chain's own
    finality stands below the tip, None where there is none.
    """
    if deposit.state not in _ON_THE_WAY:
        return {"provisional": None, "final": None}
    if deposit.height is None:
        provisional = entry.plus(deposit.min_depth - 1)
        final = entry.plus(max(deposit.full_depth - 1, finality_lag or 0))
    else:
        confirmed = tip - deposit.height + 1
        provisional = _of(deposit.min_depth - confirmed)
        lacking = 0 if finality_lag is None else finality_lag - confirmed + 1
        final = _of(max(deposit.full_depth - confirmed, lacking))
    if finality_lag is not None and final.p90 > 0:
        final = Blocks(p50=final.p50, p90=final.p90 + EPOCH_BLOCKS)
    is_credited = deposit.state is DepositState.PROVISIONAL
    is_capped = deposit.substatus == "exposure_cap"
    return {"provisional": None if is_credited or is_capped else provisional, "final": final}


_ON_THE_WAY = frozenset(
    {
        DepositState.DETECTED,
        DepositState.PENDING,
        DepositState.PROVISIONAL,
        DepositState.ORPHANED,
    }
)


def _of(blocks: int) -> Blocks:
    return Blocks(p50=max(0, blocks), p90=max(0, blocks))


async def pace(uow: Uow, spec: ChainSpec) -> Pace:
    """The pace of a network by its own block history."""
    row = await store.pace(uow, network=spec.network, blocks=HISTORY_BLOCKS)
    return pace_of(spec, blocks=int(row["blocks"]), seconds=int(row["seconds"] or 0))


async def to_final(uow: Uow, spec: ChainSpec, *, target_blocks: int, full_depth: int) -> Eta | None:
    """The ETA of a tx that was just sent and pays for inclusion within `target_blocks`, until it
    is final; None before its network was ever followed."""
    place = await store.heights(uow, network=spec.network)
    if place is None or place["height"] is None:
        return None
    lag = _finality_lag(spec, place)
    blocks = within(target_blocks).plus(max(full_depth - 1, lag or 0))
    if lag is not None:
        blocks = Blocks(p50=blocks.p50, p90=blocks.p90 + EPOCH_BLOCKS)
    return time_of(await pace(uow, spec), blocks)


def _finality_lag(spec: ChainSpec, place: RowMapping) -> int | None:
    """How far the chain's own finality stands below the tip; None where there is none."""
    if spec.finality is not Finality.FINALIZED_TAG or place["finalised_height"] is None:
        return None
    return max(0, int(place["height"]) - int(place["finalised_height"]))


async def of_deposit(uow: Uow, spec: ChainSpec, deposit: DepositRow) -> DepositEta | None:
    """The ETA of one deposit; None before its network was ever followed."""
    place = await store.heights(uow, network=spec.network)
    if place is None or place["height"] is None:
        return None
    sample = await fees.latest(uow, network=spec.network)
    rate = await store.fee_rate(uow, deposit.id) if deposit.height is None else None
    blocks = missing(
        deposit,
        tip=int(place["height"]),
        finality_lag=_finality_lag(spec, place),
        entry=inclusion(rate, None if sample is None else sample.quote),
    )
    at_pace = await pace(uow, spec)
    times = {
        stage: None if left is None else time_of(at_pace, left) for stage, left in blocks.items()
    }
    return DepositEta(provisional=times["provisional"], final=times["final"])
