"""SQL that holds deposits and withdrawals against the postings that they must have made.

As in `ledger.verify_store`: one statement per page, findings and one row of kind `page`. References
are built, not searched: a deposit's cycles and a withdrawal's versions say which there can be.
"""

from collections.abc import Sequence

from sqlalchemy import RowMapping

from config.database import Uow

_DEPOSITS = """
WITH deposit AS MATERIALIZED (
    SELECT d.id, d.cycle, d.state, d.substatus, d.asset, d.amount, d.credited_stage,
        'deposit:' || d.network || ':' || d.txid || ':' || d.position || CASE WHEN d.is_coinbase
            THEN '@' || coalesce(chain.coinbase_hash(d.id), '') ELSE '' END || ':' AS stem
    FROM chain.deposits d WHERE d.id > CAST(:place AS uuid) ORDER BY d.id LIMIT :limit
), step AS MATERIALIZED (
    SELECT d.id, c.cycle, s.step, p.id AS posting_id, p.booked_at
    FROM deposit d CROSS JOIN LATERAL generate_series(1, d.cycle) AS c (cycle)
    CROSS JOIN (VALUES ('provisional'), ('clearing'), ('unallocated'), ('held'), ('final'),
                       ('released'), ('reversed')) AS s (step)
    JOIN ledger.postings p ON p.reference = d.stem || c.cycle || ':' || s.step
), cycle AS MATERIALIZED (
    SELECT s.id, s.cycle, bool_or(s.step = 'reversed') AS is_reversed,
        count(*) FILTER (WHERE s.step IN ('provisional', 'clearing', 'unallocated'))
            + CASE WHEN bool_or(s.step = 'held') AND NOT bool_or(s.step = 'provisional')
                THEN 1 ELSE 0 END AS credits,
        CASE WHEN bool_or(s.step = 'reversed') THEN NULL
            WHEN bool_or(s.step IN ('clearing', 'final', 'released')) THEN 'clearing'
            WHEN bool_or(s.step = 'unallocated') THEN 'unallocated'
            WHEN bool_or(s.step = 'held') THEN 'held'
            WHEN bool_or(s.step = 'provisional') THEN 'provisional' END AS stage
    FROM step s GROUP BY s.id, s.cycle
), custody AS (
    SELECT s.id, sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) AS amount
    FROM step s
    JOIN ledger.entries e ON e.posting_id = s.posting_id AND e.booked_at = s.booked_at
    JOIN ledger.accounts a ON a.id = e.account_id AND a.kind = 'custody' GROUP BY s.id
)
SELECT 'page' AS kind, (SELECT id FROM deposit ORDER BY id DESC LIMIT 1)::text AS subject,
    '' AS asset, count(*) AS difference
FROM deposit HAVING count(*) > 0
UNION ALL
SELECT 'deposit_amount', d.id::text, d.asset, coalesce(c.amount, 0)
        - CASE WHEN d.credited_stage IS NULL THEN 0 ELSE d.amount END
FROM deposit d LEFT JOIN custody c ON c.id = d.id
WHERE coalesce(c.amount, 0) <> CASE WHEN d.credited_stage IS NULL THEN 0 ELSE d.amount END
UNION ALL
SELECT 'deposit_credited_twice', d.id::text, d.asset, d.amount * (c.credits - 1)
FROM deposit d JOIN cycle c ON c.id = d.id WHERE c.credits > 1
UNION ALL
SELECT 'deposit_cycle_open', d.id::text, d.asset, d.amount
FROM deposit d JOIN cycle c ON c.id = d.id
WHERE c.cycle < d.cycle AND c.credits > 0 AND NOT c.is_reversed
UNION ALL
SELECT 'deposit_stage', d.id::text, d.asset, 0
FROM deposit d LEFT JOIN cycle c ON c.id = d.id AND c.cycle = d.cycle
WHERE c.stage IS DISTINCT FROM replace(d.credited_stage, 'refund_', '')
    OR NOT CASE
        WHEN d.state IN ('refunding', 'refunded')
            THEN coalesce(d.credited_stage LIKE 'refund%', false)
        WHEN d.state = 'final' THEN coalesce(d.credited_stage = 'clearing', false)
        WHEN d.state = 'provisional' THEN coalesce(d.credited_stage = 'provisional', false)
        WHEN d.state IN ('detected', 'replaced', 'dropped', 'pending', 'reversed')
            THEN d.credited_stage IS NULL
        ELSE coalesce(d.credited_stage NOT LIKE 'refund%' OR d.state = 'orphaned', true) END
UNION ALL
SELECT 'deposit_refund', d.id::text, d.asset, 0
FROM deposit d LEFT JOIN LATERAL (
    SELECT count(*) AS all_of_it, count(*) FILTER (WHERE w.state <> 'completed') AS alive
    FROM gateway.withdrawals w
    WHERE w.deposit_id = d.id AND w.kind = 'refund'
        AND w.state NOT IN ('declined', 'expired', 'failed')
) AS r ON true
WHERE r.all_of_it > 1
    OR (r.alive <> CASE d.state WHEN 'refunding' THEN 1 ELSE 0 END
        AND coalesce(d.substatus, '') <> 'sent_back')
    OR (d.state = 'refunded' AND r.all_of_it <> 1)
"""

