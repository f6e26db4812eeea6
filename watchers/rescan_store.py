"""SQL of rescans: what people asked for, how far it is, and what of a block is recorded."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers import store
from watchers.chain import BlockRef

_COLUMNS = (
    "id, network, from_height, to_height, next_height, state, found, withheld, waits_for, "
    "failure, asked_by, reason, cancelled_by, cancel_reason, created_at, finished_at"
)


async def insert(
    uow: Uow,
    *,
    rescan_id: UUID,
    network: str,
    from_height: int,
    to_height: int,
    asked_by: str,
    reason: str,
    at: datetime,
) -> None:
    """Ask for a range."""
    await uow.execute(
        "INSERT INTO chain.rescans (id, network, from_height, to_height, next_height, asked_by, "
        "reason, created_at) VALUES (:id, :network, :low, :high, :low, :asked_by, :reason, :at)",
        {
            "id": rescan_id,
            "network": network,
            "low": from_height,
            "high": to_height,
            "asked_by": asked_by,
            "reason": reason,
            "at": at,
        },
    )


async def get(uow: Uow, rescan_id: UUID) -> RowMapping | None:
    """One rescan."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.rescans WHERE id = :id", {"id": rescan_id}
    )
    return result.mappings().one_or_none()


async def find(uow: Uow, *, network: str, before: UUID | None, limit: int) -> Sequence[RowMapping]:
    """Rescans of a network, newest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.rescans WHERE network = :network "
        "AND (CAST(:before AS uuid) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit",
        {"network": network, "before": before, "limit": limit},
    )
    return result.mappings().all()


async def running(uow: Uow, *, network: str) -> Sequence[RowMapping]:
    """Rescans that have not ended, oldest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.rescans WHERE network = :network AND state = 'running' "
        "ORDER BY id",
        {"network": network},
    )
    return result.mappings().all()


async def advance(
    uow: Uow,
    *,
    rescan_id: UUID,
    current: int,
    following: int,
    to_height: int,
    found: int,
    withheld: int,
    at: datetime,
) -> bool:
    """Compare-and-set of its place; False when it is not at `current` any more."""
    result = await uow.execute(
        "UPDATE chain.rescans SET next_height = :following, to_height = :to_height, "
        "found = found + :found, withheld = withheld + :withheld, waits_for = NULL, "
        "state = :state, finished_at = :finished_at "
        "WHERE id = :id AND state = 'running' AND next_height = :current",
        {
            "id": rescan_id,
            "current": current,
            "following": following,
            "to_height": to_height,
            "state": "done" if following > to_height else "running",
            "finished_at": at if following > to_height else None,
            "found": found,
            "withheld": withheld,
        },
    )
    return result.rowcount == 1


async def note_waiting(uow: Uow, *, rescan_id: UUID, waits_for: str | None) -> bool:
    """Why it stands still; False when that is not news."""
    result = await uow.execute(
        "UPDATE chain.rescans SET waits_for = :text WHERE id = :id AND state = 'running' "
        "AND waits_for IS DISTINCT FROM CAST(:text AS text)",
        {"id": rescan_id, "text": waits_for},
    )
    return result.rowcount == 1


async def fail(uow: Uow, *, rescan_id: UUID, current: int, failure: str, at: datetime) -> bool:
    """It ends at a block that contradicts what is recorded."""
    result = await uow.execute(
        "UPDATE chain.rescans SET state = 'failed', failure = :failure, waits_for = NULL, "
        "finished_at = :at WHERE id = :id AND state = 'running' AND next_height = :current",
        {"id": rescan_id, "current": current, "failure": failure, "at": at},
    )
    return result.rowcount == 1


async def cancel(
    uow: Uow, *, rescan_id: UUID, network: str, cancelled_by: str, reason: str, at: datetime
) -> RowMapping | None:
    """It ends where it is; None when it is not running on this network."""
    result = await uow.execute(
        "UPDATE chain.rescans SET state = 'cancelled', cancelled_by = :by, "
        "cancel_reason = :reason, waits_for = NULL, finished_at = :at "
        f"WHERE id = :id AND network = :network AND state = 'running' RETURNING {_COLUMNS}",
        {"id": rescan_id, "network": network, "by": cancelled_by, "reason": reason, "at": at},
    )
    return result.mappings().one_or_none()


