"""SQL of gateway.signer_refusals."""

from datetime import datetime
from uuid import UUID

from config.database import Uow


async def insert(uow: Uow, *, attempt_id: UUID, network: str, code: str, at: datetime) -> None:
    """Remember a refusal; the same again in the same moment is one."""
    await uow.execute(
        "INSERT INTO gateway.signer_refusals (attempt_id, network, code, at) "
        "VALUES (:attempt_id, :network, :code, :at) ON CONFLICT DO NOTHING",
        {"attempt_id": attempt_id, "network": network, "code": code, "at": at},
    )


async def count_since(uow: Uow, *, network: str, since: datetime) -> int:
    """How many a network had after a moment."""
    result = await uow.execute(
        "SELECT count(*) FROM gateway.signer_refusals WHERE network = :network AND at > :since",
        {"network": network, "since": since},
    )
    return int(result.scalar_one())
