"""Limits of withdrawals: what an order counts, and how many people it needs (CONTRACT 5).

Owns the versions of the limits and the usage that bounds what goes out of a brand in 24 hours and
30 days. An order is judged once, in the unit of work of its acceptance, and keeps the version that
judged it; it counts from there until it ends without being paid. Whoever counts locks the brand's
usage first, so that no two orders share the same room. Values are minor units of the reference
currency at the rate of acceptance, rounded up; one without a fresh rate is valued by the first
fresh rate after it, and until then every limit that it touches is full.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from config.assets import AssetRegistry
from config.credit_policy import ReferenceSpec
from config.database import Uow
from config.limit_policy import (
    NO_LIMITS,
    SPANS,
    Judgement,
    LimitPolicy,
    LimitRule,
    LimitScope,
    Window,
    judge,
    parse_limits,
)
from config.policy_versions import PolicyVersions
from config.registry import Registry
from gateway.payouts import limits_store as store
from watchers import rates
from watchers.rates import Rate

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)
EVERYBODY: Final = ""
KEPT_LONGER: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitTerms:
    """What a value is computed with."""

    assets: AssetRegistry
    reference: ReferenceSpec

    @classmethod
    def of(cls, registry: Registry) -> "LimitTerms":
        """Of a deployment."""
        return cls(assets=registry.assets, reference=registry.policy.reference)


VERSIONS: Final = PolicyVersions(table="gateway.limit_policies", empty={"limits": []})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """An order that asks for room. Minor units of `asset`."""

    withdrawal_id: UUID
    brand: str
    player_id: str
    asset: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What stands about a withdrawal. `approvals`: how many people it needs."""

    policy_version: int
    approvals: int
    code: str | None
    currency: str
    value_minor: int | None


async def current(uow: Uow, terms: LimitTerms) -> LimitPolicy:
    """The version in force as rules; those about assets not configured now are left out."""
    found = await VERSIONS.latest(uow)
    if found.version == 0:
        return NO_LIMITS
    return parse_limits(
        found.content,
        version=found.version,
        assets=terms.assets,
        reference=terms.reference,
        is_strict=False,
    )


async def take_many(
    uow: Uow, asked: Sequence[Asking], *, terms: LimitTerms, at: datetime
) -> list[Judgement]:
    """Judge orders of one brand and, unless rejected, count them from here on. Once per withdrawal.

    Each is judged after those before it, as if they had come alone. Accounts are locked later; the
    rows of the withdrawals stand when the unit of work commits.
    """
    if not asked:
        return []
    facts = await _facts(uow, asked, terms=terms, at=at)
    found = []
    rows: list[Mapping[str, Any]] = []
    for asking in asked:
        judgement, rate = facts.judge(asking)
        row = _row(asking, facts.policy, judgement, rate, terms=terms, at=at)
        found.append(judgement)
        rows.append(row)
        if not judgement.is_rejected:
            facts.count(row)
    await store.insert_many(uow, rows)
    return found


async def count(uow: Uow, asking: Asking, *, terms: LimitTerms, at: datetime) -> None:
    """Count an order that is paid already and that these books had lost: no rule is asked, and it
    takes its room like any other."""
    await store.lock_brand(uow, asking.brand, is_shared=True)
    policy = await current(uow, terms)
    fresh = await rates.fresh(uow, assets={asking.asset}, reference=terms.reference, at=at)
    rate = fresh.get(asking.asset)
    await store.insert_many(uow, [_row(asking, policy, Judgement(), rate, terms=terms, at=at)])


async def ask(uow: Uow, asking: Asking, *, terms: LimitTerms, at: datetime) -> Judgement:
    """What `take_many` would say of one now; nothing is counted and nobody waits for it."""
    facts = await _facts(uow, [asking], terms=terms, at=at, is_dry=True)
    return facts.judge(asking)[0]


async def give_back(uow: Uow, withdrawal_id: UUID) -> None:
    """It ended without being paid: its room is free again. Again is nothing."""
    await store.give_back(uow, withdrawal_id)


async def judged(uow: Uow, withdrawal_id: UUID) -> Judged | None:
    """How a withdrawal was judged; None for one that no limit ever looked at."""
    row = await store.judgement(uow, withdrawal_id)
    if row is None:
        return None
    return Judged(
        policy_version=row["policy_version"],
        approvals=row["approvals"],
        code=row["code"],
        currency=row["currency"],
        value_minor=None if row["value"] is None else int(row["value"]),
    )


async def check(uow: Uow, *, at: datetime | None = None) -> list[str]:
    """Where sums, rows and states disagree; empty when all is well. `at`: of the hours that are
    kept now, else of all that ever were."""
    return await store.differences(uow, since_hour=0 if at is None else first_hour_kept(at))


