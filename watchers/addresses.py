"""The address pool: top up from public keys, hand out, look up.

Owns `chain.addresses`. It must not derive on demand (HOUSE 8): rows are written ahead by the
watcher, unverified; payouts lets the signer re-derive them, and only verified rows are handed out.
A retired address stays watched for ever (D23).
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from config.ids import Ids
from watchers import address_store as store
from watchers.chain import AddressCodec, DerivedAddress
from watchers.errors import PoolEmpty, UnknownAddress

OPERATOR_ACCOUNT = 0  # account 0 of every xpub is the operator's (docs/ARCHITECTURE.md, Paths)


class AddressRole(StrEnum):
    """What an own address is for."""

    DEPOSIT = "deposit"
    """A player's."""
    HOT = "hot"
    """The hot wallet's receive address or lane."""
    CHANGE = "change"
    """Change of UTXO payouts."""
    GAS = "gas"
    """Pays gas of token sweeps (account chains)."""
    WARM = "warm"
    """The warm wallet's: its key is the signer's, and two people sign what leaves it."""
    COLD = "cold"
    """The cold wallet's: watched, never spent from by anything online."""


APART = (AddressRole.WARM, AddressRole.COLD)
"""Roles whose coins no payout spends and which pass for no change of hot ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRow:
    """An address of ours. `brand` and `player_id` are None where nobody has it yet."""

    id: UUID
    network: str
    role: AddressRole
    brand: str | None
    player_id: str | None
    account: int
    branch: int
    address_index: int
    path: str
    key: str
    address: str
    scheme: str
    is_verified: bool
    issued_at: datetime | None
    retired_at: datetime | None
    version: int

    def derived(self) -> DerivedAddress:
        """The address as the builder of transactions takes it."""
        return DerivedAddress(
            address=self.address, key=self.key, path=self.path, scheme=self.scheme
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBranch:
    """One derivation branch to keep filled: refilled to `high` free rows when below `low`."""

    network: str
    role: AddressRole
    brand: str | None
    account: int
    branch: int
    xpub: str
    low: int
    high: int


async def hand_out(
    uow: Uow, *, brand: str, player_id: str, network: str, at: datetime
) -> AddressRow:
    """The player's address on a network: the same one for ever until rotated (CONTRACT 3).

    Raises PoolEmpty when no verified address is left.
    """
    row = await store.active(uow, brand=brand, player_id=player_id, network=network)
    if row is None:
        await store.lock_player_network(uow, brand=brand, player_id=player_id, network=network)
        row = await store.active(uow, brand=brand, player_id=player_id, network=network)
    if row is None:
        row = await store.issue_next(uow, brand=brand, player_id=player_id, network=network, at=at)
    if row is None:
        raise PoolEmpty(f"no verified {network} address is free for brand {brand}")
    return from_row(row)


async def rotate(uow: Uow, *, address_id: UUID, brand: str, at: datetime) -> AddressRow:
    """Retire an address of a player and hand out the next; the old one stays watched.

    Raises UnknownAddress when it is not an active address of this brand, PoolEmpty.
    """
    found = await store.by_id(uow, address_id)
    if found is None or found["brand"] != brand or found["player_id"] is None:
        raise UnknownAddress("no such address of this brand")
    await store.lock_player_network(
        uow, brand=brand, player_id=found["player_id"], network=found["network"]
    )
    if await store.retire(uow, address_id=address_id, brand=brand, at=at) is None:
        raise UnknownAddress("this address was rotated before")
    return await hand_out(
        uow, brand=brand, player_id=found["player_id"], network=found["network"], at=at
    )


async def by_id(uow: Uow, address_id: UUID) -> AddressRow | None:
    """One address by id."""
    row = await store.by_id(uow, address_id)
    return None if row is None else from_row(row)


async def by_ids(uow: Uow, ids: Sequence[UUID]) -> dict[UUID, AddressRow]:
    """The addresses among `ids`, by id."""
    if not ids:
        return {}
    return {row["id"]: from_row(row) for row in await store.by_ids(uow, ids)}


async def next_version(uow: Uow, ids: Sequence[UUID]) -> list[AddressRow]:
    """Count a change that the gateway makes to what it shows of these addresses."""
    return [from_row(row) for row in await store.next_version(uow, ids)] if ids else []


async def withdraw(uow: Uow, address_id: UUID, *, at: datetime) -> AddressRow | None:
    """Take a player's address out of hand-out; it stays watched. None when it was retired before.

    The player gets the next one at the next call.
    """
    row = await store.withdraw(uow, address_id, at=at)
    return None if row is None else from_row(row)


async def reserves(uow: Uow, *, network: str, brands: Sequence[str], limit: int) -> dict[str, int]:
    """How many verified addresses each brand has left to hand out, counted up to `limit`."""
    return await store.reserves(uow, network=network, brands=brands, limit=limit)


async def by_text(uow: Uow, *, network: str, key: str) -> AddressRow | None:
    """One address by its match key; the caller's codec turned text into the key (D27)."""
    rows = await store.by_keys(uow, network=network, keys=[key])
    return from_row(rows[0]) if rows else None


