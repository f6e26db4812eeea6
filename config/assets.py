"""The asset registry: what each asset is, its minimums and its confirmation tiers.

Owns `assets.toml` and the operator's overrides. Amounts leave this module as integer minor units;
arithmetic on them belongs to `ledger/money.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from tomllib import loads
from typing import Any

from config.chains import ChainRegistry, ChainSpec
from config.errors import ConfigError
from config.settings import AssetSettings, Settings

_DECIMAL = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Depths for amounts up to and including `up_to_minor` (None: every amount)."""

    up_to_minor: int | None
    min_depth: int
    full_depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSpec:
    """One asset on one network. Every amount is in minor units."""

    id: str
    network: str
    symbol: str
    decimals: int
    contract: str | None
    caip19: str
    dust_minor: int
    minimum_deposit_minor: int
    minimum_withdrawal_minor: int
    tiers: tuple[Tier, ...]
    has_transfer_fee: bool = False
    """The contract keeps a part of each transfer: the balance says what arrived (D39)."""
    native_mirror: str | None = None
    """Native coin: the contract that is its ERC-20 face, lower-case 0x hex (D61)."""

    @property
    def is_native(self) -> bool:
        """True for the coin that pays the network's fees."""
        return self.contract is None

    def tier(self, amount_minor: int) -> Tier:
        """The confirmation tier of a deposit of `amount_minor`."""
        for tier in self.tiers:
            if tier.up_to_minor is None or amount_minor <= tier.up_to_minor:
                return tier
        return self.tiers[-1]


# (chain id, contract) of tokens whose balances change without a transfer; never listed (D40).
REBASING = frozenset(
    {
        (1, "0xae7ab96520de3a18e5e111b5eaab095312d7fe84"),  # stETH
        (1, "0xd46ba6d942050d489dbd938a2c909a5d5039a161"),  # AMPL
        (1, "0x2a8e1e676ec238d8a992307b495b45b3feaa5e86"),  # OUSD
    }
)

AssetRegistry = Mapping[str, AssetSpec]
"""Asset specs by asset id."""


def minor_units(text: str, *, decimals: int, where: str) -> int:
    """A configured decimal string in minor units. More digits than the asset has is an error."""
    match = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(f"{where}: an amount is a decimal string, such as {'0.05'!r}")
    whole, fraction = match.group(1), match.group(2) or ""
    if len(fraction) > decimals:
        raise ConfigError(f"{where}: {text} has more than {decimals} decimal digits")
    return int(whole + fraction.ljust(decimals, "0"))


def load_assets(settings: Settings, chains: ChainRegistry) -> AssetRegistry:
    """The enabled assets of the enabled networks, by id.

    A token without a contract on the chosen chain is left out, unless the operator's file names
    it: then it is a ConfigError, as is an asset of a network that is not configured.
    """
    registry = loads(resources.files("config").joinpath("assets.toml").read_text("utf-8"))
    for asset_id in settings.assets:
        if asset_id.partition(":")[0] not in settings.networks:
            raise ConfigError(f"assets.{asset_id}: its network is not configured")
    known = dict.fromkeys((*registry, *settings.assets))
    specs = {}
    for asset_id in known:
        override = settings.assets.get(asset_id)
        chain = chains.get(asset_id.partition(":")[0])
        if chain is None or (override is not None and not override.enabled):
            continue
        spec = _asset(asset_id, registry.get(asset_id, {}), override, chain)
        if spec is not None:
            specs[asset_id] = spec
    _refuse_shared_contracts(specs)
    return specs


def _refuse_shared_contracts(specs: Mapping[str, AssetSpec]) -> None:
    """One contract is one asset: a second row or a mirror of it would credit twice (D61)."""
    owners: dict[tuple[str, str], str] = {}
    for spec in specs.values():
        for contract in (spec.contract, spec.native_mirror):
            if contract is None:
                continue
            other = owners.setdefault((spec.network, contract.lower()), spec.id)
            if other != spec.id:
                raise ConfigError(f"assets.{spec.id}: its contract is that of {other}")


