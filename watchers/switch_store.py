"""SQL of breakers, their history and what two people granted (chain.switches, .switch_grants)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

_COLUMNS = (
    "id, scope, action, state, reason, causes, changed_by, approved_by, version, stopped_at, "
    "changed_at"
)

_VERSION = (
    "coalesce((SELECT version FROM chain.switches WHERE scope = 'network:' || :network "
    "AND action = 'all'), 0)"
)
"""What a grant of :network was given at, and must still be at."""


async def stop(
    uow: Uow,
    *,
    switch_id: UUID,
    scope: str,
    action: str,
    reason: str,
    cause: str,
    causes_max: int,
    actor: str,
    at: datetime,
) -> RowMapping | None:
    """Stop, or add a cause to a stop that stands; None when this cause is known already.

    The row lock makes parallel calls wait for each other; the second finds the first's cause.
    """
    result = await uow.execute(
        "INSERT INTO chain.switches AS s (id, scope, action, state, reason, causes, changed_by, "
        "stopped_at, changed_at) VALUES (:id, :scope, :action, 'stopped', :reason, "
        "ARRAY[CAST(:cause AS text)], :actor, :at, :at) ON CONFLICT (scope, action) DO UPDATE SET "
        "state = 'stopped', reason = excluded.reason, causes = s.causes || excluded.causes, "
        "changed_by = excluded.changed_by, approved_by = NULL, version = s.version + 1, "
        "stopped_at = CASE s.state WHEN 'stopped' THEN s.stopped_at ELSE excluded.stopped_at END, "
        "changed_at = excluded.changed_at WHERE s.state = 'running' "
        "OR (NOT s.causes @> excluded.causes AND cardinality(s.causes) < :causes_max) "
        f"RETURNING {_COLUMNS}",
        {
            "id": switch_id,
            "scope": scope,
            "action": action,
            "reason": reason,
            "cause": cause,
            "causes_max": causes_max,
            "actor": actor,
            "at": at,
        },
    )
    return result.mappings().one_or_none()


async def start(
    uow: Uow,
    *,
    scope: str,
    action: str,
    version: int,
    reason: str,
    proposed_by: str,
    approved_by: str,
    at: datetime,
) -> RowMapping | None:
    """Running again, if it still is at the version that both people saw; else None."""
    result = await uow.execute(
        "UPDATE chain.switches SET state = 'running', reason = :reason, causes = '{}', "
        "changed_by = :proposed_by, approved_by = :approved_by, version = version + 1, "
        "changed_at = :at WHERE scope = :scope AND action = :action AND state = 'stopped' "
        f"AND version = :version RETURNING {_COLUMNS}",
        {
            "scope": scope,
            "action": action,
            "version": version,
            "reason": reason,
            "proposed_by": proposed_by,
            "approved_by": approved_by,
            "at": at,
        },
    )
    return result.mappings().one_or_none()


async def lock(uow: Uow, *, scope: str, action: str) -> RowMapping | None:
    """The switch, locked until the commit."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.switches WHERE scope = :scope AND action = :action "
        "FOR UPDATE",
        {"scope": scope, "action": action},
    )
    return result.mappings().one_or_none()


async def every(uow: Uow) -> Sequence[RowMapping]:
    """Every switch that was ever used, by scope and action."""
    result = await uow.execute(f"SELECT {_COLUMNS} FROM chain.switches ORDER BY scope, action")
    return result.mappings().all()


async def history(
    uow: Uow, *, scope: str | None, action: str | None, limit: int
) -> Sequence[RowMapping]:
    """Changes, newest first."""
    result = await uow.execute(
        "SELECT switch_id, version, scope, action, state, reason, changed_by, approved_by, "
        "changed_at FROM chain.switch_history WHERE (CAST(:scope AS text) IS NULL OR scope = "
        ":scope) AND (CAST(:action AS text) IS NULL OR action = :action) "
        "ORDER BY changed_at DESC, switch_id, version DESC LIMIT :limit",
        {"scope": scope, "action": action, "limit": limit},
    )
    return result.mappings().all()


