"""SQL of gateway.sweeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """One sweep, whole. Amounts in minor units of `asset`: `amount_minor` of its deposits,
    `moved_minor` what its tx moves (of the native coin less its fee)."""

    id: UUID
    network: str
    brand: str
    address_id: UUID
    address: str
    key: str
    asset: str
    amount_minor: int
    moved_minor: int | None
    deposits: int
    oldest_at: datetime
    state: str
    code: str | None
    reason: str | None
    requested_by: str | None
    version: int
    tries: int
    gas_attempt_id: UUID | None
    attempt_id: UUID | None
    txid: str | None
    look_at: datetime
    created_at: datetime
    state_at: datetime


_RENAMED = {"amount_minor": "amount", "moved_minor": "moved"}
_NAMES = tuple(SweepRow.__slots__)
_COLUMNS = ", ".join(_RENAMED.get(name, name) for name in _NAMES)
BUSY = "('gas_planned', 'gas_sent', 'gas_ready', 'planned', 'signed', 'sent')"
_DUE = "('waiting', 'gas_ready', 'failed', 'unsweepable')"


async def insert(uow: Uow, rows: Sequence[SweepRow]) -> None:
    """Store new sweeps."""
    if not rows:
        return
    names = ", ".join(f":{name}" for name in _NAMES)
    await uow.execute(
        f"INSERT INTO gateway.sweeps ({_COLUMNS}) VALUES ({names})",
        [{name: getattr(row, name) for name in _NAMES} for row in rows],
    )


async def by_ids(uow: Uow, ids: Sequence[UUID]) -> list[SweepRow]:
    """Sweeps by id, locked in that order."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.sweeps WHERE id = ANY(CAST(:ids AS uuid[])) "
        "ORDER BY id FOR UPDATE",
        {"ids": list(ids)},
    )
    return [from_row(row) for row in result.mappings()]


async def get(uow: Uow, sweep_id: UUID) -> SweepRow | None:
    """One sweep."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.sweeps WHERE id = :id", {"id": sweep_id}
    )
    row = result.mappings().one_or_none()
    return None if row is None else from_row(row)


async def open_at(
    uow: Uow, places: Sequence[tuple[UUID, str]], *, states: Sequence[str]
) -> list[SweepRow]:
    """The sweeps in these states at (address, asset), locked."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.sweeps WHERE state = ANY(CAST(:states AS text[])) "
        "AND (address_id, asset) IN (SELECT * FROM unnest(CAST(:ids AS uuid[]), "
        "CAST(:assets AS text[]))) ORDER BY id FOR UPDATE",
        {
            "states": list(states),
            "ids": [place[0] for place in places],
            "assets": [place[1] for place in places],
        },
    )
    return [from_row(row) for row in result.mappings()]


