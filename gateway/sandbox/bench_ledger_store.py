"""SQL of the benchmark `ledger.post`: one prepared statement on a bare driver connection."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

TIMEOUT_SECONDS = 30.0
_POST = """
SELECT ledger.post(
    $1, $2, $3, $4, NULL, NULL, NULL, NULL, NULL, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""

_SCRIPT = """
\\set source random(0, {accounts} - 1)
\\set step random(1, {accounts} - 1)
\\set target (:source + :step) % {accounts}
\\set amount random(1, 100)
\\set number random(1, 9000000000000000000)
\\set count :count + 1
\\set id :start + :count * 64 + :client_id
SELECT (p).posting_id, (p).is_new FROM (SELECT ledger.post(
    rpad(to_hex(:id::bigint), 32, '0')::uuid, now(), 'bench' || :number, 'bench',
    NULL, NULL, NULL, NULL, NULL,
    ARRAY[{source}, {target}], ARRAY['provisional', 'provisional'], ARRAY[{asset}, {asset}],
    ARRAY['{brand}', '{brand}'], ARRAY[:source, :target],
    ARRAY[NULL, NULL]::text[], ARRAY['debit', 'credit'],
    ARRAY[:amount::numeric, :amount::numeric], ARRAY[NULL, NULL]::text[]) AS p) AS posted;
"""
"""A pgbench script: one posting between two of the players, each under its own reference.

Ids rise with time, as those of the house do (RFC 9562, version 7), references do not, as those
of deposits do not. Values are text, which is what a client sends."""


def variables(*, start: int) -> tuple[str, ...]:
    """The options of pgbench that the script needs; ids of a run begin at `start` (63 bits)."""
    return ("-D", f"start={start}", "-D", "count=0")


def script(*, accounts: int, brand: str, asset: str) -> str:
    """The script for these accounts.

    A colon is spelled by its code point: pgbench takes one inside a literal for a variable.
    """

    def literal(value: str) -> str:
        return "U&'" + value.replace(":", "\\003A") + "'"

    def account(number: str) -> str:
        before, after = literal(f"player:{brand}:"), literal(f":provisional:{asset}")
        return f"{before} || {number} || {after}"

    return _SCRIPT.format(
        accounts=accounts,
        brand=brand,
        asset=literal(asset),
        source=account(":source"),
        target=account(":target"),
    )


class Poster:
    """One client: a connection that posts."""

    def __init__(self, connection: asyncpg.Connection, statement: PreparedStatement) -> None:
        self._connection = connection
        self._statement = statement

    @classmethod
    async def open(cls, url: str) -> "Poster":
        """Connect and prepare; sees all brands, as a daemon does."""
        connection = await asyncpg.connect(
            url, timeout=TIMEOUT_SECONDS, server_settings={"cage.brand": "*"}
        )
        return cls(connection, await connection.prepare(_POST, timeout=TIMEOUT_SECONDS))

    async def post(
        self,
        *,
        posting_id: UUID,
        at: datetime,
        reference: str,
        players: Sequence[str | None],
        sides: Sequence[str],
        amounts: Sequence[int],
        asset: str,
        brand: str,
    ) -> None:
        """One posting in one round trip; a player of None is the custody account."""
        count = len(players)
        await self._statement.fetchrow(
            posting_id,
            at,
            reference,
            "bench",
            [
                f"player:{brand}:{player}:provisional:{asset}"
                if player
                else f"custody:btc/hot:{asset}"
                for player in players
            ],
            ["provisional" if player else "custody" for player in players],
            [asset] * count,
            [brand if player else None for player in players],
            players,
            [None if player else "btc/hot" for player in players],
            sides,
            amounts,
            [None] * count,
            timeout=TIMEOUT_SECONDS,
        )

    async def fold(self, limit: int) -> None:
        """The short loop's work, as the scheduler asks for it."""
        await self._connection.fetchval("SELECT ledger.fold($1)", limit, timeout=TIMEOUT_SECONDS)

    async def totals(self) -> tuple[int, int]:
        """How many postings there are, and what the cached balances of the players sum to."""
        row = await self._connection.fetchrow(
            """
            SELECT (SELECT count(*) FROM ledger.postings) AS postings,
                (SELECT sum(b.balance) FROM ledger.balances b WHERE b.is_checked)
                + coalesce((SELECT sum(p.delta) FROM ledger.pending_credits p
                    JOIN ledger.balances b USING (account_id) WHERE b.is_checked), 0) AS balance
            """,
            timeout=TIMEOUT_SECONDS,
        )
        return int(row["postings"]), int(row["balance"])

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close(timeout=TIMEOUT_SECONDS)
