"""What lies at deposit addresses of account chains, for the sweeps of payouts (T2).

Owns which deposits may be swept, what a deposit says of its sweep, and how much native coin an
address can pay gas with. It sends nothing and books nothing. A deposit can be swept once custody
holds it finally: it is `final`, or below its minimum, or rejected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers import outgoing_lots
from watchers import sweepable_store as store
from watchers.outgoing import OutgoingRow, OutgoingState


@dataclass(frozen=True, slots=True, kw_only=True)
class Unswept:
    """Final deposits of one asset at one address that belong to no sweep. Minor units."""

    address_id: UUID
    brand: str
    address: str
    key: str
    asset: str
    amount_minor: int
    deposit_ids: tuple[UUID, ...]
    oldest_at: datetime


Place = tuple[UUID, str, UUID]
"""Address, asset and deposit: where a page of deposits ends."""


async def unswept(
    uow: Uow,
    *,
    network: str,
    assets: Sequence[str],
    after: Place | None = None,
    limit: int,
) -> tuple[list[Unswept], Place | None]:
    """By address and asset, the deposits that belong to no sweep; those that somebody else is
    moving are left out. Locked. A page of them behind `after`, and where the next one begins: None
    behind the last."""
    rows = await store.unswept(uow, network=network, assets=assets, after=after, limit=limit)
    places: dict[tuple[UUID, str], list[RowMapping]] = {}
    for row in rows:
        places.setdefault((row["address_id"], row["asset"]), []).append(row)
    last = rows[-1] if len(rows) == limit else None
    end = None if last is None else (last["address_id"], last["asset"], last["id"])
    return [
        Unswept(
            address_id=address_id,
            brand=found[0]["brand"],
            address=found[0]["address"],
            key=found[0]["key"],
            asset=asset,
            amount_minor=sum(int(row["amount"]) for row in found),
            deposit_ids=tuple(row["id"] for row in found),
            oldest_at=min(row["state_at"] for row in found),
        )
        for (address_id, asset), found in places.items()
    ], end


async def assign(uow: Uow, pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """Deposits belong to sweeps from now on, which wait: (deposit, sweep)."""
    if pairs:
        await store.assign(uow, pairs)


async def tell(uow: Uow, sweep_ids: Sequence[UUID], *, sweep_state: str) -> None:
    """What the deposits of these sweeps say."""
    await store.tell(uow, sweep_ids, sweep_state=sweep_state)


async def held(uow: Uow, sweep_ids: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
    """By sweep: (minor units, number) of its deposits that custody still holds finally."""
    return {
        row["sweep_id"]: (int(row["amount"]), int(row["count"]))
        for row in await store.held(uow, sweep_ids)
    }


async def native(uow: Uow, *, network: str, asset: str, keys: Sequence[str]) -> dict[str, int]:
    """What native coin some deposit addresses hold for sure, minor units: final deposits and mined
    top-ups, less what their own mined txs moved and cost."""
    found = dict.fromkeys(keys, 0)
    for row in await store.native(uow, network=network, asset=asset, keys=keys):
        found[row["key"]] += int(row["amount"])
    return found


async def unassigned(
    uow: Uow, *, network: str, asset: str, address_ids: Sequence[UUID]
) -> dict[UUID, int]:
    """By address, final deposits of an asset that no sweep has, minor units."""
    rows = await store.unassigned(uow, network=network, asset=asset, address_ids=address_ids)
    return {row["address_id"]: int(row["amount"]) for row in rows}


async def release(uow: Uow, sweep_ids: Sequence[UUID]) -> None:
    """Deposits of these sweeps that custody does not hold finally (any more) leave them; no other
    one does while the unit of work is open."""
    await store.release(uow, sweep_ids)


async def coded(uow: Uow, *, network: str, keys: Sequence[str]) -> frozenset[str]:
    """Those of some own keys that are known to have code: nothing leaves them by itself (D48)."""
    return await store.coded(uow, network=network, keys=keys)


async def free(uow: Uow, *, network: str, key: str, asset: str, pays_fees: bool = True) -> int:
    """What an account of the operator holds of an asset (`pays_fees`: its native coin), less what
    its unmined own txs may take, fees included; both at one moment."""
    return await store.free(uow, network=network, key=key, asset=asset, pays_fees=pays_fees)


async def is_gas_coming(uow: Uow, *, network: str, key: str) -> bool:
    """Whether a top-up of an address is on its way and in no block yet."""
    return await store.is_gas_coming(uow, network=network, key=key)


async def given(uow: Uow, *, network: str, sender_keys: Sequence[str], since: datetime) -> int:
    """What some accounts gave away as gas since a moment, minor units."""
    return await store.given(uow, network=network, sender_keys=sender_keys, since=since)


async def refills(uow: Uow, *, network: str) -> int:
    """What gas refills take from the hot wallet beside what the ledger shows, fees included."""
    return await store.refills(uow, network=network)


async def txs(
    uow: Uow,
    *,
    network: str,
    states: Sequence[OutgoingState],
    after: UUID | None = None,
    limit: int,
) -> list[UUID]:
    """Own txs of sweeps in some states, by id; of each family the newest."""
    names = [state.value for state in states]
    return list(await store.txs(uow, network=network, states=names, after=after, limit=limit))


async def families(
    uow: Uow, attempt_ids: Sequence[UUID], *, is_locked: bool = False
) -> dict[UUID, list[OutgoingRow]]:
    """By attempt, every attempt of its family, the oldest first; locked by id when asked."""
    if not attempt_ids:
        return {}
    found = await outgoing_lots.get(
        uow, list(await store.family_ids(uow, attempt_ids)), is_locked=is_locked
    )
    by_family: dict[UUID, list[OutgoingRow]] = {}
    for tx in sorted(found.values(), key=lambda item: (item.family_number, item.id)):
        by_family.setdefault(tx.family_id, []).append(tx)
    return {key: by_family[found[key].family_id] for key in attempt_ids if key in found}


async def heads(
    uow: Uow, *, network: str, sent_below: int, after: UUID | None = None, limit: int
) -> list[OutgoingRow]:
    """Of each account the lowest nonce of a sweep or top-up in no block, by its newest signed
    attempt, when that was first sent below a height; by id, a page of them behind `after`."""
    ids = list(
        await store.heads(uow, network=network, sent_below=sent_below, after=after, limit=limit)
    )
    found = await outgoing_lots.get(uow, ids)
    return [found[key] for key in ids if key in found]


async def unbooked(uow: Uow, *, network: str, after: UUID | None, limit: int) -> list[UUID]:
    """Final own txs of sweeps that the ledger does not hold, and those whose settled block is
    gone; a page of them behind `after`."""
    return list(await store.unbooked(uow, network=network, after=after, limit=limit))
