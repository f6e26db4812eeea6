"""The independent auditor (HOUSE 12): a simple model of the books, told in its own SQL.

It imports nothing of the house and trusts no column that code derives (normal side, checked): it
reads the tables as their owner and answers every violation as one sentence. The points are those
of HOUSE 12, in its order; "custody = chain holdings" is `reconcile_chain`'s, which has nodes.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.sandbox.auditor_transitions import SPECIAL_EVENTS, allowed

_BOOKS = """
    WITH sums AS (
        SELECT a.id, a.code, a.kind, a.asset, a.brand, a.player_id,
            coalesce(sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END), 0) AS debit
        FROM ledger.accounts a LEFT JOIN ledger.entries e ON e.account_id = a.id GROUP BY a.id
    ), books AS (
        SELECT *, CASE WHEN kind IN ('custody', 'receivable', 'network_fee', 'reorg_loss',
            'write_off')
            THEN debit ELSE -debit END AS balance
        FROM sums
    ), cached AS (
        SELECT b.account_id, b.balance + coalesce((
            SELECT sum(p.delta) FROM ledger.pending_credits p
            WHERE p.account_id = b.account_id), 0) AS balance
        FROM ledger.balances b
    )
"""

_DEBITS_EQUAL_CREDITS = {
    "postings": """
        SELECT format('posting %s: debits exceed credits by %s in %s', posting_id,
            sum(CASE side WHEN 'debit' THEN amount ELSE -amount END), asset)
        FROM ledger.entries GROUP BY posting_id, asset
        HAVING sum(CASE side WHEN 'debit' THEN amount ELSE -amount END) <> 0
    """,
    "whole postings": """
        SELECT format('posting %s: head or entries are missing', coalesce(p.id, e.posting_id))
        FROM ledger.postings p
        FULL JOIN (SELECT DISTINCT posting_id, booked_at FROM ledger.entries) e
            ON (e.posting_id, e.booked_at) = (p.id, p.booked_at)
        WHERE p.id IS NULL OR e.posting_id IS NULL
    """,
    "assets": """
        SELECT format('posting %s: %s on account %s', e.posting_id, e.asset, a.code)
        FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id
        WHERE a.asset <> e.asset
    """,
    "reversals": """
        SELECT format('posting %s was reversed %s times, or does not exist', r.reverses, count(*))
        FROM ledger.postings r LEFT JOIN ledger.postings o ON o.id = r.reverses
        WHERE r.reverses IS NOT NULL GROUP BY r.reverses
        HAVING count(*) > 1 OR bool_or(o.id IS NULL)
    """,
}

_NOBODY_BELOW_ZERO = {
    "below zero": _BOOKS
    + """
        SELECT format('account %s is below zero: %s', b.code, least(b.balance, c.balance))
        FROM books b JOIN cached c ON c.account_id = b.id
        WHERE b.kind IN ('provisional', 'held', 'reserved', 'in_flight', 'clearing',
                         'unallocated', 'receivable')
            AND (b.balance < 0 OR c.balance < 0 OR b.balance = 'NaN' OR c.balance = 'NaN')
    """,
    "cache": _BOOKS
    + """
        SELECT format('account %s: cached %s, its entries say %s', b.code, c.balance, b.balance)
        FROM books b LEFT JOIN cached c ON c.account_id = b.id
        WHERE b.balance IS DISTINCT FROM c.balance
    """,
}

_CUSTODY_COVERS = {
    "custody": _BOOKS
    + """
        SELECT format('%s: custody differs from all other accounts by %s', asset, sum(debit))
        FROM books GROUP BY asset HAVING sum(debit) <> 0
    """,
    "cover": _BOOKS
    + """
        , totals AS (
            SELECT asset,
                sum(balance) FILTER (WHERE kind IN ('custody', 'receivable')) AS cover,
                sum(balance) FILTER (WHERE kind IN ('provisional', 'held', 'reserved', 'in_flight',
                                                    'clearing', 'unallocated')) AS owed
            FROM books GROUP BY asset
        )
        SELECT format('%s: custody and receivables %s do not cover liabilities %s', asset,
            coalesce(cover, 0), owed)
        FROM totals WHERE coalesce(cover, 0) < coalesce(owed, 0)
    """,
}

_CREDITED = """
    WITH moved AS (
        SELECT regexp_replace(p.reference, '[:][0-9]+[:][a-z_]+$', '') AS transfer,
            regexp_replace(p.reference, '[:][a-z_]+$', '') AS cycle,
            sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) AS amount
        FROM ledger.postings p
        JOIN ledger.entries e ON e.posting_id = p.id
        JOIN ledger.accounts a ON a.id = e.account_id AND a.kind = 'custody'
        WHERE p.reference LIKE 'deposit:%' GROUP BY p.id, p.reference
    ), deposits AS (
        SELECT d.*, 'deposit:' || d.network || ':' || d.txid || ':' || d.position
            || CASE WHEN d.is_coinbase THEN '@' || k.coinbase_hash ELSE '' END AS transfer
        FROM chain.deposits d LEFT JOIN chain.deposit_keys k ON k.deposit_id = d.id
    )
