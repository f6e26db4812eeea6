"""How moves between hot and cold are agreed to: by asset, every asset has one.

Owns `[rebalances]` and `[cold]` of `cage.toml`, read. The signer's pins and caps are its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from config.assets import AssetRegistry, AssetSpec, minor_units
from config.errors import ConfigError
from config.settings import RebalanceSettings, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RebalancePolicy:
    """Of one asset, in minor units. See `config.sections.RebalanceSettings`."""

    two_people_above_minor: int
    is_automatic: bool
    pause_seconds: int
    valid_seconds: int

    def people_for(self, amount_minor: int, *, is_system: bool) -> int:
        """How many people sign a move of this much."""
        if amount_minor > self.two_people_above_minor:
            return 2
        return 0 if is_system and self.is_automatic else 1


def load_rebalance_policies(
    settings: Settings, assets: AssetRegistry
) -> Mapping[str, RebalancePolicy]:
    """One per asset, by default two people for any amount. Raises ConfigError naming the key."""
    unknown = sorted(set(settings.rebalances) - set(assets))
    if unknown:
        raise ConfigError(f"rebalances.{unknown[0]}: the asset is not enabled")
    networks = {asset.network for asset in assets.values()}
    strange = sorted(set(settings.cold) - networks)
    if strange:
        raise ConfigError(f"cold.{strange[0]}: the network is not configured")
    default = RebalanceSettings()
    return {
        name: _policy(asset, settings.rebalances.get(name, default))
        for name, asset in assets.items()
    }


def _policy(asset: AssetSpec, row: RebalanceSettings) -> RebalancePolicy:
    where = f"rebalances.{asset.id}.two_people_above"
    return RebalancePolicy(
        two_people_above_minor=minor_units(
            row.two_people_above, decimals=asset.decimals, where=where
        ),
        is_automatic=row.automatic,
        pause_seconds=row.pause_seconds,
        valid_seconds=row.valid_seconds,
    )
