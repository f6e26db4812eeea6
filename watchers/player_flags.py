"""What the casino says of a player: KYC level, group, country, reasons to block.

Owns `chain.player_flags`; the database keeps every version. The group chooses confirmation tiers; a
block reason keeps deposits from being credited (`deposit_due.py`), as any rule may that reads it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping

from config.database import Uow
from watchers import player_flags_store as store


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayerFlags:
    """Flags of one player; None: the casino never said."""

    brand: str
    player_id: str
    kyc_level: str | None
    group: str | None
    country: str | None
    blocked_reasons: tuple[str, ...]
    version: int
    changed_by: str
    changed_at: datetime


async def put(
    uow: Uow,
    *,
    brand: str,
    player_id: str,
    kyc_level: str | None,
    group: str | None,
    country: str | None,
    blocked_reasons: Sequence[str],
    changed_by: str,
    at: datetime,
) -> PlayerFlags:
    """Replace all flags; the version rises only when something differs."""
    row = await store.put_flags(
        uow,
        {
            "brand": brand,
            "player_id": player_id,
            "kyc_level": kyc_level,
            "player_group": group,
            "country": country,
            "blocked_reasons": sorted(set(blocked_reasons)),
            "changed_by": changed_by,
            "at": at,
        },
    )
    row = row or await store.flags(uow, brand=brand, player_id=player_id)
    if row is None:
        raise LookupError(f"flags of {brand}/{player_id} are neither written nor there")
    return _flags(row)


async def get(uow: Uow, *, brand: str, player_id: str) -> PlayerFlags | None:
    """A player's flags, or None when there were never any."""
    row = await store.flags(uow, brand=brand, player_id=player_id)
    return None if row is None else _flags(row)


async def blocked(uow: Uow, pairs: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Which of these (brand, player) the casino blocks now, for whatever reason."""
    rows = await store.blocked(uow, sorted(pairs))
    return frozenset((row["brand"], row["player_id"]) for row in rows)


def _flags(row: RowMapping) -> PlayerFlags:
    return PlayerFlags(
        brand=row["brand"],
        player_id=row["player_id"],
        kyc_level=row["kyc_level"],
        group=row["player_group"],
        country=row["country"],
        blocked_reasons=tuple(row["blocked_reasons"]),
        version=row["version"],
        changed_by=row["changed_by"],
        changed_at=row["changed_at"],
    )
