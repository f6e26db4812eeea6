"""SQL of the benchmarks of the watcher: issued addresses by the million, and where it stands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self

import asyncpg

ROWS_PER_STATEMENT = 500_000
TIMEOUT_SECONDS = 600.0

# Verified and issued, as watcher, signer and API leave them; keys are hashes, as real ones are.
_ISSUED = """
INSERT INTO chain.addresses (id, network, role, brand, player_id, account, branch, address_index,
    path, key, address, scheme, is_verified, verified_at, issued_at, created_at)
SELECT gen_random_uuid(), 'btc', 'deposit', $1, 'p' || n, 1, 0, n, 'm/84h/1h/1h/0/' || n,
    '0014' || substr(encode(sha256(int8send(n)), 'hex'), 1, 40), 'bcrt1q' || n, 'p2wpkh', true,
    $4, $4, $4
FROM generate_series($2::bigint, $3::bigint) AS n
"""


async def issue_many(url: str, *, brand: str, count: int, at: datetime, above: int = 0) -> None:
    """Issue `count` addresses of one player each, with indexes above `above`, and let the planner
    know."""
    connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
    try:
        await connection.execute("SET synchronous_commit = off", timeout=TIMEOUT_SECONDS)
        for first in range(above + 1, above + count + 1, ROWS_PER_STATEMENT):
            last = min(first + ROWS_PER_STATEMENT - 1, above + count)
            await connection.execute(_ISSUED, brand, first, last, at, timeout=TIMEOUT_SECONDS)
        await connection.execute("VACUUM ANALYZE chain.addresses", timeout=TIMEOUT_SECONDS)
        await connection.execute("CHECKPOINT", timeout=TIMEOUT_SECONDS)  # warm, and at rest
    finally:
        await connection.close(timeout=TIMEOUT_SECONDS)


class CursorLook:
    """One connection that asks where a follower stands: a new one for each look takes from what is
    measured."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[Self]:
        """A look that is closed at the end."""
        connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
        try:
            yield cls(connection)
        finally:
            await connection.close(timeout=TIMEOUT_SECONDS)

    async def height(self, network: str) -> int:
        """The height of the cursor; -1 before the first block."""
        found = await self._connection.fetchval(
            "SELECT height FROM chain.cursors WHERE network = $1", network, timeout=TIMEOUT_SECONDS
        )
        return -1 if found is None else int(found)

    async def is_held(self, network: str) -> bool:
        """Whether some watcher has the lease."""
        found = await self._connection.fetchval(
            "SELECT lease_holder IS NOT NULL FROM chain.cursors WHERE network = $1",
            network,
            timeout=TIMEOUT_SECONDS,
        )
        return bool(found)
