"""SQL of the groups of orders: what stands already of those that ask together."""

from collections.abc import Sequence
from dataclasses import dataclass

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
