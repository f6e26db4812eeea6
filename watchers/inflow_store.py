"""SQL of inflows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

_COLUMNS = (
    "id, network, txid, position, coinbase_hash, cycle, kind, role, brand, asset, amount, address, "
    "state, block_hash, height, book_at_height, custody_block_hash, posting_reference, "
    "assigned_to, assigned_brand, version, first_seen_at, state_at"
)

# Mined again, a tx of an account chain may pay another sum to somebody else. A standing posting
# keeps its own.
_EFFECT = ", ".join(
    f"{name} = CASE WHEN i.posting_reference IS NULL THEN excluded.{name} ELSE i.{name} END"
    for name in ("asset", "amount", "role", "brand", "address_id", "address")
)


async def upsert_mined(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inflows of a block: new ones, or known ones that are in a block again.

    One that is booked already and orphaned returns to where it was: its posting stands.
    """
    await uow.execute(
        "INSERT INTO chain.inflows AS i (id, network, txid, position, coinbase_hash, kind, role, "
        "brand, asset, amount, address_id, address, state, block_hash, height, book_at_height, "
        "first_seen_at, state_at) VALUES (:id, :network, :txid, :position, :coinbase_hash, :kind, "
        ":role, :brand, :asset, :amount, :address_id, :address, 'seen', :block_hash, :height, "
        ":book_at_height, :at, :at) ON CONFLICT (network, txid, position, coinbase_hash) "
        f"DO UPDATE SET {_EFFECT}, block_hash = excluded.block_hash, height = excluded.height, "
        "book_at_height = excluded.book_at_height, state_at = excluded.state_at, "
        "version = i.version + 1, state = CASE WHEN i.state <> 'orphaned' THEN i.state "
        "WHEN i.posting_reference IS NULL THEN 'seen' "
        "WHEN i.assigned_to IS NULL THEN 'booked' ELSE 'assigned' END",
        [dict(row) for row in rows],
    )


async def due(
    uow: Uow, *, network: str, height: int, final_below: int, limit: int
) -> Sequence[RowMapping]:
    """Inflows at their full tier that are not booked; the longest due first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.inflows WHERE network = :network AND state = 'seen' "
        "AND book_at_height <= :height AND height <= :final_below "
        "ORDER BY book_at_height, id LIMIT :limit FOR UPDATE",
        {"network": network, "height": height, "final_below": final_below, "limit": limit},
    )
    return result.mappings().all()


async def book_many(
    uow: Uow, *, references: Mapping[UUID, str], at: datetime
) -> Mapping[UUID, RowMapping]:
    """The postings stand, by inflow; the effect of each is its inflow's block."""
    result = await uow.execute(
        "UPDATE chain.inflows SET state = 'booked', posting_reference = w.reference, "
        "custody_block_hash = block_hash, version = version + 1, state_at = :at "
        "FROM unnest(CAST(:ids AS uuid[]), CAST(:references AS text[])) "
        "AS w (inflow_id, reference) "
        f"WHERE id = w.inflow_id AND state = 'seen' RETURNING {_COLUMNS}",
        {"ids": list(references), "references": list(references.values()), "at": at},
    )
    return {row["id"]: row for row in result.mappings()}


async def in_block(uow: Uow, *, network: str, block_hash: str) -> Sequence[RowMapping]:
    """Inflows of a block."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.inflows WHERE network = :network "
        "AND block_hash = :hash ORDER BY id FOR UPDATE",
        {"network": network, "hash": block_hash},
    )
    return result.mappings().all()


async def of_tx(uow: Uow, *, network: str, txid: str) -> Sequence[RowMapping]:
    """Inflows of a tx that stand."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.inflows WHERE network = :network AND txid = :txid "
        "AND state <> 'orphaned' ORDER BY id FOR UPDATE",
        {"network": network, "txid": txid},
    )
    return result.mappings().all()


async def orphan_many(
    uow: Uow, *, inflow_ids: Sequence[UUID], unbooked: Collection[UUID], at: datetime
) -> Mapping[UUID, RowMapping]:
    """Their block is gone. `unbooked`: whose posting was reversed, and a new cycle starts."""
    result = await uow.execute(
        "UPDATE chain.inflows SET state = 'orphaned', "
        "posting_reference = CASE WHEN w.is_unbooked THEN NULL ELSE posting_reference END, "
        "custody_block_hash = CASE WHEN w.is_unbooked THEN NULL ELSE custody_block_hash END, "
        "cycle = cycle + CASE WHEN w.is_unbooked THEN 1 ELSE 0 END, block_hash = NULL, "
        "height = NULL, book_at_height = NULL, version = version + 1, state_at = :at "
        "FROM unnest(CAST(:ids AS uuid[]), CAST(:flags AS boolean[])) "
        "AS w (inflow_id, is_unbooked) "
        f"WHERE id = w.inflow_id RETURNING {_COLUMNS}",
        {
            "ids": list(inflow_ids),
            "flags": [inflow_id in unbooked for inflow_id in inflow_ids],
            "at": at,
        },
    )
    return {row["id"]: row for row in result.mappings()}


async def assign(
    uow: Uow, *, inflow_id: UUID, target: str, brand: str | None, at: datetime
) -> RowMapping | None:
    """Booked to assigned, once; None when it is not booked."""
    result = await uow.execute(
        "UPDATE chain.inflows SET state = 'assigned', assigned_to = :target, "
        "assigned_brand = :brand, version = version + 1, state_at = :at "
        f"WHERE id = :id AND state = 'booked' RETURNING {_COLUMNS}",
        {"id": inflow_id, "target": target, "brand": brand, "at": at},
    )
    return result.mappings().one_or_none()


async def get(uow: Uow, inflow_id: UUID) -> RowMapping | None:
    """One inflow."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.inflows WHERE id = :id", {"id": inflow_id}
    )
    return result.mappings().one_or_none()


async def find(
    uow: Uow, *, network: str | None, state: str | None, before: UUID | None, limit: int
) -> Sequence[RowMapping]:
    """Inflows, newest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.inflows "
        "WHERE (CAST(:network AS text) IS NULL OR network = :network) "
        "AND (CAST(:state AS text) IS NULL OR state = :state) "
        "AND (CAST(:before AS uuid) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit",
        {"network": network, "state": state, "before": before, "limit": limit},
    )
    return result.mappings().all()


async def unposted(uow: Uow, *, network: str, height: int) -> Sequence[RowMapping]:
    """Mined up to a height, but the ledger holds no effect of that block."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.inflows WHERE network = :network AND height <= :height "
        "AND custody_block_hash IS DISTINCT FROM block_hash ORDER BY id",
        {"network": network, "height": height},
    )
    return result.mappings().all()
