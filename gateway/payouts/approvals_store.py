"""SQL of gateway.withdrawal_approvals: what people signed about a withdrawal, as received."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from signer.protocol import Authorisation

SIGNED = "method, authority, path, query, headers, body, signature_input, signature"


async def insert(
    uow: Uow,
    *,
    approval_id: UUID,
    withdrawal_id: UUID,
    brand: str,
    action: str,
    round_: int,
    key_id: str,
    person: str,
    txids: Sequence[str],
    signed: Authorisation,
    at: datetime,
) -> bool:
    """Store a signature; False when the person has signed this in this round."""
    result = await uow.execute(
        "INSERT INTO gateway.withdrawal_approvals (id, withdrawal_id, brand, action, round, "
        f"txids, key_id, person, {SIGNED}, at) VALUES (:id, :withdrawal_id, :brand, :action, "
        ":round, CAST(:txids AS text[]), :key_id, :person, :method, :authority, :path, :query, "
        "CAST(:headers AS jsonb), :body, :signature_input, :signature, :at) "
        "ON CONFLICT (withdrawal_id, action, round, person) DO NOTHING",
        {
            "id": approval_id,
            "withdrawal_id": withdrawal_id,
            "brand": brand,
            "action": action,
            "round": round_,
            "txids": list(txids),
            "key_id": key_id,
            "person": person,
            **signed_values(signed),
            "at": at,
        },
    )
    return result.rowcount == 1


async def every(uow: Uow, ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """All signatures about some withdrawals, oldest first; `is_valid`: their key is not revoked."""
    result = await uow.execute(
        "SELECT a.withdrawal_id, a.action, a.round, a.txids, a.key_id, a.person, a.at, "
        f"{_signed('a')}, c.revoked_at IS NULL AS is_valid "
        "FROM gateway.withdrawal_approvals a JOIN gateway.clients c USING (key_id) "
        "WHERE a.withdrawal_id = ANY(CAST(:ids AS uuid[])) ORDER BY a.at, a.id",
        {"ids": list(ids)},
    )
    return result.mappings().all()


async def is_initiators(uow: Uow, *, withdrawal_id: UUID, key_id: str) -> bool:
    """Whether a key, or its public half under another name, ordered the withdrawal."""
    result = await uow.execute(
        "SELECT 1 FROM gateway.withdrawal_requests r "
        "JOIN gateway.clients ordering ON ordering.key_id = r.key_id "
        "JOIN gateway.clients approving ON approving.key_id = :key_id "
        "WHERE r.withdrawal_id = :id AND (ordering.key_id = approving.key_id "
        "OR ordering.public_key = approving.public_key)",
        {"id": withdrawal_id, "key_id": key_id},
    )
    return result.scalar_one_or_none() is not None


async def decided(
    uow: Uow, *, network: str, pairs: Sequence[tuple[str, Sequence[str]]], limit: int
) -> Sequence[RowMapping]:
    """Withdrawals of a network in a state for which two people have signed one action.

    `pairs`: action, and the states in which payouts carry it out.
    """
    result = await uow.execute(
        """
        SELECT w.id, a.action, min(a.at) AS first_at
        FROM gateway.withdrawals w
        JOIN gateway.withdrawal_approvals a ON a.withdrawal_id = w.id AND a.round = w.version
        JOIN gateway.clients c ON c.key_id = a.key_id AND c.revoked_at IS NULL
        WHERE w.network = :network AND a.action || ':' || w.state = ANY(:wanted)
        GROUP BY w.id, a.action HAVING count(DISTINCT a.person) >= 2
        ORDER BY max(a.at), w.id LIMIT :limit
        """,
        {
            "network": network,
            "wanted": [f"{action}:{state}" for action, states in pairs for state in states],
            "limit": limit,
        },
    )
    return result.mappings().all()


def signed_values(signed: Authorisation) -> dict[str, Any]:
    """The columns of a signed HTTP request."""
    return {
        "method": signed.method,
        "authority": signed.authority,
        "path": signed.path,
        "query": signed.query,
        "headers": json.dumps(dict(signed.headers), sort_keys=True),
        "body": signed.body,
        "signature_input": signed.signature_input,
        "signature": signed.signature,
    }


def authorisation(row: RowMapping) -> Authorisation:
    """The signed HTTP request of a row."""
    headers: Any = row["headers"]
    return Authorisation(
        method=row["method"],
        authority=row["authority"],
        path=row["path"],
        query=row["query"],
        headers=json.loads(headers) if isinstance(headers, str) else headers,
        body=bytes(row["body"]),
        signature_input=row["signature_input"],
        signature=row["signature"],
    )


def _signed(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in SIGNED.split(", "))
