"""SQL that reads the journal back. Row-level security, or the functions of 0014, narrow it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from config.database import Uow
from ledger.store import Row

_NOW = """
b.balance + coalesce((SELECT sum(p.delta) FROM ledger.pending_credits p
                      WHERE p.account_id = a.id), 0)
"""

_AS_OF = """
coalesce((SELECT sum(CASE WHEN e.side = a.normal_side THEN e.amount ELSE -e.amount END)
          FROM ledger.entries e WHERE e.account_id = a.id AND e.booked_at <= :at), 0)
"""

_ACCOUNTS = """
WITH a AS MATERIALIZED (
    SELECT id, code, kind, asset, brand, player_id, wallet, normal_side FROM ledger.accounts
    WHERE (CAST(:after AS text) IS NULL OR code > :after)
        AND (CAST(:kind AS text) IS NULL OR kind = :kind)
        AND (CAST(:asset AS text) IS NULL OR asset = :asset)
        AND (CAST(:brand AS text) IS NULL OR brand = :brand)
        AND (CAST(:player_id AS text) IS NULL OR player_id = :player_id)
    ORDER BY code LIMIT :limit
)
SELECT a.*, {balance} AS balance
FROM a JOIN ledger.balances b ON b.account_id = a.id ORDER BY a.code
"""

# One statement, so one moment: the balances of the period first, then a page of its lines. Each
# account gives at most one page of lines by its index on (account, time).
_STATEMENT = """
WITH own AS MATERIALIZED (
    SELECT a.id, a.code, a.kind, a.asset, a.normal_side FROM ledger.accounts a
    WHERE a.brand = :brand AND a.player_id = :player_id
        AND (CAST(:asset AS text) IS NULL OR a.asset = :asset)
), line AS (
    SELECT own.code, own.kind, own.asset, own.normal_side, e.booked_at, e.posting_id, e.line,
        e.side, e.amount
    FROM own CROSS JOIN LATERAL (
        SELECT x.booked_at, x.posting_id, x.line, x.side, x.amount FROM ledger.entries x
        WHERE x.account_id = own.id AND x.booked_at >= :since AND x.booked_at < :until
            AND (x.booked_at, x.posting_id, CAST(x.line AS integer)) > (:at, :id, :line)
        ORDER BY x.booked_at, x.posting_id, x.line LIMIT :limit) AS e
    ORDER BY e.booked_at, e.posting_id, e.line LIMIT :limit
)
SELECT true AS is_line, code, kind, asset, normal_side, booked_at, posting_id, line, side, amount,
    NULL AS opening, NULL AS closing
FROM line
UNION ALL
SELECT false, own.code, own.kind, own.asset, own.normal_side, NULL, NULL, NULL, NULL, NULL,
    coalesce(s.opening, 0), coalesce(s.closing, 0)
FROM own LEFT JOIN LATERAL (
    SELECT sum(v.amount) FILTER (WHERE v.booked_at < :since) AS opening, sum(v.amount) AS closing
    FROM (SELECT e.booked_at, CASE WHEN e.side = own.normal_side THEN e.amount ELSE -e.amount END
              AS amount
          FROM ledger.entries e WHERE e.account_id = own.id AND e.booked_at < :until) AS v
) AS s ON true
ORDER BY 1, booked_at, posting_id, line, code
"""


async def accounts(
    uow: Uow,
    *,
    kind: str | None,
    asset: str | None,
    brand: str | None,
    player_id: str | None,
    at: datetime | None,
    after: str | None,
    limit: int,
) -> Sequence[Row]:
    """Accounts by code with their balances, now or as of a moment."""
    parameters: dict[str, object] = {
        "kind": kind,
        "asset": asset,
        "brand": brand,
        "player_id": player_id,
        "after": after,
        "limit": limit,
    }
    statement = _ACCOUNTS.format(balance=_NOW if at is None else _AS_OF)
    if at is not None:
        parameters["at"] = at
    return (await uow.execute(statement, parameters)).mappings().all()


async def balance_at(uow: Uow, code: str, at: datetime) -> int:
    """What stood on one account at a moment, from its entries."""
    value = await uow.execute(
        f"SELECT {_AS_OF} FROM ledger.accounts a WHERE a.code = :code", {"code": code, "at": at}
    )
    return int(value.scalar_one_or_none() or 0)


async def posting(uow: Uow, posting_id: UUID) -> Sequence[Row]:
    """A posting's lines that the unit of work may see, the posting's own fields in each."""
    result = await uow.execute("SELECT * FROM ledger.posting_lines(:id)", {"id": posting_id})
    return result.mappings().all()


async def heads(uow: Uow, keys: Sequence[tuple[UUID, datetime]]) -> Sequence[Row]:
    """The heads of postings of which the unit of work may see a line."""
    result = await uow.execute(
        "SELECT * FROM ledger.posting_heads(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[]))",
        {"ids": [key[0] for key in keys], "ats": [key[1] for key in keys]},
    )
    return result.mappings().all()


async def journal_page(
    uow: Uow,
    *,
    since: datetime,
    until: datetime,
    at: datetime,
    posting_id: UUID,
    line: int,
    limit: int,
) -> Sequence[Row]:
    """Lines after a place in the journal; a last row without a line: there may be more."""
    result = await uow.execute(
        "SELECT * FROM ledger.journal_page(:since, :until, :at, :id, :line, :limit)",
        {
            "since": since,
            "until": until,
            "at": at,
            "id": posting_id,
            "line": line,
            "limit": limit,
        },
    )
    return result.mappings().all()


async def statement(
    uow: Uow,
    *,
    brand: str,
    player_id: str,
    asset: str | None,
    since: datetime,
    until: datetime,
    at: datetime,
    posting_id: UUID,
    line: int,
    limit: int,
) -> Sequence[Row]:
    """The balances of a player's stages at both ends of a period, then a page of lines in it."""
    result = await uow.execute(
        _STATEMENT,
        {
            "brand": brand,
            "player_id": player_id,
            "asset": asset,
            "since": since,
            "until": until,
            "at": at,
            "id": posting_id,
            "line": line,
            "limit": limit,
        },
    )
    return result.mappings().all()
