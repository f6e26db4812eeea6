"""Facts of one EVM network that parsing, deriving and building need.

Values come from the chain and asset registries; this module owns only their shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmParams:
    """One network. `tokens` maps each listed contract (lower-case 0x hex) to its asset id.

    `has_finalized_tag` says that the chain itself calls blocks irreversible (EIP-3675).
    `native_mirror` is the contract that is the ERC-20 face of the native coin (D61).
    `asks_traces`: look for native coin moved by contract calls where a node can tell (D45).
    `batch_contract`: our own `BatchPayer` there, lower-case 0x hex.
    `collector`: what our deposit addresses may delegate to (EIP-7702), likewise.
    `safe`: the Safe that is the cold wallet, likewise.
    """

    network: str
    chain_id: int
    native_asset: str
    tokens: Mapping[str, str]
    coin_type: int
    xpub_versions: frozenset[bytes]
    has_finalized_tag: bool
    native_mirror: str | None = None
    asks_traces: bool = True
    batch_contract: str | None = None
    collector: str | None = None
    safe: str | None = None

    def contract_of(self, asset: str) -> str | None:
        """The contract of a listed token, or None for the native coin. KeyError when unknown."""
        if asset == self.native_asset:
            return None
        return {asset_id: contract for contract, asset_id in self.tokens.items()}[asset]
