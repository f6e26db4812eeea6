"""SQL of the replay. One statement per page, so one moment; a page's work and memory are bounded.

Each statement answers its findings (kind, subject, asset, difference) and, where it looked at
anything, one row of kind `page`: how many objects, and in `subject` the place that it came to.
"""

from collections.abc import Sequence

from config.database import Uow
from ledger.store import Row

_POSTINGS = """
WITH head AS MATERIALIZED (
    SELECT id, booked_at, reverses FROM ledger.postings
    WHERE (booked_at, id)
        > (CAST(CAST(:first AS text) AS timestamptz), CAST(CAST(:second AS text) AS uuid))
    ORDER BY booked_at, id LIMIT :limit
), line AS MATERIALIZED (
    SELECT h.id, e.account_id, e.asset, e.side, e.amount, a.asset AS account_asset
    FROM head h
    JOIN ledger.entries e ON e.posting_id = h.id AND e.booked_at = h.booked_at
    LEFT JOIN ledger.accounts a ON a.id = e.account_id
), content AS (
    SELECT p.id, array_agg(ROW(e.account_id, e.side, e.amount)::text
            ORDER BY e.account_id, e.side, e.amount) AS lines,
        array_agg(ROW(e.account_id, CASE e.side WHEN 'debit' THEN 'credit' ELSE 'debit' END,
            e.amount)::text ORDER BY e.account_id,
            CASE e.side WHEN 'debit' THEN 'credit' ELSE 'debit' END, e.amount) AS mirrored
    FROM (SELECT id FROM head WHERE reverses IS NOT NULL
          UNION SELECT reverses FROM head WHERE reverses IS NOT NULL) AS p
    JOIN ledger.entries e ON e.posting_id = p.id GROUP BY p.id
)
SELECT 'page' AS kind, (SELECT booked_at || '|' || id FROM head ORDER BY booked_at DESC, id DESC
        LIMIT 1) AS subject, '' AS asset, count(*) AS difference
FROM head HAVING count(*) > 0
UNION ALL
SELECT 'unbalanced_posting', id::text, asset,
    sum(CASE side WHEN 'debit' THEN amount ELSE -amount END)
FROM line GROUP BY id, asset HAVING sum(CASE side WHEN 'debit' THEN amount ELSE -amount END) <> 0
UNION ALL
SELECT 'foreign_asset', id::text, asset, amount FROM line
WHERE account_asset IS DISTINCT FROM asset
UNION ALL
SELECT 'posting_without_entries', h.id::text, '', 0 FROM head h
WHERE NOT EXISTS (SELECT 1 FROM line l WHERE l.id = h.id)
UNION ALL
SELECT 'reversed_twice', h.reverses::text, '', 0 FROM head h
WHERE EXISTS (SELECT 1 FROM ledger.postings o WHERE o.reverses = h.reverses AND o.id <> h.id)
UNION ALL
SELECT 'reversal_differs', h.id::text, '', 0 FROM head h
LEFT JOIN content mine ON mine.id = h.id LEFT JOIN content original ON original.id = h.reverses
WHERE h.reverses IS NOT NULL AND mine.mirrored IS DISTINCT FROM original.lines
"""

_ENTRIES = """
WITH entry AS MATERIALIZED (
    SELECT posting_id, line, booked_at, account_id, asset, amount FROM ledger.entries
    WHERE (posting_id, CAST(line AS integer))
            > (CAST(CAST(:first AS text) AS uuid), CAST(CAST(:second AS text) AS integer))
        AND posting_id >= CAST(CAST(:first AS text) AS uuid)
    ORDER BY posting_id, line LIMIT :limit
)
SELECT 'page' AS kind, (SELECT posting_id || '|' || line FROM entry
        ORDER BY posting_id DESC, line DESC LIMIT 1) AS subject, '' AS asset,
    count(*) AS difference
FROM entry HAVING count(*) > 0
UNION ALL
SELECT 'entry_without_posting', e.posting_id || ' line ' || e.line, e.asset, e.amount FROM entry e
WHERE NOT EXISTS (SELECT 1 FROM ledger.postings p
                  WHERE p.id = e.posting_id AND p.booked_at = e.booked_at)
"""

