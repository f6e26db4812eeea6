"""When a payout on its way pays too little, and what its next attempt may cost.

Pure, integers only. It decides on heights and quotes, never on wall time; what nodes demand of a
replacement (BIP 125 rules 3 and 4, geth's price bump) is the least, policy is the most. Rates: sat
per kvB, and for EVM wei per gas of base fee and tip together.
"""

from dataclasses import dataclass
from typing import Final

from gateway.payouts.coin_selection import fee_for
from gateway.payouts.fee_policy import AccountFee, rate_for
from watchers.chain import FeeQuote

BUMPS_MAX: Final = 8
"""Signed replacements and children of one payout: 1.125 to the 8th is 2.5 times, and every one is
a signature. What the signer refused counts for nothing."""

WORTH_PERMILLE: Final = 1_100  # below that a bump buys nothing
OVERDUE_PERMILLE: Final = 1_250  # the target passed: the estimator was wrong
REPLACE_PERMILLE: Final = 1_125  # EIP-1559 fields: geth wants 10 %, others 12.5 %
INCREMENTAL_SAT_PER_KVB: Final = 1_000  # BIP 125 rule 4; Core's -incrementalrelayfee up to 29
PACKAGE_TXS_MAX: Final = 25  # Core's -limitancestorcount and -limitdescendantcount
PACKAGE_MAX_VB: Final = 101_000  # Core's -limitancestorsize and -limitdescendantsize
TX_MAX_VB: Final = 56_000  # 500 coins to 500 payments and change; standard are 100,000 (P31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A payout in no block: what its package pays, and how long it waits, in blocks.

    `waited` counts from the first send of the newest attempt, `family_waited` from that of the
    first one. `target_blocks` is the inclusion target of the most urgent payment.
    """

    rate: int
    quote: FeeQuote
    target_blocks: int
    waited: int
    family_waited: int
    is_fee_refused: bool


def wanted_rate(waiting: Waiting) -> int | None:
    """The rate that its package needs now; None while it needs nothing."""
    quote = waiting.quote
    blocks_left = max(1, waiting.target_blocks - waiting.family_waited)
    base = max(quote.base_fee, 0)
    tip = max(rate_left(quote, blocks_left=blocks_left), quote.floor)
    market, overdue = base + tip, permille(waiting.rate, OVERDUE_PERMILLE)
    if waiting.is_fee_refused:
        return max(market, overdue)
    if waiting.rate < (base or quote.floor):
        return market  # no node keeps it, or no block can take it
    if waiting.waited >= waiting.target_blocks:
        return max(market, overdue)
    is_worth_it = waiting.rate * WORTH_PERMILLE < market * 1_000
    return market if waiting.waited >= 1 and is_worth_it else None


def rate_left(quote: FeeQuote, *, blocks_left: int) -> int:
    """The quoted rate for what is left of a target: of the next slower target while more than half
    of that is left, else of the next quicker one, so that one block does not make a class dearer
    than it was planned for."""
    slower = [target for target, rate in quote.rates.items() if target >= blocks_left and rate > 0]
    if slower and 2 * blocks_left > min(slower):
        return quote.rates[min(slower)]
    return rate_for(quote, target_blocks=blocks_left)


def package_fee(*, rate: int, size_vb: int, below_size_vb: int, below_fee_minor: int) -> int:
    """What a tx has to pay so that it and its unmined ancestors together reach a rate."""
    together = fee_for(size_vb + below_size_vb, rate_sat_per_kvb=rate) - below_fee_minor
    return max(together, fee_for(size_vb, rate_sat_per_kvb=rate))


def replacement_fee(
    *, wanted_minor: int, size_vb: int, highest_minor: int, most_minor: int
) -> int | None:
    """The fee of a replacement, or None when the least that nodes take is over the most.

    `highest_minor`: the dearest attempt of the family (rule 3), to which rule 4 adds.
    """
    least = highest_minor + fee_for(size_vb, rate_sat_per_kvb=INCREMENTAL_SAT_PER_KVB)
    return None if least > most_minor else min(max(wanted_minor, least), most_minor)


def child_fee(
    *, wanted_minor: int, size_vb: int, floor_sat_per_kvb: int, most_minor: int
) -> int | None:
    """The fee of a child, or None when what relays it is over the most."""
    floor = max(floor_sat_per_kvb, INCREMENTAL_SAT_PER_KVB)
    least = fee_for(size_vb, rate_sat_per_kvb=floor)
    return None if least > most_minor else min(max(wanted_minor, least), most_minor)


def replacement_gas(
    *, highest: AccountFee, wanted: int, base_fee: int, headroom: int, most_per_gas: int
) -> AccountFee | None:
    """Both fields at least 12.5 % above the family's highest, or None when that is over the most.

    `wanted`: wei per gas, base fee and tip; `headroom`: by how much base fees may rise meanwhile.
    """
    least_max = permille(highest.max_fee_per_gas, REPLACE_PERMILLE)
    least_tip = permille(highest.max_priority_fee_per_gas, REPLACE_PERMILLE)
    if least_max > most_per_gas:
        return None
    tip = max(least_tip, wanted - base_fee)
    max_fee = min(max(least_max, base_fee * headroom + tip, wanted), most_per_gas)
    return AccountFee(
        max_fee_per_gas=max_fee,
        max_priority_fee_per_gas=min(tip, max_fee),
        gas_limit=highest.gas_limit,
    )


def permille(value: int, per_thousand: int) -> int:
    """A share of a value, rounded up (costs up)."""
    return -(-value * per_thousand // 1_000)