def _asset(
    asset_id: str, entry: Mapping[str, Any], override: AssetSettings | None, chain: ChainSpec
) -> AssetSpec | None:
    where = f"assets.{asset_id}"
    facts = dict(entry)
    if override is not None:
        changed = override.model_dump(exclude_none=True, exclude={"enabled", "contract", "tiers"})
        facts |= changed
        if override.tiers is not None:
            facts["tiers"] = [tier.model_dump(exclude_none=True) for tier in override.tiers]
    contract = override.contract if override and override.contract else None
    contract = contract or facts.get("contracts", {}).get(chain.chain)
    if asset_id == chain.native_asset:
        if contract is not None:
            raise ConfigError(f"{where}.contract: the native coin has no contract")
    elif contract is None:
        if override is None:
            return None
        raise ConfigError(
            f"{where}: no contract on {chain.chain}", hint=f'set [assets."{asset_id}"] contract'
        )
    if "decimals" not in facts:
        raise ConfigError(f"{where}.decimals: required for an asset outside the registry")
    if facts.get("rebasing") or _is_rebasing(chain, contract):
        raise ConfigError(
            f"{where}: balances of a rebasing token change without a transfer",
            hint="take the wrapped form of the token, whose balances stand still",
        )
    mirror = facts.get("native_mirror")
    if mirror is not None and asset_id != chain.native_asset:
        raise ConfigError(f"{where}.native_mirror: only the native coin has one")
    decimals = int(facts["decimals"])
    symbol = asset_id.partition(":")[2]
    return AssetSpec(
        id=asset_id,
        network=chain.network,
        symbol=symbol,
        decimals=decimals,
        contract=contract,
        caip19=_caip19(chain, contract),
        dust_minor=_amount(facts, "dust", decimals, where),
        minimum_deposit_minor=_amount(facts, "minimum_deposit", decimals, where),
        minimum_withdrawal_minor=_amount(facts, "minimum_withdrawal", decimals, where),
        tiers=_tiers(facts.get("tiers"), decimals, where, chain),
        has_transfer_fee=bool(facts.get("fee_on_transfer", False)),
        native_mirror=None if mirror is None else mirror.lower(),
    )


def _is_rebasing(chain: ChainSpec, contract: str | None) -> bool:
    return contract is not None and (chain.evm_chain_id, contract.lower()) in REBASING


def _caip19(chain: ChainSpec, contract: str | None) -> str:
    """CAIP-19: `slip44:<coin type>` for the native coin, `erc20:<lower-case address>`."""
    reference = f"slip44:{chain.coin_type}" if contract is None else f"erc20:{contract.lower()}"
    return f"{chain.caip2}/{reference}"


def _amount(facts: Mapping[str, Any], key: str, decimals: int, where: str) -> int:
    return minor_units(facts.get(key, "0"), decimals=decimals, where=f"{where}.{key}")


def _tiers(
    rows: list[dict[str, Any]] | None, decimals: int, where: str, chain: ChainSpec
) -> tuple[Tier, ...]:
    if not rows:
        return (Tier(up_to_minor=None, min_depth=chain.min_depth, full_depth=chain.full_depth),)
    tiers = []
    for row in rows:
        up_to = row.get("up_to")
        tiers.append(
            Tier(
                up_to_minor=None
                if up_to is None
                else minor_units(up_to, decimals=decimals, where=f"{where}.tiers"),
                min_depth=row["min"],
                full_depth=row["full"],
            )
        )
    limits = [tier.up_to_minor for tier in tiers]
    bounds = [limit for limit in limits[:-1] if limit is not None]
    if limits[-1] is not None or len(bounds) != len(limits) - 1 or bounds != sorted(set(bounds)):
        raise ConfigError(f"{where}.tiers: up_to must rise, and only the last tier has none")
    if any(tier.min_depth > tier.full_depth for tier in tiers):
        raise ConfigError(f"{where}.tiers: min is above full")
    return tuple(tiers)
