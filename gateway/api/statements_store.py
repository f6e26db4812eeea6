"""SQL that finds the deposits and withdrawals behind postings.

Row-level security narrows it to the brand.
"""

from collections.abc import Sequence
from uuid import UUID

from config.database import Uow
from gateway.api.references import DepositKey


async def deposits(uow: Uow, keys: Sequence[DepositKey]) -> dict[DepositKey, UUID]:
    """The ids of deposits by what their postings name."""
    if not keys:
        return {}
    result = await uow.execute(
        """
        SELECT DISTINCT ON (w.network, w.txid, w.position, w.hash)
            w.network, w.txid, w.position, w.hash, d.id
        FROM unnest(CAST(:networks AS text[]), CAST(:txids AS text[]),
            CAST(:positions AS text[]), CAST(:hashes AS text[]))
            AS w (network, txid, position, hash)
        JOIN chain.deposits d ON d.txid = w.txid AND d.network = w.network
            AND d.position = w.position
            AND (w.hash = '' OR w.hash IN (d.custody_block_hash, d.block_hash))
        ORDER BY w.network, w.txid, w.position, w.hash, d.id
        """,
        {
            "networks": [key.network for key in keys],
            "txids": [key.txid for key in keys],
            "positions": [key.position for key in keys],
            "hashes": [key.coinbase_hash for key in keys],
        },
    )
    return {
        DepositKey(
            network=row["network"],
            txid=row["txid"],
            position=row["position"],
            coinbase_hash=row["hash"],
        ): row["id"]
        for row in result.mappings()
    }


async def fees_charged(uow: Uow, ids: Sequence[UUID]) -> dict[UUID, int]:
    """What players pay of these withdrawals, in minor units; those where the brand pays are not
    in it."""
    if not ids:
        return {}
    result = await uow.execute(
        "SELECT id, fee_charged FROM gateway.withdrawals"
        " WHERE id = ANY(:ids) AND fee_charged IS NOT NULL",
        {"ids": list(ids)},
    )
    return {row["id"]: int(row["fee_charged"]) for row in result.mappings()}
