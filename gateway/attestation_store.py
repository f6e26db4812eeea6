"""SQL of gateway.attestations: what the signer says about handed-out addresses (FEATURES N20).

The API asks for a statement in the unit of work that hands the address out, and shows it; payouts
fetch it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.database import Uow

ALGORITHM = "ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """A signed statement. `signature` is base64; `key_id` names the key that integrators pin."""

    address_id: UUID
    statement: str
    signature: str
    key_id: str

    def snapshot(self) -> dict[str, str]:
        """As it stands in an event and on the wire."""
        return {
            "statement": self.statement,
            "signature": self.signature,
            "key_id": self.key_id,
            "algorithm": ALGORITHM,
        }


async def get(uow: Uow, address_id: UUID) -> Attestation | None:
    """The statement about an address, once there is one."""
    result = await uow.execute(
        "SELECT address_id, statement, signature, key_id FROM gateway.attestations "
        "WHERE address_id = :id AND state = 'attested'",
        {"id": address_id},
    )
    row = result.mappings().one_or_none()
    return None if row is None else Attestation(**row)


async def request(uow: Uow, *, address_id: UUID, network: str, brand: str, at: datetime) -> None:
    """Have a statement made, in the unit of work that hands the address out; once is enough."""
    await uow.execute(
        "INSERT INTO gateway.attestations (address_id, network, brand, next_attempt_at, "
        "created_at) VALUES (:id, :network, :brand, :at, :at) ON CONFLICT (address_id) DO NOTHING",
        {"id": address_id, "network": network, "brand": brand, "at": at},
    )


async def due(uow: Uow, *, network: str, at: datetime, limit: int) -> dict[UUID, int]:
    """Addresses that the signer has to be asked about now, the longest due first, each with the
    number of its refusals."""
    result = await uow.execute(
        """
        SELECT address_id, attempts FROM gateway.attestations
        WHERE network = :network AND state = 'pending' AND next_attempt_at <= :at
        ORDER BY next_attempt_at, address_id LIMIT :limit
        """,
        {"network": network, "at": at, "limit": limit},
    )
    return {row.address_id: row.attempts for row in result}


async def keep(uow: Uow, found: Sequence[Attestation], *, at: datetime) -> set[UUID]:
    """Store statements; returns the addresses that had none: what came twice is told once."""
    result = await uow.execute(
        """
        UPDATE gateway.attestations a SET state = 'attested', statement = f.statement,
            signature = f.signature, key_id = f.key_id, code = NULL, done_at = :at
        FROM unnest(CAST(:ids AS uuid[]), CAST(:statements AS text[]),
            CAST(:signatures AS text[]), CAST(:key_ids AS text[]))
            AS f (address_id, statement, signature, key_id)
        WHERE a.address_id = f.address_id AND a.state = 'pending'
        RETURNING a.address_id
        """,
        {
            "ids": [item.address_id for item in found],
            "statements": [item.statement for item in found],
            "signatures": [item.signature for item in found],
            "key_ids": [item.key_id for item in found],
            "at": at,
        },
    )
    return set(result.scalars())


async def refuse(uow: Uow, address_id: UUID, *, code: str, at: datetime) -> bool:
    """The signer will never say it; False when it was settled before."""
    result = await uow.execute(
        "UPDATE gateway.attestations SET state = 'refused', code = :code, done_at = :at "
        "WHERE address_id = :id AND state = 'pending'",
        {"id": address_id, "code": code, "at": at},
    )
    return bool(result.rowcount)


async def postpone(uow: Uow, address_id: UUID, *, code: str, until: datetime) -> None:
    """The signer refused it for now."""
    await uow.execute(
        "UPDATE gateway.attestations SET attempts = attempts + 1, code = :code, "
        "next_attempt_at = :until WHERE address_id = :id AND state = 'pending'",
        {"id": address_id, "code": code, "until": until},
    )


async def any_refused(uow: Uow, *, network: str) -> bool:
    """Whether the signer still refuses an address of this network."""
    result = await uow.execute(
        "SELECT EXISTS (SELECT 1 FROM gateway.attestations "
        "WHERE network = :network AND state = 'pending' AND attempts > 0)",
        {"network": network},
    )
    return bool(result.scalar_one())