async def stopped_scopes(uow: Uow, *, network: str, action: str) -> list[str]:
    """Scopes of a network on which `action` is stopped now."""
    rows = await uow.rows(
        "SELECT DISTINCT scope FROM chain.switches WHERE state = 'stopped' "
        "AND action IN (:action, 'all') "
        "AND (scope = 'network:' || :network OR starts_with(scope, 'asset:' || :network || ':'))",
        {"network": network, "action": action},
    )
    return [row["scope"] for row in rows]


async def lock_cursor(uow: Uow, *, network: str) -> None:
    """The follower's cursor is ours until the commit, if there is one."""
    await uow.execute(
        "SELECT 1 FROM chain.cursors WHERE network = :network FOR UPDATE", {"network": network}
    )


async def clear_stop(uow: Uow, *, network: str, at: datetime) -> None:
    """Let the watcher follow again. People looked at what is followed now: depths count anew."""
    await uow.execute(
        "UPDATE chain.cursors SET stopped_reason = NULL, top_height = height, updated_at = :at "
        "WHERE network = :network",
        {"network": network, "at": at},
    )


async def insert_grant(
    uow: Uow,
    *,
    grant_id: UUID,
    network: str,
    kind: str,
    count: int,
    value_minor: int | None,
    value_currency: str | None,
    height: int | None,
    proposed_by: str,
    approved_by: str,
    at: datetime,
    expires_at: datetime,
) -> None:
    """What two people allowed once."""
    await uow.execute(
        "INSERT INTO chain.switch_grants (id, network, kind, count, value_minor, "
        "value_currency, height, switch_version, proposed_by, approved_by, created_at, expires_at) "
        "VALUES (:id, :network, :kind, :count, CAST(:value AS numeric), :currency, "
        f":height, {_VERSION}, :proposed_by, :approved_by, :at, :expires_at)",
        {
            "id": grant_id,
            "network": network,
            "kind": kind,
            "count": count,
            "value": value_minor,
            "currency": value_currency,
            "height": height,
            "proposed_by": proposed_by,
            "approved_by": approved_by,
            "at": at,
            "expires_at": expires_at,
        },
    )


async def take_grant(
    uow: Uow,
    *,
    network: str,
    kind: str,
    count: int,
    value_minor: int | None,
    currency: str,
    at: datetime,
) -> bool:
    """Use up the smallest open grant that covers `count` and the value, an unknown value (None)
    only without a limit of it; False when there is none."""
    result = await uow.execute(
        "UPDATE chain.switch_grants SET taken_at = :at, taken_count = :count, "
        "taken_value_minor = CAST(:value AS numeric) WHERE id = ("
        "SELECT id FROM chain.switch_grants WHERE network = :network AND kind = :kind "
        f"AND taken_at IS NULL AND expires_at > :at AND switch_version = {_VERSION} "
        "AND count >= :count AND (value_minor IS NULL "
        "OR (value_currency = :currency AND value_minor >= CAST(:value AS numeric))) "
        "ORDER BY count, value_minor NULLS LAST, id LIMIT 1 FOR UPDATE)",
        {
            "network": network,
            "kind": kind,
            "count": count,
            "value": value_minor,
            "currency": currency,
            "at": at,
        },
    )
    return result.rowcount == 1


async def reorg_floor(uow: Uow, *, network: str, at: datetime) -> int | None:
    """The lowest height that an open grant lets a reorg reach, or None."""
    result = await uow.execute(
        "SELECT min(height - count) FROM chain.switch_grants WHERE network = :network "
        "AND kind = 'reorg' AND taken_at IS NULL AND expires_at > :at "
        f"AND switch_version = {_VERSION}",
        {"network": network, "at": at},
    )
    floor = result.scalar_one()
    return None if floor is None else max(0, int(floor))


async def take_reorg_grants(uow: Uow, *, network: str, at: datetime) -> None:
    """The reorg was walked: what allowed it allows no second one."""
    await uow.execute(
        "UPDATE chain.switch_grants SET taken_at = :at, taken_count = count "
        "WHERE network = :network AND kind = 'reorg' AND taken_at IS NULL",
        {"network": network, "at": at},
    )
