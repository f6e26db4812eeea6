"""SQL that reads every attempt of a withdrawal; the caller has checked whose withdrawal it is."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow


async def of_withdrawal(uow: Uow, withdrawal_id: UUID, *, limit: int) -> Sequence[RowMapping]:
    """Attempts of every family that it was ever a member of, and the children that pay for them,
    oldest first. `uow` sees all brands: own transactions belong to none."""
    result = await uow.execute(
        """
        WITH families AS (
            SELECT DISTINCT o.family_id
            FROM gateway.attempt_members m JOIN chain.outgoing o ON o.id = m.attempt_id
            WHERE m.withdrawal_id = :id
        ), attempts AS (
            SELECT o.id FROM chain.outgoing o WHERE o.family_id IN (SELECT family_id FROM families)
        ), found AS (
            SELECT id FROM attempts
            UNION
            SELECT o.id FROM chain.outgoing o WHERE o.pays_for_id IN (SELECT id FROM attempts)
        )
        SELECT o.id, o.purpose, o.state, o.txid, o.unsigned, o.raw, o.nonce, o.fee_cap_minor,
            o.fee_minor, o.block_hash, o.height, o.created_at, o.signed_at, o.broadcast_at,
            o.final_at, o.state_at, r.txid AS replaces_txid, o.replaces_id, m.output_index,
            (SELECT count(*) FROM chain.outgoing_inputs i WHERE i.attempt_id = o.id) AS inputs,
            (SELECT count(*) FROM gateway.attempt_members n WHERE n.attempt_id = o.id) AS members
        FROM found JOIN chain.outgoing o ON o.id = found.id
        LEFT JOIN chain.outgoing r ON r.id = o.replaces_id
        LEFT JOIN gateway.attempt_members m ON m.attempt_id = o.id AND m.withdrawal_id = :id
        ORDER BY o.created_at, o.family_number, o.id LIMIT :limit
        """,
        {"id": withdrawal_id, "limit": limit},
    )
    return result.mappings().all()
