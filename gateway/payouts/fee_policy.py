"""What a payout may pay for inclusion: rate from quote and class, within the operator's bounds.

Pure. A quote is untrusted input: whatever an estimator says, the result lies in [floor, cap] and a
tx never costs more than the absolute maximum (N26). Building on a stale quote is refused, since a
watcher that samples no fees sees no chain either.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from config.policy import FeePolicy
from gateway.payouts.errors import FeeAboveCap, FeesUnknown
from watchers.chain import FeeQuote
from watchers.fees import FeeSample

QUOTE_AGE_MAX = timedelta(minutes=10)  # N26: older says nothing about the next block
SAT_PER_VB_IN_KVB = 1000  # policy bounds are per vB, quotes per kvB
BASE_FEE_HEADROOM = 2  # EIP-1559: +12.5 % per block at most, six full blocks double it


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFee:
    """EIP-1559 fields, wei per gas, and their cap for the whole tx in wei."""

    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    gas_limit: int

    @property
    def cap_minor(self) -> int:
        """The most that this tx can cost."""
        return self.max_fee_per_gas * self.gas_limit


def usable(sample: FeeSample | None, *, now: datetime) -> FeeQuote:
    """The quote when it may be built with; raises FeesUnknown for none or a stale one."""
    if sample is None:
        raise FeesUnknown("no fee quote was ever sampled")
    if now - sample.sampled_at > QUOTE_AGE_MAX:
        raise FeesUnknown(f"the fee quote of {sample.sampled_at.isoformat()} is too old")
    return sample.quote


def rate_for(quote: FeeQuote, *, target_blocks: int) -> int:
    """The quoted rate for a target: of the nearest quicker target, else the quickest known, else
    the mempool minimum. Nonsense (negative, zero) counts as not quoted."""
    known = {target: rate for target, rate in quote.rates.items() if target > 0 and rate > 0}
    quicker = [target for target in known if target <= target_blocks]
    if quicker:
        return known[max(quicker)]
    return known[min(known)] if known else max(quote.floor, 0)


def utxo_rate(quote: FeeQuote, *, target_blocks: int, policy: FeePolicy) -> int:
    """Satoshi per 1,000 vB within [floor, cap]; raises FeeAboveCap when the mempool wants more."""
    floor = policy.rate_floor * SAT_PER_VB_IN_KVB
    cap = policy.rate_cap * SAT_PER_VB_IN_KVB
    if quote.floor > cap:
        raise FeeAboveCap(f"the mempool minimum {quote.floor} is above the cap {cap}")
    wanted = max(rate_for(quote, target_blocks=target_blocks), quote.floor, floor)
    return min(wanted, cap)


def account_fee(
    quote: FeeQuote, *, target_blocks: int, policy: FeePolicy, gas_limit: int
) -> AccountFee:
    """EIP-1559 fees within policy; raises FeeAboveCap when the next block alone costs more."""
    ceiling = min(policy.rate_cap, policy.fee_per_tx_max_minor // gas_limit)
    base = max(quote.base_fee, 0)
    tip = max(rate_for(quote, target_blocks=target_blocks), quote.floor, 1)
    if base >= ceiling:
        raise FeeAboveCap(f"the base fee {base} is not below the cap {ceiling}")
    max_fee = min(max(base * BASE_FEE_HEADROOM + tip, policy.rate_floor), ceiling)
    return AccountFee(
        max_fee_per_gas=max_fee,
        max_priority_fee_per_gas=min(tip, max_fee),
        gas_limit=gas_limit,
    )


def fits(fee_minor: int, *, policy: FeePolicy) -> bool:
    """Whether a whole tx stays within the absolute maximum (S04 has its own in the signer)."""
    return 0 < fee_minor <= policy.fee_per_tx_max_minor
