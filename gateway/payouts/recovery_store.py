"""SQL of gateway.signer_logs and gateway.recoveries, and what the books know of signatures."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

GENESIS_HASH = "0" * 64  # of entry 0: a log that holds nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Up to which entry of the signer's log the books hold every signature. `asked_at`: when the
    scheduler last wanted a comparison that has not been made. `is_of_this_life`: the database was
    neither restored nor started since."""

    sequence: int = 0
    entry_hash: str = GENESIS_HASH
    compared_at: datetime | None = None
    asked_at: datetime | None = None
    is_of_this_life: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A network whose books wait to be held against the signer's log."""

    network: str
    is_of_this_life: bool
    asked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRow:
    """One recovery of a network, whole. `left_over` names what could not be imported."""

    id: UUID
    network: str
    state: str
    cause: str
    detail: str
    sequence: int
    entry_hash: str
    epoch: int
    unknown: int
    imported: int
    left_over: tuple[Mapping[str, Any], ...]
    rescan_id: UUID | None
    version: int
    opened_at: datetime
    imported_at: datetime | None
    confirmed_at: datetime | None
    confirmed_by: tuple[str, ...]
    closed_at: datetime | None


_COLUMNS = ", ".join(RecoveryRow.__slots__)


async def place(uow: Uow, network: str) -> Place:
    """Where the last comparison of a network ended; its beginning when there was none."""
    result = await uow.execute(
        "SELECT sequence, entry_hash, compared_at, asked_at, "
        "life = gateway.database_life() AS is_of_this_life FROM gateway.signer_logs "
        "WHERE network = :network",
        {"network": network},
    )
    row = result.mappings().one_or_none()
    return Place() if row is None else Place(**row)


async def move_place(
    uow: Uow, network: str, *, sequence: int, entry_hash: str, at: datetime
) -> None:
    """Everything up to this entry is in the books; what was asked for before is done."""
    await uow.execute(
        """
        INSERT INTO gateway.signer_logs AS l (network, sequence, entry_hash, compared_at, life)
        VALUES (:network, :sequence, :entry_hash, :at, gateway.database_life())
        ON CONFLICT (network) DO UPDATE SET sequence = excluded.sequence,
            entry_hash = excluded.entry_hash, compared_at = excluded.compared_at,
            life = excluded.life,
            asked_at = CASE WHEN l.asked_at > excluded.compared_at THEN l.asked_at END
        """,
        {"network": network, "sequence": sequence, "entry_hash": entry_hash, "at": at},
    )


async def answered(uow: Uow, network: str) -> None:
    """A comparison was made; the place stays."""
    await uow.execute(
        "UPDATE gateway.signer_logs SET asked_at = NULL, life = gateway.database_life() "
        "WHERE network = :network",
        {"network": network},
    )


async def known(uow: Uow, *, network: str, attempt_ids: Sequence[UUID]) -> dict[UUID, str | None]:
    """Attempts of the books by id: their txid, or None while the signer is being asked.

    One that is planned and was never to be asked about is not known: it would be taken apart. A
    planned bump never is, the signer is asked about it first: its members were asked for before.
    """
    result = await uow.execute(
        """
        SELECT o.id, o.txid FROM chain.outgoing o
        WHERE o.network = :network AND o.id = ANY(:ids)
            AND (o.txid IS NOT NULL OR (o.state = 'built' AND (
                o.family_number > 1 OR o.pays_for_id IS NOT NULL OR NOT EXISTS (
                    SELECT 1 FROM gateway.attempt_members m
                    JOIN gateway.withdrawals w ON w.id = m.withdrawal_id
                    WHERE m.attempt_id = o.id AND (w.attempt_id IS DISTINCT FROM o.id
                        OR w.sign_requested_at IS NULL)))))
        """,
        {"network": network, "ids": list(attempt_ids)},
    )
    return {row.id: row.txid for row in result}


async def signed_since(
    uow: Uow, *, network: str, since: datetime | None, limit: int, after: UUID | None
) -> Sequence[RowMapping]:
    """Attempts that these books call signed since a moment, by id, a page behind `after`; without
    those that people sign with keys of their own."""
    result = await uow.execute(
        """
        SELECT id, txid, payments FROM chain.outgoing
        WHERE network = :network AND raw IS NOT NULL AND purpose <> 'cold_to_hot'
            AND (CAST(:since AS timestamptz) IS NULL OR signed_at >= :since)
            AND (CAST(:after AS uuid) IS NULL OR id > CAST(:after AS uuid))
        ORDER BY id LIMIT :limit
        """,
        {"network": network, "since": since, "after": after, "limit": limit},
    )
    return result.mappings().all()


