"""SQL of the ledger's set-wise steps: one statement each, however many rows it takes."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from config.database import Uow
from ledger.store import refuse

if TYPE_CHECKING:
    from ledger.journal import Posting

_NAME = re.compile(r"[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)?")

_POST_MANY = text(
    """
    SELECT posting_id, is_new FROM ledger.post_many(
        :at, CAST(:ids AS uuid[]), CAST(:references AS text[]), CAST(:kinds AS text[]),
        CAST(:reasons AS text[]), CAST(:reverses AS uuid[]), CAST(:networks AS text[]),
        CAST(:hashes AS text[]), CAST(:heights AS bigint[]), CAST(:of AS integer[]),
        CAST(:codes AS text[]), CAST(:account_kinds AS text[]), CAST(:assets AS text[]),
        CAST(:brands AS text[]), CAST(:players AS text[]), CAST(:wallets AS text[]),
        CAST(:sides AS text[]), CAST(:amounts AS numeric[]), CAST(:tags AS text[]))
    """
)


async def post_many(
    uow: Uow, postings: Sequence[tuple[UUID, "Posting"]], *, at: datetime
) -> list[tuple[UUID, bool]]:
    """Call `ledger.post_many`: (posting id, is new) of each, in order."""
    heads = [posting for _, posting in postings]
    lines = [
        (number, entry)
        for number, posting in enumerate(heads, start=1)
        for entry in posting.entries
    ]
    effects = [posting.effect for posting in heads]
    accounts = [entry.account for _, entry in lines]
    parameters = {
        "at": at,
        "ids": [posting_id for posting_id, _ in postings],
        "references": [posting.reference for posting in heads],
        "kinds": [posting.kind for posting in heads],
        "reasons": [posting.reason for posting in heads],
        "reverses": [posting.reverses for posting in heads],
        "networks": [effect.network if effect else None for effect in effects],
        "hashes": [effect.block_hash if effect else None for effect in effects],
        "heights": [effect.height if effect else None for effect in effects],
        "of": [number for number, _ in lines],
        "codes": [account.code for account in accounts],
        "account_kinds": [account.kind.value for account in accounts],
        "assets": [account.asset for account in accounts],
        "brands": [account.brand for account in accounts],
        "players": [account.player_id for account in accounts],
        "wallets": [account.wallet for account in accounts],
        "sides": [entry.side.value for _, entry in lines],
        "amounts": [entry.amount_minor for _, entry in lines],
        "tags": [entry.brand_tag for _, entry in lines],
    }
    try:
        result = await uow.execute(_POST_MANY, parameters)
    except DBAPIError as error:
        refuse(error, f"{len(heads)} postings from {heads[0].reference}")
    return [(row.posting_id, row.is_new) for row in result]


async def repaid_first_many(uow: Uow, wanted: Sequence[tuple[str, str, int]]) -> list[int]:
    """`ledger.repaid_first` of each (brand, asset, amount), in order; rows held in one order."""
    result = await uow.execute(
        "SELECT r.n, ledger.repaid_first(r.brand, r.asset, r.amount) AS repaid FROM ("
        "SELECT * FROM unnest(CAST(:brands AS text[]), CAST(:assets AS text[]), "
        "CAST(:amounts AS numeric[])) WITH ORDINALITY AS w (brand, asset, amount, n) "
        "ORDER BY brand, asset OFFSET 0) AS r",
        {
            "brands": [item[0] for item in wanted],
            "assets": [item[1] for item in wanted],
            "amounts": [item[2] for item in wanted],
        },
    )
    found = {row.n: int(row.repaid) for row in result}
    return [found[number] for number in range(1, len(wanted) + 1)]


async def lock_clearing_many(uow: Uow, wanted: Sequence[tuple[str, str]]) -> list[int]:
    """`ledger.lock_clearing` of each (brand, asset), in order; rows are held in one order."""
    result = await uow.execute(
        "SELECT r.n, ledger.lock_clearing(r.brand, r.asset) AS free FROM ("
        "SELECT * FROM unnest(CAST(:brands AS text[]), CAST(:assets AS text[])) "
        "WITH ORDINALITY AS w (brand, asset, n) ORDER BY brand, asset OFFSET 0) AS r",
        {"brands": [item[0] for item in wanted], "assets": [item[1] for item in wanted]},
    )
    found = {row.n: int(row.free) for row in result}
    return [found[number] for number in range(1, len(wanted) + 1)]


async def advance_many(
    uow: Uow,
    table: str,
    moves: Sequence[tuple[UUID, str, str, Mapping[str, Any]]],
    *,
    at: datetime,
) -> Sequence[Mapping[str, Any]]:
    """Compare-and-set of many rows: (id, current, target, changes), all with the same columns.

    Returns the rows that moved, in no order. Values go through JSON by the table's own types.
    Names come from the lifecycle's owner, never from a request; checked anyway.
    """
    columns = sorted(moves[0][3])
    for name in (table, *columns):
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"not a column or table name: {name!r}")
    if any(sorted(changes) != columns for _, _, _, changes in moves):
        raise ValueError(f"{table}: moves of one call change the same columns")
    assignments = "".join(f", {name} = r.{name}" for name in columns)
    rows = [{"id": row_id, **changes} for row_id, _, _, changes in moves]
    return await uow.rows(
        f"UPDATE {table} AS t SET state = s.target, version = t.version + 1, "
        f"state_at = :at{assignments} "
        "FROM unnest(CAST(:ids AS uuid[]), CAST(:currents AS text[]), CAST(:targets AS text[])) "
        "AS s (id, current, target) "
        f"JOIN jsonb_populate_recordset(CAST(NULL AS {table}), CAST(:rows AS jsonb)) AS r "
        "ON r.id = s.id WHERE t.id = s.id AND t.state = s.current RETURNING t.*",
        {
            "at": at,
            "ids": [move[0] for move in moves],
            "currents": [move[1] for move in moves],
            "targets": [move[2] for move in moves],
            "rows": json.dumps(rows, separators=(",", ":"), default=str),
        },
    )


async def append_events(uow: Uow, rows: Sequence[Mapping[str, Any]], *, channel: str) -> None:
    """Insert events in their order and send one hint."""
    names = ("id", "brand", "type", "object_kind", "object_id", "object_version")
    await uow.rows(
        """
        WITH added AS (
            INSERT INTO ledger.events (id, brand, type, object_kind, object_id, object_version,
                previous_state, snapshot, created_at)
            SELECT e.id, e.brand, e.type, e.object_kind, e.object_id, e.object_version,
                e.previous_state, CAST(e.snapshot AS jsonb), e.created_at
            FROM unnest(CAST(:id AS uuid[]), CAST(:brand AS text[]), CAST(:type AS text[]),
                CAST(:object_kind AS text[]), CAST(:object_id AS uuid[]),
                CAST(:object_version AS integer[]), CAST(:previous_state AS text[]),
                CAST(:snapshot AS text[]), CAST(:created_at AS timestamptz[])) WITH ORDINALITY
                AS e (id, brand, type, object_kind, object_id, object_version, previous_state,
                    snapshot, created_at, n)
            ORDER BY e.n
        )
        SELECT pg_notify(:channel, '')
        """,
        {
            name: [row[name] for row in rows]
            for name in (*names, "previous_state", "snapshot", "created_at")
        }
        | {"channel": channel},
    )
