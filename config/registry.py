"""Everything the configuration knows, read once by a composition root.

Owns the order in which settings, chains, assets and policy are read. It holds no state.
"""

from dataclasses import dataclass

from config.assets import AssetRegistry, AssetSpec, load_assets
from config.chains import ChainRegistry, load_chains
from config.errors import ConfigError
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


def cautions(settings: Settings) -> list[str]:
    """What is allowed and unwise, in words for the operator."""
    found = []
    for name, network in settings.enabled_networks().items():
        count, quorum = len(network.nodes), network.quorum
        if settings.livemode and quorum == 1:
            found.append(
                f"networks.{name}.quorum is 1: one node alone decides what was paid; "
                "name three nodes and set quorum = 2"
            )
        elif quorum > 1 and 2 * quorum <= count:
            found.append(
                f"networks.{name}.quorum: {quorum} of {count} nodes is no majority; two halves "
                "could agree on different chains, and then nothing would move"
            )
    return found


def _refuse_one_of_many(settings: Settings) -> None:
    """Real money is not left to whichever node of several answers. Raises ConfigError."""
    for name, network in settings.enabled_networks().items():
        count = len(network.nodes)
        if settings.livemode and count > 1 and network.quorum == 1:
            raise ConfigError(
                f"networks.{name}.quorum is 1 of {count} nodes: any one of them could decide "
                "what was paid",
                hint=f"set networks.{name}.quorum = {count // 2 + 1}, or name one node alone",
            )


def load_registry(settings: Settings) -> Registry:
    """Validate the whole configuration. Raises ConfigError naming the key that is wrong."""
    _refuse_one_of_many(settings)
    chains = load_chains(settings)
    assets = load_assets(settings, chains)
    policy = load_policy(settings, chains, assets)
    return Registry(settings=settings, chains=chains, assets=assets, policy=policy)