async def due(
    uow: Uow, *, network: str, assets: Sequence[str], at: datetime, limit: int
) -> list[SweepRow]:
    """What of some assets may be looked at now and whose address is not busy with another one; what
    is nearest to its end first, then what was asked for, then the oldest."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.sweeps s WHERE network = :network AND look_at <= :at "
        "AND asset = ANY(CAST(:assets AS text[])) "
        f"AND state IN {_DUE} AND NOT EXISTS (SELECT 1 FROM gateway.sweeps b "
        f"WHERE b.address_id = s.address_id AND b.id <> s.id AND b.state IN {BUSY}) "
        "ORDER BY state <> 'gas_ready', requested_by IS NULL, look_at, id LIMIT :limit",
        {"network": network, "assets": list(assets), "at": at, "limit": limit},
    )
    return [from_row(row) for row in result.mappings()]


async def disagreeing(uow: Uow, *, network: str, after: UUID | None, limit: int) -> Sequence[UUID]:
    """Sweeps that stand behind, or ahead of, what is known of their txs; a page behind `after`."""
    result = await uow.execute(
        """
        SELECT s.id FROM gateway.sweeps s
        LEFT JOIN chain.outgoing g ON g.id = s.gas_attempt_id
        LEFT JOIN chain.outgoing o ON o.id = s.attempt_id
        WHERE s.network = :network AND (
            (s.state = 'gas_planned' AND g.state NOT IN ('built', 'signed'))
            OR (s.state = 'gas_sent' AND EXISTS (SELECT 1 FROM chain.outgoing f
                WHERE f.family_id = g.family_id AND f.state IN ('mined', 'final', 'reverted')))
            OR (s.state = 'gas_sent' AND g.state IN ('replaced', 'refused'))
            OR (s.state = 'gas_ready' AND g.height IS NULL AND NOT EXISTS (SELECT 1
                FROM chain.outgoing f WHERE f.family_id = g.family_id AND f.height IS NOT NULL))
            OR (s.state = 'planned' AND o.state <> 'built')
            OR (s.state = 'signed' AND o.state <> 'signed')
            OR (s.state = 'sent' AND EXISTS (SELECT 1 FROM chain.outgoing f
                WHERE f.family_id = o.family_id
                AND (f.state IN ('final', 'reverted') OR
                     (f.state = 'replaced' AND f.id = o.id))))
            OR (s.state IN ('swept', 'failed', 'unsweepable') AND s.txid IS NOT NULL
                AND o.state IN ('broadcast', 'seen', 'mined', 'dropped')))
            AND (CAST(:after AS uuid) IS NULL OR s.id > :after)
        ORDER BY s.id LIMIT :limit
        """,
        {"network": network, "after": after, "limit": limit},
    )
    return result.scalars().all()


async def moved_since(uow: Uow, ids: Sequence[UUID]) -> Sequence[Mapping[str, Any]]:
    """(sweep, attempt, txid) of these whose tokens a final tx moved that the sweep named once and
    no other does: it moved nothing then, left the chain with its block, and came back."""
    return await uow.rows(
        """
        SELECT DISTINCT ON (s.id) s.id, o.id AS attempt_id, o.txid FROM gateway.sweeps s
        JOIN chain.addresses a
            ON a.network = s.network AND (a.id = s.address_id OR a.role = 'gas')
        JOIN chain.outgoing o ON o.network = s.network AND o.sender_key = a.key
            AND o.purpose IN ('sweep', 'collect') AND o.state = 'final'
            AND o.settled_block_hash = o.block_hash AND o.created_at >= s.created_at
        JOIN LATERAL jsonb_array_elements(o.moved) AS m ON m ->> 'asset' = s.asset
            AND coalesce(m ->> 'from_key', o.sender_key) = s.key
            AND CAST(m ->> 'amount_minor' AS numeric) = s.amount
            AND (o.is_paid_as_planned OR m ->> 'output_index' IS NOT NULL)
        WHERE s.id = ANY(CAST(:ids AS uuid[])) AND s.tries > 0
            AND NOT EXISTS (SELECT 1 FROM gateway.sweeps t
                WHERE t.attempt_id = o.id AND t.key = s.key AND t.id <> s.id)
        ORDER BY s.id, o.id
        """,
        {"ids": list(ids)},
    )


async def find(
    uow: Uow,
    *,
    network: str | None,
    asset: str | None,
    state: str | None,
    before: UUID | None,
    limit: int,
) -> list[SweepRow]:
    """Sweeps, the newest first; `before` ended the last page."""
    wanted = {"network": network, "asset": asset, "state": state}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = "".join(f" AND {name} = :{name}" for name in given)
    if before is not None:
        where, given = where + " AND id < :before", {**given, "before": str(before)}
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.sweeps WHERE true{where} ORDER BY id DESC LIMIT :limit",
        {**given, "limit": limit},
    )
    return [from_row(row) for row in result.mappings()]


async def waiting(
    uow: Uow, *, network: str | None, asset: str | None
) -> Sequence[Mapping[str, Any]]:
    """(asset, state, count, amount) of what a person may ask for."""
    wanted = {"network": network, "asset": asset}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = "".join(f" AND {name} = :{name}" for name in given)
    return await uow.rows(
        "SELECT asset, state, count(*) AS count, sum(amount) AS amount FROM gateway.sweeps "
        f"WHERE state IN ('waiting', 'failed', 'unsweepable'){where} "
        "GROUP BY asset, state ORDER BY asset, state",
        given,
    )


async def ask(
    uow: Uow, *, network: str | None, asset: str | None, person: str, at: datetime
) -> int:
    """A person wants these now; how many wait."""
    wanted = {"network": network, "asset": asset}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = "".join(f" AND {name} = :{name}" for name in given)
    result = await uow.execute(
        "UPDATE gateway.sweeps SET requested_by = :person, look_at = :at "
        f"WHERE state IN ('waiting', 'failed', 'unsweepable'){where}",
        {**given, "person": person, "at": at},
    )
    return result.rowcount


async def note(uow: Uow, notes: Sequence[tuple[UUID, str | None, datetime]]) -> None:
    """Why these wait on, and until when: (id, code, look at). Locked by the caller."""
    if not notes:
        return
    await uow.execute(
        "UPDATE gateway.sweeps s SET code = n.code, look_at = n.look_at FROM unnest("
        "CAST(:ids AS uuid[]), CAST(:codes AS text[]), CAST(:at AS timestamptz[])) "
        "AS n (id, code, look_at) WHERE s.id = n.id",
        {
            "ids": [item[0] for item in notes],
            "codes": [item[1] for item in notes],
            "at": [item[2] for item in notes],
        },
    )


async def busy_count(uow: Uow, *, network: str) -> int:
    """How many of a network have a tx on its way."""
    result = await uow.execute(
        f"SELECT count(*) FROM gateway.sweeps WHERE network = :network AND state IN {BUSY}",
        {"network": network},
    )
    return int(result.scalar_one())


async def attempts_of(uow: Uow, ids: Sequence[UUID]) -> dict[UUID, list[SweepRow]]:
    """The sweeps of some own txs (their own, a collect's all, or their top-ups), by attempt;
    locked."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.sweeps WHERE attempt_id = ANY(CAST(:ids AS uuid[])) "
        "OR gas_attempt_id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE",
        {"ids": list(ids)},
    )
    wanted, found = set(ids), dict[UUID, list[SweepRow]]()
    for item in result.mappings():
        row = from_row(item)
        for key in (row.attempt_id, row.gas_attempt_id):
            if key is not None and key in wanted:
                found.setdefault(key, []).append(row)
    return found


