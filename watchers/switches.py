"""Breakers: what the house or a person stopped, and what two people started again (CONTRACT 4).

Owns `chain.switches` and one-shot grants. It only says what is stopped: each step asks for itself,
inside the unit of work that would act. A step that began before a stop was committed still ends
whole; none begins after it. Who may stop or start is the caller's question (`gateway/api`), but
the database too lets no `running` be written without two different people.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import RowMapping

from config import alarm_store
from config.database import Uow
from config.ids import Ids
from ledger import outbox
from watchers import store as chain_store
from watchers import switch_store as store

REASON_LENGTH_MAX = 500  # characters
CAUSES_MAX = 20  # told of one stop; a stop needs no more reasons than that
GRANT_SECONDS = 24 * 3600  # after this two people look again
ALARM = "switch_stopped"
REVERSALS_ALARM = "reversals_over_limit"
STOPPED_ALARMS = ("reorg_too_deep", "invariant_broken", REVERSALS_ALARM)
"""Why the house stops a whole network; they end with the stop, and come again with the cause."""

_SCOPE = re.compile(
    r"network:([a-z][a-z0-9]{1,15})|asset:(([a-z][a-z0-9]{1,15}):[A-Za-z0-9]{2,64})", re.ASCII
)


class Action(StrEnum):
    """What a breaker stops."""

    ALL = "all"
    """Everything below."""
    ACCEPT = "accept"
    """New withdrawals."""
    CREDIT = "credit"
    """Postings of the min and full tier of deposits."""
    BUILD = "build"
    """New payout transactions."""
    SIGN = "sign"
    """Questions to the signer."""
    BROADCAST = "broadcast"
    """Sending signed bytes."""
    SWEEP = "sweep"
    """Moves between own wallets."""


class GrantKind(StrEnum):
    """What two people may allow once."""

    REVERSALS = "reversals"
    """More reversals in one step than the limit."""
    REORG = "reorg"
    """A reorg deeper than the network's limit, down to a height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """So much of the reference currency, in its minor units."""

    minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One breaker. `changed_by`: who stopped it last, or asked for the start that
    `approved_by` agreed to. `causes`: of the stop that stands, `actor: reason` each."""

    id: UUID
    scope: str
    action: Action
    is_stopped: bool
    reason: str
    causes: tuple[str, ...]
    changed_by: str
    approved_by: str | None
    version: int
    stopped_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the history."""

    switch_id: UUID
    version: int
    scope: str
    action: Action
    is_stopped: bool
    reason: str
    changed_by: str
    approved_by: str | None
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What of one network is stopped for one action: all of it, or these assets."""

    is_whole: bool
    assets: frozenset[str]

    def covers(self, asset: str | None) -> bool:
        """Whether a step about `asset` (None: about the network itself) must wait."""
        return self.is_whole or asset in self.assets


def network_scope(network: str) -> str:
    """The scope of a whole network."""
    return f"network:{network}"


def network_of(scope: str) -> str:
    """The network of `network:btc` or `asset:eth:USDT`. Raises ValueError for anything else."""
    found = _SCOPE.fullmatch(scope)
    if found is None:
        raise ValueError(f"{scope!r}: a scope is network:NAME or asset:NETWORK:SYMBOL")
    return found[1] or found[3]


def asset_of(scope: str) -> str | None:
    """The asset of `asset:eth:USDT`, None for a network. Raises ValueError."""
    network_of(scope)
    return scope.removeprefix("asset:") if scope.startswith("asset:") else None


async def open_breaker(
    uow: Uow,
    *,
    scope: str,
    action: Action,
    reason: str,
    actor: str,
    ids: Ids,
    at: datetime,
) -> bool:
    """Stop `action` on `scope`; True when it ran until now.

    Again with the same actor and reason it changes nothing, so that a loop may call it at every
    look: the reason names the cause and leaves out what changes (heights, counts). Another cause
    is added and voids approvals that did not know it. Raises ValueError for a malformed scope.
    """
    network = network_of(scope)
    text = _reason(reason)
    row = await store.stop(
        uow,
        switch_id=ids.new_id(),
        scope=scope,
        action=action.value,
        reason=text,
        cause=f"{actor}: {text}",
        causes_max=CAUSES_MAX,
        actor=actor,
        at=at,
    )
    if row is None:
        return False
    switch = _switch(row)
    is_first = len(switch.causes) == 1
    await alarm_store.raise_alarm(
        uow,
        alarm_id=ids.new_id(),
        kind=ALARM,
        network=network,
        object_id=switch.id,
        detail=f"{scope} {action.value}: {text} ({actor})",
        at=at,
    )
    await _tell(uow, switch, previous="running" if is_first else "stopped", ids=ids, at=at)
    return is_first


async def close_breaker(
    uow: Uow,
    *,
    scope: str,
    action: Action,
    version: int,
    reason: str,
    proposed_by: str,
    approved_by: str,
    ids: Ids,
    at: datetime,
) -> Switch | None:
    """Start again what two people decided on at `version`; None when it has changed since.

    A whole network's start also lets a stopped follower go on and closes the alarms of that stop.
    Who reads the switch with `get` in the same unit of work calls `hold` before that.
    """
    await hold(uow, scope=scope, action=action)
    row = await store.start(
        uow,
        scope=scope,
        action=action.value,
        version=version,
        reason=_reason(reason),
        proposed_by=proposed_by,
        approved_by=approved_by,
        at=at,
    )
    if row is None:
        return None
    switch = _switch(row)
    network = network_of(scope)
    await alarm_store.clear(uow, kinds=[ALARM], network=network, objects=[switch.id], at=at)
    if scope == network_scope(network) and action is Action.ALL:
        await store.clear_stop(uow, network=network, at=at)
        await alarm_store.clear(uow, kinds=STOPPED_ALARMS, network=network, at=at)
    await _tell(uow, switch, previous="stopped", ids=ids, at=at)
    return switch


async def hold(uow: Uow, *, scope: str, action: Action) -> None:
    """Lock what a start needs before the switch itself: the cursor of a whole network, under which
    the follower opens its breakers. Raises ValueError for a malformed scope."""
    network = network_of(scope)
    if scope == network_scope(network) and action is Action.ALL:
        await store.lock_cursor(uow, network=network)


async def stopped(uow: Uow, *, network: str, action: Action) -> Stopped:
    """What of a network is stopped for `action`, in one query."""
    scopes = await store.stopped_scopes(uow, network=network, action=action.value)
    return Stopped(
        is_whole=network_scope(network) in scopes,
        assets=frozenset(s.removeprefix("asset:") for s in scopes if s.startswith("asset:")),
    )


async def is_stopped(uow: Uow, *, network: str, asset: str | None, action: Action) -> bool:
    """Whether a step about `asset` (None: about the network itself) must wait."""
    return (await stopped(uow, network=network, action=action)).covers(asset)


async def get(uow: Uow, *, scope: str, action: Action) -> Switch | None:
    """The switch, locked until the commit; None when it was never used."""
    row = await store.lock(uow, scope=scope, action=action.value)
    return None if row is None else _switch(row)


async def every(uow: Uow) -> list[Switch]:
    """Every switch that was ever used, by scope and action."""
    return [_switch(row) for row in await store.every(uow)]


def names_of(every: Sequence[Switch], *, network: str) -> list[str]:
    """What is stopped on a network, in short: `credit`, or `eth:USDT/credit` of one asset."""
    found = [item for item in every if item.is_stopped and network_of(item.scope) == network]
    return [
        item.action.value if (asset := asset_of(item.scope)) is None else f"{asset}/{item.action}"
        for item in found
    ]


async def history(
    uow: Uow, *, scope: str | None = None, action: Action | None = None, limit: int
) -> list[Change]:
    """Changes, newest first; `limit` rows at most."""
    rows = await store.history(
        uow, scope=scope, action=None if action is None else action.value, limit=limit
    )
    return [_change(row) for row in rows]


async def grant(
    uow: Uow,
    *,
    network: str,
    kind: GrantKind,
    count: int,
    value: Value | None = None,
    proposed_by: str,
    approved_by: str,
    ids: Ids,
    at: datetime,
) -> None:
    """Allow once: `count` reversals in one step, or a reorg `count` blocks below the follower.

    `value`: the most that the reversals may be worth; None: whatever they are worth. The next stop
    of the whole network ends it: who allowed it did not know that cause.
    Raises ValueError for a reorg of a network that nobody follows yet.
    """
    height = None
    if kind is GrantKind.REORG:
        cursor = await chain_store.cursor(uow, network)
        height = None if cursor is None else cursor["height"]
        if height is None:
            raise ValueError(f"{network}: nobody follows it")
    else:
        await alarm_store.clear(uow, kinds=[REVERSALS_ALARM], network=network, at=at)
    await store.insert_grant(
        uow,
        grant_id=ids.new_id(),
        network=network,
        kind=kind.value,
        count=count,
        value_minor=None if value is None else value.minor,
        value_currency=None if value is None else value.currency,
        height=height,
        proposed_by=proposed_by,
        approved_by=approved_by,
        at=at,
        expires_at=at + timedelta(seconds=GRANT_SECONDS),
    )


async def take_reversals(
    uow: Uow, *, network: str, count: int, value_minor: int | None, currency: str, at: datetime
) -> bool:
    """Use up a grant that covers so many reversals of so much value (None: nobody can tell it), in
    the unit of work that reverses."""
    return await store.take_grant(
        uow,
        network=network,
        kind=GrantKind.REVERSALS.value,
        count=count,
        value_minor=value_minor,
        currency=currency,
        at=at,
    )


async def reorg_limit(
    uow: Uow, *, network: str, height: int, limit_blocks: int, at: datetime
) -> int:
    """How many blocks below `height` a reorg may reach now: the network's limit, or what two
    people allowed, which counts from where the follower stood then."""
    floor = await store.reorg_floor(uow, network=network, at=at)
    return limit_blocks if floor is None else max(limit_blocks, height - floor)


async def reorg_floor(uow: Uow, *, network: str, at: datetime) -> int | None:
    """The height down to which two people let a reorg reach now; None without their word."""
    return await store.reorg_floor(uow, network=network, at=at)


async def end_reorg(uow: Uow, *, network: str, at: datetime) -> None:
    """The reorg was walked to its end: what allowed it is used up."""
    await store.take_reorg_grants(uow, network=network, at=at)


def snapshot(switch: Switch) -> dict[str, object]:
    """The switch as neutral fields."""
    return {
        "id": str(switch.id),
        "version": switch.version,
        "brand": "operator",
        "scope": switch.scope,
        "action": switch.action.value,
        "state": "stopped" if switch.is_stopped else "running",
        "reason": switch.reason,
        "causes": list(switch.causes),
        "changed_by": switch.changed_by,
        "approved_by": switch.approved_by,
        "stopped_at": switch.stopped_at.isoformat(),
        "changed_at": switch.changed_at.isoformat(),
    }


async def _tell(uow: Uow, switch: Switch, *, previous: str, ids: Ids, at: datetime) -> None:
    await outbox.append(
        uow,
        event_id=ids.new_id(),
        brand=None,
        type="switch.changed",
        object_kind="switch",
        object_id=switch.id,
        object_version=switch.version,
        previous_state=previous,
        snapshot=snapshot(switch),
        at=at,
    )


def _reason(text: str) -> str:
    cleaned = " ".join(text.split())
    if not cleaned:
        raise ValueError("a reason is required")
    return cleaned[:REASON_LENGTH_MAX]


def _switch(row: RowMapping) -> Switch:
    causes: Sequence[str] = row["causes"]
    return Switch(
        id=row["id"],
        scope=row["scope"],
        action=Action(row["action"]),
        is_stopped=row["state"] == "stopped",
        reason=row["reason"],
        causes=tuple(causes),
        changed_by=row["changed_by"],
        approved_by=row["approved_by"],
        version=row["version"],
        stopped_at=row["stopped_at"],
        changed_at=row["changed_at"],
    )


def _change(row: RowMapping) -> Change:
    return Change(
        switch_id=row["switch_id"],
        version=row["version"],
        scope=row["scope"],
        action=Action(row["action"]),
        is_stopped=row["state"] == "stopped",
        reason=row["reason"],
        changed_by=row["changed_by"],
        approved_by=row["approved_by"],
        changed_at=row["changed_at"],
    )
