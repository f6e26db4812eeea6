"""SQL of the benchmarks of payouts: how many withdrawals stand where."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTx:
    """A signed payout tx. Amounts in satoshi; `change` is the number of its change outputs."""

    raw: bytes
    paid_minor: int
    inputs: int
    change: int


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

    async def coins(self) -> list[int]:
        """Amounts of the unspent mined coins of a UTXO network."""
        rows = await self._connection.fetch(
            "SELECT amount FROM chain.coins WHERE network = $1 AND height IS NOT NULL "
            "AND spent_by IS NULL",
            self._network,
            timeout=TIMEOUT_SECONDS,
        )
        return [int(row["amount"]) for row in rows]

    async def sent_txs(self) -> list[SentTx]:
        """The signed txs that pay withdrawals on a UTXO network."""
        rows = await self._connection.fetch(
            "SELECT o.raw, (SELECT sum((p ->> 'amount_minor')::numeric) "
            "FROM jsonb_array_elements(o.payments) p) AS paid, "
            "(SELECT count(*) FROM chain.outgoing_inputs i WHERE i.attempt_id = o.id) AS inputs, "
            "(SELECT count(*) FROM chain.outgoing_change x WHERE x.attempt_id = o.id) AS change "
            "FROM chain.outgoing o WHERE o.network = $1 AND o.raw IS NOT NULL "
            "AND o.purpose = 'withdrawal'",
            self._network,
            timeout=TIMEOUT_SECONDS,
        )
        return [
            SentTx(
                raw=bytes(row["raw"]),
                paid_minor=int(row["paid"]),
                inputs=row["inputs"],
                change=row["change"],
            )
            for row in rows
        ]