async def connect_headers(uow: Uow, *, network: str, refs: Sequence[BlockRef]) -> None:
    """Headers below the lowest that is kept; nobody has looked at their blocks yet."""
    await store.connect_blocks(uow, network=network, refs=refs)
    await uow.execute(
        "UPDATE chain.blocks SET is_header_only = true WHERE network = :network "
        "AND hash = ANY(CAST(:hashes AS text[]))",
        {"network": network, "hashes": [ref.hash for ref in refs]},
    )


async def looked_at(uow: Uow, *, network: str, hashes: Sequence[str]) -> None:
    """The blocks of these headers were looked at."""
    await uow.execute(
        "UPDATE chain.blocks SET is_header_only = false WHERE network = :network "
        "AND hash = ANY(CAST(:hashes AS text[])) AND is_header_only",
        {"network": network, "hashes": list(hashes)},
    )


async def recorded(uow: Uow, *, network: str, hashes: Sequence[str]) -> dict[str, int]:
    """How many deposits, inflows and own txs are recorded in each of these blocks."""
    result = await uow.execute(
        "SELECT block_hash, count(*) AS items FROM ("
        "SELECT block_hash FROM chain.deposits WHERE network = :network "
        "AND block_hash = ANY(CAST(:hashes AS text[])) UNION ALL "
        "SELECT block_hash FROM chain.inflows WHERE network = :network "
        "AND block_hash = ANY(CAST(:hashes AS text[])) UNION ALL "
        "SELECT block_hash FROM chain.outgoing WHERE network = :network "
        "AND block_hash = ANY(CAST(:hashes AS text[]))) r GROUP BY block_hash",
        {"network": network, "hashes": list(hashes)},
    )
    return {row.block_hash: row.items for row in result}


async def deposits_of(uow: Uow, *, network: str, txids: Sequence[str]) -> Sequence[RowMapping]:
    """Deposits of txs, and where each stands."""
    result = await uow.execute(
        "SELECT d.id, d.txid, d.position, k.coinbase_hash, d.state, d.block_hash, "
        "d.conflict_hash FROM chain.deposits d JOIN chain.deposit_keys k "
        "ON k.deposit_id = d.id WHERE d.network = :network "
        "AND d.txid = ANY(CAST(:txids AS text[]))",
        {"network": network, "txids": list(txids)},
    )
    return result.mappings().all()


async def inflows_of(uow: Uow, *, network: str, hashes: Sequence[str]) -> Sequence[RowMapping]:
    """Inflows that these blocks made."""
    result = await uow.execute(
        "SELECT txid, position, block_hash FROM chain.inflows WHERE network = :network "
        "AND block_hash = ANY(CAST(:hashes AS text[]))",
        {"network": network, "hashes": list(hashes)},
    )
    return result.mappings().all()


async def outgoing_of(uow: Uow, *, network: str, txids: Sequence[str]) -> Sequence[RowMapping]:
    """Own txs that are in a block, by txid."""
    result = await uow.execute(
        "SELECT txid, block_hash FROM chain.outgoing WHERE network = :network "
        "AND txid = ANY(CAST(:txids AS text[])) AND block_hash IS NOT NULL",
        {"network": network, "txids": list(txids)},
    )
    return result.mappings().all()


async def searches_of(uow: Uow, *, network: str, hashes: Sequence[str]) -> Sequence[RowMapping]:
    """Contradictions that were found in these blocks."""
    result = await uow.execute(
        "SELECT block_hash, kind, asset, subject FROM chain.searches WHERE network = :network "
        "AND block_hash = ANY(CAST(:hashes AS text[]))",
        {"network": network, "hashes": list(hashes)},
    )
    return result.mappings().all()


async def differences(uow: Uow, *, network: str, from_height: int) -> dict[str, int]:
    """Of each custody account the largest value that nobody could explain from a height on (D47);
    what moved below it may be that value."""
    result = await uow.execute(
        "SELECT position, max(amount) AS amount FROM chain.inflows WHERE network = :network "
        "AND position LIKE 'balance:custody:%' AND height >= :height AND state <> 'orphaned' "
        "GROUP BY position",
        {"network": network, "height": from_height},
    )
    return {row.position.removeprefix("balance:"): int(row.amount) for row in result}


async def lowest(uow: Uow, *, network: str) -> RowMapping | None:
    """The lowest header of our chain."""
    result = await uow.execute(
        "SELECT height, hash, parent_hash FROM chain.blocks WHERE network = :network "
        "AND is_canonical ORDER BY height LIMIT 1",
        {"network": network},
    )
    return result.mappings().one_or_none()
