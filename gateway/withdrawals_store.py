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
_CONVERTED = frozenset(
    {
        "amount_minor", "pam_balance_minor", "max_fee_minor", "fee_charged_minor", "metadata",
        "orphaned_known",
    }
)  # fmt: skip


def from_mapping(row: RowMapping) -> WithdrawalRow:
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


async def insert(
    uow: Uow,
    row: WithdrawalRow,
    *,
    key_id: str,
    signed: Authorisation,
    batch_id: UUID | None,
) -> bool:
    """Store a new withdrawal with the client's signed bytes exactly as received (of a batch: where
    its body is); False when (brand, request_id) stands already.

    Waits for another unit of work that is inserting the same request_id.
    """
    values = {name: getattr(row, name) for name in WithdrawalRow.__slots__}
    values["metadata"] = json.dumps(dict(row.metadata), sort_keys=True)
    values["orphaned_known"] = list(row.orphaned_known)
    values |= {
        "key_id": key_id,
        "method": signed.method,
        "authority": signed.authority,
        "path": signed.path,
        "query": signed.query,
        "headers": json.dumps(dict(signed.headers), sort_keys=True),
        "body": signed.body if batch_id is None else None,
        "batch_id": batch_id,
        "signature_input": signed.signature_input,
        "signature": signed.signature,
    }
    result = await uow.execute(
        f"""
        WITH added AS (
            INSERT INTO gateway.withdrawals ({_COLUMNS})
            VALUES (:id, :brand, :request_id, :kind, :player_id, :network, :asset, :address,
                :address_key, :amount_minor, :pam_balance_minor, :fee_class, :fee_mode,
                CAST(:metadata AS jsonb), :state, :code, :is_reserved, :version, :attempt_id,
                :txid, :valid_until, :promise_at, :sign_requested_at, :accepted_at, :state_at,
                CAST(:orphaned_known AS uuid[]), :max_fee_minor, :fee_charged_minor)
            ON CONFLICT (brand, request_id) DO NOTHING
            RETURNING id, brand
        )
        INSERT INTO gateway.withdrawal_requests (withdrawal_id, brand, key_id, method, authority,
            path, query, headers, body, signature_input, signature, batch_id)
        SELECT id, brand, :key_id, :method, :authority, :path, :query, CAST(:headers AS jsonb),
            CAST(:body AS bytea), :signature_input, :signature, CAST(:batch_id AS uuid)
        FROM added
        """,
        values,
    )
    return result.rowcount == 1


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
        f"SELECT {_COLUMNS} FROM gateway.withdrawals WHERE id = :id"
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
        f"SELECT {_COLUMNS} FROM gateway.withdrawals"
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
        f"SELECT {_COLUMNS} FROM gateway.withdrawals WHERE {' AND '.join(conditions)}"
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
