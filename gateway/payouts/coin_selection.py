"""Which coins a UTXO tx spends: deterministic, pure, integers only.

Oldest coin first until the payments, the fee and the change are covered, then every coin that is
not needed is dropped again. Costs round up. It reserves nothing and knows no database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from watchers.chain import Coin

MAX_INPUTS = 500  # 34 kvB: well below the 100 kvB that nodes relay (P31)


class SizeOf(Protocol):
    """Signed virtual size by number of inputs, with or without the change output."""

    def __call__(self, *, inputs: int, has_change: bool) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a selection must reach. Amounts in satoshi, the rate in satoshi per 1,000 vB.

    `change_min_minor` is the least change worth an output; with `must_keep_change` a change of at
    least that much has to exist (CPFP reserve, CONTRACT 5).
    """

    payments_minor: int
    rate_sat_per_kvb: int
    change_min_minor: int
    must_keep_change: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The coins of a tx. `fee_minor` = coins - payments - change, exactly."""

    coins: tuple[Coin, ...]
    fee_minor: int
    change_minor: int


def fee_for(size_vb: int, *, rate_sat_per_kvb: int) -> int:
    """Fee of a size in satoshi, rounded up (costs up)."""
    return -(-size_vb * rate_sat_per_kvb // 1000)


def select(coins: Sequence[Coin], terms: Terms, *, size_of: SizeOf) -> Selection | None:
    """A selection of `coins` (oldest first), or None when they do not cover the terms."""
    cost_of_one = fee_for(
        size_of(inputs=2, has_change=False) - size_of(inputs=1, has_change=False),
        rate_sat_per_kvb=terms.rate_sat_per_kvb,
    )
    worthwhile = [coin for coin in coins if coin.amount_minor > cost_of_one]
    chosen: list[Coin] = []
    for coin in worthwhile[:MAX_INPUTS]:
        chosen.append(coin)
        if _close(chosen, terms, size_of=size_of) is not None:
            break
    else:
        # The oldest ones do not reach: the largest may, where there are more than one tx takes.
        largest = sorted(worthwhile, key=lambda coin: -coin.amount_minor)[:MAX_INPUTS]
        if len(worthwhile) <= MAX_INPUTS or _close(largest, terms, size_of=size_of) is None:
            return None
        chosen = largest
    for coin in sorted(chosen, key=lambda coin: coin.amount_minor):
        fewer = [other for other in chosen if other is not coin]
        if fewer and _close(fewer, terms, size_of=size_of) is not None:
            chosen = fewer
    return _close(chosen, terms, size_of=size_of)


def _close(coins: Sequence[Coin], terms: Terms, *, size_of: SizeOf) -> Selection | None:
    """The selection of exactly these coins, or None when they are short."""
    rest = sum(coin.amount_minor for coin in coins) - terms.payments_minor
    with_change = fee_for(
        size_of(inputs=len(coins), has_change=True), rate_sat_per_kvb=terms.rate_sat_per_kvb
    )
    if rest - with_change >= terms.change_min_minor:
        return Selection(coins=tuple(coins), fee_minor=with_change, change_minor=rest - with_change)
    without = fee_for(
        size_of(inputs=len(coins), has_change=False), rate_sat_per_kvb=terms.rate_sat_per_kvb
    )
    if terms.must_keep_change or rest < without:
        return None
    # Too little for an output of its own: it goes to the miner.
    return Selection(coins=tuple(coins), fee_minor=rest, change_minor=0)
