"""SQL of deposits that are in no block: who excludes them, and who still has their txs."""

from collections.abc import Sequence

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.deposit_store import COLUMNS


async def rivalled(
    uow: Uow,
    *,
    network: str,
    spends: Sequence[tuple[str, int, str]],
    sends: Sequence[tuple[str, int, str]],
) -> Sequence[RowMapping]:
    """Detected deposits with the unconfirmed tx (`rival`) that excludes them: by an outpoint that
    they or an ancestor spend, or by sender and nonce."""
    result = await uow.execute(
        f"SELECT {COLUMNS}, r.rival FROM chain.deposits d JOIN ("
        "SELECT DISTINCT ON (f.id) f.id, f.rival FROM ("
        "SELECT e.id, s.spender AS rival FROM unnest(CAST(:txids AS text[]), "
        "CAST(:vouts AS integer[]), CAST(:spenders AS text[])) AS s (txid, vout, spender) "
        "JOIN chain.deposit_inputs i ON i.network = :network AND i.outpoint_txid = s.txid "
        "AND i.outpoint_vout = s.vout AND i.spender <> s.spender "
        "JOIN chain.deposits e ON e.txid = i.txid AND e.network = :network "
        "AND e.state = 'detected' "
        "UNION ALL SELECT e.id, s.txid FROM unnest(CAST(:keys AS text[]), "
        "CAST(:nonces AS bigint[]), CAST(:sent AS text[])) AS s (key, nonce, txid) "
        "JOIN chain.deposits e ON e.network = :network AND e.sender_key = s.key "
        "AND e.sender_nonce = s.nonce AND e.txid <> s.txid AND e.state = 'detected'"
        ") AS f ORDER BY f.id, f.rival) AS r ON r.id = d.id ORDER BY d.id FOR UPDATE OF d",
        {
            "network": network,
            "txids": [spend[0] for spend in spends],
            "vouts": [spend[1] for spend in spends],
            "spenders": [spend[2] for spend in spends],
            "keys": [send[0] for send in sends],
            "nonces": [send[1] for send in sends],
            "sent": [send[2] for send in sends],
        },
    )
    return result.mappings().all()


async def to_check(uow: Uow, *, network: str, height: int, limit: int) -> Sequence[str]:
    """Txids of detected deposits that are to be looked for at `height`, longest due first."""
    result = await uow.execute(
        "SELECT txid FROM chain.deposits WHERE network = :network AND state = 'detected' "
        "AND check_at_height <= :height GROUP BY txid ORDER BY min(check_at_height), txid "
        "LIMIT :limit",
        {"network": network, "height": height, "limit": limit},
    )
    return list(result.scalars())


async def note_present(uow: Uow, *, network: str, txids: Sequence[str], check_at: int) -> None:
    """Somebody has these unconfirmed txs: their absence is over."""
    await uow.execute(
        "UPDATE chain.deposits SET absent_at_height = NULL, check_at_height = :check_at "
        "WHERE network = :network AND state = 'detected' AND txid = ANY(CAST(:txids AS text[]))",
        {"network": network, "txids": list(txids), "check_at": check_at},
    )


async def note_absent(
    uow: Uow, *, network: str, txids: Sequence[str], check_at: int, absent_at: int
) -> None:
    """Nobody has these unconfirmed txs: their absence counts, from now on if it did not yet."""
    await uow.execute(
        "UPDATE chain.deposits "
        "SET absent_at_height = coalesce(absent_at_height, CAST(:absent_at AS bigint)), "
        "check_at_height = least(CAST(:check_at AS bigint), "
        "coalesce(absent_at_height, CAST(:absent_at AS bigint))) "
        "WHERE network = :network AND state = 'detected' AND txid = ANY(CAST(:txids AS text[]))",
        {"network": network, "txids": list(txids), "check_at": check_at, "absent_at": absent_at},
    )


async def gone(
    uow: Uow, *, network: str, txids: Sequence[str], height: int
) -> Sequence[RowMapping]:
    """Detected deposits of these txids whose absence has lasted long enough."""
    result = await uow.execute(
        f"SELECT {COLUMNS} FROM chain.deposits d WHERE d.network = :network "
        "AND d.state = 'detected' AND d.absent_at_height <= :height "
        "AND d.txid = ANY(CAST(:txids AS text[])) ORDER BY d.id FOR UPDATE",
        {"network": network, "txids": list(txids), "height": height},
    )
    return result.mappings().all()


async def shift_absence(uow: Uow, *, network: str, blocks: int) -> None:
    """Blocks that came while the network was degraded do not count as absence."""
    await uow.execute(
        "UPDATE chain.deposits SET absent_at_height = absent_at_height + :blocks "
        "WHERE network = :network AND state IN ('orphaned', 'detected') "
        "AND absent_at_height IS NOT NULL",
        {"network": network, "blocks": blocks},
    )
