"""Families of own transactions: attempts that exclude each other, and packages that depend.

Owns the reading of what one bump has to know: siblings, own ancestors and descendants, and of own
moves: children that pay for a parent, merges and splits of own coins. It decides nothing and moves
nothing (`outgoing` and payouts do).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from config.database import Uow
from watchers import outgoing, outgoing_store
from watchers import outgoing_family_store as store
from watchers.chain import Outpoint
from watchers.outgoing import OutgoingRow, OutgoingState

_OPEN = (
    OutgoingState.BUILT,
    OutgoingState.SIGNED,
    OutgoingState.BROADCAST,
    OutgoingState.SEEN,
    OutgoingState.DROPPED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTx:
    """An own tx in no block, without its bytes. `parents`: txids of its inputs, `change`: output
    indexes of its change, `keys`: of its payments. `fee_minor` is exact on UTXO chains, else a
    cap."""

    id: UUID
    family_id: UUID
    purpose: str
    state: OutgoingState
    txid: str | None
    sender_key: str | None
    nonce: int | None
    fee_minor: int
    family_number: int
    replaces_id: UUID | None
    pays_for_id: UUID | None
    broadcast_height: int | None
    conflict_txid: str | None
    parents: frozenset[str]
    keys: tuple[str, ...]
    change: tuple[int, ...]
    inputs_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bump:
    """A replacement or child that was built for a payout, and the followed block of that moment."""

    id: UUID
    purpose: str
    state: OutgoingState
    planned_height: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change output of an attempt."""

    vout: int
    amount_minor: int
    address_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """A merge or split of own coins."""

    state: OutgoingState
    created_at: datetime

    @property
    def is_open(self) -> bool:
        """Whether it is built or on its way, and in no block."""
        return self.state in _OPEN


async def open_txs(uow: Uow, *, network: str, limit: int) -> list[OpenTx]:
    """What is built or on its way and in no block, at most `limit`; of a family the newest last."""
    return [
        OpenTx(
            id=row["id"],
            family_id=row["family_id"],
            purpose=row["purpose"],
            state=OutgoingState(row["state"]),
            txid=row["txid"],
            sender_key=row["sender_key"],
            nonce=row["nonce"],
            fee_minor=int(row["fee_cap_minor"]),
            family_number=row["family_number"],
            replaces_id=row["replaces_id"],
            pays_for_id=row["pays_for_id"],
            broadcast_height=row["broadcast_height"],
            conflict_txid=row["conflict_txid"],
            parents=frozenset(row["parents"]),
            keys=tuple(_list(row["keys"])),
            change=tuple(row["change"]),
            inputs_count=len(row["parents"]),
        )
        for row in await store.open_txs(uow, network=network, limit=limit)
    ]


async def locked(uow: Uow, *family_ids: UUID) -> list[OutgoingRow]:
    """Every attempt of the first family, the newest last; no block comes or goes for one of any of
    them until the unit of work ends. Withdrawals are locked before."""
    await store.lock_families(uow, family_ids)
    return await outgoing.family(uow, family_ids[0])


async def mined_families(uow: Uow, ids: Sequence[UUID]) -> set[UUID]:
    """Families among `ids` with an attempt in a block."""
    return set(await store.mined_families(uow, ids)) if ids else set()


async def mined_siblings(uow: Uow, ids: Sequence[UUID]) -> Mapping[UUID, UUID]:
    """For attempts among `ids` that are in no block: the one of their family that is in one."""
    return {row["id"]: row["winner_id"] for row in await store.mined_siblings(uow, ids)}


async def built_bumps(uow: Uow, *, network: str, limit: int) -> list[UUID]:
    """Replacements, aborts, children, merges and splits that are not signed, oldest first."""
    return list(await store.built_bumps(uow, network=network, limit=limit))


async def bumps_of(uow: Uow, family_id: UUID) -> list[Bump]:
    """Every bump of a payout's family, refused ones included, oldest first."""
    return [
        Bump(
            id=row["id"],
            purpose=row["purpose"],
            state=OutgoingState(row["state"]),
            planned_height=row["planned_height"],
        )
        for row in await store.bump_heights(uow, family_id)
    ]


async def spenders(uow: Uow, *, network: str, outpoints: Sequence[Outpoint]) -> list[OutgoingRow]:
    """Signed attempts that spend one of these, of a family the newest last."""
    return await outgoing.with_inputs(
        uow, await outgoing_store.spenders(uow, network=network, outpoints=outpoints)
    )


async def note_winner(uow: Uow, *, attempt_id: UUID, winner: OutgoingRow, at: datetime) -> None:
    """A signature that was stored after another attempt of the family was mined: no block will tell
    of that conflict again. Both rows are locked by the caller (`locked`)."""
    await outgoing_store.update(
        uow,
        attempt_id=attempt_id,
        current=OutgoingState.SIGNED.value,
        changes={
            "conflict_txid": winner.txid,
            "conflict_hash": winner.block_hash,
            "conflict_final_at_height": winner.final_at_height,
        },
        at=at,
    )


async def take_over_conflicts(uow: Uow, signed: OutgoingRow, family: Sequence[OutgoingRow]) -> None:
    """A foreign tx in a block that excludes an attempt of the family excludes one that was signed
    since, too, where that spends all of the same: no block will tell of it again."""
    excluded = [
        tx.id
        for tx in family
        if tx.id != signed.id
        and tx.conflict_txid is not None
        and (signed.sender_key is not None or set(tx.inputs) <= set(signed.inputs))
    ]
    if excluded:
        await store.take_over_conflict(uow, attempt_id=signed.id, of=excluded)


async def change_of(uow: Uow, attempt_id: UUID) -> list[Change]:
    """The change outputs of an attempt, by index."""
    return [
        Change(vout=row["vout"], amount_minor=int(row["amount"]), address_id=row["address_id"])
        for row in await outgoing_store.change_of(uow, attempt_id)
    ]


async def dearest(
    uow: Uow, *, network: str, states: Sequence[OutgoingState], is_of_sweeps: bool = False
) -> Mapping[UUID, int]:
    """By family with an attempt in these states: the highest fee cap of such, in minor units.
    `is_of_sweeps`: of sweeps and top-ups only."""
    rows = await store.dearest(
        uow,
        network=network,
        states=[state.value for state in states],
        is_of_sweeps=is_of_sweeps,
    )
    return {row["family_id"]: int(row["fee_cap_minor"]) for row in rows}


async def own_on_their_way(uow: Uow, *, network: str, limit: int) -> list[UUID]:
    """Own moves that nodes should hold: of each family the newest, oldest first."""
    return list(await store.own_on_their_way(uow, network=network, limit=limit))


async def own_unsettled(uow: Uow, *, network: str, limit: int) -> list[UUID]:
    """Final own moves whose fee the ledger does not hold, and those whose settled block is gone."""
    return list(await store.own_unsettled(uow, network=network, limit=limit))


async def newest_upkeep(uow: Uow, *, network: str) -> Upkeep | None:
    """The merge or split of own coins that was built last."""
    row = await store.newest_upkeep(uow, network=network)
    if row is None:
        return None
    return Upkeep(state=OutgoingState(row["state"]), created_at=row["created_at"])


async def followed_height(uow: Uow, *, network: str) -> int | None:
    """The height of the block that the follower stands on; None before the first."""
    return await outgoing_store.followed_height(uow, network=network)


def _list(value: str | list[str]) -> list[str]:
    """A jsonb column, which the driver gives as text."""
    found: list[str] = json.loads(value) if isinstance(value, str) else value
    return found