async def follow(uow: Uow, *, older: Sequence[UUID], attempt_id: UUID, txid: str | None) -> None:
    """Another attempt of a family counts now: a sweep, or its top-up, goes on with that one."""
    ids = {"older": list(older), "id": attempt_id}
    await uow.execute(
        "UPDATE gateway.sweeps SET attempt_id = :id, txid = :txid "
        "WHERE attempt_id = ANY(CAST(:older AS uuid[]))",
        {**ids, "txid": txid},
    )
    await uow.execute(
        "UPDATE gateway.sweeps SET gas_attempt_id = :id "
        "WHERE gas_attempt_id = ANY(CAST(:older AS uuid[]))",
        ids,
    )


async def totals(uow: Uow) -> Sequence[Mapping[str, Any]]:
    """(asset, state, count) of what is not swept."""
    return await uow.rows(
        "SELECT asset, state, count(*) AS count FROM gateway.sweeps WHERE state <> 'swept' "
        "GROUP BY asset, state"
    )


def from_row(row: RowMapping | Mapping[str, Any]) -> SweepRow:
    """The value of a whole row."""
    moved = row["moved"]
    values = {name: row[name] for name in _NAMES if name not in _RENAMED}
    return SweepRow(
        **values,
        amount_minor=int(row["amount"]),
        moved_minor=None if moved is None else int(moved),
    )