async def by_paths(uow: Uow, *, network: str, paths: Sequence[str]) -> dict[str, AddressRow]:
    """The own addresses at these derivation paths, by path."""
    if not paths:
        return {}
    rows = await store.by_paths(uow, network=network, paths=paths)
    return {row["path"]: from_row(row) for row in rows}


async def is_of_the_house(uow: Uow, *, network: str, key: str) -> bool:
    """Whether a match key is that of an own address of no player; seen by every brand's call."""
    return bool(await of_the_house(uow, [(network, key)]))


async def of_the_house(uow: Uow, asked: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of some (network, key) that are own addresses of no player."""
    pairs = sorted(set(asked))
    return await store.of_the_house(
        uow, networks=[network for network, _ in pairs], keys=[key for _, key in pairs]
    )


async def by_keys(uow: Uow, *, network: str, keys: Sequence[str]) -> dict[str, AddressRow]:
    """The own addresses among `keys`, by key."""
    if not keys:
        return {}
    return {
        row["key"]: from_row(row) for row in await store.by_keys(uow, network=network, keys=keys)
    }


async def by_role(
    uow: Uow, *, network: str, roles: Sequence[AddressRole]
) -> tuple[AddressRow, ...]:
    """Every own address of some roles; of deposit addresses only those that may hold value."""
    rows = await store.by_role(uow, network=network, roles=[role.value for role in roles])
    return tuple(from_row(row) for row in rows)


async def unverified(
    uow: Uow, *, network: str, limit: int, after: AddressRow | None = None
) -> list[AddressRow]:
    """Rows to ask the signer about (CONTRACT 8, address pool), in derivation order."""
    start = (-1, 0, 0) if after is None else (after.account, after.branch, after.address_index)
    rows = await store.unverified(uow, network=network, after=start, limit=limit)
    return [from_row(row) for row in rows]


async def mark_verified(uow: Uow, ids: Sequence[UUID], *, at: datetime) -> int:
    """Record that the signer re-derived these rows; returns how many were new."""
    return await store.mark_verified(uow, ids, at=at)


async def own_address(
    uow: Uow, *, network: str, role: Literal["hot", "change", "gas", "warm"], lane: int = 0
) -> AddressRow:
    """An address of the operator's: `change` the next unused one, the others by lane.

    Raises PoolEmpty when there is none that the signer verified.
    """
    if role == "change":
        row = await store.issue_change(uow, network=network)
    else:
        row = await store.own_at(uow, network=network, role=role, index=lane)
    if row is None:
        raise PoolEmpty(f"no verified {role} address of {network} (lane {lane})")
    return from_row(row)


async def cold_change(uow: Uow, receive: AddressRow) -> AddressRow:
    """The next unused change address of the cold wallet that `receive` belongs to.

    Raises PoolEmpty when every one that is watched was used.
    """
    row = await store.issue_cold_change(uow, network=receive.network, like=receive.id)
    if row is None:
        raise PoolEmpty(f"no cold change address of {receive.network} is left")
    return from_row(row)


async def batch_contract(uow: Uow, *, network: str) -> AddressRow | None:
    """The network's batch contract, once its code and owner were seen on the chain."""
    row = await store.contract(uow, network=network)
    return None if row is None else from_row(row)


async def free_count(uow: Uow, branch: PoolBranch) -> tuple[int, int]:
    """(free rows, counted up to the branch's `high`; next index) of a branch."""
    return await store.pool_counts(
        uow,
        network=branch.network,
        account=branch.account,
        branch=branch.branch,
        limit=branch.high,
    )


async def derive_rows(
    codec: AddressCodec, branch: PoolBranch, *, start: int, count: int, ids: Ids
) -> list[dict[str, Any]]:
    """Derive `count` rows from index `start`. CPU work: runs in a thread (HOUSE 11)."""

    def derive() -> list[DerivedAddress]:
        return [
            codec.derive(xpub=branch.xpub, account=branch.account, chain=branch.branch, index=index)
            for index in range(start, start + count)
        ]

    derived = await asyncio.to_thread(derive)
    return [
        {
            "id": ids.new_id(),
            "network": branch.network,
            "role": branch.role.value,
            "brand": branch.brand,
            "account": branch.account,
            "branch": branch.branch,
            "address_index": start + offset,
            "path": item.path,
            "key": item.key,
            "address": item.address,
            "scheme": item.scheme,
        }
        for offset, item in enumerate(derived)
    ]


async def add(uow: Uow, rows: Sequence[dict[str, Any]], *, at: datetime) -> None:
    """Write derived rows, unverified."""
    if rows:
        await store.insert(uow, rows, at=at)


def from_row(row: RowMapping | Mapping[str, Any]) -> AddressRow:
    """A database row with exactly the fields of an address."""
    return AddressRow(**{**row, "role": AddressRole(row["role"])})
