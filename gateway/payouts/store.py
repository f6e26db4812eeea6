"""SQL of the payout loops over gateway.withdrawals, their requests, members and alarms.

Reads and locks only; every state change goes through `transitions` (compare-and-set). Amounts come
back as int minor units.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.database import Uow
from gateway.withdrawals_store import WithdrawalRow, from_mapping
from signer.protocol import Authorisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One withdrawal on one attempt, and its output there."""

    withdrawal: WithdrawalRow
    output_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Riding:
    """The classes of what rides on one attempt; `is_cancelling`: two people want it aborted.
    `own_blocks`: nobody rides on it, it moves own value and should be mined within so many."""

    attempt_id: UUID
    fee_classes: tuple[str, ...]
    is_cancelling: bool
    own_blocks: int | None = None


async def by_ids(uow: Uow, ids: Sequence[UUID], *, lock: bool) -> list[WithdrawalRow]:
    """Rows by id, in id order; locked in that order when asked."""
    result = await uow.execute(
        "SELECT w.* FROM gateway.withdrawals w WHERE w.id = ANY(:ids) ORDER BY w.id"
        + (" FOR NO KEY UPDATE" if lock else ""),
        {"ids": list(ids)},
    )
    return [from_mapping(row) for row in result.mappings()]


async def in_state(
    uow: Uow,
    *,
    network: str,
    state: str,
    limit: int,
    code: str | None = None,
    but_code: str | None = None,
    after: tuple[datetime, UUID] | None = None,
) -> list[WithdrawalRow]:
    """Rows of one state of a network, oldest promise first, at most `limit` behind `after`.

    `code`: only these; `but_code`: all but these.
    """
    promise_at, withdrawal_id = after if after is not None else (None, None)
    result = await uow.execute(
        """
        SELECT w.* FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = :state
            AND (CAST(:code AS text) IS NULL OR w.code = :code)
            AND (CAST(:but_code AS text) IS NULL OR w.code IS DISTINCT FROM :but_code)
            AND (CAST(:promise_at AS timestamptz) IS NULL
                 OR (w.promise_at, w.id) > (:promise_at, CAST(:withdrawal_id AS uuid)))
        ORDER BY w.promise_at, w.id LIMIT :limit
        """,
        {
            "network": network,
            "state": state,
            "code": code,
            "but_code": but_code,
            "promise_at": promise_at,
            "withdrawal_id": withdrawal_id,
            "limit": limit,
        },
    )
    return [from_mapping(row) for row in result.mappings()]


async def older_than(
    uow: Uow, *, network: str, state: str, before: datetime, limit: int
) -> list[WithdrawalRow]:
    """Rows that are in a state since `before` or longer, oldest first; a bump is no new state."""
    result = await uow.execute(
        """
        SELECT w.* FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = :state
            AND coalesce(w.entered_at, w.state_at) <= :before
        ORDER BY coalesce(w.entered_at, w.state_at), w.id LIMIT :limit
        """,
        {"network": network, "state": state, "before": before, "limit": limit},
    )
    return [from_mapping(row) for row in result.mappings()]


async def still_in(uow: Uow, ids: Sequence[UUID], *, states: Sequence[str]) -> set[UUID]:
    """Those of some withdrawals, or attempts, that are in these states, or have a member in one."""
    result = await uow.execute(
        """
        SELECT w.id FROM gateway.withdrawals w WHERE w.id = ANY(CAST(:ids AS uuid[]))
            AND w.state = ANY(:states)
        UNION SELECT w.attempt_id FROM gateway.withdrawals w
        WHERE w.attempt_id = ANY(CAST(:ids AS uuid[])) AND w.state = ANY(:states)
        """,
        {"ids": list(ids), "states": list(states)},
    )
    return set(result.scalars())


async def has_any(uow: Uow, *, network: str, states: Sequence[str]) -> bool:
    """Whether a network has a row in one of these states."""
    result = await uow.execute(
        """
        SELECT EXISTS (SELECT 1 FROM gateway.withdrawals
                       WHERE network = :network AND state = ANY(:states))
        """,
        {"network": network, "states": list(states)},
    )
    return bool(result.scalar_one())


async def overdue(
    uow: Uow, *, network: str, states: Sequence[str], at: datetime, limit: int
) -> list[WithdrawalRow]:
    """Rows of these states whose `valid_until` has passed, and which the signer was not asked for.

    Each leaves by expiring, so the first page is always the next one.
    """
    result = await uow.execute(
        """
        SELECT w.* FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = ANY(:states) AND w.valid_until < :at
            AND w.sign_requested_at IS NULL AND w.txid IS NULL
        ORDER BY w.valid_until, w.id LIMIT :limit
        """,
        {"network": network, "states": list(states), "at": at, "limit": limit},
    )
    return [from_mapping(row) for row in result.mappings()]


