"""Credit policy: confirmation tiers and exposure caps as one versioned document.

Owns the shape of the document and which of its rules applies. It must not read a row: versions are
stored by `watchers/policies.py`. Version 0 is the configuration: the tiers of the asset registry,
no caps. Cap amounts are minor units of the reference currency, deposit amounts those of the asset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from config.assets import AssetRegistry, AssetSpec, Tier, minor_units
from config.errors import ConfigError

DEPTH_MAX = 10_000  # blocks; more is a typing error
STEPS_MAX = 20  # tiers of one rule
RULES_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSpec:
    """The one currency that caps are in. A rate older than `stale_seconds` is none (CONTRACT 4).

    One person, or a source, may move a rate within `jump_percent` of every rate of the last
    `jump_seconds`; further takes two people.
    """

    currency: str = "USD"
    decimals: int = 2
    stale_seconds: int = 3_600
    jump_percent: int = 20
    jump_seconds: int = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversedValueMax:
    """The most that one step may reverse on a network without two people (CONTRACT 4).

    `reference_minor`: the sum of all assets in the reference currency, where an asset without a
    fresh rate is over it. `assets_minor`: an asset's own sum. None and no entry: no such limit.
    """

    reference_minor: int | None = None
    assets_minor: Mapping[str, int] = field(default_factory=dict)


class Scope(StrEnum):
    """What a cap bounds, narrowest first; each belongs to one brand."""

    PLAYER = "player"
    """One player, all assets."""
    ASSET = "asset"
    """One asset, all players."""
    BRAND = "brand"
    """Everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRule:
    """Tiers of an asset; for one brand, one group, both or everybody (None)."""

    asset: str
    brand: str | None
    group: str | None
    tiers: tuple[Tier, ...]

    def applies(self, *, asset: str, brand: str | None, group: str | None) -> bool:
        """Whether a deposit of this asset, brand and group may be judged by it."""
        return (
            self.asset == asset
            and self.brand in (None, brand)
            and (self.group is None or self.group == group)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CapRule:
    """Caps of one brand, or of every brand that has no rule of its own (None)."""

    brand: str | None
    player_minor: int | None
    brand_minor: int | None
    asset_minor: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditPolicy:
    """One version. The rule of brand and group wins, then brand, then group, then neither."""

    version: int
    rules: tuple[TierRule, ...]
    caps: tuple[CapRule, ...]

    def tier(
        self, asset: AssetSpec, amount_minor: int, *, brand: str | None, group: str | None
    ) -> Tier:
        """The tier of an amount; the asset registry's where no rule applies."""
        found = [r for r in self.rules if r.applies(asset=asset.id, brand=brand, group=group)]
        if not found:
            return asset.tier(amount_minor)
        best = max(found, key=lambda rule: (rule.brand is not None, rule.group is not None))
        for tier in best.tiers:
            if tier.up_to_minor is None or amount_minor <= tier.up_to_minor:
                return tier
        return best.tiers[-1]

    def cap(self, scope: Scope, *, brand: str, asset: str) -> int | None:
        """The cap of a scope, None where there is none."""
        own = next((rule for rule in self.caps if rule.brand == brand), None)
        rule = own or next((rule for rule in self.caps if rule.brand is None), None)
        if rule is None:
            return None
        match scope:
            case Scope.PLAYER:
                return rule.player_minor
            case Scope.ASSET:
                return rule.asset_minor.get(asset)
            case Scope.BRAND:
                return rule.brand_minor


CONFIGURED = CreditPolicy(version=0, rules=(), caps=())
"""What holds before the first version: the tiers of the configuration, no caps."""


def parse_policy(
    content: Mapping[str, Any],
    *,
    version: int,
    assets: AssetRegistry,
    reference: ReferenceSpec,
    is_strict: bool,
) -> CreditPolicy:
    """The document as rules. Raises ConfigError naming the field.

    Not strict: a rule about an asset that is no longer configured is left out (a stored version).
    """
    rules = _list(content, "tiers")
    caps = _list(content, "caps")
    _unknown(content, {"tiers", "caps"}, "policy")
    found = []
    for index, row in enumerate(rules):
        asset = assets.get(str(row.get("asset")))
        if asset is None and is_strict:
            raise ConfigError(f"tiers[{index}].asset: no such asset is configured")
        if asset is not None:
            found.append(_rule(row, asset, f"tiers[{index}]"))
    keys = [(rule.asset, rule.brand, rule.group) for rule in found]
    if len(set(keys)) != len(keys):
        raise ConfigError("tiers: two rules have the same asset, brand and group")
    bounds = tuple(
        _caps(row, assets, reference, f"caps[{index}]", is_strict=is_strict)
        for index, row in enumerate(caps)
    )
    if len({cap.brand for cap in bounds}) != len(bounds):
        raise ConfigError("caps: two rules have the same brand")
    return CreditPolicy(version=version, rules=tuple(found), caps=bounds)


def _rule(row: Mapping[str, Any], asset: AssetSpec, where: str) -> TierRule:
    _unknown(row, {"asset", "brand", "group", "steps"}, where)
    steps = _list(row, "steps", where=f"{where}.")
    tiers = [_tier(step, asset, f"{where}.steps[{n}]") for n, step in enumerate(steps)]
    limits = [tier.up_to_minor for tier in tiers]
    bounds = [limit for limit in limits[:-1] if limit is not None]
    if not 1 <= len(tiers) <= STEPS_MAX or limits[-1] is not None:
        raise ConfigError(f"{where}.steps: 1 to {STEPS_MAX}, and the last has no up_to")
    if len(bounds) != len(limits) - 1 or bounds != sorted(set(bounds)):
        raise ConfigError(f"{where}.steps: up_to must rise, and only the last has none")
    for low, high in pairwise(tiers):
        if high.min_depth < low.min_depth or high.full_depth < low.full_depth:
            raise ConfigError(f"{where}.steps: a larger amount waits for fewer confirmations")
    return TierRule(
        asset=asset.id,
        brand=_name(row, "brand", where),
        group=_name(row, "group", where),
        tiers=tuple(tiers),
    )


def _tier(step: Mapping[str, Any], asset: AssetSpec, where: str) -> Tier:
    _unknown(step, {"up_to", "min", "full"}, where)
    depths = [step.get("min"), step.get("full")]
    if any(type(depth) is not int or not 1 <= depth <= DEPTH_MAX for depth in depths):
        raise ConfigError(f"{where}: min and full are 1 to {DEPTH_MAX} confirmations")
    if step["min"] > step["full"]:
        raise ConfigError(f"{where}: min is above full")
    up_to = step.get("up_to")
    return Tier(
        up_to_minor=None
        if up_to is None
        else minor_units(up_to, decimals=asset.decimals, where=f"{where}.up_to"),
        min_depth=step["min"],
        full_depth=step["full"],
    )


def _caps(
    row: Mapping[str, Any],
    assets: AssetRegistry,
    reference: ReferenceSpec,
    where: str,
    *,
    is_strict: bool,
) -> CapRule:
    _unknown(row, {"brand", "per_player", "per_brand", "per_asset"}, where)
    per_asset = row.get("per_asset") or {}
    if not isinstance(per_asset, Mapping):
        raise ConfigError(f"{where}.per_asset: asset id to amount")
    unknown = sorted(set(per_asset) - set(assets))
    if unknown and is_strict:
        raise ConfigError(f"{where}.per_asset.{unknown[0]}: no such asset is configured")

    def amount(text: Any, name: str) -> int:
        return minor_units(text, decimals=reference.decimals, where=f"{where}.{name}")

    player, brand = row.get("per_player"), row.get("per_brand")
    return CapRule(
        brand=_name(row, "brand", where),
        player_minor=None if player is None else amount(player, "per_player"),
        brand_minor=None if brand is None else amount(brand, "per_brand"),
        asset_minor=MappingProxyType(
            {name: amount(text, f"per_asset.{name}") for name, text in per_asset.items()}
        ),
    )


def _list(row: Mapping[str, Any], key: str, *, where: str = "") -> Sequence[Mapping[str, Any]]:
    found = row.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise ConfigError(f"{where}{key}: a list of objects is required")
    if len(found) > RULES_MAX:
        raise ConfigError(f"{where}{key}: at most {RULES_MAX}")
    return found


def _name(row: Mapping[str, Any], key: str, where: str) -> str | None:
    value = row.get(key)
    if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= 64):
        raise ConfigError(f"{where}.{key}: 1 to 64 characters, or leave it out for everybody")
    return value


def _unknown(row: Mapping[str, Any], known: set[str], where: str) -> None:
    extra = sorted(set(row) - known)
    if extra:
        raise ConfigError(f"{where}.{extra[0]}: unknown field")
