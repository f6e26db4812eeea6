"""SQL of gateway.rebalances and of what people signed about each, as received."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from gateway.payouts import signed_requests_store
from gateway.payouts.ends_store import OTHERWISE
from gateway.payouts.signed_requests_store import RequestTable, Signed
from signer.protocol import Authorisation
from watchers.outgoing import PlannedPayment


@dataclass(frozen=True, slots=True, kw_only=True)
class RebalanceRow:
    """One move between two wallets, whole. `amount_minor` in minor units of `asset`;
    `requested_by` None: the system. `address` is where it goes, an own one."""

    id: UUID
    network: str
    asset: str
    direction: str
    amount_minor: int
    address: str
    address_key: str
    reason: str
    forecast: str | None
    state: str
    code: str | None
    people_needed: int
    version: int
    attempt_id: UUID | None
    sign_requested_at: datetime | None
    txid: str | None
    requested_by: str | None
    valid_until: datetime
    created_at: datetime
    state_at: datetime


_REQUESTS = RequestTable(name="gateway.rebalance_requests", subject="rebalance_id")
_COLUMNS = ", ".join(
    name if name != "amount_minor" else "amount" for name in RebalanceRow.__slots__
)
OVER = "('done', 'failed', 'declined', 'cancelled')"


async def insert(uow: Uow, row: RebalanceRow) -> bool:
    """Store a proposal; False when the system has one open for the asset and direction."""
    values = {name: getattr(row, name) for name in RebalanceRow.__slots__}
    names = ", ".join(f":{name}" for name in RebalanceRow.__slots__)
    result = await uow.execute(
        f"INSERT INTO gateway.rebalances ({_COLUMNS}) VALUES ({names}) "
        f"ON CONFLICT (asset, direction) WHERE requested_by IS NULL AND state NOT IN {OVER} "
        "DO NOTHING",
        values,
    )
    return result.rowcount == 1


async def get(uow: Uow, rebalance_id: UUID, *, lock: bool = False) -> RebalanceRow | None:
    """One of them."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.rebalances WHERE id = :id"
        + (" FOR UPDATE" if lock else ""),
        {"id": rebalance_id},
    )
    row = result.mappings().one_or_none()
    return None if row is None else from_row(row)


async def find(
    uow: Uow,
    *,
    limit: int,
    before: UUID | None = None,
    asset: str | None = None,
    state: str | None = None,
    direction: str | None = None,
) -> list[RebalanceRow]:
    """Newest first; `before` is the id that ended the last page."""
    wanted = {"asset": asset, "state": state, "direction": direction}
    where = [f"{name} = :{name}" for name, value in wanted.items() if value is not None]
    where += ["id < :before"] if before is not None else []
    values: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    values |= {"before": before} if before is not None else {}
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.rebalances "
        + (f"WHERE {' AND '.join(where)} " if where else "")
        + "ORDER BY id DESC LIMIT :limit",
        {**values, "limit": limit},
    )
    return [from_row(row) for row in result.mappings()]


async def open_of(
    uow: Uow,
    *,
    network: str | None = None,
    asset: str | None = None,
    direction: str | None = None,
    states: Sequence[str] | None = None,
    limit: int = 500,
) -> list[RebalanceRow]:
    """Those that are not over (of them those in `states`), oldest first."""
    wanted = {"network": network, "asset": asset, "direction": direction}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = "".join(f"AND {name} = :{name} " for name in given)
    values: dict[str, Any] = {**given, "limit": limit}
    if states is not None:
        where += "AND state = ANY(CAST(:states AS text[])) "
        values["states"] = list(states)
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.rebalances WHERE state NOT IN {OVER} {where}"
        "ORDER BY created_at, id LIMIT :limit",
        values,
    )
    return [from_row(row) for row in result.mappings()]


