"""SQL of the benchmark `ledger.reconcile`: books filled in bulk, and one bare sum over them.

The triggers of the journal stand aside while it is filled, which only the owner of a throw-away
database may do; what is written is what `ledger.post` would have written.
"""

import asyncpg

from config.clock import SystemClock

TIMEOUT_SECONDS = 600.0
STEP = 100_000  # postings in one statement

_ACCOUNTS = """
INSERT INTO ledger.accounts (code, kind, asset, brand, player_id, wallet)
SELECT 'custody:btc/hot:' || $1, 'custody', $1, NULL, NULL, 'btc/hot'
UNION ALL
SELECT 'player:bench:' || i || ':provisional:' || $1, 'provisional', $1, 'bench', i::text, NULL
FROM generate_series(0, $2::integer - 1) AS i
"""
_BLOCKS = """
INSERT INTO chain.blocks (network, height, hash, parent_hash, time_seconds, is_canonical)
SELECT 'btc', i, lpad(to_hex(i), 64, '0'), '', 0, true FROM generate_series(1, $1::bigint) AS i
"""
_POSTINGS = """
INSERT INTO ledger.postings (reference, id, booked_at, kind, network, block_hash, block_height)
SELECT 'bench:' || i, lpad(to_hex(i), 32, '0')::uuid, $3, 'bench', 'btc',
    lpad(to_hex(i / $4 + 1), 64, '0'), i / $4 + 1
FROM generate_series($1::bigint, $2::bigint - 1) AS i
"""
_ENTRIES = """
INSERT INTO ledger.entries (posting_id, line, booked_at, account_id, asset, side, amount)
SELECT lpad(to_hex(i), 32, '0')::uuid, l.line, $3, a.id, $4, l.side, 1
FROM generate_series($1::bigint, $2::bigint - 1) AS i
CROSS JOIN (VALUES (1, 'debit'), (2, 'credit')) AS l (line, side)
JOIN ledger.accounts a ON a.code = CASE l.line WHEN 1 THEN 'custody:btc/hot:' || $4
    ELSE 'player:bench:' || i % $5::bigint || ':provisional:' || $4 END
"""
_BALANCES = """
WITH summed AS (
    SELECT account_id, sum(amount) AS total FROM ledger.entries GROUP BY account_id
), checked AS (
    INSERT INTO ledger.checked_balances (account_id, balance)
    SELECT a.id, s.total FROM summed s JOIN ledger.accounts a ON a.id = s.account_id
    WHERE a.is_checked ON CONFLICT (account_id) DO UPDATE SET balance = excluded.balance
)
INSERT INTO ledger.free_balances (account_id, balance)
SELECT a.id, s.total FROM summed s JOIN ledger.accounts a ON a.id = s.account_id
WHERE NOT a.is_checked ON CONFLICT (account_id) DO UPDATE SET balance = excluded.balance
"""


async def fill(url: str, *, postings: int, players: int, per_block: int, asset: str) -> None:
    """Postings of one unit each from custody to a player, with a block for each `per_block`."""
    at = SystemClock().now()
    connection = await asyncpg.connect(
        url, timeout=TIMEOUT_SECONDS, server_settings={"cage.brand": "*"}
    )
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(_ACCOUNTS, asset, players, timeout=TIMEOUT_SECONDS)
        await connection.execute(_BLOCKS, postings // per_block + 1, timeout=TIMEOUT_SECONDS)
        for start in range(0, postings, STEP):
            until = min(start + STEP, postings)
            await connection.execute(
                _POSTINGS, start, until, at, per_block, timeout=TIMEOUT_SECONDS
            )
            await connection.execute(
                _ENTRIES, start, until, at, asset, players, timeout=TIMEOUT_SECONDS
            )
        await connection.execute(_BALANCES, timeout=TIMEOUT_SECONDS)
        await connection.execute("VACUUM (ANALYZE)", timeout=TIMEOUT_SECONDS)
    finally:
        await connection.close()


async def bare_sum(url: str) -> float:
    """Seconds of one sum over every entry by account, as SQL has it."""
    clock = SystemClock()
    connection = await asyncpg.connect(
        url, timeout=TIMEOUT_SECONDS, server_settings={"cage.brand": "*"}
    )
    try:
        started = clock.monotonic_seconds()
        await connection.fetch(
            "SELECT account_id, sum(amount) FROM ledger.entries GROUP BY account_id",
            timeout=TIMEOUT_SECONDS,
        )
        return clock.monotonic_seconds() - started
    finally:
        await connection.close()
