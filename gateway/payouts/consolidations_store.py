"""SQL of gateway.consolidations."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolidationRow:
    """A merge or split of own coins, asked for or made. Amounts in minor units of `asset`, the
    rate in satoshi per 1,000 vB. `requested_by` None: the system. `tx_state`, `txid`: of its tx."""

    id: UUID
    network: str
    asset: str
    purpose: str
    is_dry: bool
    state: str
    code: str | None
    version: int
    requested_by: str | None
    fee_max_minor: int | None
    coins: int | None
    parts: int | None
    amount_minor: int | None
    fee_minor: int | None
    rate_per_kvb: int | None
    saves_vb: int | None
    attempt_id: UUID | None
    created_at: datetime
    state_at: datetime
    tx_state: str | None = None
    txid: str | None = None


_OF_TX = ("tx_state", "txid")
_AMOUNTS = {"fee_max_minor": "fee_max", "amount_minor": "amount", "fee_minor": "fee"}
_NAMES = [name for name in ConsolidationRow.__slots__ if name not in _OF_TX]
_COLUMNS = [_AMOUNTS.get(name, name) for name in _NAMES]
_SELECT = (
    f"SELECT {', '.join(f'c.{column}' for column in _COLUMNS)}, o.state AS tx_state, o.txid "
    "FROM gateway.consolidations c LEFT JOIN chain.outgoing o ON o.id = c.attempt_id "
)


async def insert(uow: Uow, row: ConsolidationRow) -> bool:
    """Store one; False when the network has one that is asked for."""
    names = ", ".join(f":{name}" for name in _NAMES)
    result = await uow.execute(
        f"INSERT INTO gateway.consolidations ({', '.join(_COLUMNS)}) VALUES ({names}) "
        "ON CONFLICT (network) WHERE state = 'asked' DO NOTHING",
        {name: getattr(row, name) for name in _NAMES},
    )
    return result.rowcount == 1


async def get(uow: Uow, consolidation_id: UUID) -> ConsolidationRow | None:
    """One of them, with its tx as it stands."""
    result = await uow.execute(_SELECT + "WHERE c.id = :id", {"id": consolidation_id})
    return _one(result.mappings().one_or_none())


async def asked(uow: Uow, *, network: str, lock: bool = False) -> ConsolidationRow | None:
    """What somebody asks for on a network."""
    result = await uow.execute(
        _SELECT
        + "WHERE c.network = :network AND c.state = 'asked'"
        + (" FOR UPDATE OF c" if lock else ""),
        {"network": network},
    )
    return _one(result.mappings().one_or_none())


async def find(
    uow: Uow, *, network: str | None, state: str | None, before: UUID | None, limit: int
) -> list[ConsolidationRow]:
    """Newest first; `before` is the id that ended the last page."""
    wanted = {"network": network, "state": state}
    values: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    where = [f"c.{name} = :{name}" for name in values]
    if before is not None:
        values["before"] = before
        where.append("c.id < :before")
    result = await uow.execute(
        _SELECT
        + (f"WHERE {' AND '.join(where)} " if where else "")
        + "ORDER BY c.id DESC LIMIT :limit",
        {**values, "limit": limit},
    )
    return [_row(row) for row in result.mappings()]


def _one(row: RowMapping | None) -> ConsolidationRow | None:
    return None if row is None else _row(row)


def _row(row: RowMapping) -> ConsolidationRow:
    values: dict[str, Any] = {
        name: row[name] for name in ConsolidationRow.__slots__ if name not in _AMOUNTS
    }
    for name, column in _AMOUNTS.items():
        values[name] = None if row[column] is None else int(row[column])
    return ConsolidationRow(**values)
