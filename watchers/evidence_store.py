"""SQL of the evidence of deposits: headers as they hash, and the inclusion of txs."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping

from config.database import Uow


async def upsert(uow: Uow, rows: Sequence[Mapping[str, Any]]) -> None:
    """Evidence by tx; a tx that is in another block now is proven by that one."""
    await uow.execute(
        "INSERT INTO chain.evidence (network, txid, block_hash, height, until_height, tx_index, "
        "raw_tx, branch, companion, companion_branch, unproven, agreed_nodes, "
        "total_nodes, stored_at) VALUES (:network, :txid, :block_hash, :height, :until_height, "
        ":tx_index, :raw_tx, CAST(:branch AS bytea[]), :companion, "
        "CAST(:companion_branch AS bytea[]), :unproven, :agreed, :nodes, :at) "
        "ON CONFLICT (network, txid) DO UPDATE SET block_hash = excluded.block_hash, "
        "height = excluded.height, until_height = excluded.until_height, "
        "tx_index = excluded.tx_index, raw_tx = excluded.raw_tx, branch = excluded.branch, "
        "companion = excluded.companion, companion_branch = excluded.companion_branch, "
        "unproven = excluded.unproven, agreed_nodes = excluded.agreed_nodes, "
        "total_nodes = excluded.total_nodes, stored_at = excluded.stored_at",
        rows,
    )


async def insert_headers(
    uow: Uow, *, network: str, headers: Sequence[tuple[str, int, bytes]]
) -> None:
    """Headers (hash, height, bytes), those that the evidence of a tx in our chain reaches."""
    await uow.execute(
        "INSERT INTO chain.headers (network, hash, raw) "
        "SELECT CAST(:network AS text), h.hash, h.raw FROM unnest(CAST(:hashes AS text[]), "
        "CAST(:heights AS bigint[]), CAST(:raws AS bytea[])) AS h (hash, height, raw) "
        "WHERE EXISTS (SELECT FROM chain.evidence e JOIN chain.blocks b "
        "ON b.network = e.network AND b.hash = e.block_hash AND b.is_canonical "
        "WHERE e.network = :network AND e.until_height >= h.height AND e.height <= h.height) "
        "ON CONFLICT DO NOTHING",
        {
            "network": network,
            "hashes": [item[0] for item in headers],
            "heights": [item[1] for item in headers],
            "raws": [item[2] for item in headers],
        },
    )


async def of_tx(uow: Uow, *, network: str, txid: str) -> RowMapping | None:
    """The evidence of one tx."""
    result = await uow.execute(
        "SELECT block_hash, height, until_height, tx_index, raw_tx, branch, companion, "
        "companion_branch, unproven, agreed_nodes, total_nodes FROM chain.evidence "
        "WHERE network = :network AND txid = :txid",
        {"network": network, "txid": txid},
    )
    return result.mappings().one_or_none()


async def headers(uow: Uow, *, network: str, low: int, high: int) -> Sequence[RowMapping]:
    """Headers of the canonical chain, lowest first; `raw` is None where none was kept."""
    result = await uow.execute(
        "SELECT b.height, b.hash, h.raw FROM chain.blocks b LEFT JOIN chain.headers h "
        "ON h.network = b.network AND h.hash = b.hash WHERE b.network = :network "
        "AND b.is_canonical AND b.height BETWEEN :low AND :high ORDER BY b.height",
        {"network": network, "low": low, "high": high},
    )
    return result.mappings().all()


async def finalised_height(uow: Uow, *, network: str) -> int | None:
    """The chain's own finality as the nodes last told it."""
    result = await uow.execute(
        "SELECT finalised_height FROM chain.cursors WHERE network = :network",
        {"network": network},
    )
    found = result.scalar_one_or_none()
    return None if found is None else int(found)
