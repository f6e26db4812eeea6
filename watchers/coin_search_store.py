"""SQL of the search for coins that the follower missed: its position, what it found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.chain import Outpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """An unspent output of an own key that no row of ours has."""

    outpoint: Outpoint
    amount_minor: int
    height: int


async def standing(uow: Uow, *, network: str) -> RowMapping | None:
    """How far the round is, locked; None before the first."""
    result = await uow.execute(
        "SELECT number, began_at, ended_at FROM chain.coin_searches WHERE network = :network "
        "FOR UPDATE",
        {"network": network},
    )
    return result.mappings().one_or_none()


async def begin(uow: Uow, *, network: str, at: datetime) -> None:
    """A round begins."""
    await uow.execute(
        "INSERT INTO chain.coin_searches (network, number, began_at) VALUES (:network, 0, :at) "
        "ON CONFLICT (network) DO UPDATE SET number = 0, began_at = excluded.began_at, "
        "ended_at = NULL",
        {"network": network, "at": at},
    )


async def move(uow: Uow, *, network: str, before: int, number: int) -> None:
    """The round is at `number`, unless another instance moved it."""
    await uow.execute(
        "UPDATE chain.coin_searches SET number = :number "
        "WHERE network = :network AND number = :before AND ended_at IS NULL",
        {"network": network, "before": before, "number": number},
    )


async def end(uow: Uow, *, network: str, at: datetime) -> None:
    """Every address was looked for."""
    await uow.execute(
        "UPDATE chain.coin_searches SET ended_at = :at, rounds = rounds + 1 "
        "WHERE network = :network AND ended_at IS NULL",
        {"network": network, "at": at},
    )


async def page(uow: Uow, *, network: str, after: int, limit: int) -> Sequence[RowMapping]:
    """Addresses that somebody may have been told, numbered after `after`, in their order."""
    result = await uow.execute(
        "SELECT id, key, number FROM chain.addresses WHERE network = :network "
        "AND number > :after AND (role <> 'deposit' OR issued_at IS NOT NULL) "
        "ORDER BY number LIMIT :limit",
        {"network": network, "after": after, "limit": limit},
    )
    return result.mappings().all()


async def unknown(
    uow: Uow, *, network: str, block_hash: str, coins: Sequence[tuple[str, int, int, int]]
) -> list[Unknown]:
    """Of (txid, vout, amount, height) those in blocks that the follower is past, and no row knows;
    none while the block is not of our chain. One statement: a block that connects or leaves in
    between would make one of them look missed."""
    result = await uow.execute(
        "SELECT w.txid, w.vout, w.amount, w.height FROM unnest(CAST(:txids AS text[]), "
        "CAST(:vouts AS integer[]), CAST(:amounts AS numeric[]), CAST(:heights AS bigint[])) "
        "AS w (txid, vout, amount, height) WHERE EXISTS (SELECT 1 FROM chain.blocks b "
        "WHERE b.network = :network AND b.hash = :hash AND b.is_canonical) "
        "AND w.height <= (SELECT height FROM chain.cursors WHERE network = :network) "
        "AND NOT EXISTS (SELECT 1 FROM chain.coins c WHERE c.txid = w.txid AND c.vout = w.vout "
        "AND c.network = :network) ORDER BY w.height, w.txid, w.vout",
        {
            "network": network,
            "hash": block_hash,
            "txids": [item[0] for item in coins],
            "vouts": [item[1] for item in coins],
            "amounts": [item[2] for item in coins],
            "heights": [item[3] for item in coins],
        },
    )
    return [
        Unknown(
            outpoint=Outpoint(txid=row.txid, vout=row.vout),
            amount_minor=int(row.amount),
            height=int(row.height),
        )
        for row in result
    ]


async def add(
    uow: Uow, *, network: str, rows: Sequence[tuple[Unknown, UUID]], at: datetime
) -> Sequence[RowMapping]:
    """Keep findings with their addresses; those that were new."""
    result = await uow.execute(
        "INSERT INTO chain.missed_coins (network, txid, vout, amount, address_id, height, "
        "found_at) SELECT CAST(:network AS text), t.*, CAST(:at AS timestamptz) "
        "FROM unnest(CAST(:txids AS text[]), CAST(:vouts AS integer[]), "
        "CAST(:amounts AS numeric[]), CAST(:addresses AS uuid[]), CAST(:heights AS bigint[])) "
        "AS t ON CONFLICT (network, txid, vout) DO NOTHING RETURNING txid, vout, amount, height",
        {
            "network": network,
            "txids": [item.outpoint.txid for item, _ in rows],
            "vouts": [item.outpoint.vout for item, _ in rows],
            "amounts": [item.amount_minor for item, _ in rows],
            "addresses": [str(address_id) for _, address_id in rows],
            "heights": [item.height for item, _ in rows],
            "at": at,
        },
    )
    return result.mappings().all()


async def drop_gone(
    uow: Uow,
    *,
    network: str,
    block_hash: str,
    address_ids: Sequence[UUID],
    there: Sequence[Outpoint],
) -> Sequence[RowMapping]:
    """Findings of these addresses that are no unspent outputs (any more) and that no block showed
    us: their block left the chain, or they were spent."""
    result = await uow.execute(
        "DELETE FROM chain.missed_coins m WHERE m.network = :network "
        "AND m.address_id = ANY(CAST(:addresses AS uuid[])) "
        "AND EXISTS (SELECT 1 FROM chain.blocks b "
        "WHERE b.network = :network AND b.hash = :hash AND b.is_canonical) "
        "AND NOT EXISTS (SELECT 1 FROM unnest(CAST(:txids AS text[]), "
        "CAST(:vouts AS integer[])) AS w (txid, vout) "
        "WHERE w.txid = m.txid AND w.vout = m.vout) "
        "AND NOT EXISTS (SELECT 1 FROM chain.coins c WHERE c.txid = m.txid AND c.vout = m.vout "
        "AND c.network = m.network) RETURNING m.txid, m.vout",
        {
            "network": network,
            "hash": block_hash,
            "addresses": [str(item) for item in address_ids],
            "txids": [item.txid for item in there],
            "vouts": [item.vout for item in there],
        },
    )
    return result.mappings().all()


async def missed(uow: Uow, *, network: str, height: int) -> Sequence[RowMapping]:
    """What was found and no block showed us yet, up to a height, the newest first."""
    result = await uow.execute(
        "SELECT m.txid, m.vout, m.amount, m.height, m.rescan_id, a.address, a.role "
        "FROM chain.missed_coins m JOIN chain.addresses a ON a.id = m.address_id "
        "WHERE m.network = :network AND m.height <= :height AND NOT EXISTS "
        "(SELECT 1 FROM chain.coins c WHERE c.txid = m.txid AND c.vout = m.vout "
        "AND c.network = m.network) ORDER BY m.height DESC, m.txid, m.vout",
        {"network": network, "height": height},
    )
    return result.mappings().all()


async def running(uow: Uow, *, network: str, asked_by: str) -> int:
    """How many rescans that somebody asked for have not ended."""
    result = await uow.execute(
        "SELECT count(*) FROM chain.rescans WHERE network = :network AND state = 'running' "
        "AND asked_by = :asked_by",
        {"network": network, "asked_by": asked_by},
    )
    return int(result.scalar_one())


async def unasked(uow: Uow, *, network: str, limit: int) -> Sequence[int]:
    """Heights of findings that no rescan was asked for, and no block showed us meanwhile."""
    result = await uow.execute(
        "SELECT DISTINCT m.height FROM chain.missed_coins m WHERE m.network = :network "
        "AND m.rescan_id IS NULL AND NOT EXISTS (SELECT 1 FROM chain.coins c "
        "WHERE c.txid = m.txid AND c.vout = m.vout AND c.network = m.network) "
        "ORDER BY m.height LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return result.scalars().all()


async def asked(uow: Uow, *, network: str, height: int, rescan_id: UUID) -> None:
    """A rescan looks at the block of these."""
    await uow.execute(
        "UPDATE chain.missed_coins SET rescan_id = :rescan "
        "WHERE network = :network AND height = :height AND rescan_id IS NULL",
        {"network": network, "height": height, "rescan": rescan_id},
    )
