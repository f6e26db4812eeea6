"""SQL of the benchmarks of payouts: how many withdrawals stand where."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

TIMEOUT_SECONDS = 30.0


class PayoutLook:
    """One connection that counts withdrawals of a network."""

    def __init__(self, connection: asyncpg.Connection, network: str) -> None:
        self._connection = connection
        self._network = network

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, *, network: str) -> AsyncIterator["PayoutLook"]:
        """For as long as the block lasts."""
        connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
        try:
            yield cls(connection, network)
        finally:
            await connection.close(timeout=TIMEOUT_SECONDS)

    async def hot_addresses(self) -> list[str]:
        """The addresses of the hot lanes, by lane."""
        rows = await self._connection.fetch(
            "SELECT address FROM chain.addresses WHERE network = $1 AND role = 'hot' "
            "AND verified_at IS NOT NULL ORDER BY address_index",
            self._network,
            timeout=TIMEOUT_SECONDS,
        )
        return [str(row["address"]) for row in rows]

    async def count(self, *states: str) -> int:
        """Withdrawals in these states."""
        return int(
            await self._connection.fetchval(
                "SELECT count(*) FROM gateway.withdrawals WHERE network = $1 AND state = ANY($2)",
                self._network,
                list(states),
                timeout=TIMEOUT_SECONDS,
            )
        )
