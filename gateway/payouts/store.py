"""SQL of the payout loops over gateway.withdrawals, their requests, members and alarms.

Reads and locks only; every state change goes through `transitions` (compare-and-set). Amounts come
back as int minor units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from signer.protocol import Authorisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A row of gateway.withdrawals as the payout road needs it; amounts in minor units."""

    id: UUID
    brand: str
    request_id: str
    player_id: str
    network: str
    asset: str
    address: str
    address_key: str
    amount_minor: int
    fee_class: str
    state: str
    code: str | None
    is_reserved: bool
    version: int
    attempt_id: UUID | None
    txid: str | None
    valid_until: datetime
    promise_at: datetime
    sign_requested_at: datetime | None
    accepted_at: datetime
    state_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One withdrawal on one attempt, and its output there."""

    withdrawal: Withdrawal
    output_index: int


_COLUMNS = """
    w.id, w.brand, w.request_id, w.player_id, w.network, w.asset, w.address, w.address_key,
    w.amount, w.fee_class, w.state, w.code, w.is_reserved, w.version, w.attempt_id, w.txid,
    w.valid_until, w.promise_at, w.sign_requested_at, w.accepted_at, w.state_at
"""


def _withdrawal(row: RowMapping) -> Withdrawal:
    values = {name: row[name] for name in Withdrawal.__slots__ if name != "amount_minor"}
    return Withdrawal(amount_minor=int(row["amount"]), **values)


async def by_ids(uow: Uow, ids: Sequence[UUID], *, lock: bool) -> list[Withdrawal]:
    """Rows by id, in id order; locked in that order when asked."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.withdrawals w WHERE w.id = ANY(:ids) ORDER BY w.id"
        + (" FOR NO KEY UPDATE" if lock else ""),
        {"ids": list(ids)},
    )
    return [_withdrawal(row) for row in result.mappings()]


async def queue(uow: Uow, *, network: str, limit: int) -> list[Withdrawal]:
    """Queued rows of a network, most urgent promise first."""
    result = await uow.execute(
        f"""
        SELECT {_COLUMNS} FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = 'queued'
        ORDER BY w.promise_at, w.id LIMIT :limit
        """,
        {"network": network, "limit": limit},
    )
    return [_withdrawal(row) for row in result.mappings()]


async def waiting(uow: Uow, *, network: str, state: str, limit: int) -> list[Withdrawal]:
    """Rows of one state of a network, oldest promise first."""
    result = await uow.execute(
        f"""
        SELECT {_COLUMNS} FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = :state
        ORDER BY w.promise_at, w.id LIMIT :limit
        """,
        {"network": network, "state": state, "limit": limit},
    )
    return [_withdrawal(row) for row in result.mappings()]


async def overdue(
    uow: Uow, *, network: str, states: Sequence[str], at: datetime, limit: int
) -> list[Withdrawal]:
    """Rows of these states whose `valid_until` has passed."""
    result = await uow.execute(
        f"""
        SELECT {_COLUMNS} FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = ANY(:states) AND w.valid_until < :at
        ORDER BY w.valid_until, w.id LIMIT :limit
        """,
        {"network": network, "states": list(states), "at": at, "limit": limit},
    )
    return [_withdrawal(row) for row in result.mappings()]


async def open_attempts(uow: Uow, *, network: str, states: Sequence[str]) -> list[UUID]:
    """Attempts with a member in one of these states, oldest first (ids are UUIDv7)."""
    result = await uow.execute(
        """
        SELECT DISTINCT w.attempt_id FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = ANY(:states) AND w.attempt_id IS NOT NULL
        ORDER BY w.attempt_id
        """,
        {"network": network, "states": list(states)},
    )
    return [row.attempt_id for row in result]


async def members(uow: Uow, attempt_id: UUID, *, lock: bool) -> list[Member]:
    """The withdrawals whose live attempt this is, by id (the order of locks)."""
    result = await uow.execute(
        f"""
        SELECT {_COLUMNS}, m.output_index
        FROM gateway.attempt_members m JOIN gateway.withdrawals w ON w.id = m.withdrawal_id
        WHERE m.attempt_id = :attempt_id AND w.attempt_id = :attempt_id
        ORDER BY w.id
        """
        + (" FOR NO KEY UPDATE OF w" if lock else ""),
        {"attempt_id": attempt_id},
    )
    return [
        Member(withdrawal=_withdrawal(row), output_index=row["output_index"])
        for row in result.mappings()
    ]


async def add_members(uow: Uow, *, attempt_id: UUID, outputs: Sequence[tuple[UUID, int]]) -> None:
    """Say which withdrawal rides at which output; unique both ways."""
    await uow.execute(
        """
        INSERT INTO gateway.attempt_members (attempt_id, withdrawal_id, output_index)
        VALUES (:attempt_id, :withdrawal_id, :output_index)
        """,
        [
            {"attempt_id": attempt_id, "withdrawal_id": member, "output_index": index}
            for member, index in outputs
        ],
    )


async def authorisations(uow: Uow, ids: Sequence[UUID]) -> dict[UUID, Authorisation]:
    """The client's signed bytes by withdrawal, exactly as received."""
    result = await uow.execute(
        """
        SELECT withdrawal_id, method, authority, path, query, headers, body, signature_input,
               signature
        FROM gateway.withdrawal_requests WHERE withdrawal_id = ANY(:ids)
        """,
        {"ids": list(ids)},
    )
    return {
        row.withdrawal_id: Authorisation(
            method=row.method,
            authority=row.authority,
            path=row.path,
            query=row.query,
            headers=row.headers,
            body=bytes(row.body),
            signature_input=row.signature_input,
            signature=row.signature,
        )
        for row in result
    }


async def raise_alarm(
    uow: Uow,
    *,
    alarm_id: UUID,
    kind: str,
    network: str,
    object_id: UUID | None,
    detail: str,
    at: datetime,
) -> None:
    """Open an alarm for a person; one open row per (kind, network, object)."""
    await uow.execute(
        """
        INSERT INTO gateway.alarms (id, kind, network, object_id, detail, raised_at)
        VALUES (:id, :kind, :network, :object_id, :detail, :at)
        ON CONFLICT DO NOTHING
        """,
        {
            "id": alarm_id,
            "kind": kind,
            "network": network,
            "object_id": object_id,
            "detail": detail[:500],
            "at": at,
        },
    )


async def clear_alarm(
    uow: Uow, *, kind: str, network: str, object_id: UUID | None, at: datetime
) -> None:
    """Close an alarm whose cause is gone."""
    await uow.execute(
        """
        UPDATE gateway.alarms SET cleared_at = :at
        WHERE kind = :kind AND network = :network AND cleared_at IS NULL
            AND object_id IS NOT DISTINCT FROM CAST(:object_id AS uuid)
        """,
        {"kind": kind, "network": network, "object_id": object_id, "at": at},
    )
