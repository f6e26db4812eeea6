"""SQL of gateway.withdrawals as the API and the lifecycle need it: insert, read, lock, list.

State changes go through `ledger.lifecycle.advance` alone. Amounts are int minor units.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from signer.protocol import Authorisation


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalRow:
    """One row, whole. Amounts in minor units of `asset`."""

    id: UUID
    brand: str
    request_id: str
    kind: str
    player_id: str
    network: str
    asset: str
    address: str
    address_key: str
    amount_minor: int
    pam_balance_minor: int
    fee_class: str
    fee_mode: str
    metadata: Mapping[str, Any]
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
    orphaned_known: tuple[UUID, ...] = ()
    """The player's deposits that were lost when the order was accepted: no news about it."""
    max_fee_minor: int | None = None
    """The most that the player may pay; None where the brand pays."""
    fee_charged_minor: int | None = None
    """What the player pays of the amount, fixed at acceptance; None where nothing is."""
    entered_at: datetime | None = None
    """When it came into its state, where it has moved within it since; else None."""
    deposit_id: UUID | None = None
    """The deposit that a refund sends back; None for a withdrawal."""

    @property
    def in_state_since(self) -> datetime:
        """When it came into its state: a bump is no new state."""
        return self.entered_at or self.state_at

    @property
    def output_minor(self) -> int:
        """What the transaction pays out (CONTRACT 1, Fees)."""
        return self.amount_minor - (self.fee_charged_minor or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list is narrowed to; None does not narrow."""

    state: str | None = None
    player_id: str | None = None
    asset: str | None = None
    txid: str | None = None
    created_after: datetime | None = None


_COLUMNS = """
    id, brand, request_id, kind, player_id, network, asset, address, address_key, amount,
    pam_balance, fee_class, fee_mode, metadata, state, code, is_reserved, version, attempt_id,
    txid, valid_until, promise_at, sign_requested_at, accepted_at, state_at,
    orphaned_known, max_fee, fee_charged
"""
_READ = f"{_COLUMNS}, entered_at, deposit_id"
_OF_REFUND = f"{_COLUMNS}, deposit_id"
_CONVERTED = frozenset(
    {
        "amount_minor", "pam_balance_minor", "max_fee_minor", "fee_charged_minor", "metadata",
        "orphaned_known",
    }
)  # fmt: skip


def from_mapping(row: RowMapping | Mapping[str, Any]) -> WithdrawalRow:
    """A database row with all columns as a value."""
    values = {name: row[name] for name in WithdrawalRow.__slots__ if name not in _CONVERTED}
    metadata = row["metadata"]
    return WithdrawalRow(
        amount_minor=int(row["amount"]),
        pam_balance_minor=int(row["pam_balance"]),
        max_fee_minor=_optional(row["max_fee"]),
        fee_charged_minor=_optional(row["fee_charged"]),
        metadata=json.loads(metadata) if isinstance(metadata, str) else metadata,
        orphaned_known=tuple(row["orphaned_known"]),
        **values,
    )


def _optional(value: Decimal | None) -> int | None:
    return None if value is None else int(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWithdrawal:
    """A row to store with the client's signed request. `batch_id`: where the body is kept when it
    is that of a batch."""

    row: WithdrawalRow
    key_id: str
    signed: Authorisation
    batch_id: UUID | None


async def insert(
    uow: Uow,
    row: WithdrawalRow,
    *,
    key_id: str,
    signed: Authorisation,
    batch_id: UUID | None,
) -> bool:
    """`insert_many` of one; False when (brand, request_id) stands already."""
    new = NewWithdrawal(row=row, key_id=key_id, signed=signed, batch_id=batch_id)
    return await insert_many(uow, [new]) == 1


async def insert_many(uow: Uow, new: Sequence[NewWithdrawal]) -> int:
    """Store new withdrawals with the client's signed bytes exactly as received; how many were
    new: one whose (brand, request_id) stands already is left out.

    Waits for another unit of work that is inserting the same request_id.
    """
    values = {
        "rows": json.dumps([_as_json(item.row) for item in new], default=str),
        "ids": [item.row.id for item in new],
        "key_ids": [item.key_id for item in new],
        "bodies": [item.signed.body if item.batch_id is None else None for item in new],
        "batch_ids": [item.batch_id for item in new],
        "headers": [json.dumps(dict(item.signed.headers), sort_keys=True) for item in new],
    }
    for name in ("method", "authority", "path", "query", "signature_input", "signature"):
        values[name] = [getattr(item.signed, name) for item in new]
    rows = await uow.rows(
        f"""
        WITH added AS (
            INSERT INTO gateway.withdrawals ({_COLUMNS})
            SELECT {_COLUMNS}
            FROM jsonb_populate_recordset(
                CAST(NULL AS gateway.withdrawals), CAST(:rows AS jsonb))
            ORDER BY request_id
            ON CONFLICT (brand, request_id) DO NOTHING
            RETURNING id, brand
        )
        INSERT INTO gateway.withdrawal_requests (withdrawal_id, brand, key_id, method, authority,
            path, query, headers, body, signature_input, signature, batch_id)
        SELECT a.id, a.brand, r.key_id, r.method, r.authority, r.path, r.query,
            CAST(r.headers AS jsonb), r.body, r.signature_input, r.signature, r.batch_id
        FROM added a JOIN unnest(CAST(:ids AS uuid[]), CAST(:key_ids AS text[]),
            CAST(:method AS text[]), CAST(:authority AS text[]), CAST(:path AS text[]),
            CAST(:query AS text[]), CAST(:headers AS text[]), CAST(:bodies AS bytea[]),
            CAST(:signature_input AS text[]), CAST(:signature AS text[]),
            CAST(:batch_ids AS uuid[]))
            AS r (id, key_id, method, authority, path, query, headers, body, signature_input,
                signature, batch_id) ON r.id = a.id
        RETURNING 1
        """,
        values,
    )
    return len(rows)


async def insert_refund(uow: Uow, row: WithdrawalRow) -> bool:
    """Store a refund; False where its deposit has one that may still be paid, or was."""
    rows = await uow.rows(
        f"""
        INSERT INTO gateway.withdrawals ({_OF_REFUND})
        SELECT {_OF_REFUND} FROM jsonb_populate_record(
            CAST(NULL AS gateway.withdrawals), CAST(:row AS jsonb))
        ON CONFLICT (deposit_id)
            WHERE kind = 'refund' AND (txid IS NOT NULL OR state NOT IN ('declined', 'expired'))
            DO NOTHING
        RETURNING id
        """,
        {"row": json.dumps(_as_json(row), default=str)},
    )
    return len(rows) == 1


async def refund_of(uow: Uow, deposit_id: UUID) -> WithdrawalRow | None:
    """The refund of a deposit that may still be paid, or was."""
    result = await uow.execute(
        f"SELECT {_READ} FROM gateway.withdrawals WHERE deposit_id = :id AND kind = 'refund' "
        "AND (txid IS NOT NULL OR state NOT IN ('declined', 'expired'))",
        {"id": deposit_id},
    )
    row = result.mappings().one_or_none()
    return None if row is None else from_mapping(row)


def _as_json(row: WithdrawalRow) -> dict[str, Any]:
    """By column; what is no JSON goes as text, which the column's own type reads."""
    values = {name: getattr(row, name) for name in WithdrawalRow.__slots__}
    values["metadata"] = dict(row.metadata)
    for name in ("amount", "pam_balance", "max_fee", "fee_charged"):
        values[name] = values.pop(f"{name}_minor")
    return values


async def insert_batch(uow: Uow, *, batch_id: UUID, brand: str, body: bytes, at: datetime) -> None:
    """Store the body that the requests of a batch share."""
    await uow.execute(
        "INSERT INTO gateway.withdrawal_batches (id, brand, body, created_at)"
        " VALUES (:id, :brand, :body, :at)",
        {"id": batch_id, "brand": brand, "body": body, "at": at},
    )


async def request_body(uow: Uow, withdrawal_id: UUID) -> bytes | None:
    """The signed body that asked for a withdrawal."""
    result = await uow.execute(
        "SELECT body FROM gateway.signed_requests WHERE withdrawal_id = :id",
        {"id": withdrawal_id},
    )
    body = result.scalar_one_or_none()
    return None if body is None else bytes(body)


async def get(uow: Uow, withdrawal_id: UUID, *, lock: bool = False) -> WithdrawalRow | None:
    """One row by id, locked until the commit when asked."""
    result = await uow.execute(
        f"SELECT {_READ} FROM gateway.withdrawals WHERE id = :id"
        + (" FOR NO KEY UPDATE" if lock else ""),
        {"id": withdrawal_id},
    )
    row = result.mappings().one_or_none()
    return None if row is None else from_mapping(row)


async def expedite(uow: Uow, withdrawal_id: UUID, *, promise_at: datetime) -> None:
    """Put a locked row on the urgent class."""
    await uow.execute(
        "UPDATE gateway.withdrawals SET fee_class = 'urgent', promise_at = :promise_at "
        "WHERE id = :id",
        {"id": withdrawal_id, "promise_at": promise_at},
    )


async def member_count(uow: Uow, attempt_id: UUID) -> int:
    """How many withdrawals an attempt was built for."""
    result = await uow.execute(
        "SELECT count(*) FROM gateway.attempt_members WHERE attempt_id = :id", {"id": attempt_id}
    )
    return int(result.scalar_one())


async def attempts_of(uow: Uow, *withdrawal_ids: UUID) -> Sequence[UUID]:
    """Every attempt that was built for one of these withdrawals, oldest first."""
    result = await uow.execute(
        "SELECT DISTINCT attempt_id FROM gateway.attempt_members"
        " WHERE withdrawal_id = ANY(CAST(:ids AS uuid[])) ORDER BY 1",
        {"ids": list(withdrawal_ids)},
    )
    return list(result.scalars())


async def by_request_id(uow: Uow, *, brand: str, request_id: str) -> WithdrawalRow | None:
    """The row that stands for (brand, request_id)."""
    result = await uow.execute(
        f"SELECT {_READ} FROM gateway.withdrawals"
        " WHERE brand = :brand AND request_id = :request_id",
        {"brand": brand, "request_id": request_id},
    )
    row = result.mappings().one_or_none()
    return None if row is None else from_mapping(row)


async def find(
    uow: Uow, *, brand: str | None, filters: Filters, before: UUID | None, limit: int
) -> Sequence[WithdrawalRow]:
    """Newest first, below the cursor `before`; ids are time-ordered, so the order is stable."""
    conditions = ["true"]
    values: dict[str, Any] = {"limit": limit}
    for name in ("state", "player_id", "asset", "txid"):
        value = getattr(filters, name)
        if value is not None:
            conditions.append(f"{name} = :{name}")
            values[name] = value
    if brand is not None:
        conditions.append("brand = :brand")
        values["brand"] = brand
    if filters.created_after is not None:
        conditions.append("accepted_at > :created_after")
        values["created_after"] = filters.created_after
    if before is not None:
        conditions.append("id < :before")
        values["before"] = before
    result = await uow.execute(
        f"SELECT {_READ} FROM gateway.withdrawals WHERE {' AND '.join(conditions)}"
        " ORDER BY id DESC LIMIT :limit",
        values,
    )
    return [from_mapping(row) for row in result.mappings()]


async def seconds_to_sent(
    uow: Uow, *, brand: str, network: str, fee_class: str, limit: int
) -> tuple[int, int, int]:
    """Of the newest `limit` that were sent: how many, and from acceptance to the first `sent` in
    seconds, rounded up, as p50 and p90 (0 of none)."""
    result = await uow.execute(
        """
        SELECT count(*) AS found,
            coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY seconds), 0) AS p50,
            coalesce(percentile_disc(0.9) WITHIN GROUP (ORDER BY seconds), 0) AS p90
        FROM (
            SELECT CAST(ceil(extract(epoch FROM h.at - w.accepted_at)) AS bigint) AS seconds
            FROM (
                SELECT id, accepted_at FROM gateway.withdrawals
                WHERE brand = :brand AND network = :network AND fee_class = :fee_class
                    AND state IN ('sent', 'confirming', 'completed')
                ORDER BY id DESC LIMIT :limit
            ) w
            CROSS JOIN LATERAL (
                SELECT s.at FROM ledger.state_history s
                WHERE s.object_id = w.id AND s.to_state = 'sent' ORDER BY s.version LIMIT 1
            ) h
        ) t
        """,
        {"brand": brand, "network": network, "fee_class": fee_class, "limit": limit},
    )
    row = result.mappings().one()
    return int(row["found"]), int(row["p50"]), int(row["p90"])
