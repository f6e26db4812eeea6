"""Which coins a UTXO tx spends: deterministic, pure, integers only.

The fewest coins that reach, none larger than it has to be, and none with change to spare where
some add up without; while inclusion is cheap the smallest coins come along, since each of them
has to be spent some day (F3). Costs round up. It reserves nothing and knows no database. What it
saves over a year against bitcoind's wallet and BDK is in docs/BENCHMARKS.md (ADR 0024).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from watchers.chain import Coin

MAX_INPUTS = 500  # 34 kvB: well below the 100 kvB that nodes relay (P31)
GATHERED_MAX = 200  # coins that come along while inclusion is cheap
SPARE_COINS = 16  # of the largest stay apart, so that payouts never wait for one tx's change
EXACT_STEPS_MAX = 5_000  # of the search for coins without change; some milliseconds


class SizeOf(Protocol):
    """Signed virtual size by number of inputs, with or without the change output."""

    def __call__(self, *, inputs: int, has_change: bool) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a selection must reach. Amounts in satoshi, rates in satoshi per 1,000 vB.

    `change_min_minor` is the least change worth an output; with `must_keep_change` a change of at
    least that much has to exist (CPFP reserve, CONTRACT 5). At `cheap_rate_sat_per_kvb` and below
    small coins come along; 0 where no such rate is known.
    """

    payments_minor: int
    rate_sat_per_kvb: int
    change_min_minor: int
    must_keep_change: bool
    cheap_rate_sat_per_kvb: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The coins of a tx. `fee_minor` = coins - payments - change, exactly."""

    coins: tuple[Coin, ...]
    fee_minor: int
    change_minor: int


def fee_for(size_vb: int, *, rate_sat_per_kvb: int) -> int:
    """Fee of a size in satoshi, rounded up (costs up)."""
    return -(-size_vb * rate_sat_per_kvb // 1000)


def select(
    coins: Sequence[Coin], terms: Terms, *, size_of: SizeOf, unconfirmed: Sequence[Coin] = ()
) -> Selection | None:
    """A selection of `coins`, or None when they do not cover the terms.

    `unconfirmed` ones join only when the others do not reach: what hangs on them cannot be
    replaced any more. Equal amounts go in the order given.
    """
    for pool in (coins, [*coins, *unconfirmed]) if unconfirmed else (coins,):
        found = _Search(pool, terms, size_of).best()
        if found is not None:
            return found
    return None


def select_in_order(coins: Sequence[Coin], terms: Terms, *, size_of: SizeOf) -> Selection | None:
    """The first ones of `coins` that reach, without those of them that are not needed."""
    search = _Search(coins, terms, size_of)
    chosen: list[Coin] = []
    for coin in [coin for coin in coins if search.is_worth(coin)][:MAX_INPUTS]:
        chosen.append(coin)
        if search.close(chosen) is not None:
            break
    for coin in sorted(chosen, key=lambda coin: coin.amount_minor):
        fewer = [other for other in chosen if other is not coin]
        if fewer and search.close(fewer) is not None:
            chosen = fewer
    return search.close(chosen)


class _Search:
    """One search among some coins."""

    def __init__(self, coins: Sequence[Coin], terms: Terms, size_of: SizeOf) -> None:
        self._terms = terms
        self._size_of = size_of
        one = size_of(inputs=2, has_change=False) - size_of(inputs=1, has_change=False)
        self._input_vb = one
        self._input_cost = self._fee(one)
        self._largest = sorted(
            (coin for coin in coins if self.is_worth(coin)), key=lambda coin: -coin.amount_minor
        )

    def is_worth(self, coin: Coin) -> bool:
        """Whether it brings more than its input costs."""
        return coin.amount_minor > self._input_cost

    def best(self) -> Selection | None:
        """The cheapest that was found; with small coins while inclusion is cheap."""
        fewest = self._fewest()
        if fewest is None:
            return None
        if self._terms.rate_sat_per_kvb <= self._terms.cheap_rate_sat_per_kvb:
            return self._gathered(fewest)
        exact = self._exact(len(fewest.coins))
        if exact is not None and self._cost(exact) <= self._cost(fewest):
            return exact
        return fewest

    def close(self, coins: Sequence[Coin]) -> Selection | None:
        """The selection of exactly these coins, or None when they are short."""
        terms = self._terms
        rest = sum(coin.amount_minor for coin in coins) - terms.payments_minor
        with_change = self._fee(self._size_of(inputs=len(coins), has_change=True))
        if rest - with_change >= terms.change_min_minor:
            return Selection(
                coins=tuple(coins), fee_minor=with_change, change_minor=rest - with_change
            )
        without = self._fee(self._size_of(inputs=len(coins), has_change=False))
        if terms.must_keep_change or rest < without:
            return None
        # Too little for an output of its own: it goes to the miner.
        return Selection(coins=tuple(coins), fee_minor=rest, change_minor=0)

    def _fewest(self) -> Selection | None:
        """As few coins as reach; then each as small as it may be, so that large ones are left."""
        found = None
        chosen: list[Coin] = []
        for coin in self._largest[:MAX_INPUTS]:
            chosen.append(coin)
            found = self.close(chosen)
            if found is not None:
                break
        if found is None:
            return None
        rest = self._largest[len(chosen) :][::-1]  # smallest first
        amounts = [coin.amount_minor for coin in rest]
        for place, coin in enumerate(chosen):
            spare = found.change_minor - self._terms.change_min_minor
            at = bisect_left(amounts, coin.amount_minor - max(spare, 0))
            if at >= len(rest) or amounts[at] >= coin.amount_minor:
                continue
            tried = [*chosen[:place], rest[at], *chosen[place + 1 :]]
            smaller = self.close(tried)
            if smaller is None or smaller.fee_minor > found.fee_minor:
                continue
            found, chosen = smaller, tried
            del rest[at], amounts[at]
        return found

    def _gathered(self, fewest: Selection) -> Selection:
        """The same with the smallest other coins; the largest others stay apart."""
        taken = {coin.outpoint for coin in fewest.coins}
        others = [coin for coin in self._largest if coin.outpoint not in taken][SPARE_COINS:]
        room = min(GATHERED_MAX, MAX_INPUTS - len(fewest.coins))
        more = others[::-1][:room]
        return self.close([*fewest.coins, *more]) or fewest

    def _exact(self, count_max: int) -> Selection | None:
        """At most so many coins whose rest is not worth a change output, or None."""
        terms = self._terms
        if terms.must_keep_change:
            return None
        bare = self._size_of(inputs=1, has_change=False) - self._input_vb
        least = terms.payments_minor + self._fee(bare)
        values = [coin.amount_minor - self._input_cost for coin in self._largest]
        places = _subset(values, least=least, most=least + self._change_cost(), count=count_max)
        return None if places is None else self.close([self._largest[place] for place in places])

    def _change_cost(self) -> int:
        """What change costs now and when it is spent some day."""
        now = self._size_of(inputs=1, has_change=True) - self._size_of(inputs=1, has_change=False)
        return self._fee(now) + fee_for(self._input_vb, rate_sat_per_kvb=self._later_rate())

    def _cost(self, found: Selection) -> int:
        later = fee_for(self._input_vb, rate_sat_per_kvb=self._later_rate())
        return found.fee_minor + (later if found.change_minor else 0)

    def _later_rate(self) -> int:
        """What spending an output will cost: the cheap rate where it is known."""
        return self._terms.cheap_rate_sat_per_kvb or self._terms.rate_sat_per_kvb

    def _fee(self, size_vb: int) -> int:
        return fee_for(size_vb, rate_sat_per_kvb=self._terms.rate_sat_per_kvb)


def _subset(values: Sequence[int], *, least: int, most: int, count: int) -> list[int] | None:
    """Places of at most `count` of the values, largest first, whose sum lies within the bounds.

    Depth first with a bound on the steps: None says that none was found, not that there is none.
    """
    steps_left = EXACT_STEPS_MAX
    rising = [-value for value in values]

    def search(start: int, low: int, high: int, left: int) -> list[int] | None:
        nonlocal steps_left
        for place in range(max(start, bisect_left(rising, -high)), len(values)):
            steps_left -= 1
            value = values[place]
            if steps_left < 0 or value * left < low:
                return None
            if value >= low:
                return [place]
            if left > 1:
                found = search(place + 1, low - value, high - value, left - 1)
                if found is not None:
                    return [place, *found]
        return None

    return search(0, least, most, count)
