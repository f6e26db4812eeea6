"""SQL of families of own transactions: siblings, packages, and children that pay for a parent."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers.outgoing_store import OWN_PURPOSES, SIGNED_MOVES, SWEEP_PURPOSES, UPKEEP_PURPOSES

BUMPED_BY_STEPS = (*SWEEP_PURPOSES, *SIGNED_MOVES, "contract_setup")  # and signed by them
UNMINED = "('signed', 'broadcast', 'seen', 'dropped')"

# Own moves, which no withdrawal rides on: children that pay for a parent, merges and splits, and
# set-ups of the batch contract, which are signed by a step of their own. Sweeps and their top-ups
# are sent, bumped and booked by steps of their own.
_IS_OWN_MOVE = (
    f"(pays_for_id IS NOT NULL OR purpose IN {OWN_PURPOSES}) AND purpose NOT IN {SWEEP_PURPOSES}"
)
_IS_BUMP = (
    "(replaces_id IS NOT NULL OR pays_for_id IS NOT NULL "
    f"OR purpose IN {UPKEEP_PURPOSES}) AND purpose NOT IN {BUMPED_BY_STEPS}"
)

_OPEN = """
SELECT o.id, o.family_id, o.purpose, o.state, o.txid, o.sender_key, o.nonce, o.fee_cap_minor,
    o.family_number, o.replaces_id, o.pays_for_id, o.broadcast_height, o.conflict_txid,
    (SELECT coalesce(array_agg(i.outpoint_txid), '{}') FROM chain.outgoing_inputs i
        WHERE i.attempt_id = o.id) AS parents,
    (SELECT coalesce(jsonb_agg(p -> 'key'), '[]') FROM jsonb_array_elements(o.payments) p) AS keys,
    (SELECT coalesce(array_agg(x.vout ORDER BY x.vout), '{}') FROM chain.outgoing_change x
        WHERE x.attempt_id = o.id) AS change
FROM chain.outgoing o
WHERE o.network = :network AND o.state IN ('built', 'signed', 'broadcast', 'seen', 'dropped')
ORDER BY o.family_number, o.id LIMIT :limit
"""


async def open_txs(uow: Uow, *, network: str, limit: int) -> Sequence[RowMapping]:
    """What is built or on its way and in no block, without its bytes, of each family the
    newest last."""
    result = await uow.execute(_OPEN, {"network": network, "limit": limit})
    return result.mappings().all()


async def lock_families(uow: Uow, ids: Sequence[UUID]) -> None:
    """Lock every attempt of some families, by id: no block comes or goes for them meanwhile."""
    await uow.execute(
        "SELECT 1 FROM chain.outgoing WHERE family_id = ANY(CAST(:ids AS uuid[])) "
        "ORDER BY id FOR UPDATE",
        {"ids": list(ids)},
    )


async def mined_families(uow: Uow, ids: Sequence[UUID]) -> Sequence[UUID]:
    """Families among `ids` with an attempt in a block."""
    result = await uow.execute(
        "SELECT DISTINCT family_id FROM chain.outgoing WHERE height IS NOT NULL "
        "AND family_id = ANY(CAST(:ids AS uuid[]))",
        {"ids": list(ids)},
    )
    return result.scalars().all()


async def mined_siblings(uow: Uow, ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """Attempts among `ids` that are in no block while another one of their family is."""
    result = await uow.execute(
        "SELECT o.id, o.family_id, s.id AS winner_id FROM chain.outgoing o "
        "JOIN chain.outgoing s ON s.family_id = o.family_id AND s.id <> o.id "
        "WHERE o.id = ANY(CAST(:ids AS uuid[])) AND o.height IS NULL AND s.height IS NOT NULL "
        "ORDER BY o.id",
        {"ids": list(ids)},
    )
    return result.mappings().all()


async def built_bumps(uow: Uow, *, network: str, limit: int) -> Sequence[UUID]:
    """Replacements, aborts, children, merges and splits that are not signed, oldest first."""
    result = await uow.execute(
        "SELECT id FROM chain.outgoing WHERE network = :network AND state = 'built' "
        f"AND {_IS_BUMP} ORDER BY id LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return result.scalars().all()


async def bump_heights(uow: Uow, family_id: UUID) -> Sequence[RowMapping]:
    """Every bump of a payout's family, refused ones included, with the block it was built at."""
    result = await uow.execute(
        "SELECT id, purpose, state, planned_height FROM chain.outgoing WHERE family_id = :id "
        "AND replaces_id IS NOT NULL UNION "
        "SELECT id, purpose, state, planned_height FROM chain.outgoing WHERE pays_for_id IN "
        "(SELECT id FROM chain.outgoing WHERE family_id = :id) ORDER BY id",
        {"id": family_id},
    )
    return result.mappings().all()


