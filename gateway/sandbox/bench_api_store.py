"""SQL of the benchmarks of API and webhooks: what they furnish, count, and the floor's insert."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg

TIMEOUT_SECONDS = 30.0

_BARE_TABLE = """
CREATE TABLE IF NOT EXISTS bench_bare (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body bytea NOT NULL
)
"""
_BRAND = "INSERT INTO gateway.brands (id, account_index, created_at) VALUES ($1, 1, $2)"
_CLIENT = """
INSERT INTO gateway.clients (key_id, kind, brand, public_key, scopes, created_at)
VALUES ($1, 'client', $2, $3, $4, $5)
"""
# Verified rows as the watcher and the signer leave them; the texts are not real addresses.
_POOL = """
INSERT INTO chain.addresses (id, network, role, brand, account, branch, address_index, path, key,
    address, scheme, is_verified, verified_at, created_at)
SELECT gen_random_uuid(), 'btc', 'deposit', $1, 1, 0, n, 'm/84h/1h/1h/0/' || n,
    md5('bench' || n), 'bcrt1q' || md5('bench' || n), 'p2wpkh', true, $3, $3
FROM generate_series(0, $2 - 1) AS n
"""
_ISSUED = """
INSERT INTO chain.addresses (id, network, role, brand, player_id, account, branch, address_index,
    path, key, address, scheme, is_verified, verified_at, issued_at, created_at)
SELECT gen_random_uuid(), $5, 'deposit', $1, 'p' || n, 1, 0, 1000 + n, 'm/84h/1h/1h/0/' || n,
    key, address, 'bench', true, $4, $4, $4
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS a (key, address, n)
"""
_PROGRESS = """
SELECT coalesce((SELECT height FROM chain.cursors WHERE network = $1), -1) AS height,
    (SELECT count(*) FROM chain.deposits) AS deposits
"""
_DELIVERED = "SELECT count(*) FROM gateway.deliveries WHERE state = 'delivered'"


class BareTable:
    """The floor's own table: one insert per request."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str, *, size: int) -> "BareTable":
        """A pool of `size` connections; makes the table."""
        pool = await asyncpg.create_pool(url, min_size=size, max_size=size)
        await pool.execute(_BARE_TABLE, timeout=TIMEOUT_SECONDS)
        return cls(pool)

    async def insert(self, body: bytes) -> int:
        """One row, committed."""
        value = await self._pool.fetchval(
            "INSERT INTO bench_bare (body) VALUES ($1) RETURNING id", body, timeout=TIMEOUT_SECONDS
        )
        return int(value)

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.close()


async def furnish(
    url: str,
    *,
    brand: str,
    key_id: str,
    public_key: bytes,
    scopes: Sequence[str],
    pool_rows: int,
    at: datetime,
) -> None:
    """One brand, its client key and a verified pool of `pool_rows` addresses."""
    connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
    try:
        statements: list[tuple[str, tuple[Any, ...]]] = [
            (_BRAND, (brand, at)),
            (_CLIENT, (key_id, brand, public_key, list(scopes), at)),
            (_POOL, (brand, pool_rows, at)),
        ]
        for statement, values in statements:
            await connection.execute(statement, *values, timeout=TIMEOUT_SECONDS)
    finally:
        await connection.close(timeout=TIMEOUT_SECONDS)


async def count_delivered(url: str) -> int:
    """How many deliveries are done."""
    connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
    try:
        return int(await connection.fetchval(_DELIVERED, timeout=TIMEOUT_SECONDS))
    finally:
        await connection.close(timeout=TIMEOUT_SECONDS)


async def issue_addresses(
    url: str,
    *,
    brand: str,
    keys: Sequence[str],
    addresses: Sequence[str],
    at: datetime,
    network: str = "btc",
) -> None:
    """Deposit addresses, each of a player of its own."""
    connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
    try:
        await connection.execute(
            _ISSUED, brand, keys, addresses, at, network, timeout=TIMEOUT_SECONDS
        )
    finally:
        await connection.close(timeout=TIMEOUT_SECONDS)


async def block_progress(url: str, *, network: str = "btc") -> tuple[int, int]:
    """Height of the network's cursor (-1 for none) and the number of deposits."""
    connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
    try:
        row = await connection.fetchrow(_PROGRESS, network, timeout=TIMEOUT_SECONDS)
        return int(row["height"]), int(row["deposits"])
    finally:
        await connection.close(timeout=TIMEOUT_SECONDS)


async def analyse(url: str) -> None:
    """Tell the planner what the tables hold by now; plans that were made before are made anew."""
    connection = await asyncpg.connect(url, timeout=TIMEOUT_SECONDS)
    try:
        await connection.execute("ANALYZE", timeout=TIMEOUT_SECONDS)
    finally:
        await connection.close(timeout=TIMEOUT_SECONDS)