async def committed(uow: Uow, *, network: str, states: Sequence[str]) -> dict[str, int]:
    """Sum of outputs by asset of the rows in these states, and of those on hold that may be paid
    already: the signer was asked, and nobody has ruled a payment out."""
    result = await uow.execute(
        """
        SELECT w.asset, sum(w.amount - coalesce(w.fee_charged, 0)) AS amount
        FROM gateway.withdrawals w
        WHERE w.network = :network
            AND (w.state = ANY(:states)
                 OR (w.state = 'on_hold' AND w.sign_requested_at IS NOT NULL))
        GROUP BY w.asset
        """,
        {"network": network, "states": list(states)},
    )
    return {row.asset: int(row.amount) for row in result}


async def request_signature(uow: Uow, ids: Sequence[UUID], *, at: datetime) -> int:
    """Commit `sign_requested_at` on planned rows; returns how many had none yet."""
    result = await uow.execute(
        """
        UPDATE gateway.withdrawals SET sign_requested_at = :at
        WHERE id = ANY(:ids) AND state = 'planned' AND sign_requested_at IS NULL
        """,
        {"ids": list(ids), "at": at},
    )
    return result.rowcount


async def open_attempts(
    uow: Uow, *, network: str, states: Sequence[str], limit: int, after: UUID | None = None
) -> list[UUID]:
    """Attempts with a member in one of these states, oldest first (ids are UUIDv7), at most
    `limit` behind `after`."""
    result = await uow.execute(
        """
        SELECT DISTINCT w.attempt_id FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = ANY(:states) AND w.attempt_id IS NOT NULL
            AND (CAST(:after AS uuid) IS NULL OR w.attempt_id > CAST(:after AS uuid))
        ORDER BY w.attempt_id LIMIT :limit
        """,
        {"network": network, "states": list(states), "after": after, "limit": limit},
    )
    return [row.attempt_id for row in result]


async def members(
    uow: Uow, attempt_id: UUID, *, lock: bool, is_current: bool = True
) -> list[Member]:
    """The withdrawals whose live attempt this is, by id (the order of locks); all that it was
    built for where it need not be their live one."""
    result = await uow.execute(
        """
        SELECT w.*, m.output_index
        FROM gateway.attempt_members m JOIN gateway.withdrawals w ON w.id = m.withdrawal_id
        WHERE m.attempt_id = :attempt_id
        """
        + (" AND w.attempt_id = :attempt_id" if is_current else "")
        + " ORDER BY w.id"
        + (" FOR NO KEY UPDATE OF w" if lock else ""),
        {"attempt_id": attempt_id},
    )
    return [
        Member(withdrawal=from_mapping(row), output_index=row["output_index"])
        for row in result.mappings()
    ]


async def members_of(
    uow: Uow, attempt_ids: Sequence[UUID], *, lock: bool
) -> dict[UUID, list[Member]]:
    """The withdrawals whose live attempt each of these is, by attempt; read and locked by id."""
    result = await uow.execute(
        """
        SELECT w.*, m.output_index
        FROM gateway.attempt_members m JOIN gateway.withdrawals w
            ON w.id = m.withdrawal_id AND w.attempt_id = m.attempt_id
        WHERE m.attempt_id = ANY(CAST(:ids AS uuid[])) ORDER BY w.id
        """
        + (" FOR NO KEY UPDATE OF w" if lock else ""),
        {"ids": list(attempt_ids)},
    )
    found: dict[UUID, list[Member]] = {}
    for row in result.mappings():
        member = Member(withdrawal=from_mapping(row), output_index=row["output_index"])
        found.setdefault(row["attempt_id"], []).append(member)
    return found