async def dearest(
    uow: Uow, *, network: str, states: Sequence[str], is_of_sweeps: bool
) -> Sequence[RowMapping]:
    """The highest fee cap of each family with an attempt in these states."""
    only = f"AND purpose IN {SWEEP_PURPOSES} " if is_of_sweeps else ""
    result = await uow.execute(
        "SELECT family_id, max(fee_cap_minor) AS fee_cap_minor FROM chain.outgoing "
        f"WHERE network = :network AND state = ANY(CAST(:states AS text[])) {only}"
        "GROUP BY family_id",
        {"network": network, "states": list(states)},
    )
    return result.mappings().all()


_UNSENT_MOVES = f"""
SELECT o.id FROM chain.outgoing o
WHERE o.network = :network AND {_IS_OWN_MOVE} AND o.state IN {UNMINED}
    AND NOT EXISTS (SELECT 1 FROM chain.outgoing s WHERE s.family_id = o.family_id
        AND (s.height IS NOT NULL OR (s.family_number > o.family_number AND s.state IN {UNMINED})))
ORDER BY o.id LIMIT :limit
"""


async def own_on_their_way(uow: Uow, *, network: str, limit: int) -> Sequence[UUID]:
    """Own moves that nodes should hold: of each family the newest, oldest first; none where another
    one of it is in a block, since nodes would call it a conflict."""
    result = await uow.execute(_UNSENT_MOVES, {"network": network, "limit": limit})
    return result.scalars().all()


async def own_unsettled(uow: Uow, *, network: str, limit: int) -> Sequence[UUID]:
    """Final own moves whose fee the ledger does not hold, and those whose settled block is gone."""
    result = await uow.execute(
        f"SELECT id FROM chain.outgoing WHERE network = :network AND {_IS_OWN_MOVE} "
        "AND settled_block_hash IS DISTINCT FROM block_hash "
        "AND (settled_block_hash IS NOT NULL OR state IN ('final', 'reverted')) "
        "ORDER BY id LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return result.scalars().all()


async def newest_upkeep(uow: Uow, *, network: str) -> RowMapping | None:
    """The merge or split that was built last."""
    result = await uow.execute(
        f"SELECT state, created_at FROM chain.outgoing WHERE network = :network "
        f"AND purpose IN {UPKEEP_PURPOSES} ORDER BY created_at DESC, id DESC LIMIT 1",
        {"network": network},
    )
    return result.mappings().one_or_none()


async def take_over_conflict(uow: Uow, *, attempt_id: UUID, of: Sequence[UUID]) -> None:
    """The first conflict of some attempts for one that has none."""
    await uow.execute(
        "UPDATE chain.outgoing AS o SET conflict_txid = c.conflict_txid, "
        "conflict_hash = c.conflict_hash, conflict_final_at_height = c.conflict_final_at_height, "
        "version = o.version + 1 FROM (SELECT conflict_txid, conflict_hash, "
        "conflict_final_at_height FROM chain.outgoing WHERE id = ANY(CAST(:of AS uuid[])) "
        "AND conflict_txid IS NOT NULL ORDER BY conflict_final_at_height LIMIT 1) c "
        "WHERE o.id = :id AND o.conflict_txid IS NULL",
        {"id": attempt_id, "of": list(of)},
    )
