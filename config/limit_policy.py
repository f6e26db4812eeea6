"""Limits of withdrawals as one versioned document: who may pay how much alone, in what time.

Owns the shape of the document, which of its rules apply to an order, and the pure judgement of an
order's value. It must not read a row: versions and usage are stored by `gateway/payouts`. Version 0
is no limit at all. Amounts are minor units of the reference currency.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from config.assets import AssetRegistry, minor_units
from config.credit_policy import RULES_MAX, ReferenceSpec
from config.errors import ConfigError


class LimitScope(StrEnum):
    """What a limit bounds; each belongs to one brand."""

    TRANSACTION = "transaction"
    """One withdrawal."""
    PLAYER = "player"
    """All withdrawals of one player in a window."""
    ASSET = "asset"
    """All withdrawals of one asset in a window."""
    BRAND = "brand"
    """All withdrawals of the brand in a window."""


class Window(StrEnum):
    """How far back usage counts, to the microsecond."""

    DAY = "24h"
    """24 hours."""
    MONTH = "30d"
    """30 days."""


SPANS: Final[Mapping[Window, timedelta]] = {
    Window.DAY: timedelta(hours=24),
    Window.MONTH: timedelta(days=30),
}
ONE_PERSON, TWO_PEOPLE = 1, 2
UNKNOWN_VALUE: Final = "rate_unknown"
"""Code of an order whose value, or what was used before it, has no fresh rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRule:
    """One limit. `brand` None: of every brand without the same limit of its own.

    Over `max_minor` an order is rejected; over `approval_minor` one person, over `dual_minor` two
    people must approve. Usage includes the order itself; up to the bound is within it.
    """

    brand: str | None
    scope: LimitScope
    asset: str | None
    window: Window | None
    max_minor: int | None
    approval_minor: int | None
    dual_minor: int | None

    @property
    def code(self) -> str:
        """The stable word for it: `limit_transaction`, `limit_player_24h`."""
        return f"limit_{self.scope}" + ("" if self.window is None else f"_{self.window}")

    @property
    def bounds(self) -> "Bounds":
        """What it bounds."""
        return self.scope, self.asset, self.window


Bounds = tuple[LimitScope, str | None, Window | None]
Usage = Mapping[Bounds, int | None]
"""What stands before an order, by what is bounded; None: not all of it has a known value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the limits say of an order. `approvals`: how many people must agree.

    `code` names the limit that rejects it (`is_rejected`) or asks for people; None: free to go.
    """

    approvals: int = 0
    code: str | None = None
    is_rejected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPolicy:
    """One version."""

    version: int
    rules: tuple[LimitRule, ...]

    def applying(self, *, brand: str, asset: str) -> tuple[LimitRule, ...]:
        """The rules for an order: a brand's own takes the place of the general one."""
        found: dict[Bounds, LimitRule] = {}
        for rule in sorted(self.rules, key=lambda rule: rule.brand is not None):
            if rule.brand in (None, brand) and rule.asset in (None, asset):
                found[rule.bounds] = rule
        return tuple(found.values())


NO_LIMITS: Final = LimitPolicy(version=0, rules=())
"""What holds before the first version."""


def judge(rules: Sequence[LimitRule], *, value_minor: int | None, usage: Usage) -> Judgement:
    """What the rules say of an order of this value; None: no fresh rate. Pure.

    A limit whose numbers are not known is full: people decide, two where one person alone could
    let something pass that two or nobody may.
    """
    found = Judgement()
    for rule in rules:
        used = 0 if rule.window is None else usage[rule.bounds]
        if value_minor is None or used is None:
            needs_two = rule.max_minor is not None or rule.dual_minor is not None
            approvals = TWO_PEOPLE if needs_two else ONE_PERSON
            if approvals > found.approvals:
                found = Judgement(approvals=approvals, code=UNKNOWN_VALUE)
            continue
        total = used + value_minor
        if rule.max_minor is not None and total > rule.max_minor:
            return Judgement(code=rule.code, is_rejected=True)
        approvals = _approvals(rule, total)
        if approvals > found.approvals:
            found = Judgement(approvals=approvals, code=rule.code)
    return found


def parse_limits(
    content: Mapping[str, Any],
    *,
    version: int,
    assets: AssetRegistry,
    reference: ReferenceSpec,
    is_strict: bool,
) -> LimitPolicy:
    """The document as rules. Raises ConfigError naming the field.

    Not strict: a rule about an asset that is no longer configured is left out (a stored version).
    """
    _unknown(content, {"limits"}, "policy")
    rows = content.get("limits") or []
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError("limits: a list of objects is required")
    if len(rows) > RULES_MAX:
        raise ConfigError(f"limits: at most {RULES_MAX}")
    found = []
    for index, row in enumerate(rows):
        rule = _rule(row, reference, f"limits[{index}]")
        if rule.asset is None or rule.asset in assets:
            found.append(rule)
        elif is_strict:
            raise ConfigError(f"limits[{index}].asset: no such asset is configured")
    keys = [(rule.brand, rule.bounds) for rule in found]
    if len(set(keys)) != len(keys):
        raise ConfigError("limits: two have the same brand, scope, asset and window")
    return LimitPolicy(version=version, rules=tuple(found))


_FIELDS = {"brand", "scope", "asset", "window", "max", "approval_above", "dual_above"}


def _rule(row: Mapping[str, Any], reference: ReferenceSpec, where: str) -> LimitRule:
    _unknown(row, _FIELDS, where)
    try:
        scope = LimitScope(row.get("scope", ""))
        window = None if row.get("window") is None else Window(row["window"])
    except ValueError as error:
        raise ConfigError(f"{where}: no such scope or window") from error
    if (scope is LimitScope.TRANSACTION) != (window is None):
        raise ConfigError(f"{where}.window: 24h or 30d, and none for scope transaction")
    if (scope is LimitScope.ASSET) != (row.get("asset") is not None):
        raise ConfigError(f"{where}.asset: it is required for scope asset, and for no other")
    amounts = [
        None
        if row.get(name) is None
        else minor_units(row[name], decimals=reference.decimals, where=f"{where}.{name}")
        for name in ("approval_above", "dual_above", "max")
    ]
    given = [amount for amount in amounts if amount is not None]
    if not given:
        raise ConfigError(f"{where}: give max, approval_above or dual_above")
    if given != sorted(given):
        raise ConfigError(f"{where}: approval_above <= dual_above <= max does not hold")
    approval, dual, most = amounts
    return LimitRule(
        brand=row.get("brand"),
        scope=scope,
        asset=row.get("asset"),
        window=window,
        max_minor=most,
        approval_minor=approval,
        dual_minor=dual,
    )


def _approvals(rule: LimitRule, total: int) -> int:
    if rule.dual_minor is not None and total > rule.dual_minor:
        return TWO_PEOPLE
    if rule.approval_minor is not None and total > rule.approval_minor:
        return ONE_PERSON
    return 0


def _unknown(row: Mapping[str, Any], known: set[str], where: str) -> None:
    extra = sorted(set(row) - known)
    if extra:
        raise ConfigError(f"{where}.{extra[0]}: unknown field")