async def newest_of_the_system(uow: Uow, *, asset: str, direction: str) -> RebalanceRow | None:
    """What the system asked for last."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.rebalances WHERE asset = :asset "
        "AND direction = :direction AND requested_by IS NULL ORDER BY created_at DESC, id DESC "
        "LIMIT 1",
        {"asset": asset, "direction": direction},
    )
    row = result.mappings().one_or_none()
    return None if row is None else from_row(row)


async def disagreeing(uow: Uow, *, network: str, direction: str, limit: int) -> Sequence[UUID]:
    """Those that are on their way, or over while the chain says otherwise by now."""
    result = await uow.execute(
        f"""
        SELECT s.id FROM gateway.rebalances s
        WHERE s.network = :network AND s.direction = :direction
            AND (s.state IN ('planned', 'signed', 'sent') OR {OTHERWISE})
        ORDER BY s.created_at, s.id LIMIT :limit
        """,
        {"network": network, "direction": direction, "limit": limit},
    )
    return result.scalars().all()


async def of_family(uow: Uow, family_id: UUID) -> RebalanceRow | None:
    """The move of a family of own txs, locked."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.rebalances WHERE attempt_id IN "
        "(SELECT id FROM chain.outgoing WHERE family_id = :id) FOR UPDATE",
        {"id": family_id},
    )
    row = result.mappings().one_or_none()
    return None if row is None else from_row(row)


async def unsigned_of(
    uow: Uow,
    payment: PlannedPayment,
    *,
    network: str,
    direction: str,
    rebalance_id: UUID | None,
) -> RebalanceRow | None:
    """The move that asks for this payment and was never signed, locked: the one of this
    id, or where None is known the oldest, agreed ones first. One whose attempt the signer may have
    signed is none."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.rebalances r WHERE network = :network "
        "AND direction = :direction AND state IN ('proposed', 'approved', 'planned') "
        "AND asset = :asset AND address_key = :key AND amount = :amount "
        "AND (CAST(:id AS uuid) IS NULL OR id = :id) AND NOT EXISTS (SELECT 1 "
        "FROM chain.outgoing o WHERE o.id = r.attempt_id AND o.state <> 'refused') "
        "ORDER BY state = 'proposed', created_at, id LIMIT 1 FOR UPDATE",
        {
            "network": network,
            "direction": direction,
            "asset": payment.asset,
            "key": payment.key,
            "amount": payment.amount_minor,
            "id": rebalance_id,
        },
    )
    row = result.mappings().one_or_none()
    return None if row is None else from_row(row)


async def leaving(uow: Uow, *, network: str) -> dict[str, int]:
    """By asset: what is on its way from hot to cold or warm and not settled, in minor units."""
    result = await uow.execute(
        "SELECT asset, sum(amount) AS amount FROM gateway.rebalances WHERE network = :network "
        "AND direction IN ('hot_to_cold', 'hot_to_warm') "
        "AND state IN ('planned', 'signed', 'sent') GROUP BY asset",
        {"network": network},
    )
    return {row.asset: int(row.amount) for row in result}


async def sent_from_hot(uow: Uow, *, network: str) -> Sequence[UUID]:
    """The newest attempts of moves out of hot that nodes should hold, oldest first."""
    result = await uow.execute(
        "SELECT attempt_id FROM gateway.rebalances WHERE network = :network "
        "AND direction IN ('hot_to_cold', 'hot_to_warm') AND state = 'sent' "
        "ORDER BY created_at, id",
        {"network": network},
    )
    return result.scalars().all()


async def ask(uow: Uow, rebalance_id: UUID, *, at: datetime) -> None:
    """From now on the signer may have signed it."""
    await uow.execute(
        "UPDATE gateway.rebalances SET sign_requested_at = :at "
        "WHERE id = :id AND state IN ('planned', 'signed') AND sign_requested_at IS NULL",
        {"id": rebalance_id, "at": at},
    )


async def add_request(
    uow: Uow, rebalance_id: UUID, *, person: str, key_id: str, signed: Authorisation, at: datetime
) -> None:
    """Keep what a person signed."""
    await signed_requests_store.add(
        uow, _REQUESTS, rebalance_id, person=person, key_id=key_id, signed=signed, at=at
    )


async def requests(uow: Uow, rebalance_id: UUID) -> list[Signed]:
    """What people signed about it, oldest first."""
    return await signed_requests_store.every(uow, _REQUESTS, rebalance_id)


def from_row(row: RowMapping) -> RebalanceRow:
    """The value of a whole row."""
    names = [name for name in RebalanceRow.__slots__ if name != "amount_minor"]
    return RebalanceRow(**{name: row[name] for name in names}, amount_minor=int(row["amount"]))