async def current(uow: Uow, network: str, *, lock: bool = False) -> RecoveryRow | None:
    """The recovery of a network that has not been closed."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.recoveries WHERE network = :network "
        "AND state <> 'closed'" + (" FOR UPDATE" if lock else ""),
        {"network": network},
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def are_compared(uow: Uow, networks: Collection[str]) -> bool:
    """Whether the books of all of these were held against the signer's log in this life of the
    database: until then they may be those of a restore that nobody has noticed."""
    result = await uow.execute(
        "SELECT count(*) FROM gateway.signer_logs "
        "WHERE network = ANY(:networks) AND life = gateway.database_life()",
        {"networks": list(networks)},
    )
    return int(result.scalar_one()) == len(set(networks))


async def are_whole(uow: Uow, networks: Collection[str]) -> bool:
    """Whether no book of these can lack what the signer signed: compared, and none in recovery."""
    result = await uow.execute(
        "SELECT EXISTS (SELECT 1 FROM gateway.recoveries WHERE state <> 'closed')"
    )
    return not result.scalar_one() and await are_compared(uow, networks)


async def waiting(uow: Uow, networks: Collection[str]) -> list[Waiting]:
    """Those of these networks that nobody compared in this life of the database, or whose asked
    comparison has not been made; without those in recovery, which wait for people."""
    result = await uow.execute(
        """
        SELECT n.network, l.life IS NOT DISTINCT FROM gateway.database_life() AS is_of_this_life,
            l.asked_at
        FROM unnest(CAST(:networks AS text[])) AS n (network)
        LEFT JOIN gateway.signer_logs l ON l.network = n.network
        WHERE (l.life IS DISTINCT FROM gateway.database_life() OR l.asked_at IS NOT NULL)
            AND NOT EXISTS (SELECT 1 FROM gateway.recoveries r
                WHERE r.network = n.network AND r.state <> 'closed')
        """,
        {"networks": list(networks)},
    )
    return [Waiting(**row) for row in result.mappings()]


async def get(uow: Uow, recovery_id: UUID, *, lock: bool = False) -> RecoveryRow | None:
    """One recovery."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.recoveries WHERE id = :id"
        + (" FOR UPDATE" if lock else ""),
        {"id": recovery_id},
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def find(uow: Uow, *, limit: int) -> list[RecoveryRow]:
    """Recoveries, newest first."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.recoveries ORDER BY id DESC LIMIT :limit",
        {"limit": limit},
    )
    return [_row(row) for row in result.mappings()]


async def open_one(uow: Uow, values: Mapping[str, Any]) -> bool:
    """Open a network's recovery; False when one stands already."""
    result = await uow.execute(
        """
        INSERT INTO gateway.recoveries (id, network, state, cause, detail, sequence, entry_hash,
            epoch, unknown, opened_at)
        VALUES (:id, :network, 'open', :cause, :detail, :sequence, :entry_hash, :epoch, :unknown,
            :at)
        ON CONFLICT (network) WHERE state <> 'closed' DO NOTHING
        """,
        values,
    )
    return result.rowcount == 1


async def note_import(uow: Uow, recovery_id: UUID, values: Mapping[str, Any]) -> None:
    """What an import has done, and up to where the log was read."""
    left_over = json.dumps(list(values["left_over"]))
    await uow.execute(
        """
        UPDATE gateway.recoveries SET state = 'imported', imported = imported + :imported,
            left_over = CAST(:left_over AS jsonb), rescan_id = COALESCE(:rescan_id, rescan_id),
            sequence = :sequence, entry_hash = :entry_hash, epoch = :epoch, imported_at = :at,
            version = version + 1
        WHERE id = :id AND state IN ('open', 'imported')
        """,
        {**values, "left_over": left_over, "id": recovery_id},
    )


async def confirm(
    uow: Uow, recovery_id: UUID, *, version: int, people: Sequence[str], at: datetime
) -> bool:
    """Two people let the network go on; False when it is no longer what they saw."""
    result = await uow.execute(
        """
        UPDATE gateway.recoveries SET state = 'confirmed', confirmed_by = :people,
            confirmed_at = :at, version = version + 1
        WHERE id = :id AND state = 'imported' AND version = :version
        """,
        {"id": recovery_id, "version": version, "people": list(people), "at": at},
    )
    return result.rowcount == 1


async def close(uow: Uow, recovery_id: UUID, *, at: datetime) -> None:
    """The lane goes on."""
    await uow.execute(
        "UPDATE gateway.recoveries SET state = 'closed', closed_at = :at, version = version + 1 "
        "WHERE id = :id AND state = 'confirmed'",
        {"id": recovery_id, "at": at},
    )


def _row(row: RowMapping) -> RecoveryRow:
    left_over = row["left_over"]
    values = {
        **row,
        "left_over": tuple(json.loads(left_over) if isinstance(left_over, str) else left_over),
        "confirmed_by": tuple(row["confirmed_by"] or ()),
    }
    return RecoveryRow(**values)