_WITHDRAWALS = """
WITH withdrawal AS MATERIALIZED (
    SELECT w.id, w.brand, w.player_id, w.asset, w.amount, w.state, w.version
    FROM gateway.withdrawals w WHERE w.id > CAST(:place AS uuid) ORDER BY w.id LIMIT :limit
), settled AS (
    SELECT w.id, sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) AS amount
    FROM withdrawal w CROSS JOIN LATERAL generate_series(1, w.version) AS v (version)
    CROSS JOIN (VALUES (''), ('\\:reversed')) AS s (step)
    JOIN ledger.postings p
        ON p.reference = 'withdrawal:' || w.id || ':settled:' || v.version || s.step
    JOIN ledger.entries e ON e.posting_id = p.id AND e.booked_at = p.booked_at
    JOIN ledger.accounts a ON a.id = e.account_id AND a.kind = 'in_flight' GROUP BY w.id
)
SELECT 'page' AS kind, (SELECT id FROM withdrawal ORDER BY id DESC LIMIT 1)::text AS subject,
    '' AS asset, count(*) AS difference
FROM withdrawal HAVING count(*) > 0
UNION ALL
SELECT 'withdrawal_amount', w.id::text, w.asset, coalesce(s.amount, 0)
        - CASE w.state WHEN 'completed' THEN w.amount ELSE 0 END
FROM withdrawal w LEFT JOIN settled s ON s.id = w.id
WHERE coalesce(s.amount, 0) <> CASE w.state WHEN 'completed' THEN w.amount ELSE 0 END
UNION ALL
SELECT 'withdrawal_hold', w.id::text, w.asset, coalesce(h.amount, 0) - w.amount
FROM withdrawal w LEFT JOIN ledger.holds h ON h.id = w.id
WHERE (h.id IS NOT NULL AND (h.brand, h.player_id, h.asset, h.amount)
        <> (w.brand, w.player_id, w.asset, w.amount))
    OR NOT CASE
        WHEN w.state IN ('signed', 'broadcasting', 'uncertain', 'sent', 'confirming', 'cancelling')
            THEN coalesce(h.state = 'captured', false)
        WHEN w.state = 'completed' THEN coalesce(h.state = 'settled', false)
        WHEN w.state = 'failed' THEN coalesce(h.state = 'returned', false)
        WHEN w.state IN ('reserved', 'screening', 'pending_approval', 'queued', 'planned')
            THEN coalesce(h.state = 'open', false)
        WHEN w.state IN ('received', 'rejected') THEN h.id IS NULL
        WHEN w.state IN ('on_hold', 'waiting_liquidity')
            THEN h.id IS NULL OR h.state IN ('open', 'captured')
        ELSE h.id IS NULL OR h.state IN ('released', 'returned') END
"""

STATEMENTS = {"deposits": _DEPOSITS, "withdrawals": _WITHDRAWALS}


async def page(uow: Uow, part: str, *, place: str, limit: int) -> Sequence[RowMapping]:
    """One page of a part after an id."""
    result = await uow.execute(STATEMENTS[part], {"place": place, "limit": limit})
    return result.mappings().all()
