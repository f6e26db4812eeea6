"""Everything the configuration knows, read once by a composition root.

Owns the order in which settings, chains, assets and policy are read. It holds no state.
"""

from dataclasses import dataclass

from config.assets import AssetRegistry, AssetSpec, load_assets
from config.chains import ChainRegistry, load_chains
from config.policy import Policy, load_policy
from config.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Settings and the registries made from them: chains by network, assets by id."""

    settings: Settings
    chains: ChainRegistry
    assets: AssetRegistry
    policy: Policy

    def assets_of(self, network: str) -> tuple[AssetSpec, ...]:
        """The assets of one network, native coin first."""
        found = [asset for asset in self.assets.values() if asset.network == network]
        return tuple(sorted(found, key=lambda asset: (not asset.is_native, asset.id)))


def load_registry(settings: Settings) -> Registry:
    """Validate the whole configuration. Raises ConfigError naming the key that is wrong."""
    chains = load_chains(settings)
    assets = load_assets(settings, chains)
    policy = load_policy(settings, chains, assets)
    return Registry(settings=settings, chains=chains, assets=assets, policy=policy)