async def member_counts(uow: Uow, attempt_ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many withdrawals each attempt was built for."""
    result = await uow.execute(
        "SELECT attempt_id, count(*) AS members FROM gateway.attempt_members "
        "WHERE attempt_id = ANY(CAST(:ids AS uuid[])) GROUP BY attempt_id",
        {"ids": list(attempt_ids)},
    )
    return {row.attempt_id: int(row.members) for row in result}


async def forget_question(uow: Uow, withdrawal_id: UUID) -> WithdrawalRow:
    """The signer's answer is known and about to be written: nothing is in doubt any more."""
    result = await uow.execute(
        "UPDATE gateway.withdrawals SET sign_requested_at = NULL WHERE id = :id RETURNING *",
        {"id": withdrawal_id},
    )
    return from_mapping(result.mappings().one())


async def add_members(uow: Uow, *, attempt_id: UUID, outputs: Sequence[tuple[UUID, int]]) -> None:
    """Say which withdrawal rides at which output of an attempt; unique both ways."""
    await add_seats(uow, [(attempt_id, member, index) for member, index in outputs])


async def add_seats(uow: Uow, seats: Sequence[tuple[UUID, UUID, int]]) -> None:
    """Say which withdrawal rides on which attempt at which output: (attempt, withdrawal, index);
    unique both ways."""
    await uow.execute(
        """
        INSERT INTO gateway.attempt_members (attempt_id, withdrawal_id, output_index)
        SELECT * FROM unnest(CAST(:attempts AS uuid[]), CAST(:members AS uuid[]),
                             CAST(:indexes AS integer[]))
        """,
        {
            "attempts": [seat[0] for seat in seats],
            "members": [seat[1] for seat in seats],
            "indexes": [seat[2] for seat in seats],
        },
    )


async def authorisations(uow: Uow, ids: Sequence[UUID]) -> dict[UUID, Authorisation]:
    """The client's signed bytes by withdrawal, exactly as received."""
    result = await uow.execute(
        """
        SELECT withdrawal_id, method, authority, path, query, headers, body, signature_input,
               signature
        FROM gateway.signed_requests WHERE withdrawal_id = ANY(:ids)
        """,
        {"ids": list(ids)},
    )
    return {
        row.withdrawal_id: Authorisation(
            method=row.method,
            authority=row.authority,
            path=row.path,
            query=row.query,
            headers=_headers(row.headers),
            body=bytes(row.body),
            signature_input=row.signature_input,
            signature=row.signature,
        )
        for row in result
    }


async def with_request(uow: Uow, ids: Sequence[UUID]) -> set[UUID]:
    """Those of which the client's signed request is stored."""
    result = await uow.execute(
        "SELECT withdrawal_id FROM gateway.withdrawal_requests WHERE withdrawal_id = ANY(:ids)",
        {"ids": list(ids)},
    )
    return set(result.scalars())


def _headers(value: str | Mapping[str, str]) -> Mapping[str, str]:
    """A jsonb column, which the driver gives as text."""
    found: Mapping[str, str] = json.loads(value) if isinstance(value, str) else value
    return found


async def riding(uow: Uow, *, network: str, states: Sequence[str]) -> list[Riding]:
    """What rides on each live attempt with members in these states, oldest first."""
    result = await uow.execute(
        """
        SELECT w.attempt_id, array_agg(DISTINCT w.fee_class) AS fee_classes,
            bool_or(w.state = 'cancelling') AS is_cancelling
        FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = ANY(:states) AND w.attempt_id IS NOT NULL
        GROUP BY w.attempt_id ORDER BY w.attempt_id
        """,
        {"network": network, "states": list(states)},
    )
    return [
        Riding(
            attempt_id=row.attempt_id,
            fee_classes=tuple(row.fee_classes),
            is_cancelling=row.is_cancelling,
        )
        for row in result
    ]


async def brands_on(uow: Uow, attempt_id: UUID) -> dict[str, int]:
    """How many withdrawals of each brand an attempt was built for, by brand."""
    result = await uow.execute(
        """
        SELECT w.brand, count(*) AS members
        FROM gateway.attempt_members m JOIN gateway.withdrawals w ON w.id = m.withdrawal_id
        WHERE m.attempt_id = :attempt_id GROUP BY w.brand ORDER BY w.brand
        """,
        {"attempt_id": attempt_id},
    )
    return {row.brand: int(row.members) for row in result}


async def clear_waiting_alarm(uow: Uow, *, kind: str, network: str, at: datetime) -> None:
    """Close a network's alarm that is named after a code, once nobody waits with that code."""
    await uow.execute(
        """
        UPDATE gateway.alarms SET cleared_at = :at
        WHERE kind = :kind AND network = :network AND cleared_at IS NULL AND object_id IS NULL
            AND NOT EXISTS (SELECT 1 FROM gateway.withdrawals w
                            WHERE w.network = :network AND w.state = 'waiting_liquidity'
                                AND w.code = :kind)
        """,
        {"kind": kind, "network": network, "at": at},
    )
