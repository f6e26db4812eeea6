"""How often the signer refused: a gateway that builds what it may not is stopped by itself (T9).

Owns `gateway.signer_refusals`. Refusals for a cap are the signer at its ordinary work and do not
count. Too many within the policy's time stop building and signing on the network until two people
start it; the count begins again with that start.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from config.database import Uow
from gateway.payouts import refusal_store as store
from gateway.payouts.context import Lane
from signer.protocol import Refusal
from watchers import switches
from watchers.switches import Action

ACTOR: Final = "payouts.refusals"
REASON: Final = "the signer refused too many transactions"
ORDINARY: Final = frozenset({"cap_exceeded", "cap_window"})


async def count(lane: Lane, uow: Uow, attempt_id: UUID, refusal: Refusal) -> None:
    """Remember one refusal, and stop where it is one too many."""
    if refusal.code in ORDINARY:
        return
    at, policy = lane.now(), lane.registry.policy.breakers
    await store.insert(uow, attempt_id=attempt_id, network=lane.network, code=refusal.code, at=at)
    scope = switches.network_scope(lane.network)
    since = at - timedelta(seconds=policy.signer_refusals_seconds)
    for action in map(Action, policy.signer_refusals):
        found = await switches.get(uow, scope=scope, action=action)
        begun = since if found is None or found.is_stopped else max(since, found.changed_at)
        refused = await store.count_since(uow, network=lane.network, since=begun)
        if refused >= policy.signer_refusals_max:
            await switches.open_breaker(
                uow,
                scope=scope,
                action=action,
                reason=REASON,
                actor=ACTOR,
                ids=lane.ids,
                at=at,
            )
