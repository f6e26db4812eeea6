"""SQL of the benchmark of sweeps: where sweeps stand, and which txs they took."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

TIMEOUT_SECONDS = 30.0


class SweepLook:
    """One connection that counts sweeps."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator["SweepLook"]:
        """For as long as the block lasts."""
        connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
        try:
            yield cls(connection)
        finally:
            await connection.close(timeout=TIMEOUT_SECONDS)

    async def address(self, role: str) -> str:
        """The first verified account of a role."""
        return str(
            await self._connection.fetchval(
                "SELECT address FROM chain.addresses WHERE network = 'eth' AND role = $1 "
                "AND verified_at IS NOT NULL ORDER BY address_index LIMIT 1",
                role,
                timeout=TIMEOUT_SECONDS,
            )
        )

    async def count(self, state: str) -> int:
        """Sweeps in a state."""
        return int(
            await self._connection.fetchval(
                "SELECT count(*) FROM gateway.sweeps WHERE state = $1",
                state,
                timeout=TIMEOUT_SECONDS,
            )
        )

    async def txids(self) -> list[str]:
        """Everything that was signed for sweeps."""
        rows = await self._connection.fetch(
            "SELECT txid FROM chain.outgoing WHERE purpose IN ('sweep', 'gas_top_up', 'collect') "
            "AND txid IS NOT NULL ORDER BY id",
            timeout=TIMEOUT_SECONDS,
        )
        return [str(row["txid"]) for row in rows]
