"""The chain registry: facts of each network as data, with the operator's overrides.

Owns `chains.toml` and its validation. It must not open a connection or know any protocol; what a
fact means is the business of `watchers/chains/<family>/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import resources
from tomllib import loads
from typing import Any

from config.errors import ConfigError, MixedNetworks
from config.settings import NetworkSettings, Settings


class Family(StrEnum):
    """Which code speaks to the chain."""

    BITCOIN = "bitcoin"
    """UTXO chains over Core-compatible RPC."""
    EVM = "evm"
    """Account chains over Ethereum JSON-RPC."""


class Finality(StrEnum):
    """What the chain itself calls irreversible."""

    DEPTH = "depth"
    """Nothing does; our full tier decides."""
    FINALIZED_TAG = "finalized_tag"
    """The node's `finalized` block."""


class Traces(StrEnum):
    """Whether native coin moved by contract calls is looked for (account chains)."""

    AUTO = "auto"
    """Where the node can trace blocks; else the reconciliation finds the difference (D45)."""
    OFF = "off"
    """Never: the node is not asked, the reconciliation finds the difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSpec:
    """One network on one chain. Depths and limits are in blocks.

    Version bytes are lower-case hex. Fields that another family needs are empty or None.
    """

    network: str
    chain: str
    family: Family
    is_live: bool
    caip2: str
    native_asset: str
    coin_type: int
    derivation: str
    block_seconds: int
    poll_seconds: float
    reorg_limit_blocks: int
    dropped_blocks: int
    absence_blocks: int
    min_depth: int
    full_depth: int
    finality: Finality
    can_replace: bool
    genesis_hash: str | None
    pow_algorithm: str | None
    pow_limit: str | None
    bech32_hrp: str | None
    p2pkh_versions: tuple[str, ...]
    p2sh_versions: tuple[str, ...]
    xpub_versions: tuple[str, ...]
    evm_chain_id: int | None
    traces: Traces = Traces.AUTO
    lag_blocks: int = 5
    """A node this far behind its peers is lagging (N01)."""
    stall_seconds: int = 0
    """No block for this long is a halt (N25); 0: blocks come only when somebody makes them."""
    min_node_version: str | None = None
    """Nodes below it are not asked (N24)."""
    reconcile_blocks: int = 1
    """Books are compared with the chain every so many blocks."""
    hot_lanes: int = 1
    """Hot accounts that pay beside each other, each with its own nonces (account chains)."""
    batch_contract: str | None = None
    """Our own contract that pays many at once, lower-case 0x hex (account chains)."""
    collector: str | None = None
    """Our own contract that deposit addresses delegate to (EIP-7702), lower-case 0x hex."""
    collects: bool = True
    """Whether it takes tokens; addresses that delegate to it are known either way."""
    safe: str | None = None
    """The Safe that is the cold wallet, lower-case 0x hex (account chains)."""

    def account_path(self, account: int) -> str:
        """The hardened account path `m/84h/0h/<account>h` (BIP 44/84)."""
        return f"m/{self.derivation}/{self.coin_type}h/{account}h"


ChainRegistry = Mapping[str, ChainSpec]
"""Chain specs by network name."""

# A network that only the operator's file defines starts from these (a new EVM network, CONTRACT 7).
_GENERIC_EVM: dict[str, Any] = {
    "family": "evm",
    "block_seconds": 12,
    "poll_seconds": 3.0,
    "lag_blocks": 5,
    "stall_seconds": 600,
    "reorg_limit_blocks": 128,
    "dropped_blocks": 300,
    "absence_blocks": 7200,
    "min_depth": 12,
    "full_depth": 64,
    "reconcile_blocks": 25,
    "finality": "finalized_tag",
    "can_replace": True,
    "derivation": "44h",
    "coin_type": 60,
    "xpub_versions": ["0488b21e"],
}


def load_chains(settings: Settings) -> ChainRegistry:
    """The enabled networks by name, registry facts under the operator's overrides.

    Raises ConfigError for an unknown network or chain, MixedNetworks when the networks do not
    all agree with `livemode` (CONTRACT 1).
    """
    registry = loads(resources.files("config").joinpath("chains.toml").read_text("utf-8"))
    chains = {
        name: _with_safe(_chain(name, network, registry), settings)
        for name, network in settings.enabled_networks().items()
    }
    for spec in chains.values():
        if spec.is_live != settings.livemode:
            kind = "a main" if spec.is_live else "a test"
            raise MixedNetworks(
                f"networks.{spec.network}: {spec.chain} is {kind} network, "
                f"but livemode is {str(settings.livemode).lower()}",
                hint="one deployment serves main networks only or test networks only",
            )
    return chains


def _with_safe(spec: ChainSpec, settings: Settings) -> ChainSpec:
    cold = settings.cold.get(spec.network)
    if cold is None or cold.safe is None:
        return spec
    if spec.family is not Family.EVM:
        raise ConfigError(f"cold.{spec.network}.safe: a Safe is of account chains")
    return replace(spec, safe=cold.safe.lower())


def _chain(name: str, network: NetworkSettings, registry: Mapping[str, Any]) -> ChainSpec:
    if name in registry:
        facts = _known_chain(name, network, registry[name])
    elif network.family is not None and network.evm_chain_id is not None:
        facts = _GENERIC_EVM | {"is_live": True if network.is_live is None else network.is_live}
    else:
        raise ConfigError(
            f"networks.{name}: not in the chain registry",
            hint=f"known: {', '.join(sorted(registry))}; "
            'a new EVM network needs family = "evm" and evm_chain_id',
        )
    fields = ("poll_seconds", "reorg_limit_blocks", "absence_blocks", "min_depth", "full_depth")
    for field in (*fields, "evm_chain_id", "native_asset", "traces", "reconcile_blocks"):
        value = getattr(network, field)
        if value is not None:
            facts = facts | {field: value}
    if facts["min_depth"] > facts["full_depth"]:
        raise ConfigError(f"networks.{name}: min_depth is above full_depth")
    spec = _spec(name, network.chain, facts)
    contract, collector = network.batch_contract, network.collector
    of_accounts = (contract, collector, network.hot_lanes)
    if spec.family is not Family.EVM and any(value is not None for value in of_accounts):
        raise ConfigError(
            f"networks.{name}: batch_contract, collector and hot_lanes are of account chains"
        )
    return replace(
        spec,
        batch_contract=None if contract is None else contract.lower(),
        collector=None if collector is None else collector.lower(),
        collects=network.collects,
        hot_lanes=network.hot_lanes or 1,
    )


def _known_chain(name: str, network: NetworkSettings, entry: Mapping[str, Any]) -> dict[str, Any]:
    variants = {key: value for key, value in entry.items() if isinstance(value, dict)}
    if network.family is not None or network.is_live is not None:
        raise ConfigError(f"networks.{name}: family and is_live are facts of the registry")
    if network.chain not in variants:
        raise ConfigError(
            f"networks.{name}.chain: {network.chain!r} is unknown",
            hint=f"one of {', '.join(variants)}",
        )
    common = {key: value for key, value in entry.items() if key not in variants}
    return common | variants[network.chain]


def _spec(name: str, chain: str, facts: Mapping[str, Any]) -> ChainSpec:
    family = Family(facts["family"])
    genesis_hash = facts.get("genesis_hash")
    evm_chain_id = facts.get("evm_chain_id")
    # CAIP-2: namespace bip122 takes 32 hex digits of the genesis hash, eip155 the chain id.
    caip2 = f"bip122:{genesis_hash[:32]}" if genesis_hash else f"eip155:{evm_chain_id}"
    return ChainSpec(
        network=name,
        chain=chain,
        family=family,
        is_live=facts["is_live"],
        caip2=caip2,
        native_asset=facts.get("native_asset", f"{name}:ETH"),
        coin_type=facts["coin_type"],
        derivation=facts["derivation"],
        block_seconds=facts["block_seconds"],
        poll_seconds=facts["poll_seconds"],
        reorg_limit_blocks=facts["reorg_limit_blocks"],
        dropped_blocks=facts["dropped_blocks"],
        absence_blocks=facts["absence_blocks"],
        min_depth=facts["min_depth"],
        full_depth=facts["full_depth"],
        finality=Finality(facts["finality"]),
        can_replace=facts["can_replace"],
        genesis_hash=genesis_hash,
        pow_algorithm=facts.get("pow_algorithm"),
        pow_limit=facts.get("pow_limit"),
        bech32_hrp=facts.get("bech32_hrp"),
        p2pkh_versions=tuple(facts.get("p2pkh_versions", ())),
        p2sh_versions=tuple(facts.get("p2sh_versions", ())),
        xpub_versions=tuple(facts.get("xpub_versions", ())),
        evm_chain_id=evm_chain_id,
        traces=Traces(facts.get("traces", Traces.AUTO)),
        lag_blocks=facts["lag_blocks"],
        stall_seconds=facts["stall_seconds"],
        min_node_version=facts.get("min_node_version"),
        reconcile_blocks=facts["reconcile_blocks"],
    )