def first_hour_kept(at: datetime) -> int:
    """Sums of earlier hours count in no window any more, whatever a clock is off by."""
    return _hour(at - max(SPANS.values()) - KEPT_LONGER)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What orders of one brand are judged by. `rows` are of the windows, by player and asset."""

    policy: LimitPolicy
    windows: Sequence[Window]
    rows: list[Mapping[str, Any]]
    fresh: Mapping[str, Rate]
    terms: LimitTerms

    def judge(self, asking: Asking) -> tuple[Judgement, Rate | None]:
        """By the usage as it stands in `rows`, with the rate that valued it."""
        rules = self.policy.applying(brand=asking.brand, asset=asking.asset)
        rate = self.fresh.get(asking.asset)
        value = _value(asking.asset, asking.amount_minor, rate, self.terms)
        usage = {
            rule.bounds: _used(rule, asking, self.rows, self.fresh, self.terms)
            for rule in rules
            if rule.window is not None
        }
        return judge(rules, value_minor=value, usage=usage), rate

    def count(self, row: Mapping[str, Any]) -> None:
        """One more uses room in every window, for the orders after it."""
        used = {
            "asset": row["asset"],
            "currency": row["currency"],
            "value": row["value"] or 0,
            "unvalued": row["amount"] if row["value"] is None else 0,
        }
        for window in self.windows:
            for player_id in (EVERYBODY, row["player_id"]):
                self.rows.append({**used, "name": window, "player_id": player_id})


async def _facts(
    uow: Uow, asked: Sequence[Asking], *, terms: LimitTerms, at: datetime, is_dry: bool = False
) -> _Facts:
    [brand] = {asking.brand for asking in asked}
    policy = await current(uow, terms)
    found = {
        rule.window
        for asset in {asking.asset for asking in asked}
        for rule in policy.applying(brand=brand, asset=asset)
    }
    windows = sorted(window for window in found if window is not None)
    if not is_dry:
        await store.lock_brand(uow, brand, is_shared=not windows)
    rows: list[Mapping[str, Any]] = []
    if windows:
        used = await store.usage(
            uow,
            brand=brand,
            players=[EVERYBODY, *sorted({asking.player_id for asking in asked})],
            windows=[(name, at - SPANS[name], _hour(at - SPANS[name])) for name in windows],
        )
        rows = [dict(row) for row in used]
    assets = {asking.asset for asking in asked} | {row["asset"] for row in rows if row["unvalued"]}
    fresh = await rates.fresh(uow, assets=assets, reference=terms.reference, at=at)
    return _Facts(policy=policy, windows=windows, rows=rows, fresh=fresh, terms=terms)


def _used(
    rule: LimitRule,
    asking: Asking,
    rows: Sequence[Mapping[str, Any]],
    fresh: Mapping[str, Rate],
    terms: LimitTerms,
) -> int | None:
    """What stands in a rule's bounds; None where some of it has no value that is known now."""
    player = asking.player_id if rule.scope is LimitScope.PLAYER else EVERYBODY
    total = 0
    for row in rows:
        if row["name"] != rule.window or row["player_id"] != player:
            continue
        if rule.asset not in (None, row["asset"]):
            continue
        if row["value"] and row["currency"] != terms.reference.currency:
            return None  # counted in the currency of another time
        total += int(row["value"])
        if row["unvalued"]:
            value = _value(row["asset"], int(row["unvalued"]), fresh.get(row["asset"]), terms)
            if value is None:
                return None
            total += value
    return total


def _row(
    asking: Asking,
    policy: LimitPolicy,
    found: Judgement,
    rate: Rate | None,
    *,
    terms: LimitTerms,
    at: datetime,
) -> dict[str, Any]:
    """How an order was judged, as it is stored."""
    return {
        "withdrawal_id": asking.withdrawal_id,
        "brand": asking.brand,
        "player_id": asking.player_id,
        "asset": asking.asset,
        "amount": asking.amount_minor,
        "currency": terms.reference.currency,
        "value": _value(asking.asset, asking.amount_minor, rate, terms),
        "rate_id": None if rate is None else rate.id,
        "policy_version": policy.version,
        "approvals": found.approvals,
        "code": found.code,
        "counts": not found.is_rejected,
        "hour": _hour(at),
        "at": at,
    }


def _value(asset: str, amount_minor: int, rate: Rate | None, terms: LimitTerms) -> int | None:
    return rates.value(terms.assets.get(asset), amount_minor, rate, reference=terms.reference)


def _hour(at: datetime) -> int:
    return (at - _EPOCH) // _HOUR
