"""What the gateway asks about deposits: reads of rows, no node and no change of state.

Public surface of `watchers`. Amounts are minor units by asset id.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from config.database import Uow
from watchers import deposit_store as store
from watchers.deposits import DepositRow, DepositState, from_row, snapshot

__all__ = [
    "DepositFilters",
    "DepositRow",
    "DepositState",
    "Locked",
    "Stages",
    "find",
    "funds",
    "get",
    "locked_by_asset",
    "lost",
    "orphaned_anew",
    "orphaned_of",
    "reversed_anew",
    "snapshot",
    "unfinished_by_player",
]

_COUNTS_AS_LOCKED = (DepositState.PROVISIONAL, DepositState.FINAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositFilters:
    """Filters of a list (CONTRACT 3); None: not filtered."""

    state: DepositState | None = None
    player_id: str | None = None
    asset: str | None = None
    txid: str | None = None
    created_after: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """Value of a player that is playable and may still vanish."""

    provisional: int
    orphaned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """A player's deposits of one asset by stage; `final_total` is what ever became final."""

    pending: int = 0
    provisional: int = 0
    orphaned: int = 0
    final_total: int = 0
    on_hold: int = 0


async def get(uow: Uow, deposit_id: UUID) -> DepositRow | None:
    """One deposit, as far as the unit of work's brand may see it."""
    row = await store.get(uow, deposit_id)
    return None if row is None else from_row(row)


async def find(
    uow: Uow,
    *,
    brand: str | None,
    filters: DepositFilters | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> list[DepositRow]:
    """Deposits, newest first; `after` is the id that ended the last page. `brand` None: all."""
    filters = filters or DepositFilters()
    values: dict[str, Any] = {
        name: value
        for name, value in (
            ("brand", brand),
            ("state", None if filters.state is None else filters.state.value),
            ("player_id", filters.player_id),
            ("asset", filters.asset),
            ("txid", filters.txid),
            ("created_after", filters.created_after),
        )
        if value is not None
    }
    rows = await store.find(uow, filters=values, before=after, limit=limit)
    return [from_row(row) for row in rows]


async def locked_by_asset(uow: Uow, *, brand: str, player_id: str) -> Mapping[str, Locked]:
    """Provisional and orphaned value by asset; the caller holds the player's lock (CONTRACT 1).

    Orphaned counts where the player had been told of a credit: it was provisional or final.
    """
    found = await unfinished_by_player(uow, brand=brand, players=[player_id])
    return found[player_id].locked


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What an order asks of its player: value that may vanish, by asset, and what is lost now."""

    locked: Mapping[str, Locked]
    lost: tuple[UUID, ...]


async def unfinished_by_player(
    uow: Uow, *, brand: str, players: Collection[str]
) -> dict[str, Unfinished]:
    """`locked_by_asset` and `lost` of each of some players, whose locks the caller holds."""
    sums: dict[str, dict[str, dict[str, int]]] = {player: {} for player in players}
    ids: dict[str, list[UUID]] = {player: [] for player in players}
    for row in await store.of_players(uow, brand=brand, players=list(sums)):
        if row["id"] is not None:
            ids[row["player_id"]].append(row["id"])
            continue
        states = sums[row["player_id"]].setdefault(row["asset"], {})
        states[row["state"]] = int(row["total"])
    return {
        player: Unfinished(
            locked={
                asset: Locked(
                    provisional=states.get("provisional", 0), orphaned=states.get("orphaned", 0)
                )
                for asset, states in by_asset.items()
            },
            lost=tuple(ids[player]),
        )
        for player, by_asset in sums.items()
    }


async def funds(uow: Uow, *, brand: str, player_id: str) -> dict[str, Stages]:
    """The deposit side of `GET /v1/players/{id}/funds`, by asset."""
    sums: dict[str, dict[str, int]] = {}
    for row in await store.sums(uow, brand=brand, player_id=player_id):
        stage = _stage(DepositState(row["state"]), row["prior_state"])
        if stage is not None:
            by_stage = sums.setdefault(row["asset"], {})
            by_stage[stage] = by_stage.get(stage, 0) + int(row["total"])
    return {asset: Stages(**by_stage) for asset, by_stage in sums.items()}


async def lost(uow: Uow, *, brand: str, player_id: str) -> tuple[UUID, ...]:
    """The player's credited deposits that are orphaned or reversed now: what `*_anew` compares to.

    The caller holds the player's lock, as whoever orphans a deposit does: no clock is compared.
    """
    found = await unfinished_by_player(uow, brand=brand, players=[player_id])
    return found[player_id].lost


async def orphaned_anew(uow: Uow, *, brand: str, player_id: str, known: Collection[UUID]) -> bool:
    """Whether a credited deposit of the player is orphaned that is not among `known`."""
    return await store.has_lost_anew(
        uow,
        brand=brand,
        player_id=player_id,
        is_reversed=False,
        known=list(known),
    )


async def orphaned_of(
    uow: Uow, pairs: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], frozenset[UUID]]:
    """The credited deposits that are orphaned now, of those (brand, player) that have any."""
    found: dict[tuple[str, str], frozenset[UUID]] = {}
    for row in await store.orphaned_of(uow, sorted(set(pairs))):
        pair = (row["brand"], row["player_id"])
        found[pair] = found.get(pair, frozenset()) | {row["id"]}
    return found


async def reversed_anew(uow: Uow, *, brand: str, player_id: str, known: Collection[UUID]) -> bool:
    """Whether a deposit of the player is reversed that is not among `known`."""
    return await store.has_lost_anew(
        uow,
        brand=brand,
        player_id=player_id,
        is_reversed=True,
        known=list(known),
    )


_STAGE_OF: Mapping[DepositState, str] = {
    DepositState.DETECTED: "pending",
    DepositState.PENDING: "pending",
    DepositState.PROVISIONAL: "provisional",
    DepositState.FINAL: "final_total",
    DepositState.ON_HOLD: "on_hold",
}


def _stage(state: DepositState, prior: str | None) -> str | None:
    if state is DepositState.ORPHANED:
        is_credited = prior is not None and DepositState(prior) in _COUNTS_AS_LOCKED
        return "orphaned" if is_credited else None
    return _STAGE_OF.get(state)
