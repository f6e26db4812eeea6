"""Versions of the credit policy, and the depths that a block's transfers need under the newest.

Owns `chain.credit_policies`. A version is never changed: a deposit keeps the one that it was judged
by, and a new one moves no threshold that is booked. Two people decide (gateway); this only stores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from config.assets import AssetRegistry
from config.credit_policy import CONFIGURED, CreditPolicy, ReferenceSpec, parse_policy
from config.database import Uow
from watchers import policy_store as store
from watchers.matches import Match, Terms
from watchers.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A stored version; version 0 has no people and no moment."""

    version: int
    content: Mapping[str, Any]
    proposed_by: str | None
    approved_by: str | None
    created_at: datetime | None


_NONE = PolicyVersion(
    version=0,
    content={"tiers": [], "caps": []},
    proposed_by=None,
    approved_by=None,
    created_at=None,
)


async def latest(uow: Uow) -> PolicyVersion:
    """The version in force."""
    row = await store.latest(uow)
    if row is None:
        return _NONE
    return PolicyVersion(**{name: row[name] for name in PolicyVersion.__slots__})


async def latest_locked(uow: Uow) -> PolicyVersion:
    """The version in force, and nobody else decides about the next until the commit."""
    await store.lock(uow)
    return await latest(uow)


async def current(uow: Uow, *, assets: AssetRegistry, reference: ReferenceSpec) -> CreditPolicy:
    """The version in force as rules; rules about assets that are not configured are left out."""
    found = await latest(uow)
    if found.version == 0:
        return CONFIGURED
    return parse_policy(
        found.content,
        version=found.version,
        assets=assets,
        reference=reference,
        is_strict=False,
    )


async def put(
    uow: Uow,
    *,
    version: int,
    content: Mapping[str, Any],
    proposed_by: str,
    approved_by: str,
    at: datetime,
) -> bool:
    """Append a version that two people agreed on; False when the number is taken."""
    return await store.insert(
        uow,
        version=version,
        content=content,
        proposed_by=proposed_by,
        approved_by=approved_by,
        at=at,
    )


async def terms(uow: Uow, network: Network, matches: Sequence[Match]) -> Terms:
    """What decides the depths of some matches, under the version in force: two short reads."""
    if not matches:
        return Terms()
    policy = await current(uow, assets=network.assets, reference=network.reference)
    pairs = sorted(
        {
            (address.brand, address.player_id)
            for _, address, _ in matches
            if address.brand is not None and address.player_id is not None
        }
    )
    rows = await store.groups(uow, pairs) if policy.rules and pairs else []
    groups = {(row["brand"], row["player_id"]): row["player_group"] for row in rows}
    return Terms(policy=policy, groups=groups)
