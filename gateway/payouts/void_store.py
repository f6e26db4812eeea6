"""SQL of gateway.voids: withdrawals that ended unsigned, until the signer knows (S25)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from config.database import Uow
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Authorisation

_SIGNED = (
    "method",
    "authority",
    "path",
    "query",
    "headers",
    "body",
    "signature_input",
    "signature",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidRow:
    """One void with the client's order, and the client's cancel where one was signed.

    `attempts` counts refusals. `order` is None for a row that never had a signed request.
    """

    withdrawal_id: UUID
    network: str
    brand: str
    request_id: str
    order: Authorisation | None
    cancel: Authorisation | None
    attempts: int
    created_at: datetime


async def add(uow: Uow, *rows: WithdrawalRow, at: datetime) -> None:
    """Say in the unit of work that ends withdrawals that they must never be signed."""
    await uow.execute(
        """
        INSERT INTO gateway.voids (withdrawal_id, brand, request_id, next_attempt_at, created_at)
        SELECT id, brand, request_id, :at, :at
        FROM unnest(CAST(:ids AS uuid[]), CAST(:brands AS text[]), CAST(:request_ids AS text[]))
            AS v (id, brand, request_id)
        ON CONFLICT (withdrawal_id) DO NOTHING
        """,
        {
            "ids": [row.id for row in rows],
            "brands": [row.brand for row in rows],
            "request_ids": [row.request_id for row in rows],
            "at": at,
        },
    )


async def add_cancel(uow: Uow, withdrawal_id: UUID, signed: Authorisation) -> None:
    """Keep the client's signed cancel, exactly as received; the first one stands."""
    await uow.execute(
        """
        UPDATE gateway.voids SET method = :method, authority = :authority, path = :path,
            query = :query, headers = CAST(:headers AS jsonb), body = :body,
            signature_input = :signature_input, signature = :signature
        WHERE withdrawal_id = :id AND state = 'pending' AND method IS NULL
        """,
        {
            "id": withdrawal_id,
            **{name: getattr(signed, name) for name in _SIGNED},
            "headers": json.dumps(dict(signed.headers), sort_keys=True),
        },
    )


async def due(uow: Uow, *, at: datetime, limit: int) -> Sequence[UUID]:
    """Withdrawals that the signer has to hear of now, the longest due first."""
    result = await uow.execute(
        """
        SELECT withdrawal_id FROM gateway.voids
        WHERE state = 'pending' AND next_attempt_at <= :at
        ORDER BY next_attempt_at, withdrawal_id LIMIT :limit
        """,
        {"at": at, "limit": limit},
    )
    return list(result.scalars())


async def get(uow: Uow, withdrawal_id: UUID) -> VoidRow | None:
    """A pending void, or None: it is done."""
    columns = ", ".join(f"v.{name}, r.{name} AS order_{name}" for name in _SIGNED)
    result = await uow.execute(
        f"""
        SELECT v.withdrawal_id, w.network, v.brand, v.request_id, v.attempts, v.created_at,
            {columns}
        FROM gateway.voids v JOIN gateway.withdrawals w ON w.id = v.withdrawal_id
        LEFT JOIN gateway.signed_requests r ON r.withdrawal_id = v.withdrawal_id
        WHERE v.withdrawal_id = :id AND v.state = 'pending'
        """,
        {"id": withdrawal_id},
    )
    row = result.mappings().one_or_none()
    if row is None:
        return None
    return VoidRow(
        withdrawal_id=row["withdrawal_id"],
        network=row["network"],
        brand=row["brand"],
        request_id=row["request_id"],
        order=_authorisation({name: row[f"order_{name}"] for name in _SIGNED}),
        cancel=_authorisation({name: row[name] for name in _SIGNED}),
        attempts=row["attempts"],
        created_at=row["created_at"],
    )


async def finish(
    uow: Uow, withdrawal_id: UUID, *, state: str, code: str | None, at: datetime
) -> None:
    """It is `delivered`, or `moot`: nothing signed for it can be valid any more."""
    await uow.execute(
        """
        UPDATE gateway.voids SET state = :state, code = coalesce(:code, code), done_at = :at
        WHERE withdrawal_id = :id AND state = 'pending'
        """,
        {"id": withdrawal_id, "state": state, "code": code, "at": at},
    )


async def any_refused(uow: Uow, *, network: str) -> bool:
    """Whether the signer still refuses a void of this network."""
    result = await uow.execute(
        """
        SELECT EXISTS (
            SELECT 1 FROM gateway.voids v JOIN gateway.withdrawals w ON w.id = v.withdrawal_id
            WHERE v.state = 'pending' AND v.attempts > 0 AND w.network = :network)
        """,
        {"network": network},
    )
    return bool(result.scalar_one())


async def postpone(uow: Uow, withdrawal_id: UUID, *, code: str, until: datetime) -> None:
    """The signer refused it for now."""
    await uow.execute(
        """
        UPDATE gateway.voids
        SET attempts = attempts + 1, code = :code, next_attempt_at = :until
        WHERE withdrawal_id = :id AND state = 'pending'
        """,
        {"id": withdrawal_id, "code": code, "until": until},
    )


def _authorisation(values: Mapping[str, Any]) -> Authorisation | None:
    if values["method"] is None:
        return None
    headers = values["headers"]
    found = json.loads(headers) if isinstance(headers, str) else headers
    return Authorisation(**{**values, "headers": found, "body": bytes(values["body"])})
