"""SQL of the groups of orders: what stands already of those that ask together, and their claims."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Names that are taken, and the brand's `balance_mode` (None: there is no such brand)."""

    keys: frozenset[str]
    nonces: frozenset[str]
    request_ids: frozenset[str]
    balance_mode: str | None


async def standing(
    uow: Uow,
    *,
    scope: str,
    key_id: str,
    brand: str,
    keys: Sequence[str],
    nonces: Sequence[str],
    request_ids: Sequence[str],
) -> Standing:
    """Which idempotency keys of a scope, nonces of a key and request_ids of a brand are committed
    now; nobody is waited for."""
    rows = await uow.rows(
        """
        SELECT 'key' AS kind, key AS name FROM gateway.idempotency
        WHERE scope = :scope AND key = ANY(CAST(:keys AS text[]))
        UNION ALL
        SELECT 'nonce', nonce FROM gateway.nonces
        WHERE key_id = :key_id AND nonce = ANY(CAST(:nonces AS text[]))
        UNION ALL
        SELECT 'request', request_id FROM gateway.withdrawals
        WHERE brand = :brand AND request_id = ANY(CAST(:request_ids AS text[]))
        UNION ALL
        SELECT 'mode', balance_mode FROM gateway.brands WHERE id = :brand
        """,
        {
            "scope": scope,
            "key_id": key_id,
            "brand": brand,
            "keys": list(keys),
            "nonces": list(nonces),
            "request_ids": list(request_ids),
        },
    )
    found: dict[str, set[str]] = {"key": set(), "nonce": set(), "request": set(), "mode": set()}
    for row in rows:
        found[row["kind"]].add(row["name"])
    return Standing(
        keys=frozenset(found["key"]),
        nonces=frozenset(found["nonce"]),
        request_ids=frozenset(found["request"]),
        balance_mode=next(iter(found["mode"]), None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The names that an order takes: its nonce, and its key with what that stands for."""

    nonce: str
    nonce_expires_at: datetime
    key: str
    print_: bytes


# The limit is set once both counts are known, that is after every wait.
_CLAIM = """
    WITH nonces AS (
        INSERT INTO gateway.nonces (key_id, nonce, expires_at)
        SELECT :key_id, n.nonce, n.expires_at
        FROM unnest(CAST(:nonces AS text[]), CAST(:expiries AS timestamptz[]))
            AS n (nonce, expires_at)
        ORDER BY n.nonce ON CONFLICT DO NOTHING RETURNING 1
    ), keys AS (
        INSERT INTO gateway.idempotency (scope, key, fingerprint, state, created_at)
        SELECT :scope, k.key, k.fingerprint, 'running', :at
        FROM unnest(CAST(:keys AS text[]), CAST(:prints AS bytea[])) AS k (key, fingerprint)
        ORDER BY k.key ON CONFLICT DO NOTHING RETURNING 1
    ), counts AS MATERIALIZED (
        SELECT (SELECT count(*) FROM nonces) AS nonces, (SELECT count(*) FROM keys) AS keys
    )
    SELECT nonces, keys,
        set_config('lock_timeout', CASE WHEN nonces + keys >= 0 THEN :wait END, true)
    FROM counts
"""


async def claim(
    uow: Uow, claims: Sequence[Claim], *, scope: str, key_id: str, wait_ms: int, at: datetime
) -> bool:
    """Take the names of orders of one key; False when one was taken: nothing may be committed then.

    Waits for another unit of work that takes the same ones. From then on a lock is waited for at
    most `wait_ms`.
    """
    [found] = await uow.rows(
        _CLAIM,
        {
            "key_id": key_id,
            "nonces": [item.nonce for item in claims],
            "expiries": [item.nonce_expires_at for item in claims],
            "scope": scope,
            "keys": [item.key for item in claims],
            "prints": [item.print_ for item in claims],
            "at": at,
            "wait": str(wait_ms),
        },
    )
    return bool(found["nonces"] == found["keys"] == len(claims))
