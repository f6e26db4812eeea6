"""SQL of deposits on their way to hot, and of native coin at deposit addresses."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers import token_store
from watchers.outgoing_store import SWEEP_PURPOSES

# What custody holds finally, wherever it was credited; what was sent back was paid out of hot
# coins, so that its own is the house's.
_FINAL = (
    "d.state IN ('final', 'below_minimum', 'rejected', 'refunding', 'refunded') "
    "AND (d.credited_stage IN ('clearing', 'unallocated', 'refund_unallocated') "
    "OR (d.state = 'refunded' AND d.credited_stage = 'refund_held'))"
)


async def unswept(
    uow: Uow,
    *,
    network: str,
    assets: Sequence[str],
    after: tuple[UUID, str, UUID] | None,
    limit: int,
) -> Sequence[RowMapping]:
    """Final deposits that belong to no sweep, with their addresses; locked. A page of them behind
    `after` (address, asset, deposit)."""
    address_id, asset, deposit_id = after or (None, None, None)
    result = await uow.execute(
        "SELECT d.id, d.brand, d.asset, d.amount, d.state_at, d.address_id, a.address, a.key "
        "FROM chain.deposits d JOIN chain.addresses a ON a.id = d.address_id "
        f"WHERE d.network = :network AND d.sweep_state = 'none' AND {_FINAL} "
        "AND d.asset = ANY(CAST(:assets AS text[])) "
        "AND (CAST(:address_id AS uuid) IS NULL OR (d.address_id, d.asset, d.id) > "
        "(CAST(:address_id AS uuid), CAST(:asset AS text), CAST(:deposit_id AS uuid))) "
        "ORDER BY d.address_id, d.asset, d.id LIMIT :limit FOR UPDATE OF d SKIP LOCKED",
        {
            "network": network,
            "assets": list(assets),
            "address_id": address_id,
            "asset": asset,
            "deposit_id": deposit_id,
            "limit": limit,
        },
    )
    return result.mappings().all()


async def assign(uow: Uow, pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """Deposits belong to sweeps."""
    await uow.execute(
        "UPDATE chain.deposits d SET sweep_id = p.sweep_id, sweep_state = 'waiting' "
        "FROM unnest(CAST(:ids AS uuid[]), CAST(:sweeps AS uuid[])) AS p (id, sweep_id) "
        "WHERE d.id = p.id",
        {"ids": [pair[0] for pair in pairs], "sweeps": [pair[1] for pair in pairs]},
    )


async def tell(uow: Uow, sweep_ids: Sequence[UUID], *, sweep_state: str) -> None:
    """What deposits say of their sweeps."""
    await uow.execute(
        "UPDATE chain.deposits SET sweep_state = :state WHERE sweep_id = ANY(CAST(:ids AS uuid[]))",
        {"state": sweep_state, "ids": list(sweep_ids)},
    )


async def held(uow: Uow, sweep_ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """By sweep, what custody still holds finally of its deposits."""
    result = await uow.execute(
        "SELECT d.sweep_id, sum(d.amount) AS amount, count(*) AS count FROM chain.deposits d "
        f"WHERE d.sweep_id = ANY(CAST(:ids AS uuid[])) AND {_FINAL} GROUP BY d.sweep_id",
        {"ids": list(sweep_ids)},
    )
    return result.mappings().all()


async def native(
    uow: Uow, *, network: str, asset: str, keys: Sequence[str]
) -> Sequence[RowMapping]:
    """(key, signed amount) of each thing that moved native coin at some deposit addresses."""
    result = await uow.execute(
        f"""
        SELECT a.key, sum(d.amount) AS amount FROM chain.addresses a
        JOIN chain.deposits d ON d.network = a.network AND d.address_id = a.id
        WHERE a.network = :network AND a.key = ANY(CAST(:keys AS text[]))
            AND d.asset = :asset AND {_FINAL} GROUP BY a.key
        UNION ALL
        SELECT o.payments -> 0 ->> 'key', sum(CAST(m ->> 'amount_minor' AS numeric))
        FROM chain.outgoing o, jsonb_array_elements(o.moved) AS m
        WHERE o.network = :network AND o.purpose = 'gas_top_up'
            AND o.payments -> 0 ->> 'key' = ANY(CAST(:keys AS text[]))
            AND o.height IS NOT NULL AND m ->> 'asset' = :asset
        GROUP BY 1
        UNION ALL
        SELECT o.sender_key, -sum(o.fee_minor + coalesce((
            SELECT sum(CAST(m ->> 'amount_minor' AS numeric))
            FROM jsonb_array_elements(o.moved) AS m WHERE m ->> 'asset' = :asset), 0))
        FROM chain.outgoing o WHERE o.network = :network
            AND o.sender_key = ANY(CAST(:keys AS text[])) AND o.height IS NOT NULL
        GROUP BY o.sender_key
        """,
        {"network": network, "asset": asset, "keys": list(keys)},
    )
    return result.mappings().all()


async def unassigned(
    uow: Uow, *, network: str, asset: str, address_ids: Sequence[UUID]
) -> Sequence[RowMapping]:
    """By address, final deposits of an asset that no sweep has."""
    result = await uow.execute(
        "SELECT d.address_id, sum(d.amount) AS amount FROM chain.deposits d "
        "WHERE d.network = :network AND d.address_id = ANY(CAST(:ids AS uuid[])) "
        f"AND d.asset = :asset AND d.sweep_id IS NULL AND {_FINAL} GROUP BY d.address_id",
        {"network": network, "asset": asset, "ids": list(address_ids)},
    )
    return result.mappings().all()


async def release(uow: Uow, sweep_ids: Sequence[UUID]) -> None:
    """Deposits that custody does not hold finally (any more) belong to no sweep. The others are
    locked: what is read of them next is of the same ones."""
    await uow.execute(
        "SELECT id FROM chain.deposits WHERE sweep_id = ANY(CAST(:ids AS uuid[])) "
        "ORDER BY id FOR UPDATE",
        {"ids": list(sweep_ids)},
    )
    await uow.execute(
        "UPDATE chain.deposits d SET sweep_id = NULL, sweep_state = 'none' "
        f"WHERE d.sweep_id = ANY(CAST(:ids AS uuid[])) AND NOT ({_FINAL})",
        {"ids": list(sweep_ids)},
    )


# One statement: read by two, a tx that a block takes in between would be in neither.
async def free(uow: Uow, *, network: str, key: str, asset: str, pays_fees: bool) -> int:
    """What an account of the operator holds of an asset, less what its own txs in no block may
    take, with their fees where it `pays_fees`: of each family the dearest."""
    result = await uow.execute(
        """
        SELECT coalesce((SELECT amount FROM chain.account_balances
            WHERE network = :network AND key = :key AND asset = :asset), 0)
            - coalesce(sum(f.most), 0) FROM (
            SELECT max(CASE WHEN :pays_fees THEN o.fee_cap_minor ELSE 0 END + coalesce((
                SELECT sum(CAST(p ->> 'amount_minor' AS numeric))
                FROM jsonb_array_elements(o.payments) AS p
                WHERE p ->> 'asset' = :asset), 0)) AS most
            FROM chain.outgoing o WHERE o.network = :network AND o.sender_key = :key
            GROUP BY o.family_id
            HAVING bool_or(o.state IN ('built', 'signed', 'broadcast', 'seen', 'dropped'))
                AND NOT bool_or(o.height IS NOT NULL)) AS f
        """,
        {"network": network, "key": key, "asset": asset, "pays_fees": pays_fees},
    )
    return int(result.scalar_one())


async def is_gas_coming(uow: Uow, *, network: str, key: str) -> bool:
    """Whether a top-up of an address is in no block yet."""
    result = await uow.execute(
        "SELECT EXISTS (SELECT 1 FROM chain.outgoing o WHERE o.network = :network "
        "AND o.purpose = 'gas_top_up' AND o.payments -> 0 ->> 'key' = :key "
        "AND o.height IS NULL "
        "AND o.state IN ('built', 'signed', 'broadcast', 'seen', 'dropped'))",
        {"network": network, "key": key},
    )
    return bool(result.scalar_one())


async def given(uow: Uow, *, network: str, sender_keys: Sequence[str], since: datetime) -> int:
    """What some accounts gave as gas since a moment, by what was planned; each family once."""
    result = await uow.execute(
        "SELECT coalesce(sum(f.amount), 0) FROM (SELECT max(CAST("
        "o.payments -> 0 ->> 'amount_minor' AS numeric)) AS amount FROM chain.outgoing o "
        "WHERE o.network = :network AND o.purpose = 'gas_top_up' AND o.state <> 'refused' "
        "AND o.sender_key = ANY(CAST(:keys AS text[])) AND o.created_at > :since "
        "GROUP BY o.family_id) AS f",
        {"network": network, "keys": list(sender_keys), "since": since},
    )
    return int(result.scalar_one())


async def refills(uow: Uow, *, network: str) -> int:
    """What gas refills take from the hot wallet and the ledger does not show yet, fees included."""
    result = await uow.execute(
        """
        SELECT coalesce(sum(f.most), 0) FROM (
            SELECT max(o.fee_cap_minor
                + CAST(o.payments -> 0 ->> 'amount_minor' AS numeric)) AS most
            FROM chain.outgoing o JOIN chain.addresses a
                ON a.network = o.network AND a.key = o.sender_key AND a.role = 'hot'
            WHERE o.network = :network AND o.purpose = 'gas_top_up'
                AND o.state NOT IN ('refused', 'replaced', 'expired')
            GROUP BY o.family_id HAVING NOT bool_or(o.settled_block_hash IS NOT NULL)) AS f
        """,
        {"network": network},
    )
    return int(result.scalar_one())


async def txs(
    uow: Uow, *, network: str, states: Sequence[str], after: UUID | None, limit: int
) -> Sequence[UUID]:
    """Sweeps and top-ups in some states, by id; of a family the newest that is signed, or built."""
    result = await uow.execute(
        f"""
        SELECT o.id FROM chain.outgoing o
        WHERE o.network = :network AND o.purpose IN {SWEEP_PURPOSES}
            AND o.state = ANY(CAST(:states AS text[]))
            AND (CAST(:after AS uuid) IS NULL OR o.id > CAST(:after AS uuid))
            AND NOT EXISTS (SELECT 1 FROM chain.outgoing s WHERE s.family_id = o.family_id
                AND s.family_number > o.family_number AND s.raw IS NOT NULL
                AND s.state <> 'replaced')
        ORDER BY o.id LIMIT :limit
        """,
        {
            "network": network,
            "states": list(states),
            "after": None if after is None else str(after),
            "limit": limit,
        },
    )
    return result.scalars().all()


async def heads(
    uow: Uow, *, network: str, sent_below: int, after: UUID | None, limit: int
) -> Sequence[UUID]:
    """The newest signed attempt at the lowest unmined nonce of each account of sweeps, when it was
    sent below a height; a page behind `after`."""
    result = await uow.execute(
        f"""
        SELECT h.id FROM (
            SELECT DISTINCT ON (o.sender_key) o.id, o.broadcast_height FROM chain.outgoing o
            WHERE o.network = :network AND o.purpose IN {SWEEP_PURPOSES}
                AND o.state IN ('signed', 'broadcast', 'seen', 'dropped')
            ORDER BY o.sender_key, o.nonce, o.family_number DESC) AS h
        WHERE h.broadcast_height < :below
            AND (CAST(:after AS uuid) IS NULL OR h.id > CAST(:after AS uuid))
        ORDER BY h.id LIMIT :limit
        """,
        {
            "network": network,
            "below": sent_below,
            "after": None if after is None else str(after),
            "limit": limit,
        },
    )
    return result.scalars().all()


async def family_ids(uow: Uow, attempt_ids: Sequence[UUID]) -> Sequence[UUID]:
    """Every attempt of the families of these, by id."""
    result = await uow.execute(
        "SELECT id FROM chain.outgoing WHERE family_id IN (SELECT family_id FROM chain.outgoing "
        "WHERE id = ANY(CAST(:ids AS uuid[]))) ORDER BY id",
        {"ids": list(attempt_ids)},
    )
    return result.scalars().all()


async def unbooked(uow: Uow, *, network: str, after: UUID | None, limit: int) -> Sequence[UUID]:
    """Final sweeps and top-ups that the ledger does not hold, and those whose settled block is
    gone."""
    result = await uow.execute(
        f"SELECT id FROM chain.outgoing WHERE network = :network AND purpose IN {SWEEP_PURPOSES} "
        "AND settled_block_hash IS DISTINCT FROM block_hash "
        "AND (settled_block_hash IS NOT NULL OR state IN ('final', 'reverted')) "
        "AND (CAST(:after AS uuid) IS NULL OR id > :after) ORDER BY id LIMIT :limit",
        {"network": network, "after": after, "limit": limit},
    )
    return result.scalars().all()


async def coded(uow: Uow, *, network: str, keys: Sequence[str]) -> frozenset[str]:
    """Those of some own keys that are known to have code (D48)."""
    return await token_store.with_code(uow, network=network, keys=keys)
