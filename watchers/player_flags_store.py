"""SQL of players' flags."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping

from config.database import Uow

_FLAGS = (
    "brand, player_id, kyc_level, player_group, country, blocked_reasons, version, changed_by, "
    "changed_at"
)


async def groups(uow: Uow, pairs: Sequence[tuple[str, str]]) -> Sequence[RowMapping]:
    """Groups of players that have one."""
    result = await uow.execute(
        "SELECT brand, player_id, player_group FROM chain.player_flags "
        "WHERE player_group IS NOT NULL AND (brand, player_id) IN "
        "(SELECT * FROM unnest(CAST(:brands AS text[]), CAST(:players AS text[])))",
        {"brands": [pair[0] for pair in pairs], "players": [pair[1] for pair in pairs]},
    )
    return result.mappings().all()


async def blocked(uow: Uow, pairs: Sequence[tuple[str, str]]) -> Sequence[RowMapping]:
    """Players that have a reason to be blocked."""
    result = await uow.execute(
        "SELECT brand, player_id FROM chain.player_flags "
        "WHERE cardinality(blocked_reasons) > 0 AND (brand, player_id) IN "
        "(SELECT * FROM unnest(CAST(:brands AS text[]), CAST(:players AS text[])))",
        {"brands": [pair[0] for pair in pairs], "players": [pair[1] for pair in pairs]},
    )
    return result.mappings().all()


async def put_flags(uow: Uow, values: Mapping[str, Any]) -> RowMapping | None:
    """Write a player's flags; the version rises only when something differs, else no row."""
    result = await uow.execute(
        "INSERT INTO chain.player_flags AS f (brand, player_id, kyc_level, player_group, country, "
        "blocked_reasons, changed_by, changed_at) VALUES (:brand, :player_id, :kyc_level, "
        ":player_group, :country, CAST(:blocked_reasons AS text[]), :changed_by, :at) "
        "ON CONFLICT (brand, player_id) DO UPDATE SET kyc_level = excluded.kyc_level, "
        "player_group = excluded.player_group, country = excluded.country, "
        "blocked_reasons = excluded.blocked_reasons, version = f.version + 1, "
        "changed_by = excluded.changed_by, changed_at = excluded.changed_at "
        "WHERE (f.kyc_level, f.player_group, f.country, f.blocked_reasons) IS DISTINCT FROM "
        "(excluded.kyc_level, excluded.player_group, excluded.country, excluded.blocked_reasons) "
        f"RETURNING {_FLAGS}",
        values,
    )
    return result.mappings().one_or_none()


async def flags(uow: Uow, *, brand: str, player_id: str) -> RowMapping | None:
    """A player's flags."""
    result = await uow.execute(
        f"SELECT {_FLAGS} FROM chain.player_flags WHERE brand = :brand AND player_id = :player_id",
        {"brand": brand, "player_id": player_id},
    )
    return result.mappings().one_or_none()
