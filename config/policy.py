"""Policy: fee ceilings, promises, time limits, and what the treasury goes by.

Owns `policy.toml` and the operator's `policy_file` over it. The signer has limits of its own that
nothing here can raise (HOUSE 9).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from tomllib import TOMLDecodeError, loads
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.assets import AssetRegistry, minor_units
from config.breaker_policy import BreakerPolicy, BreakersRow, breaker_policy
from config.chains import ChainRegistry, ChainSpec, Family
from config.credit_policy import ReferenceSpec, ReversedValueMax
from config.errors import ConfigError
from config.rebalance_policy import RebalancePolicy, load_rebalance_policies
from config.settings import DecimalText, FeeClass, Settings
from config.treasury_policy import (
    OutflowRow,
    TreasuryPolicy,
    TreasuryRow,
    load_treasury,
)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _FeeRow(_Strict):
    rate_floor: DecimalText
    rate_cap: DecimalText
    fee_per_tx_max: DecimalText
    cpfp_reserve: DecimalText
    fee_share_max_permille: int = Field(default=100, gt=0, le=1_000)


class _CoinsRow(_Strict):
    keep_coins: int = Field(ge=0, le=100)
    part_min: DecimalText
    merge_above: int = Field(ge=0, le=100_000)
    rate_max: DecimalText
    pause_seconds: int = Field(ge=60)


class _ClassRow(_Strict):
    promise_seconds: int = Field(gt=0)
    inclusion_blocks: dict[str, int]


class Limits(_Strict):
    """Time limits of CONTRACT 5, in seconds, and the size of one step's breaker."""

    screening_seconds: int = Field(gt=0)
    pending_approval_seconds: int = Field(gt=0)
    planned_seconds: int = Field(gt=0)
    broadcasting_seconds: int = Field(gt=0)
    uncertain_alarm_seconds: int = Field(gt=0)
    confirming_alarm_tiers: int = Field(gt=0)
    cancelling_alarm_seconds: int = Field(gt=0)
    valid_until_default_seconds: int = Field(gt=0)
    valid_until_max_seconds: int = Field(gt=0)
    credit_back_grace_seconds: int = Field(gt=0)
    deposits_reversed_per_step_max: int = Field(gt=0)


class _ReferenceRow(_Strict):
    currency: str = Field(pattern=r"^[A-Z]{3,8}$")
    decimals: int = Field(ge=0, le=18)
    stale_seconds: int = Field(gt=0, le=3_600)  # CONTRACT 4: at most an hour
    jump_percent: int = Field(gt=0, le=100)
    jump_seconds: int = Field(gt=0)


class _ReversedRow(_Strict):
    reference: DecimalText | None = None
    assets: dict[str, DecimalText] = Field(default_factory=dict)


class RateSource(_Strict):
    """Where rates are read from; off without a URL.

    The answer is a JSON object; `assets` names the member of each asset id, dots go deeper. A
    member is a decimal string or number: currency units per whole unit. `as_of` names the member
    with the moment (RFC 3339, or seconds since 1970).
    """

    url: str = ""
    poll_seconds: int = Field(default=300, ge=10)
    timeout_seconds: int = Field(default=10, ge=1, le=60)
    as_of: str = "as_of"
    assets: dict[str, str] = Field(default_factory=dict)


class _PolicyFile(_Strict):
    reference: _ReferenceRow
    rate_source: RateSource = RateSource()
    fees: dict[str, _FeeRow]
    coins: dict[str, _CoinsRow] = Field(default_factory=dict)
    classes: dict[FeeClass, _ClassRow]
    limits: Limits
    deposits_reversed_value_max: dict[str, _ReversedRow] = Field(default_factory=dict)
    treasury: TreasuryRow = TreasuryRow()
    outflow_breaker: dict[str, OutflowRow] = Field(default_factory=dict)
    breakers: BreakersRow


@dataclass(frozen=True, slots=True, kw_only=True)
class FeePolicy:
    """Bounds of one network. Rates: sat_per_vb (bitcoin), wei_per_gas (evm); amounts in minor
    units of the native coin."""

    rate_floor: int
    rate_cap: int
    fee_per_tx_max_minor: int
    cpfp_reserve_minor: int
    fee_share_max_permille: int = 100
    """What a bump may make a payout cost at most, of what is paid in the native coin."""

    def clamp(self, rate: int) -> int:
        """`rate` brought inside floor and cap."""
        return max(self.rate_floor, min(rate, self.rate_cap))


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinPolicy:
    """How many coins a UTXO wallet shall have: see policy.toml. Amounts in minor units of the
    native coin, `rate_max` in sat_per_vb; `keep_coins` and `merge_above` 0: never."""

    keep_coins: int
    part_min_minor: int
    merge_above: int
    rate_max: int
    pause_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPolicy:
    """A fee class: request to `sent` within `promise_seconds`, in a block within the target."""

    promise_seconds: int
    inclusion_blocks: Mapping[Family, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All policy of a deployment: `fees`, `coins` (of UTXO networks that have one) and
    `reversed_value_max` by network, `rebalances` by asset."""

    fees: Mapping[str, FeePolicy]
    coins: Mapping[str, CoinPolicy]
    classes: Mapping[str, ClassPolicy]
    limits: Limits
    reversed_value_max: Mapping[str, ReversedValueMax]
    rebalances: Mapping[str, RebalancePolicy]
    reference: ReferenceSpec
    rate_source: RateSource
    treasury: TreasuryPolicy
    breakers: BreakerPolicy = field(default_factory=BreakerPolicy)


def load_policy(settings: Settings, chains: ChainRegistry, assets: AssetRegistry) -> Policy:
    """The defaults under the operator's file. Raises ConfigError naming the key."""
    values = loads(resources.files("config").joinpath("policy.toml").read_text("utf-8"))
    _leave_out_disabled(values, assets)
    if settings.policy_file is not None:
        _overlay(values, _read(settings.policy_file))
    try:
        rows = _PolicyFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"policy {key}: {first['msg']}") from None
    reference = ReferenceSpec(**rows.reference.model_dump())
    reversed_rows = rows.deposits_reversed_value_max
    unknown = sorted(set(reversed_rows) - set(chains))
    if unknown:
        raise ConfigError(
            f"policy deposits_reversed_value_max.{unknown[0]}: the network is not configured"
        )
    return Policy(
        fees={name: _fees(chain, rows.fees.get(name), assets) for name, chain in chains.items()},
        coins={
            name: _coins(chains[name], row, assets)
            for name, row in rows.coins.items()
            if name in chains
        },
        classes={
            name: ClassPolicy(
                promise_seconds=row.promise_seconds,
                inclusion_blocks={family: _target(name, row, family) for family in Family},
            )
            for name, row in rows.classes.items()
        },
        limits=rows.limits,
        reversed_value_max={
            name: _reversed(name, reversed_rows.get(name, _ReversedRow()), assets, reference)
            for name in chains
        },
        rebalances=load_rebalance_policies(settings, assets),
        reference=reference,
        rate_source=_rate_source(rows.rate_source, assets),
        treasury=load_treasury(
            wallets=settings.wallets,
            row=rows.treasury,
            outflow=rows.outflow_breaker,
            chains=chains,
            assets=assets,
        ),
        breakers=breaker_policy(rows.breakers),
    )


