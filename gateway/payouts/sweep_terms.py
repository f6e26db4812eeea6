"""What gas costs now, and what the policy says: what one pass over the sweeps of a lane decides on.

Owns the reading of policy, quote, rates and cheap hours in one unit of work. Rates are wei per gas,
base fee and tip together; amounts minor units. It plans nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.database import Uow
from config.policy import FeePolicy
from config.sweep_policy import GasRule, SweepPolicy, parse_sweeps
from gateway.payouts import fee_policy, sweeps
from gateway.payouts.context import Lane
from gateway.payouts.fee_policy import AccountFee
from gateway.payouts.sweep_choice import Offer
from gateway.payouts.sweeps_store import SweepRow
from watchers import fees, rates
from watchers.chain import FeeQuote
from watchers.rates import Rate

TARGET_BLOCKS: Final = 100  # nobody waits for a sweep: the slowest class that is quoted
HEADROOM_PERMILLE: Final = 1_250  # gas that is there is used while base fees may still rise so much
GAS_LIMIT_PERMILLE: Final = 1_200  # of a node's estimate: a token may use more in a later block
TRANSFER_GAS: Final = (
    21_000  # of native coin between accounts without code (Yellow Paper, Gtransaction)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Everything that a pass judges by."""

    policy: SweepPolicy
    quote: FeeQuote
    sampled_at: datetime
    rate: int
    cheap_rate: int
    rates: Mapping[str, Rate]
    fee_policy: FeePolicy

    def gas_rule(self, network: str) -> GasRule:
        """The gas rule of the network."""
        return self.policy.gas_of(network)

    def is_too_dear(self, network: str) -> bool:
        """Whether gas is over what people pay for sweeps at all."""
        most = self.gas_rule(network).rate_max
        return most is not None and self.rate > most

    def fee(self, gas_limit: int) -> AccountFee:
        """EIP-1559 fields for so much gas. Raises FeeAboveCap."""
        return fee_policy.account_fee(
            self.quote, target_blocks=TARGET_BLOCKS, policy=self.fee_policy, gas_limit=gas_limit
        )

    def fee_from(self, native_minor: int, gas_limit: int) -> AccountFee | None:
        """What the coin at an address pays for so much gas, with room for rising base fees; None
        when it needs more. Raises FeeAboveCap."""
        wanted = self.fee(gas_limit)
        most = min(wanted.max_fee_per_gas, native_minor // gas_limit)
        base = max(self.quote.base_fee, 0)
        tip = wanted.max_priority_fee_per_gas
        if most < min(wanted.max_fee_per_gas, base * HEADROOM_PERMILLE // 1_000 + tip):
            return None
        return AccountFee(
            max_fee_per_gas=most, max_priority_fee_per_gas=min(tip, most), gas_limit=gas_limit
        )


async def policy_of(lane: Lane, uow: Uow) -> SweepPolicy:
    """The policy in force."""
    found = await sweeps.VERSIONS.latest(uow)
    return parse_sweeps(
        found.content,
        version=found.version,
        assets=lane.registry.assets,
        chains=lane.registry.chains,
        is_strict=False,
    )


async def load(lane: Lane, uow: Uow) -> Terms:
    """The terms of now. Raises FeesUnknown, FeeAboveCap."""
    registry = lane.registry
    sample = await fees.latest(uow, network=lane.network)
    quote = fee_policy.usable(sample, now=lane.now())
    policy = registry.policy.fees[lane.network]
    at_all = fee_policy.account_fee(
        quote, target_blocks=TARGET_BLOCKS, policy=policy, gas_limit=TRANSFER_GAS
    )
    return Terms(
        policy=await policy_of(lane, uow),
        quote=quote,
        sampled_at=lane.now() if sample is None else sample.sampled_at,
        rate=max(quote.base_fee, 0) + at_all.max_priority_fee_per_gas,
        cheap_rate=await fees.cheap_rate(uow, network=lane.network),
        rates=await rates.fresh(
            uow,
            assets=[asset.id for asset in registry.assets_of(lane.network)],
            reference=registry.policy.reference,
            at=lane.now(),
        ),
        fee_policy=policy,
    )


def offer(lane: Lane, terms: Terms, row: SweepRow, *, gas: int, needs_top_up: bool) -> Offer:
    """What this sweep is worth and costs. `gas`: what its own tx uses. Pure."""
    used = gas + (TRANSFER_GAS if needs_top_up else 0)
    cheapest = min(terms.rate, terms.cheap_rate or terms.rate)
    return Offer(
        amount_minor=row.amount_minor,
        value_minor=_value(lane, terms, row),
        fee_minor=used * terms.rate,
        least_fee_minor=used * cheapest,
        is_cheap=terms.cheap_rate == 0 or terms.rate <= terms.cheap_rate,
        is_requested=row.requested_by is not None,
        oldest_at=row.oldest_at,
    )


def _value(lane: Lane, terms: Terms, row: SweepRow) -> int | None:
    """Its worth in the native coin; None without fresh rates of both."""
    native = lane.spec.native_asset
    if row.asset == native:
        return row.amount_minor
    of, into = terms.rates.get(row.asset), terms.rates.get(native)
    if of is None or into is None:
        return None
    assets = lane.registry.assets
    return rates.exchange(
        row.amount_minor,
        of.rate,
        into.rate,
        decimals=assets[row.asset].decimals,
        into_decimals=assets[native].decimals,
    )


def limit_of(estimate: int) -> int:
    """The gas limit for a node's estimate."""
    return -(-estimate * GAS_LIMIT_PERMILLE // 1_000)
