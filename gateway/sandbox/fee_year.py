"""A year of a casino's hot wallet: deposits, payouts and fee rates, drawn from a seed.

Owns the generator and the play of one chooser of coins over it; the same year is played by
bitcoind's own wallet (`bench_fee_year`) and by BDK (in the tests). Every batch is in the next block
for all of them, at the same rate, so that confirmation times are the same. Amounts in satoshi,
rates in satoshi per 1,000 vB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, pi, sin
from random import Random

from gateway.payouts.coin_selection import Selection, Terms, select
from watchers.chain import Coin, Outpoint

BATCHES = 1_000  # one each 8.8 hours
BATCHES_PER_DAY = BATCHES / 365
MEDIAN_RATE = 12_000
SPIKE_SHARE = 0.01  # of the batches meet a fresh rush
DEPOSITS = (10, 40)  # per batch
PAYMENTS = (1, 15)
DEPOSIT_MEDIAN = 300_000
PAYMENT_MEDIAN = 900_000
AMOUNT_SIGMA = 1.2
DEPOSIT_LEAST = 2_000
PAYMENT_LEAST = 5_000
HELD_LEAST = 50_000_000  # below it the treasury refills
REFILL = 200_000_000
CHANGE_LEAST = 10_000
CHEAP_SHARE = 0.2  # as `watchers.fees.cheap_rate`
CHEAP_BATCHES = 164  # sixty days of them
CHEAP_BATCHES_MIN = 6
KEY = "0014" + "00" * 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One batch: what came before it, what it pays, and the rate of the next block."""

    deposits: tuple[int, ...]
    payments: tuple[int, ...]
    rate_sat_per_kvb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a year cost. `left` is the cost of spending the coins that are left at the median rate,
    so that nobody wins by leaving them lie."""

    fees_minor: int
    coins_left: int
    left_minor: int
    inputs: int

    @property
    def total_minor(self) -> int:
        """Paid, and still to be paid."""
        return self.fees_minor + self.left_minor


def year(seed: int, batches: int = BATCHES) -> list[Step]:
    """The steps: rates wander around their median with a day's and a week's wave and sudden
    rushes; amounts are log-normal; a refill comes when what is held would run low."""
    dice = Random(seed)
    level, held, steps = log(MEDIAN_RATE), 0, []
    for number in range(batches):
        level += 0.12 * (log(MEDIAN_RATE) - level) + dice.gauss(0, 0.28)
        if dice.random() < SPIKE_SHARE:
            level += dice.uniform(0.8, 2.0)
        week = 0.25 * sin(2 * pi * number / (7 * BATCHES_PER_DAY))
        day = 0.2 * sin(2 * pi * number / BATCHES_PER_DAY)
        deposits = _amounts(dice, DEPOSITS, DEPOSIT_MEDIAN, DEPOSIT_LEAST)
        payments = _amounts(dice, PAYMENTS, PAYMENT_MEDIAN, PAYMENT_LEAST)
        held += sum(deposits)
        if held - sum(payments) < HELD_LEAST:
            deposits.append(REFILL)
            held += REFILL
        held -= sum(payments)
        steps.append(
            Step(
                deposits=tuple(deposits),
                payments=tuple(payments),
                rate_sat_per_kvb=max(1_000, round(exp(level + week + day))),
            )
        )
    return steps


def size_vb(*, inputs: int, outputs: int) -> int:
    """As the builder estimates it: P2WPKH with signatures of 72 bytes (BIP 141), rounded up."""
    plain = 8 + sum(1 if count < 0xFD else 3 for count in (inputs, outputs)) + outputs * 31
    return -(-(plain * 4 + 2 + inputs * (41 * 4 + 108)) // 4)


def median_rate(steps: Sequence[Step]) -> int:
    """The rate in the middle."""
    return sorted(step.rate_sat_per_kvb for step in steps)[len(steps) // 2]


def play(steps: Sequence[Step]) -> Bill:
    """The year with our own choice of coins. Raises LookupError when coins run out."""
    coins: dict[int, Coin] = {}
    rates: list[int] = []
    fees = inputs = made = 0
    for step in steps:
        for amount in step.deposits:
            made += 1
            coins[made] = _coin(made, amount)
        rates.append(step.rate_sat_per_kvb)
        found = _choose(list(coins.values()), step, rates)
        for coin in found.coins:
            del coins[coin.outpoint.vout]
        if found.change_minor:
            made += 1
            coins[made] = _coin(made, found.change_minor)
        fees += found.fee_minor
        inputs += len(found.coins)
    return bill(steps, fees_minor=fees, coins_left=len(coins), inputs=inputs)


def bill(steps: Sequence[Step], *, fees_minor: int, coins_left: int, inputs: int) -> Bill:
    """What a year cost, with what its coins still will."""
    input_vb = size_vb(inputs=2, outputs=1) - size_vb(inputs=1, outputs=1)
    return Bill(
        fees_minor=fees_minor,
        coins_left=coins_left,
        left_minor=-(-coins_left * input_vb * median_rate(steps) // 1_000),
        inputs=inputs,
    )


def _choose(coins: Sequence[Coin], step: Step, rates: Sequence[int]) -> Selection:
    terms = Terms(
        payments_minor=sum(step.payments),
        rate_sat_per_kvb=step.rate_sat_per_kvb,
        change_min_minor=CHANGE_LEAST,
        must_keep_change=False,
        cheap_rate_sat_per_kvb=_cheap(rates),
    )

    def size_of(*, inputs: int, has_change: bool) -> int:
        return size_vb(inputs=inputs, outputs=len(step.payments) + has_change)

    found = select(coins, terms, size_of=size_of)
    if found is None:
        raise LookupError("the coins do not cover a batch")
    return found


def _cheap(rates: Sequence[int]) -> int:
    known = sorted(rates[-CHEAP_BATCHES:])
    return known[int(len(known) * CHEAP_SHARE)] if len(known) >= CHEAP_BATCHES_MIN else 0


def _amounts(dice: Random, count: tuple[int, int], median: int, least: int) -> list[int]:
    number = dice.randint(*count)
    return [
        max(least, round(dice.lognormvariate(log(median), AMOUNT_SIGMA))) for _ in range(number)
    ]


def _coin(number: int, amount_minor: int) -> Coin:
    """Coins of a play are told apart by their number, which stands in `vout`."""
    return Coin(
        outpoint=Outpoint(txid="00" * 32, vout=number),
        amount_minor=amount_minor,
        key=KEY,
        path="",
        previous_tx=b"",
    )
