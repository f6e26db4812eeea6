"""What one payment is expected to cost now, in the fee coin and in the asset that it pays.

Owns the one estimate behind `fee_mode: player` and the dry run (CONTRACT 1, Fees). It reads the
newest quote and rates and guesses nothing: without them there is no amount, only the reason. What
a tx costs in the end is the chain's word and the house's expense.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from config.assets import AssetSpec
from config.chains import ChainSpec, Family
from config.database import Uow
from config.registry import Registry
from gateway.payouts import fee_policy
from gateway.payouts.coin_selection import fee_for
from gateway.payouts.errors import FeeAboveCap, FeesUnknown
from watchers import fees, rates
from watchers.chain import FeeQuote
from watchers.fees import FeeSample
from watchers.rates import Rate
from watchers.registry import payment_units

FEES_UNKNOWN = "fees_unknown"  # codes: no young quote,
FEE_TOO_HIGH = "network_fee_too_high"  # the chain asks more than policy allows,
RATE_UNKNOWN = "rate_unknown"  # no fresh rate between the fee coin and the asset


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFee:
    """An estimate, or by code why there is none. Rounded up, never zero.

    `native_minor` is in minor units of the fee coin, `asset_minor` the same in those of the asset.
    """

    native_minor: int | None
    asset_minor: int | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What estimates of a moment are made of: the newest quote of each network, however old, and
    each asset's rate that counts."""

    samples: Mapping[str, FeeSample | None]
    fresh: Mapping[str, Rate]
    at: datetime


async def market(
    uow: Uow, registry: Registry, assets: Sequence[AssetSpec], *, at: datetime
) -> Market:
    """Of payments of these assets."""
    tokens = [asset for asset in assets if not asset.is_native]
    names = {asset.id for asset in tokens}
    names |= {registry.chains[asset.network].native_asset for asset in tokens}
    networks = sorted({asset.network for asset in assets})
    return Market(
        samples={network: await fees.latest(uow, network=network) for network in networks},
        fresh=await rates.fresh(uow, assets=names, reference=registry.policy.reference, at=at),
        at=at,
    )


async def estimate(
    uow: Uow, registry: Registry, *, asset: AssetSpec, key: str, fee_class: str, at: datetime
) -> NetworkFee:
    """Of a payment of `asset` to a match key in a fee class."""
    known = await market(uow, registry, [asset], at=at)
    return estimate_by(known, registry, asset=asset, key=key, fee_class=fee_class)


def estimate_by(
    known: Market, registry: Registry, *, asset: AssetSpec, key: str, fee_class: str
) -> NetworkFee:
    """`estimate` by a market that was read. Pure."""
    spec = registry.chains[asset.network]
    try:
        quote = fee_policy.usable(known.samples[asset.network], now=known.at)
        native_minor = expected(registry, spec, quote, asset=asset.id, key=key, fee_class=fee_class)
    except FeesUnknown:
        return NetworkFee(native_minor=None, asset_minor=None, problem=FEES_UNKNOWN)
    except FeeAboveCap:
        return NetworkFee(native_minor=None, asset_minor=None, problem=FEE_TOO_HIGH)
    if asset.is_native:
        return NetworkFee(native_minor=native_minor, asset_minor=native_minor, problem=None)
    native = registry.assets[spec.native_asset]
    asset_minor = _exchanged(native_minor, known.fresh, native, asset)
    problem = RATE_UNKNOWN if asset_minor is None else None
    return NetworkFee(native_minor=native_minor, asset_minor=asset_minor, problem=problem)


def expected(
    registry: Registry, spec: ChainSpec, quote: FeeQuote, *, asset: str, key: str, fee_class: str
) -> int:
    """The expected fee of one payment in minor units of the fee coin. Pure. Raises FeeAboveCap.

    On UTXO chains the payment's share of a batch, where its class waits for company. On account
    chains what is burnt and tipped now, not the cap that the tx is built with.
    """
    policy = registry.policy.fees[spec.network]
    target_blocks = registry.policy.classes[fee_class].inclusion_blocks[spec.family]
    batch = registry.settings.payouts.batch(fee_class)
    is_alone = batch.max_payments == 1 or batch.window_seconds == 0
    units = payment_units(spec, registry.assets.values(), asset=asset, key=key, is_alone=is_alone)
    match spec.family:
        case Family.BITCOIN:
            rate = fee_policy.utxo_rate(quote, target_blocks=target_blocks, policy=policy)
            fee_minor = fee_for(units, rate_sat_per_kvb=rate)
        case Family.EVM:
            fee = fee_policy.account_fee(
                quote, target_blocks=target_blocks, policy=policy, gas_limit=units
            )
            price = max(quote.base_fee + fee.max_priority_fee_per_gas, policy.rate_floor)
            fee_minor = units * min(price, fee.max_fee_per_gas)
        case _:
            assert_never(spec.family)
    if not fee_policy.fits(fee_minor, policy=policy):
        raise FeeAboveCap(f"{fee_minor} is above the maximum of a tx")
    return fee_minor


def _exchanged(
    native_minor: int, fresh: Mapping[str, Rate], native: AssetSpec, asset: AssetSpec
) -> int | None:
    """The same value in the asset; None without a fresh rate of each."""
    of, into = fresh.get(native.id), fresh.get(asset.id)
    if of is None or into is None:
        return None
    return rates.exchange(
        native_minor,
        of.rate,
        into.rate,
        decimals=native.decimals,
        into_decimals=asset.decimals,
    )