# A player's reserved and in-flight money is also what their holds say.
_ACCOUNTS = """
WITH account AS MATERIALIZED (
    SELECT a.id, a.code, a.kind, a.asset, a.brand, a.player_id, a.normal_side, a.is_checked
    FROM ledger.accounts a WHERE a.id > CAST(CAST(:first AS text) AS bigint)
    ORDER BY a.id LIMIT :limit
), replayed AS MATERIALIZED (
    SELECT a.id, b.is_checked AS cached_check, b.balance + coalesce(
            (SELECT sum(p.delta) FROM ledger.pending_credits p WHERE p.account_id = a.id), 0)
            AS cached,
        coalesce((SELECT sum(CASE WHEN e.side = a.normal_side THEN e.amount ELSE -e.amount END)
                  FROM ledger.entries e WHERE e.account_id = a.id), 0) AS entered
    FROM account a LEFT JOIN ledger.balances b ON b.account_id = a.id
), held AS (
    SELECT h.brand, h.player_id, h.asset,
        CASE h.state WHEN 'open' THEN 'reserved' ELSE 'in_flight' END AS kind,
        sum(h.amount) AS amount
    FROM ledger.holds h WHERE h.state IN ('open', 'captured') GROUP BY 1, 2, 3, 4
)
SELECT 'page' AS kind, (SELECT max(id) FROM account)::text AS subject, '' AS asset,
    count(*) AS difference
FROM account HAVING count(*) > 0
UNION ALL
SELECT 'cache_drift', a.code, a.asset, coalesce(r.cached, 0) - r.entered
FROM account a JOIN replayed r ON r.id = a.id
WHERE r.cached IS DISTINCT FROM r.entered OR r.cached_check IS DISTINCT FROM a.is_checked
UNION ALL
SELECT 'negative_account', a.code, a.asset, least(r.cached, r.entered)
FROM account a JOIN replayed r ON r.id = a.id
WHERE a.is_checked AND least(r.cached, r.entered) < 0
UNION ALL
SELECT 'hold_drift', a.code, a.asset, r.entered - coalesce(h.amount, 0)
FROM account a JOIN replayed r ON r.id = a.id
LEFT JOIN held h ON (h.brand, h.player_id, h.asset, h.kind)
    = (a.brand, a.player_id, a.asset, a.kind)
WHERE a.kind IN ('reserved', 'in_flight') AND r.entered <> coalesce(h.amount, 0)
"""

# What the sealer may still come back for, and what is younger, waits and is no finding.
_UNSEALED = """
WITH head AS MATERIALIZED (
    SELECT id, booked_at FROM ledger.postings
    WHERE (booked_at, id)
        > (CAST(CAST(:first AS text) AS timestamptz), CAST(CAST(:second AS text) AS uuid))
    ORDER BY booked_at, id LIMIT :limit
), unsealed AS (
    SELECT h.booked_at, h.id FROM head h
    EXCEPT
    SELECT u.at, u.id FROM ledger.seals s, unnest(s.moments, s.postings) AS u (at, id)
    WHERE s.first_at <= (SELECT max(booked_at) FROM head)
        AND s.last_at >= (SELECT min(booked_at) FROM head)
)
SELECT 'page' AS kind, (SELECT booked_at || '|' || id FROM head ORDER BY booked_at DESC, id DESC
        LIMIT 1) AS subject, '' AS asset, count(*) AS difference
FROM head HAVING count(*) > 0
UNION ALL
SELECT 'unsealed_posting', n.id::text, '', 0 FROM unsealed n
WHERE n.booked_at < (SELECT max(until) - interval '10 minutes' FROM ledger.seals)
"""

STATEMENTS = {
    "postings": _POSTINGS,
    "entries": _ENTRIES,
    "accounts": _ACCOUNTS,
    "unsealed": _UNSEALED,
}


async def page(uow: Uow, part: str, *, place: Sequence[str], limit: int) -> Sequence[Row]:
    """One page of a part after a place."""
    parameters: dict[str, object] = dict(zip(("first", "second"), place, strict=False))
    result = await uow.execute(STATEMENTS[part], {**parameters, "limit": limit})
    return result.mappings().all()


async def read_only(uow: Uow) -> None:
    """Nothing is written in this unit of work, whatever is called in it."""
    await uow.execute("SET TRANSACTION READ ONLY")


async def lost_pending(uow: Uow) -> Sequence[Row]:
    """Pending rows of no account: no page of accounts can meet them."""
    result = await uow.execute(
        """
        SELECT 'pending_without_account' AS kind, p.account_id::text AS subject, '' AS asset,
            sum(p.delta) AS difference
        FROM ledger.pending_credits p
        WHERE NOT EXISTS (SELECT 1 FROM ledger.accounts a WHERE a.id = p.account_id)
        GROUP BY p.account_id
        """
    )
    return result.mappings().all()
