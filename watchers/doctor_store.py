"""SQL of the doctor: questions about a txid, and what stands about the keys that it pays."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.deposit_store import COLUMNS

_PROBE = "id, network, state, answer, asked_at, answered_at"


async def recent_probe(
    uow: Uow, *, network: str, brand: str, txid: str, since: datetime
) -> UUID | None:
    """The newest question of this asker about a tx, when it is not older than `since`."""
    result = await uow.execute(
        "SELECT id FROM chain.probes WHERE kind = 'tx' AND network = :network AND brand = :brand "
        "AND subject = :txid AND asked_at >= :since ORDER BY asked_at DESC LIMIT 1",
        {"network": network, "brand": brand, "txid": txid, "since": since},
    )
    found: UUID | None = result.scalar_one_or_none()
    return found


async def ask(
    uow: Uow, *, probe_id: UUID, network: str, brand: str, txid: str, at: datetime
) -> UUID:
    """A question for the watcher of a network: a new one, or the same one that is still open."""
    values = {"network": network, "brand": brand, "txid": txid}
    await uow.execute(
        "INSERT INTO chain.probes (id, network, kind, state, brand, subject, asked_at) VALUES "
        "(:id, :network, 'tx', 'asked', :brand, :txid, :at) "
        "ON CONFLICT (network, brand, subject) WHERE state = 'asked' AND kind = 'tx' DO NOTHING",
        {**values, "id": probe_id, "at": at},
    )
    # Mine, or whoever's came first: by then perhaps answered.
    result = await uow.execute(
        "SELECT id FROM chain.probes WHERE kind = 'tx' AND network = :network "
        "AND brand = :brand AND subject = :txid ORDER BY asked_at DESC LIMIT 1",
        values,
    )
    found: UUID = result.scalar_one()
    return found


async def probes(uow: Uow, ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """Questions with their answers, as far as the asker may see them."""
    result = await uow.execute(
        f"SELECT {_PROBE} FROM chain.probes WHERE kind = 'tx' AND id = ANY(CAST(:ids AS uuid[]))",
        {"ids": list(ids)},
    )
    return result.mappings().all()


async def open_probes(uow: Uow, *, network: str, limit: int) -> Sequence[RowMapping]:
    """Questions about txs that nobody has answered, the youngest first: somebody waits for it."""
    result = await uow.execute(
        "SELECT id, brand, subject FROM chain.probes WHERE network = :network "
        "AND kind = 'tx' AND state = 'asked' ORDER BY asked_at DESC LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return result.mappings().all()


async def forget(uow: Uow, *, network: str, before: datetime, limit: int) -> None:
    """Delete old questions about txs."""
    await uow.execute(
        "DELETE FROM chain.probes WHERE id IN (SELECT id FROM chain.probes "
        "WHERE network = :network AND kind = 'tx' AND asked_at < :before "
        "ORDER BY asked_at LIMIT :limit)",
        {"network": network, "before": before, "limit": limit},
    )


async def owners(uow: Uow, *, keys: Sequence[str]) -> Sequence[RowMapping]:
    """Own addresses with these match keys on every network that is followed."""
    result = await uow.execute(
        "SELECT a.network, a.key, a.address, a.role, a.brand, a.player_id FROM chain.cursors c "
        "JOIN chain.addresses a ON a.network = c.network AND a.key = ANY(CAST(:keys AS text[])) "
        "ORDER BY a.network, a.key",
        {"keys": list(keys)},
    )
    return result.mappings().all()


async def recorded(uow: Uow, *, network: str, txid: str) -> Mapping[str, str]:
    """Positions of a tx that stand as deposits or inflows -> `deposit` or the inflow's state."""
    result = await uow.execute(
        "SELECT position, 'deposit' AS stands FROM chain.deposit_keys "
        "WHERE network = :network AND txid = :txid "
        "UNION SELECT position, state FROM chain.inflows "
        "WHERE network = :network AND txid = :txid",
        {"network": network, "txid": txid},
    )
    return {row["position"]: row["stands"] for row in result.mappings()}


async def searched(uow: Uow, *, network: str, txid: str, block_hash: str) -> Mapping[str, str]:
    """Positions of a tx that were not credited because balances contradict them -> the kind."""
    result = await uow.execute(
        "SELECT s.kind, t.value ->> 'position' AS position FROM chain.searches s, "
        "jsonb_array_elements(s.transfers) AS t (value) WHERE s.network = :network "
        "AND s.block_hash = :hash AND t.value ->> 'txid' = :txid",
        {"network": network, "txid": txid, "hash": block_hash},
    )
    return {row["position"]: row["kind"] for row in result.mappings()}


async def span(uow: Uow, *, network: str) -> RowMapping | None:
    """Where the follower stands, and the block from which on every one was looked at."""
    result = await uow.execute(
        "SELECT c.height, coalesce((SELECT max(b.height) + 1 FROM chain.blocks b "
        "WHERE b.network = c.network AND b.is_canonical AND b.is_header_only), "
        "(SELECT min(b.height) FROM chain.blocks b WHERE b.network = c.network "
        "AND b.is_canonical)) AS first_height FROM chain.cursors c WHERE c.network = :network",
        {"network": network},
    )
    return result.mappings().one_or_none()


async def deposits_of_tx(
    uow: Uow, *, brand: str | None, txid: str, limit: int
) -> Sequence[RowMapping]:
    """Deposits of a tx on any network, newest first; `brand` None: all that are visible."""
    result = await uow.execute(
        f"SELECT {COLUMNS} FROM chain.deposits d WHERE d.txid = :txid "
        "AND (CAST(:brand AS text) IS NULL OR d.brand = :brand) ORDER BY d.id DESC LIMIT :limit",
        {"txid": txid, "brand": brand, "limit": limit},
    )
    return result.mappings().all()


async def deposits_of_player(
    uow: Uow, *, brand: str, player_id: str, address_ids: Sequence[UUID] | None, limit: int
) -> Sequence[RowMapping]:
    """Deposits of a player, newest first; of these addresses where they are given."""
    result = await uow.execute(
        f"SELECT {COLUMNS} FROM chain.deposits d WHERE d.brand = :brand "
        "AND d.player_id = :player_id AND (CAST(:ids AS uuid[]) IS NULL "
        "OR d.address_id = ANY(CAST(:ids AS uuid[]))) ORDER BY d.id DESC LIMIT :limit",
        {
            "brand": brand,
            "player_id": player_id,
            "ids": None if address_ids is None else list(address_ids),
            "limit": limit,
        },
    )
    return result.mappings().all()
