"""Versions of the credit policy, and the depths that a block's transfers need under the newest.

Owns `chain.credit_policies`. A version is never changed: a deposit keeps the one that it was judged
by, and a new one moves no threshold that is booked. Two people decide (gateway); this only stores.
"""

from collections.abc import Sequence
from typing import Final

from config.assets import AssetRegistry
from config.credit_policy import CONFIGURED, CreditPolicy, ReferenceSpec, parse_policy
from config.database import Uow
from config.policy_versions import PolicyVersions
from watchers import player_flags_store as store
from watchers.matches import Match, Terms
from watchers.network import Network

VERSIONS: Final = PolicyVersions(table="chain.credit_policies", empty={"tiers": [], "caps": []})


async def current(uow: Uow, *, assets: AssetRegistry, reference: ReferenceSpec) -> CreditPolicy:
    """The version in force as rules; rules about assets that are not configured are left out."""
    found = await VERSIONS.latest(uow)
    if found.version == 0:
        return CONFIGURED
    return parse_policy(
        found.content,
        version=found.version,
        assets=assets,
        reference=reference,
        is_strict=False,
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