"""

_CREDITED_ONCE = {
    "cycles": _CREDITED
    + """
        SELECT format('%s is credited %s times', cycle, count(*)) FROM moved
        WHERE amount > 0 GROUP BY cycle HAVING count(*) > 1
    """,
    "standing": _CREDITED
    + """
        SELECT format('%s: custody has %s of it, its deposit says %s', coalesce(m.transfer,
            d.transfer), coalesce(m.amount, 0), coalesce(d.amount, 0))
        FROM (SELECT transfer, sum(amount) AS amount FROM moved GROUP BY transfer) m
        FULL JOIN (
            SELECT transfer, sum(amount) FILTER (WHERE credited_stage IS NOT NULL) AS amount
            FROM deposits GROUP BY transfer) d ON d.transfer = m.transfer
        WHERE coalesce(m.amount, 0) <> coalesce(d.amount, 0)
    """,
    "keys": """
        SELECT format('transfer %s %s %s stands as %s deposits', network, txid, position, count(*))
        FROM chain.deposits WHERE NOT is_coinbase
        GROUP BY network, txid, position HAVING count(*) > 1
        UNION ALL
        SELECT format('deposit %s has no key', d.id) FROM chain.deposits d
        LEFT JOIN chain.deposit_keys k ON k.deposit_id = d.id
            AND (k.network, k.txid, k.position) = (d.network, d.txid, d.position)
        WHERE k.deposit_id IS NULL
    """,
    "provisional": _BOOKS
    + """
        SELECT format('player %s of %s: %s %s, the deposits say %s', coalesce(b.player_id,
            d.player_id), coalesce(b.brand, d.brand), coalesce(b.kind, d.kind),
            coalesce(b.balance, 0), coalesce(d.amount, 0))
        FROM (SELECT kind, brand, player_id, asset, balance FROM books
            WHERE kind IN ('provisional', 'held')) b
        FULL JOIN (
            SELECT credited_stage AS kind, brand, player_id, asset, sum(amount) AS amount
            FROM chain.deposits WHERE credited_stage IN ('provisional', 'held')
            GROUP BY credited_stage, brand, player_id, asset) d
            USING (kind, brand, player_id, asset)
        WHERE coalesce(b.balance, 0) <> coalesce(d.amount, 0)
    """,
}

_PAID_ONCE = {
    "final attempts": """
        SELECT format('withdrawal %s/%s is paid by %s final txs', w.brand, w.request_id, count(*))
        FROM gateway.withdrawals w
        JOIN gateway.attempt_members m ON m.withdrawal_id = w.id
        JOIN chain.outgoing o ON o.id = m.attempt_id
        WHERE o.state = 'final' AND o.is_success IS NOT FALSE
        GROUP BY w.brand, w.request_id HAVING count(*) > 1
    """,
    "families": """
        SELECT format('withdrawal %s/%s rides on %s live families', w.brand, w.request_id,
            count(DISTINCT o.family_id))
        FROM gateway.withdrawals w
        JOIN gateway.attempt_members m ON m.withdrawal_id = w.id
        JOIN chain.outgoing o ON o.id = m.attempt_id
        WHERE o.state IN ('signed', 'broadcast', 'seen', 'mined', 'final', 'dropped')
        GROUP BY w.brand, w.request_id HAVING count(DISTINCT o.family_id) > 1
    """,
    "settlements": """
        SELECT format('withdrawal %s/%s is %s, settled %s of %s', w.brand, w.request_id, w.state,
            coalesce(s.amount, 0), w.amount)
        FROM gateway.withdrawals w LEFT JOIN (
            SELECT split_part(p.reference, ':', 2) AS id,
                sum(CASE e.side WHEN 'debit' THEN e.amount ELSE -e.amount END) AS amount
            FROM ledger.postings p
            JOIN ledger.entries e ON e.posting_id = p.id
            JOIN ledger.accounts a ON a.id = e.account_id AND a.kind = 'in_flight'
            WHERE split_part(p.reference, ':', 3) = 'settled' GROUP BY 1) s ON s.id = w.id::text
        WHERE coalesce(s.amount, 0) <> CASE w.state WHEN 'completed' THEN w.amount ELSE 0 END
    """,
}

_SENT_BACK_ONCE = {
    "refunds": """
        SELECT format('deposit %s is %s (%s), its refunds are %s', d.id, d.state,
            coalesce(d.credited_stage, 'nothing'), coalesce(r.states, 'none'))
        FROM chain.deposits d LEFT JOIN (
            SELECT deposit_id, string_agg(state, ' ') AS states,
                count(*) FILTER (WHERE state NOT IN ('completed', 'failed')) AS alive,
                count(*) FILTER (WHERE state = 'completed') AS paid
            FROM gateway.withdrawals
            WHERE kind = 'refund' AND state NOT IN ('declined', 'expired')
            GROUP BY deposit_id) r ON r.deposit_id = d.id
        WHERE (coalesce(r.alive, 0) <> CASE d.state WHEN 'refunding' THEN 1 ELSE 0 END
                AND coalesce(d.substatus, '') <> 'sent_back')
            OR coalesce(r.alive, 0) + coalesce(r.paid, 0) > 1
            OR (d.state = 'refunded' OR (d.state = 'orphaned' AND d.prior_state = 'refunded'))
                <> (coalesce(r.paid, 0) = 1 AND coalesce(d.substatus, '') <> 'sent_back')
            OR (d.credited_stage LIKE 'refund%') IS DISTINCT FROM
                (CASE WHEN d.credited_stage IS NOT NULL THEN d.state IN ('refunding', 'refunded')
                    OR (d.state = 'orphaned' AND d.prior_state = 'refunded') END)
    """,
    "their deposits": """
        SELECT format('refund %s of %s %s is not of deposit %s', w.id, w.amount, w.asset, d.id)
        FROM gateway.withdrawals w LEFT JOIN chain.deposits d ON d.id = w.deposit_id
        WHERE w.kind = 'refund' AND (w.brand, w.player_id, w.network, w.asset, w.amount)
            IS DISTINCT FROM (d.brand, d.player_id, d.network, d.asset, d.amount)
    """,
    "their sources": """
        SELECT format('refund %s of a deposit that is %s took %s', w.id,
            coalesce(d.credited_stage, 'nowhere'), h.source)
        FROM gateway.withdrawals w JOIN ledger.holds h ON h.id = w.id
        JOIN chain.deposits d ON d.id = w.deposit_id
        WHERE w.kind = 'refund' AND h.state IN ('open', 'captured', 'settled')
            AND d.credited_stage IS NOT NULL AND d.credited_stage <> 'refund_' || h.source
    """,
}

_TOLD_ONCE = {
    "history": """
        SELECT format('%s %s: versions %s to %s in %s rows', object_kind, object_id, min(version),
            max(version), count(*))
        FROM ledger.state_history GROUP BY object_kind, object_id
        HAVING min(version) <> 1 OR max(version) <> count(*)
    """,
    "rows": """
        SELECT format('%s %s is %s at version %s, its history ends with %s at %s', r.kind, r.id,
            r.state, r.version, coalesce(h.to_state, 'nothing'), coalesce(h.version, 0))
        FROM (SELECT 'deposit' AS kind, id, state, version FROM chain.deposits
              UNION ALL SELECT 'withdrawal', id, state, version FROM gateway.withdrawals
              UNION ALL SELECT 'contract_setup', id, state, version FROM gateway.contract_setups) r
        LEFT JOIN LATERAL (
            SELECT s.to_state, s.version FROM ledger.state_history s
            WHERE s.object_id = r.id AND s.object_kind = r.kind
            ORDER BY s.version DESC LIMIT 1) h ON true
        WHERE (r.state, r.version) IS DISTINCT FROM (h.to_state, h.version)
    """,
    "events": """
        SELECT format('%s %s version %s: %s history rows, %s events',
            coalesce(h.object_kind, e.object_kind), coalesce(h.object_id, e.object_id),
            coalesce(h.version, e.version), coalesce(h.n, 0), coalesce(e.n, 0))
        FROM (SELECT object_kind, object_id, version, count(*) AS n
              FROM ledger.state_history WHERE object_kind IN ('deposit', 'withdrawal', 'rebalance')
              GROUP BY 1, 2, 3) h
        FULL JOIN (SELECT object_kind, object_id, object_version AS version, count(*) AS n
                   FROM ledger.events WHERE object_kind IN ('deposit', 'withdrawal', 'rebalance')
                   GROUP BY 1, 2, 3) e USING (object_kind, object_id, version)
        WHERE coalesce(h.n, 0) <> 1 OR coalesce(e.n, 0) <> 1
    """,
    "event types": """
        SELECT format('event %s says %s from %s, the history of %s %s says %s from %s', e.id,
            e.type, coalesce(e.previous_state, 'nothing'), h.object_kind, h.object_id, h.to_state,
            coalesce(h.from_state, 'nothing'))
        FROM ledger.events e
        JOIN ledger.state_history h ON h.object_id = e.object_id AND h.version = e.object_version
            AND h.object_kind = e.object_kind
        WHERE e.previous_state IS DISTINCT FROM h.from_state
            OR e.brand IS DISTINCT FROM h.brand
            OR e.type <> coalesce(
                CAST(:special AS jsonb)
                    ->> (h.object_kind || ':' || coalesce(h.from_state, '') || '>' || h.to_state),
                h.object_kind || '.' || h.to_state)
    """,
    "numbers": """
        SELECT format('feed of %s: %s events, numbers %s to %s, counter %s', l.brand, count(*),
            min(l.seq), max(l.seq), max(c.last_seq))
        FROM gateway.event_log l LEFT JOIN gateway.event_counters c USING (brand)
        GROUP BY l.brand
        HAVING min(l.seq) <> 1 OR max(l.seq) <> count(*)
            OR max(c.last_seq) IS DISTINCT FROM max(l.seq)
    """,
}

_TRANSITIONS_ALLOWED = {
    "steps": """
        SELECT format('%s %s went from %s to %s at version %s', object_kind, object_id,
            coalesce(from_state, 'nothing'), to_state, version)
        FROM ledger.state_history
        WHERE object_kind || ':' || coalesce(from_state, '') || '>' || to_state
            <> ALL (CAST(:allowed AS text[]))
    """,
    "chained": """
        SELECT format('%s %s was %s, its next change says it was %s', object_kind, object_id,
            coalesce(before, 'nothing'), coalesce(from_state, 'nothing'))
        FROM (SELECT *, lag(to_state) OVER (PARTITION BY object_id ORDER BY version) AS before
              FROM ledger.state_history) h
        WHERE before IS DISTINCT FROM from_state
    """,
}

_HOLDS = {
    "stages": _BOOKS
    + """
        SELECT format('player %s of %s: %s %s, the holds say %s', coalesce(b.player_id,
            h.player_id), coalesce(b.brand, h.brand), kind, coalesce(b.balance, 0),
            coalesce(h.amount, 0))
        FROM (SELECT brand, player_id, asset, kind, balance FROM books
              WHERE kind IN ('reserved', 'in_flight')) b
        FULL JOIN (
            SELECT brand, player_id, asset,
                CASE state WHEN 'open' THEN 'reserved' ELSE 'in_flight' END AS kind,
                sum(amount) AS amount
            FROM ledger.holds WHERE state IN ('open', 'captured') GROUP BY 1, 2, 3, 4) h
            USING (brand, player_id, asset, kind)
        WHERE coalesce(b.balance, 0) <> coalesce(h.amount, 0)
    """,
    "withdrawals": """
        SELECT format('withdrawal %s is %s, its hold is %s', w.id, w.state,
            coalesce(h.state, 'missing'))
        FROM gateway.withdrawals w LEFT JOIN ledger.holds h ON h.id = w.id
        WHERE (h.id IS NOT NULL AND (h.brand, h.player_id, h.asset, h.amount)
                <> (w.brand, w.player_id, w.asset, w.amount))
            OR NOT CASE
                WHEN w.state IN ('signed', 'broadcasting', 'uncertain', 'sent', 'confirming',
                                 'cancelling') THEN coalesce(h.state = 'captured', false)
                WHEN w.state = 'completed' THEN coalesce(h.state = 'settled', false)
                WHEN w.state = 'failed' THEN coalesce(h.state = 'returned', false)
                WHEN w.state IN ('reserved', 'screening', 'pending_approval', 'queued', 'planned')
                    THEN coalesce(h.state = 'open', false)
                WHEN w.state IN ('received', 'rejected') THEN h.id IS NULL
                WHEN w.state IN ('on_hold', 'waiting_liquidity')
                    THEN h.id IS NULL OR h.state IN ('open', 'captured')
                ELSE h.id IS NULL OR h.state IN ('released', 'returned') END
    """,
}

_AT_REST = {
    "open holds": """
        SELECT format('hold %s is %s without a live withdrawal', h.id, h.state)
        FROM ledger.holds h LEFT JOIN gateway.withdrawals w ON w.id = h.id
        WHERE h.state IN ('open', 'captured') AND (w.id IS NULL OR w.state IN (
            'rejected', 'completed', 'cancelled', 'failed', 'declined', 'expired'))
    """,
    "queues": """
        SELECT format('%s %s waits in %s', queue, id, state) FROM (
            SELECT 'withdrawal' AS queue, id::text, state FROM gateway.withdrawals
            WHERE state NOT IN ('rejected', 'completed', 'cancelled', 'failed', 'declined',
                'expired', 'on_hold', 'pending_approval', 'waiting_liquidity')
            UNION ALL
            SELECT 'tx', id::text, state FROM chain.outgoing
            WHERE state IN ('built', 'signed', 'broadcast', 'seen', 'mined')
            UNION ALL
            SELECT 'event', event_id::text, 'no number' FROM gateway.event_queue
            UNION ALL
            SELECT 'delivery', d.id::text, d.state FROM gateway.deliveries d
            JOIN gateway.webhook_endpoints e ON e.id = d.endpoint_id AND e.state = 'active'
            WHERE d.state = 'pending'
            UNION ALL
            SELECT 'request', key, state FROM gateway.idempotency WHERE state = 'running'
            UNION ALL
            SELECT 'probe', id::text, state FROM chain.probes WHERE state = 'asked'
        ) AS work
    """,
    "coins": """
        SELECT format('coin %s:%s is reserved by %s, which is %s', c.txid, c.vout, c.reserved_by,
            o.state)
        FROM chain.coins c JOIN chain.outgoing o ON o.id = c.reserved_by
        WHERE c.spent_by IS NULL AND o.state IN ('replaced', 'refused', 'expired')
    """,
}

_ALWAYS: Mapping[str, Mapping[str, str]] = {
    "1 debits = credits": _DEBITS_EQUAL_CREDITS,
    "2 nobody below zero": _NOBODY_BELOW_ZERO,
    "3 custody covers": _CUSTODY_COVERS,
    "4 credited once": _CREDITED_ONCE,
    "5 paid once": _PAID_ONCE,
    "5 sent back once": _SENT_BACK_ONCE,
    "6 told once": _TOLD_ONCE,
    "7 allowed transitions": _TRANSITIONS_ALLOWED,
    "8 holds": _HOLDS,
}
_ONLY_AT_REST: Mapping[str, Mapping[str, str]] = {"8 at rest": _AT_REST}


async def audit(source: AsyncConnection | AsyncEngine, *, at_rest: bool) -> list[str]:
    """Every violation as a sentence, led by its point of HOUSE 12; empty when all is well.

    `source` connects as the owner, whom row-level security does not narrow. With `at_rest`, no
    queue may have work either. One snapshot for all points: it may run beside live roles.
    """
    if isinstance(source, AsyncConnection):
        return await _audit(source, at_rest=at_rest)
    async with source.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        return await _audit(connection, at_rest=at_rest)


async def _audit(connection: AsyncConnection, *, at_rest: bool) -> list[str]:
    points = {**_ALWAYS, **(_ONLY_AT_REST if at_rest else {})}
    violations: list[str] = []
    for point, checks in points.items():
        for statement in checks.values():
            result = await connection.execute(text(statement), _parameters(statement))
            violations += [f"{point}: {sentence}" for sentence in sorted(result.scalars())]
    return violations


def _parameters(statement: str) -> dict[str, Any]:
    values: dict[str, Any] = {"allowed": allowed(), "special": json.dumps(SPECIAL_EVENTS)}
    return {name: value for name, value in values.items() if f"CAST(:{name} AS" in statement}
