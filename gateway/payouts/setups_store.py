"""SQL of gateway.contract_setups and of what people signed about each, as received."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from gateway.payouts import signed_requests_store
from gateway.payouts.ends_store import OTHERWISE
from gateway.payouts.signed_requests_store import RequestTable, Signed
from signer.protocol import Authorisation


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupRow:
    """One set-up of the batch contract, whole. `amount_minor` in minor units of `asset`; both are
    None for a deployment. `contract`: where a deployment that is done was found."""

    id: UUID
    network: str
    reference: str
    action: str
    asset: str | None
    amount_minor: int | None
    state: str
    code: str | None
    version: int
    attempt_id: UUID | None
    sign_requested_at: datetime | None
    txid: str | None
    contract: str | None
    proposed_by: str
    agreed_by: str | None
    created_at: datetime
    state_at: datetime


_REQUESTS = RequestTable(name="gateway.contract_setup_requests", subject="setup_id")
_COLUMNS = ", ".join(name if name != "amount_minor" else "amount" for name in SetupRow.__slots__)
_OVER = "('done', 'failed', 'declined')"


async def insert(uow: Uow, row: SetupRow) -> bool:
    """Store a proposal; False when its reference, or another open one of the network, stands."""
    values = {name: getattr(row, name) for name in SetupRow.__slots__}
    names = ", ".join(f":{name}" for name in SetupRow.__slots__)
    result = await uow.execute(
        f"INSERT INTO gateway.contract_setups ({_COLUMNS}) VALUES ({names}) ON CONFLICT DO NOTHING",
        values,
    )
    return result.rowcount == 1


async def add_request(
    uow: Uow, setup_id: UUID, *, person: str, key_id: str, signed: Authorisation, at: datetime
) -> None:
    """Keep what a person signed."""
    await signed_requests_store.add(
        uow, _REQUESTS, setup_id, person=person, key_id=key_id, signed=signed, at=at
    )


async def requests(uow: Uow, setup_id: UUID) -> list[Signed]:
    """What people signed about a set-up, oldest first."""
    return await signed_requests_store.every(uow, _REQUESTS, setup_id)


async def get(uow: Uow, setup_id: UUID, *, lock: bool = False) -> SetupRow | None:
    """One set-up."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.contract_setups WHERE id = :id"
        + (" FOR UPDATE" if lock else ""),
        {"id": setup_id},
    )
    return _one(result.mappings().one_or_none())


async def by_reference(uow: Uow, *, network: str, reference: str) -> SetupRow | None:
    """The set-up that people called so, locked."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.contract_setups "
        "WHERE network = :network AND reference = :reference FOR UPDATE",
        {"network": network, "reference": reference},
    )
    return _one(result.mappings().one_or_none())


async def newest(uow: Uow, *, limit: int, network: str | None = None) -> list[SetupRow]:
    """Set-ups of one network or of all, the newest first."""
    where = "" if network is None else "WHERE network = :network "
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.contract_setups {where}"
        "ORDER BY created_at DESC, id DESC LIMIT :limit",
        {"limit": limit, **({} if network is None else {"network": network})},
    )
    return [from_row(row) for row in result.mappings()]


async def open_of(uow: Uow, *, network: str) -> SetupRow | None:
    """The one set-up of a network that is not over."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.contract_setups "
        f"WHERE network = :network AND state NOT IN {_OVER}",
        {"network": network},
    )
    return _one(result.mappings().one_or_none())


async def deployed(uow: Uow, *, network: str) -> str | None:
    """The contract that was deployed last."""
    result = await uow.execute(
        "SELECT contract FROM gateway.contract_setups WHERE network = :network "
        "AND state = 'done' AND action = 'deploy' ORDER BY state_at DESC LIMIT 1",
        {"network": network},
    )
    found: str | None = result.scalar_one_or_none()
    return found


async def disagreeing(uow: Uow, *, network: str, limit: int) -> Sequence[UUID]:
    """Set-ups of a network that are on their way, or over while the chain says otherwise by
    now."""
    result = await uow.execute(
        f"""
        SELECT s.id FROM gateway.contract_setups s
        WHERE s.network = :network AND (s.state IN ('planned', 'signed', 'sent') OR {OTHERWISE})
        ORDER BY s.created_at, s.id LIMIT :limit
        """,
        {"network": network, "limit": limit},
    )
    return result.scalars().all()


async def ask(uow: Uow, setup_id: UUID, *, at: datetime) -> None:
    """From now on the signer may have signed it."""
    await uow.execute(
        "UPDATE gateway.contract_setups SET sign_requested_at = :at "
        "WHERE id = :id AND state = 'planned' AND sign_requested_at IS NULL",
        {"id": setup_id, "at": at},
    )


def from_row(row: RowMapping) -> SetupRow:
    """The value of a whole row."""
    amount = row["amount"]
    names = [name for name in SetupRow.__slots__ if name != "amount_minor"]
    return SetupRow(
        **{name: row[name] for name in names},
        amount_minor=None if amount is None else int(amount),
    )


def _one(row: RowMapping | None) -> SetupRow | None:
    return None if row is None else from_row(row)
