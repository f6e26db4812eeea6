"""Wallets that leave their band, and come back: one event and one alarm per crossing.

Owns `gateway.wallet_bands`. A wallet that fell below its minimum or rose above its maximum is
inside again only once it has come a part of the way to its target (`hysteresis_permille`), so that
a balance about a bound tells nothing twice. It judges what nobody waits for, and moves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from config import alarm_store
from config.database import Uow
from config.ids import Ids
from config.treasury_policy import Band, WalletRole
from gateway.treasury import store
from gateway.treasury.positions import BandPosition
from ledger import lifecycle, outbox
from ledger.lifecycle import Lifecycle

KIND: Final = "wallet"  # its events are `wallet.<state>`


class BandState(StrEnum):
    """Where a wallet stands in its band."""

    INSIDE = "inside"
    """Between minimum and maximum, or nobody told otherwise yet."""
    LOW = "low"
    """Below its minimum, and not far enough back."""
    GAS_LOW = "gas_low"
    """The same, of a gas wallet."""
    HIGH = "high"
    """Above its maximum, and not far enough back."""


class Crossing(StrEnum):
    """What moves it."""

    FALL = "fall"
    """It fell below the minimum."""
    RUN_DRY = "run_dry"
    """A gas wallet fell below the minimum."""
    RISE = "rise"
    """It rose above the maximum."""
    RETURN = "return"
    """It came back, by more than the hysteresis."""


_S, _C = BandState, Crossing

WALLET_BANDS: Final = Lifecycle(
    kind=KIND,
    table="gateway.wallet_bands",
    transitions={
        (_S.INSIDE, _C.FALL): _S.LOW,
        (_S.INSIDE, _C.RUN_DRY): _S.GAS_LOW,
        (_S.INSIDE, _C.RISE): _S.HIGH,
        (_S.LOW, _C.RETURN): _S.INSIDE,
        (_S.LOW, _C.RISE): _S.HIGH,
        (_S.GAS_LOW, _C.RETURN): _S.INSIDE,
        (_S.GAS_LOW, _C.RISE): _S.HIGH,
        (_S.HIGH, _C.RETURN): _S.INSIDE,
        (_S.HIGH, _C.FALL): _S.LOW,
        (_S.HIGH, _C.RUN_DRY): _S.GAS_LOW,
    },
)
ALARMS: Final = tuple(f"{KIND}_{state}" for state in BandState if state is not BandState.INSIDE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BandRow:
    """A wallet of one role and asset as it was last told."""

    id: UUID
    role: WalletRole
    asset: str
    state: BandState
    version: int
    state_at: datetime


def side_of(band: Band, amount_minor: int) -> BandState:
    """Where an amount lies, without a memory. Pure."""
    if amount_minor < band.min_minor:
        return BandState.LOW
    return BandState.HIGH if amount_minor > band.max_minor else BandState.INSIDE


def crossing(
    band: Band, role: WalletRole, state: BandState, amount_minor: int, *, hysteresis_permille: int
) -> Crossing | None:
    """What happened to a wallet in this state that now has this amount. Pure."""
    side = side_of(band, amount_minor)
    if side is BandState.HIGH:
        return None if state is BandState.HIGH else Crossing.RISE
    if side is BandState.LOW:
        fell = Crossing.RUN_DRY if role is WalletRole.GAS else Crossing.FALL
        return fell if WALLET_BANDS.allows(state, fell) else None
    if state is BandState.INSIDE:
        return None
    bound = band.max_minor if state is BandState.HIGH else band.min_minor
    come = abs(amount_minor - bound)
    is_back = come * 1_000 >= abs(band.target_minor - bound) * hysteresis_permille
    return Crossing.RETURN if is_back else None


async def of_network(uow: Uow, network: str | None = None) -> dict[tuple[WalletRole, str], BandRow]:
    """What was last told of the wallets of a network, or all, by role and asset."""
    rows = await store.bands(uow, network=network)
    return {(WalletRole(row["role"]), row["asset"]): _row(row) for row in rows}


async def tell(
    uow: Uow,
    network: str,
    found: list[BandPosition],
    *,
    hysteresis_permille: int,
    ids: Ids,
    at: datetime,
) -> list[BandPosition]:
    """Compare the wallets of a network with their bands and tell every crossing; those that
    crossed. Two that tell at once: one of them wins, the other raises StaleState."""
    known = await of_network(uow, network)
    banded = {(item.role, item.asset) for item in found}
    gone = [row.id for place, row in known.items() if place not in banded]
    if gone:  # a band that nobody has any more calls nobody
        await alarm_store.clear(uow, kinds=ALARMS, network=network, objects=gone, at=at)
    crossed = []
    for item in found:
        row = known.get((item.role, item.asset)) or await _open(uow, item, ids=ids, at=at)
        move = crossing(
            item.band,
            item.role,
            row.state,
            item.free_minor,
            hysteresis_permille=hysteresis_permille,
        )
        if move is not None:
            await _cross(uow, item, row, move, ids=ids, at=at)
            crossed.append(item)
    return crossed


async def _open(uow: Uow, item: BandPosition, *, ids: Ids, at: datetime) -> BandRow:
    await store.open_band(
        uow,
        {
            "id": ids.new_id(),
            "network": item.network,
            "role": item.role.value,
            "asset": item.asset,
            "amount": item.free_minor,
            "at": at,
        },
    )
    return (await of_network(uow, item.network))[item.role, item.asset]


async def _cross(
    uow: Uow, item: BandPosition, row: BandRow, move: Crossing, *, ids: Ids, at: datetime
) -> None:
    """State, event and alarm in one unit of work. Raises StaleState."""
    moved = await lifecycle.advance(
        uow,
        WALLET_BANDS,
        object_id=row.id,
        current=row.state,
        event=move,
        set={"amount": item.free_minor},
        at=at,
    )
    state = BandState(moved["state"])
    await outbox.append(
        uow,
        event_id=ids.new_id(),
        brand=None,
        type=f"{KIND}.{state}",
        object_kind=KIND,
        object_id=row.id,
        object_version=moved["version"],
        previous_state=row.state.value,
        snapshot=_snapshot(item, row.id, state, version=moved["version"], at=at),
        at=at,
    )
    objects = [row.id]
    await alarm_store.clear(uow, kinds=ALARMS, network=item.network, objects=objects, at=at)
    if state is not BandState.INSIDE:
        await alarm_store.raise_alarm(
            uow,
            alarm_id=ids.new_id(),
            kind=f"{KIND}_{state}",
            network=item.network,
            object_id=row.id,
            detail=f"{item.name} {item.asset} is {state}: {item.free_minor} minor units,"
            f" band {item.band.min_minor} to {item.band.max_minor}",
            at=at,
        )


def _snapshot(
    item: BandPosition, band_id: UUID, state: BandState, *, version: int, at: datetime
) -> dict[str, object]:
    return {
        "id": str(band_id),
        "version": version,
        "brand": "operator",
        "wallet": item.name,
        "network": item.network,
        "role": item.role.value,
        "asset": item.asset,
        "state": state.value,
        "amount": str(item.free_minor),
        "min": str(item.band.min_minor),
        "target": str(item.band.target_minor),
        "max": str(item.band.max_minor),
        "state_at": at.isoformat(),
    }


def _row(row: Mapping[str, Any]) -> BandRow:
    return BandRow(
        id=row["id"],
        role=WalletRole(row["role"]),
        asset=row["asset"],
        state=BandState(row["state"]),
        version=row["version"],
        state_at=row["state_at"],
    )
