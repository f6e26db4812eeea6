"""SQL of what people sign outside: gateway.rebalance_signatures, and refills that need a look."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from config.database import Uow
from gateway.payouts.ends_store import OTHERWISE
from watchers.cold_spends import ColdSignature


async def add(
    uow: Uow,
    *,
    rebalance_id: UUID,
    attempt_id: UUID,
    signatures: Sequence[ColdSignature],
    person: str,
    at: datetime,
) -> int:
    """Keep verified signatures; of one input and key the first one stays. How many were new."""
    result = await uow.execute(
        "INSERT INTO gateway.rebalance_signatures (rebalance_id, attempt_id, input_index, "
        "public_key, signature, uploaded_by, at) SELECT CAST(:rebalance AS uuid), "
        "CAST(:attempt AS uuid), t.input_index, t.public_key, t.signature, CAST(:person AS text), "
        "CAST(:at AS timestamptz) FROM unnest(CAST(:inputs AS integer[]), "
        "CAST(:keys AS bytea[]), CAST(:signatures AS bytea[])) "
        "AS t (input_index, public_key, signature) ON CONFLICT DO NOTHING",
        {
            "rebalance": rebalance_id,
            "attempt": attempt_id,
            "inputs": [item.input_index for item in signatures],
            "keys": [item.public_key for item in signatures],
            "signatures": [item.signature for item in signatures],
            "person": person,
            "at": at,
        },
    )
    return result.rowcount


async def of_attempt(uow: Uow, attempt_id: UUID) -> list[ColdSignature]:
    """What has come in for one plan."""
    result = await uow.execute(
        "SELECT input_index, public_key, signature FROM gateway.rebalance_signatures "
        "WHERE attempt_id = :id ORDER BY input_index, public_key",
        {"id": attempt_id},
    )
    return [
        ColdSignature(
            input_index=row.input_index,
            public_key=bytes(row.public_key),
            signature=bytes(row.signature),
        )
        for row in result
    ]


async def to_look_at(uow: Uow, *, network: str, at: datetime, limit: int) -> Sequence[UUID]:
    """Refills of a network that a step may move on: approved or on their way; proposed and past
    their time; cancelled with coins still held; over while the chain says otherwise by now."""
    result = await uow.execute(
        f"""
        SELECT s.id FROM gateway.rebalances s LEFT JOIN chain.outgoing o ON o.id = s.attempt_id
        WHERE s.network = :network AND s.direction = 'cold_to_hot'
            AND (s.state IN ('approved', 'unsigned_ready', 'signed', 'sent')
                OR (s.state = 'proposed' AND s.valid_until <= :at)
                OR (s.state = 'cancelled' AND o.state = 'built')
                OR (s.state = 'cancelled' AND EXISTS (SELECT 1 FROM gateway.safe_plans p
                    WHERE p.rebalance_id = s.id AND p.dropped_at IS NULL)) OR {OTHERWISE})
        ORDER BY s.created_at, s.id LIMIT :limit
        """,
        {"network": network, "at": at, "limit": limit},
    )
    return result.scalars().all()


async def has_open(uow: Uow, *, network: str) -> bool:
    """Whether a refill of a network is built, and not over; a cancelled one holds its coins or its
    number until they are given back."""
    result = await uow.execute(
        "SELECT EXISTS (SELECT 1 FROM gateway.rebalances r "
        "LEFT JOIN chain.outgoing o ON o.id = r.attempt_id WHERE r.network = :network "
        "AND r.direction = 'cold_to_hot' AND (r.state IN ('unsigned_ready', 'signed', 'sent') "
        "OR (r.state = 'cancelled' AND (o.state = 'built' OR EXISTS (SELECT 1 "
        "FROM gateway.safe_plans p WHERE p.rebalance_id = r.id AND p.dropped_at IS NULL)))))",
        {"network": network},
    )
    return bool(result.scalar_one())


async def spent_coins(uow: Uow, attempt_id: UUID) -> Sequence[str]:
    """Txids in blocks that spend what an attempt is built from."""
    result = await uow.execute(
        "SELECT DISTINCT c.spent_by FROM chain.outgoing_inputs i JOIN chain.coins c "
        "ON c.txid = i.outpoint_txid AND c.vout = i.outpoint_vout AND c.network = i.network "
        "WHERE i.attempt_id = :id AND c.spent_by IS NOT NULL ORDER BY 1",
        {"id": attempt_id},
    )
    return result.scalars().all()
