"""Policy of the treasury: wallet bands by role, the forecast that refills follow, outflow breakers.

Owns the shape of `[treasury]` and `[outflow_breaker]` in the policy file and of `[wallets]` in
`cage.toml`, and which of it a network can have. Amounts are minor units; it judges nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from config.assets import AssetRegistry, minor_units
from config.chains import ChainRegistry, Family
from config.errors import ConfigError
from config.sections import BandSettings, DecimalText, WalletSettings

QuantileName = Literal["p50", "p90", "p99"]
PERMILLE: Final[Mapping[QuantileName, int]] = {"p50": 500, "p90": 900, "p99": 990}


class WalletRole(StrEnum):
    """What a wallet is for (CONTRACT 1). UTXO networks have hot, warm and cold ones only."""

    DEPOSIT = "deposit"
    """Players pay here; account chains."""
    HOT = "hot"
    """Pays withdrawals."""
    WARM = "warm"
    """Online; each signature needs two people."""
    COLD = "cold"
    """Its keys are never online."""
    GAS = "gas"
    """Pays the fees of token sweeps; account chains, native coin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What a wallet shall hold of one asset, minor units."""

    min_minor: int
    target_minor: int
    max_minor: int


class TreasuryRow(BaseModel):
    """`[treasury]` of the policy file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    hysteresis_permille: int = Field(default=100, ge=0, le=1_000)
    """How far from the bound to the target a wallet must come back to be inside again."""
    horizon_hours: int = Field(default=12, ge=1, le=168)
    """How far ahead a refill looks."""
    refill_quantile: QuantileName = "p90"
    """Which quantile of the expected withdrawals a refill covers."""
    history_days_min: int = Field(default=28, ge=7, le=365)
    """Days of own history without which no outflow breaker judges."""


class OutflowRow(BaseModel):
    """`[outflow_breaker."ASSET"]` of the policy file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    quantile: QuantileName = "p99"
    factor_permille: int = Field(ge=1_000, le=100_000)
    at_least: DecimalText


@dataclass(frozen=True, slots=True, kw_only=True)
class OutflowMax:
    """Payouts of an asset stop above `factor_permille` of a quantile of an hour's outflow, and
    never below `at_least_minor`."""

    quantile_permille: int
    factor_permille: int
    at_least_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TreasuryPolicy:
    """All of it. `bands` by role and asset."""

    bands: Mapping[tuple[WalletRole, str], Band]
    hysteresis_permille: int
    horizon_hours: int
    refill_quantile: QuantileName
    history_days_min: int
    outflow_max: Mapping[str, OutflowMax]

    def band(self, role: str, asset: str) -> Band | None:
        """The band of a wallet, if it has one."""
        return self.bands.get((WalletRole(role), asset))


def has_warm(wallets: Mapping[str, WalletSettings], network: str) -> bool:
    """Whether a network has a warm wallet: it has one where an asset of it has a warm band."""
    return any(
        asset.partition(":")[0] == network and settings.warm is not None
        for asset, settings in wallets.items()
    )


def load_treasury(
    *,
    wallets: Mapping[str, WalletSettings],
    row: TreasuryRow,
    outflow: Mapping[str, OutflowRow],
    chains: ChainRegistry,
    assets: AssetRegistry,
) -> TreasuryPolicy:
    """The policy from its rows. Raises ConfigError naming the key."""
    return TreasuryPolicy(
        bands={
            (WalletRole(role), asset): _band(asset, WalletRole(role), band, chains, assets)
            for asset, settings in wallets.items()
            for role, band in settings.bands().items()
        },
        hysteresis_permille=row.hysteresis_permille,
        horizon_hours=row.horizon_hours,
        refill_quantile=row.refill_quantile,
        history_days_min=row.history_days_min,
        outflow_max={asset: _outflow(asset, item, assets) for asset, item in outflow.items()},
    )


def _band(
    asset_id: str,
    role: WalletRole,
    band: BandSettings,
    chains: ChainRegistry,
    assets: AssetRegistry,
) -> Band:
    asset = assets.get(asset_id)
    if asset is None:
        raise ConfigError(f"wallets.{asset_id}: the asset is not enabled")
    where = f"wallets.{asset_id}" + ("" if role is WalletRole.HOT else f".{role}")
    is_utxo = chains[asset.network].family is Family.BITCOIN
    if is_utxo and role in (WalletRole.DEPOSIT, WalletRole.GAS):
        raise ConfigError(
            f"{where}: {asset.network} has no {role} wallet",
            hint="its deposits and fees are the hot wallet's coins",
        )
    if role is WalletRole.GAS and not asset.is_native:
        native = chains[asset.network].native_asset
        raise ConfigError(f"{where}: fees are paid in {native}", hint=f"set wallets.{native}.gas")
    low, target, high = (
        minor_units(text, decimals=asset.decimals, where=where)
        for text in (band.min, band.target, band.max)
    )
    if not low <= target <= high:
        raise ConfigError(f"{where}: min <= target <= max does not hold")
    return Band(min_minor=low, target_minor=target, max_minor=high)


def _outflow(asset_id: str, row: OutflowRow, assets: AssetRegistry) -> OutflowMax:
    where = f"policy outflow_breaker.{asset_id}"
    asset = assets.get(asset_id)
    if asset is None:
        raise ConfigError(f"{where}: the asset is not enabled")
    return OutflowMax(
        quantile_permille=PERMILLE[row.quantile],
        factor_permille=row.factor_permille,
        at_least_minor=minor_units(
            row.at_least, decimals=asset.decimals, where=f"{where}.at_least"
        ),
    )