def _rate_source(row: RateSource, assets: AssetRegistry) -> RateSource:
    if row.url and not row.url.startswith("https://"):
        raise ConfigError("policy rate_source.url: it must start with https://")
    unknown = sorted(set(row.assets) - set(assets))
    if row.url and unknown:
        raise ConfigError(f"policy rate_source.assets.{unknown[0]}: the asset is not enabled")
    return row


def _leave_out_disabled(values: dict[str, Any], assets: AssetRegistry) -> None:
    """Our own defaults may name an asset that is not enabled; the operator's file may not."""
    networks = {asset.network for asset in assets.values()}
    values["deposits_reversed_value_max"] = {
        network: row
        | {"assets": {name: text for name, text in row["assets"].items() if name in assets}}
        for network, row in values["deposits_reversed_value_max"].items()
        if network in networks
    }


def _reversed(
    network: str, row: _ReversedRow, assets: AssetRegistry, reference: ReferenceSpec
) -> ReversedValueMax:
    where = f"policy deposits_reversed_value_max.{network}"
    limits = {}
    for name, text in row.assets.items():
        asset = assets.get(name)
        if asset is None or asset.network != network:
            raise ConfigError(f"{where}.assets.{name}: no such asset of {network} is enabled")
        limits[name] = minor_units(text, decimals=asset.decimals, where=f"{where}.assets.{name}")
    whole = row.reference
    return ReversedValueMax(
        reference_minor=None
        if whole is None
        else minor_units(whole, decimals=reference.decimals, where=f"{where}.reference"),
        assets_minor=limits,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return loads(path.read_text(encoding="utf-8"))
    except (OSError, TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"policy_file: {path} cannot be read as TOML") from error


def _overlay(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _overlay(into[key], value)
        else:
            into[key] = value


def _target(name: str, row: _ClassRow, family: Family) -> int:
    if family.value not in row.inclusion_blocks:
        raise ConfigError(f"policy classes.{name}.inclusion_blocks: {family.value} is missing")
    return row.inclusion_blocks[family.value]


def _fees(chain: ChainSpec, row: _FeeRow | None, assets: AssetRegistry) -> FeePolicy:
    where = f"policy fees.{chain.network}"
    if row is None:
        raise ConfigError(f"{where}: missing", hint="give the network's floor, cap and maximum")
    native = assets.get(chain.native_asset)
    if native is None:
        raise ConfigError(f"assets.{chain.native_asset}: the fee coin of {chain.network} is off")
    decimals = native.decimals
    policy = FeePolicy(
        rate_floor=minor_units(row.rate_floor, decimals=0, where=f"{where}.rate_floor"),
        rate_cap=minor_units(row.rate_cap, decimals=0, where=f"{where}.rate_cap"),
        fee_per_tx_max_minor=minor_units(
            row.fee_per_tx_max, decimals=decimals, where=f"{where}.fee_per_tx_max"
        ),
        cpfp_reserve_minor=minor_units(
            row.cpfp_reserve, decimals=decimals, where=f"{where}.cpfp_reserve"
        ),
        fee_share_max_permille=row.fee_share_max_permille,
    )
    if not 0 < policy.rate_floor <= policy.rate_cap:
        raise ConfigError(f"{where}: rate_floor must be positive and at most rate_cap")
    return policy


def _coins(chain: ChainSpec, row: _CoinsRow, assets: AssetRegistry) -> CoinPolicy:
    where = f"policy coins.{chain.network}"
    if chain.family is not Family.BITCOIN:
        raise ConfigError(f"{where}: only UTXO networks have coins")
    decimals = assets[chain.native_asset].decimals
    policy = CoinPolicy(
        keep_coins=row.keep_coins,
        part_min_minor=minor_units(row.part_min, decimals=decimals, where=f"{where}.part_min"),
        merge_above=row.merge_above,
        rate_max=minor_units(row.rate_max, decimals=0, where=f"{where}.rate_max"),
        pause_seconds=row.pause_seconds,
    )
    if 0 < policy.merge_above < 2 * policy.keep_coins:
        raise ConfigError(f"{where}.merge_above: at least twice keep_coins, or 0 for never")
    return policy
