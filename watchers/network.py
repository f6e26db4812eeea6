"""What every step of one network needs to know: its facts, its assets and the ports.

A value, built once by the composition root; it owns nothing and decides one thing: depths.
"""

from dataclasses import dataclass, field

from config.assets import AssetRegistry, AssetSpec, Tier
from config.breaker_policy import BreakerPolicy
from config.chains import ChainSpec, Family, Finality
from config.credit_policy import ReferenceSpec, ReversedValueMax
from config.ids import Ids
from watchers.coins import COINBASE_MATURITY_BLOCKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """Confirmations that a value needs, in blocks, and the policy version that says so."""

    min_depth: int
    full_depth: int
    policy_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network. More reversals in one step than `reversed_per_step_max`, or of more value than
    `reversed_value_max`, wait for people."""

    spec: ChainSpec
    assets: AssetRegistry
    ids: Ids
    reversed_per_step_max: int
    reference: ReferenceSpec = field(default_factory=ReferenceSpec)
    reversed_value_max: ReversedValueMax = field(default_factory=ReversedValueMax)
    breakers: BreakerPolicy = field(default_factory=BreakerPolicy)

    @property
    def name(self) -> str:
        """The network's name, e.g. `btc`."""
        return self.spec.network

    @property
    def family(self) -> Family:
        """The chain family."""
        return self.spec.family

    @property
    def finality_blocks(self) -> int:
        """The deepest full tier: confirmations after which any amount of any asset is final."""
        listed = (item for item in self.assets.values() if item.network == self.name)
        depths = (tier.full_depth for item in listed for tier in item.tiers)
        return max(self.spec.full_depth, *depths, 1)

    def asset(self, asset_id: str) -> AssetSpec | None:
        """A listed asset of this network, else None."""
        found = self.assets.get(asset_id)
        return found if found is not None and found.network == self.name else None

    def depths(
        self,
        asset: AssetSpec,
        amount_minor: int,
        *,
        is_coinbase: bool,
        tier: Tier | None = None,
        policy_version: int = 0,
    ) -> Depths:
        """The tier of an amount, by the configuration unless a policy's is given; a coinbase also
        waits for its maturity (D19)."""
        tier = tier or asset.tier(amount_minor)
        floor = COINBASE_MATURITY_BLOCKS if is_coinbase else 1
        return Depths(
            min_depth=max(tier.min_depth, floor),
            full_depth=max(tier.full_depth, floor),
            policy_version=policy_version,
        )

    def final_below(self, *, height: int, finalised_height: int | None) -> int:
        """The highest block that may count as final: capped by the chain's own finality where
        it has one and the node tells it (D59); elsewhere the full tier alone decides."""
        if self.spec.finality is Finality.FINALIZED_TAG and finalised_height is not None:
            return min(height, finalised_height)
        return height
