"""SQL of gateway.refund_requests: what people signed about a refund, as received."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from config.database import Uow
from gateway.payouts import signed_requests_store
from gateway.payouts.signed_requests_store import RequestTable, Signed
from gateway.withdrawals_store import WithdrawalRow, from_mapping
from signer.protocol import Authorisation

_REQUESTS = RequestTable(name="gateway.refund_requests", subject="withdrawal_id")


async def add_request(
    uow: Uow, refund_id: UUID, *, person: str, key_id: str, signed: Authorisation, at: datetime
) -> None:
    """Keep what a person signed."""
    await signed_requests_store.add(
        uow, _REQUESTS, refund_id, person=person, key_id=key_id, signed=signed, at=at
    )


async def requests(uow: Uow, refund_id: UUID) -> list[Signed]:
    """What people signed about a refund, oldest first."""
    return await signed_requests_store.every(uow, _REQUESTS, refund_id)


async def approvals(uow: Uow, ids: Sequence[UUID]) -> Mapping[UUID, tuple[Authorisation, ...]]:
    """The signed requests of some refunds that travel to the signer."""
    return {item: tuple(one.signed for one in await requests(uow, item)) for item in ids}


async def in_state(
    uow: Uow, *, network: str, state: str, limit: int, code: str | None = None
) -> list[WithdrawalRow]:
    """Refunds of a network in a state, with a code, the oldest first."""
    result = await uow.execute(
        """
        SELECT w.* FROM gateway.withdrawals w
        WHERE w.network = :network AND w.state = :state AND w.kind = 'refund'
            AND (CAST(:code AS text) IS NULL OR w.code = :code)
        ORDER BY w.accepted_at, w.id LIMIT :limit
        """,
        {"network": network, "state": state, "code": code, "limit": limit},
    )
    return [from_mapping(row) for row in result.mappings()]
