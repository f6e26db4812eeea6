"""When deposits of account chains are collected, as one versioned document (T2, T3, T5, N13).

Owns the shape of the document and the rules that it gives; it must not read a row. Version 0 sweeps
nothing by itself: only what a person asks for. Amounts are minor units of the rule's asset or, of a
gas rule, of the network's native coin; rates are wei per gas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from config.assets import AssetRegistry, minor_units
from config.chains import ChainRegistry, Family
from config.errors import ConfigError

RULES_MAX: Final = 200
WHOLE_PERMILLE: Final = 1_000
AGE_HOURS_MAX: Final = 24 * 366


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRule:
    """One asset. What one deposit address holds is due at `threshold_minor`, if the fee is at most
    `fee_permille` of it and, with `cheap_hours`, gas is cheap; it is forced at `max_age` or at
    `exposure_minor`, if the fee is at most `forced_fee_permille`. None: never by that."""

    asset: str
    threshold_minor: int | None = None
    max_age: timedelta | None = None
    exposure_minor: int | None = None
    fee_permille: int = 10
    forced_fee_permille: int = 500
    cheap_hours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GasRule:
    """One network's gas account. When it holds less than `account_min_minor` it is filled up to
    `account_target_minor` from hot lane 0, at most `refill_day_max_minor` in 24 h; what it gives to
    deposit addresses is at most `top_up_day_max_minor` in 24 h. Above `rate_max` (base fee and
    tip) nothing is swept or topped up. None: no bound but the network's fee policy."""

    network: str
    account_min_minor: int = 0
    account_target_minor: int = 0
    refill_day_max_minor: int = 0
    top_up_day_max_minor: int | None = None
    rate_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPolicy:
    """One version."""

    version: int
    rules: Mapping[str, SweepRule]
    gas: Mapping[str, GasRule]

    def rule(self, asset: str) -> SweepRule:
        """The rule of an asset; without one nothing is due but what a person asks for."""
        return self.rules.get(asset) or SweepRule(asset=asset)

    def gas_of(self, network: str) -> GasRule:
        """The gas rule of a network; without one nothing is refilled."""
        return self.gas.get(network) or GasRule(network=network)


EMPTY: Final[Mapping[str, Any]] = {"rules": [], "gas": []}
"""The document of version 0."""

_RULE = {
    "asset", "threshold", "max_age_hours", "exposure", "fee_permille", "forced_fee_permille",
    "cheap_hours",
}  # fmt: skip
_GAS = {
    "network", "account_min", "account_target", "refill_day_max", "top_up_day_max", "rate_max_wei",
}  # fmt: skip


def parse_sweeps(
    content: Mapping[str, Any],
    *,
    version: int,
    assets: AssetRegistry,
    chains: ChainRegistry,
    is_strict: bool,
) -> SweepPolicy:
    """The document as rules. Raises ConfigError naming the field.

    Not strict: what is about an asset or network that is no longer configured is left out.
    """
    _unknown(content, {"rules", "gas"}, "policy")
    rules: dict[str, SweepRule] = {}
    for where, row in _rows(content, "rules"):
        _unknown(row, _RULE, where)
        asset = _named(row, "asset", where)
        if asset in rules:
            raise ConfigError(f"{where}.asset: two rules for {asset}")
        if asset in assets and chains[assets[asset].network].family is Family.EVM:
            rules[asset] = _rule(row, assets[asset].decimals, where)
        elif is_strict:
            raise ConfigError(f"{where}.asset: no such asset of an account chain is configured")
    gas: dict[str, GasRule] = {}
    for where, row in _rows(content, "gas"):
        _unknown(row, _GAS, where)
        network = _named(row, "network", where)
        if network in gas:
            raise ConfigError(f"{where}.network: two rules for {network}")
        if network in chains and chains[network].family is Family.EVM:
            gas[network] = _gas(row, assets[chains[network].native_asset].decimals, where)
        elif is_strict:
            raise ConfigError(f"{where}.network: no such account chain is configured")
    return SweepPolicy(version=version, rules=rules, gas=gas)


def _rule(row: Mapping[str, Any], decimals: int, where: str) -> SweepRule:
    hours = _number(row, "max_age_hours", where, least=1, most=AGE_HOURS_MAX)
    least = _number(row, "fee_permille", where, least=1, most=WHOLE_PERMILLE)
    forced = _number(row, "forced_fee_permille", where, least=1, most=WHOLE_PERMILLE)
    cheap = row.get("cheap_hours", False)
    if not isinstance(cheap, bool):
        raise ConfigError(f"{where}.cheap_hours: true or false")
    rule = SweepRule(
        asset=row["asset"],
        threshold_minor=_amount(row, "threshold", decimals, where),
        max_age=None if hours is None else timedelta(hours=hours),
        exposure_minor=_amount(row, "exposure", decimals, where),
        fee_permille=10 if least is None else least,
        forced_fee_permille=500 if forced is None else forced,
        cheap_hours=cheap,
    )
    if rule.forced_fee_permille < rule.fee_permille:
        raise ConfigError(f"{where}.forced_fee_permille: it is at least fee_permille")
    if (rule.threshold_minor, rule.max_age, rule.exposure_minor) == (None, None, None):
        raise ConfigError(f"{where}: give threshold, max_age_hours or exposure")
    return rule


def _gas(row: Mapping[str, Any], decimals: int, where: str) -> GasRule:
    least = _amount(row, "account_min", decimals, where) or 0
    target = _amount(row, "account_target", decimals, where) or 0
    refill = _amount(row, "refill_day_max", decimals, where) or 0
    if not (least < target <= refill or least == target == refill == 0):
        raise ConfigError(
            f"{where}: account_min < account_target <= refill_day_max, or none of them"
        )
    rate = row.get("rate_max_wei")
    if rate is not None and (not isinstance(rate, str) or not rate.isascii() or not rate.isdigit()):
        raise ConfigError(f"{where}.rate_max_wei: wei per gas as a decimal string")
    return GasRule(
        network=row["network"],
        account_min_minor=least,
        account_target_minor=target,
        refill_day_max_minor=refill,
        top_up_day_max_minor=_amount(row, "top_up_day_max", decimals, where),
        rate_max=None if rate is None else int(rate),
    )


def _rows(content: Mapping[str, Any], name: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
    rows = content.get(name) or []
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f"{name}: a list of objects is required")
    if len(rows) > RULES_MAX:
        raise ConfigError(f"{name}: at most {RULES_MAX}")
    return [(f"{name}[{index}]", row) for index, row in enumerate(rows)]


def _named(row: Mapping[str, Any], field: str, where: str) -> str:
    name = row.get(field)
    if not isinstance(name, str):
        raise ConfigError(f"{where}.{field}: it is required")
    return name


def _amount(row: Mapping[str, Any], field: str, decimals: int, where: str) -> int | None:
    value = row.get(field)
    if value is None:
        return None
    return minor_units(value, decimals=decimals, where=f"{where}.{field}")


def _number(row: Mapping[str, Any], field: str, where: str, *, least: int, most: int) -> int | None:
    value = row.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{where}.{field}: a whole number from {least} to {most}")
    return value


def _unknown(row: Mapping[str, Any], known: set[str], where: str) -> None:
    extra = sorted(set(row) - known)
    if extra:
        raise ConfigError(f"{where}.{extra[0]}: unknown field")
