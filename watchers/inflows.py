"""Inflows: value that reached an address of ours that no player has, not by a tx of ours.

Owns `chain.inflows`: Dr custody / Cr suspense at the full tier (CONTRACT 1). It credits nobody;
two people move an inflow out of suspense later, through `assign`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import RowMapping

from config.chains import Family
from config.database import Uow
from config.ids import Ids
from ledger import journal, outbox
from ledger.accounts import Account, capital, custody, suspense
from ledger.journal import ChainEffect, Posting, Reversal, credit, debit
from watchers import inflow_store as store
from watchers.addresses import APART, AddressRole, AddressRow
from watchers.chain import BlockRef, Transfer

PAGE_ROWS = 500  # inflows booked in one unit of work


class InflowState(StrEnum):
    """Where an inflow stands."""

    SEEN = "seen"
    """In a block, below its full tier; not in the books."""
    BOOKED = "booked"
    """Dr custody / Cr suspense."""
    ASSIGNED = "assigned"
    """Moved out of suspense by two people."""
    ORPHANED = "orphaned"
    """Its block left the chain. A booked one is reversed unless it was assigned."""


class InflowKind(StrEnum):
    """What makes it an inflow."""

    PAYMENT = "payment"
    """It reached an own address that no player has, or nothing explains it."""
    OTHER_SCRIPT = "other_script"
    """It reached another script of the key of an own address, which no payout can spend (D26)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InflowRow:
    """An inflow. `posting_reference` names the standing posting. Of kind `other_script`, `address`
    is the one that was issued for the key, not the one that was paid."""

    id: UUID
    network: str
    txid: str
    position: str
    coinbase_hash: str
    cycle: int
    kind: InflowKind
    role: AddressRole
    brand: str | None
    asset: str
    amount_minor: int
    address: str
    state: InflowState
    block_hash: str | None
    height: int | None
    book_at_height: int | None
    custody_block_hash: str | None
    posting_reference: str | None
    assigned_to: str | None
    assigned_brand: str | None
    version: int
    first_seen_at: datetime
    state_at: datetime


def custody_account(
    *, family: Family, network: str, role: AddressRole, brand: str | None, asset: str
) -> Account:
    """The custody account of an address (HOUSE 7): UTXO networks have one hot wallet, and a warm
    and a cold one."""
    if role in APART:
        return custody(network, role.value, asset)
    if family is Family.BITCOIN or role in (AddressRole.HOT, AddressRole.CHANGE):
        return custody(network, "hot", asset)
    return custody(network, role.value, asset, brand=brand)


async def get(uow: Uow, inflow_id: UUID) -> InflowRow | None:
    """One inflow."""
    row = await store.get(uow, inflow_id)
    return None if row is None else _row(row)


async def find(
    uow: Uow,
    *,
    network: str | None = None,
    state: InflowState | None = None,
    before: UUID | None = None,
    limit: int = 100,
) -> list[InflowRow]:
    """Inflows, newest first; `before` is the id that ended the last page."""
    rows = await store.find(
        uow, network=network, state=state.value if state else None, before=before, limit=limit
    )
    return [_row(row) for row in rows]


async def assign(
    uow: Uow,
    *,
    inflow_id: UUID,
    target: Literal["capital", "clearing"],
    brand: str | None,
    ids: Ids,
    at: datetime,
) -> InflowRow | None:
    """Move a booked inflow out of suspense: Dr suspense / Cr capital or a brand's clearing.

    The caller has the two people's consent. None when it is not booked (any more).
    """
    row = await store.assign(uow, inflow_id=inflow_id, target=target, brand=brand, at=at)
    if row is None:
        return None
    inflow = _row(row)
    amount = inflow.amount_minor
    into = (
        (credit(capital(inflow.asset), amount),)
        if brand is None
        else await journal.clearing_credits(uow, brand=brand, asset=inflow.asset, amount=amount)
    )
    posting = Posting(
        reference=f"inflow:{inflow.id}:{inflow.cycle}:assign",
        kind="inflow_assigned",
        entries=(debit(suspense(inflow.asset), amount), *into),
    )
    await journal.post(uow, posting, posting_id=ids.new_id(), at=at)
    told = _event(inflow, "inflow.assigned", InflowState.BOOKED, ids=ids)
    await outbox.append_many(uow, [told], at=at)
    return inflow


Arrival = tuple[BlockRef, Transfer, AddressRow, int]
"""A transfer in a block to an own address, and its full depth in blocks."""


async def connect(
    uow: Uow,
    found: Sequence[Arrival],
    *,
    network: str,
    ids: Ids,
    at: datetime,
    kind: InflowKind = InflowKind.PAYMENT,
) -> None:
    """Record the inflows of blocks."""
    if not found:
        return
    await store.upsert_mined(
        uow,
        [
            {
                "id": ids.new_id(),
                "network": network,
                "txid": transfer.txid,
                "position": transfer.position,
                "coinbase_hash": ref.hash if transfer.is_coinbase else "",
                "kind": kind.value,
                "role": address.role.value,
                "brand": address.brand,
                "asset": transfer.asset,
                "amount": transfer.amount_minor,
                "address_id": address.id,
                "address": address.address,
                "block_hash": ref.hash,
                "height": ref.height,
                "book_at_height": ref.height + full_depth - 1,
                "at": at,
            }
            for ref, transfer, address, full_depth in found
        ],
    )


async def connect_difference(
    uow: Uow,
    *,
    network: str,
    code: str,
    role: AddressRole,
    brand: str | None,
    asset: str,
    amount_minor: int,
    block_hash: str,
    height: int,
    book_at_height: int,
    ids: Ids,
    at: datetime,
) -> None:
    """Record what custody account `code` holds at a block and nothing explains (D47).

    It has no tx and no single address: its txid is the block's hash, its address is empty.
    """
    await store.upsert_mined(
        uow,
        [
            {
                "id": ids.new_id(),
                "network": network,
                "txid": block_hash,
                "position": f"balance:{code}",
                "coinbase_hash": "",
                "kind": InflowKind.PAYMENT.value,
                "role": role.value,
                "brand": brand,
                "asset": asset,
                "amount": amount_minor,
                "address_id": None,
                "address": "",
                "block_hash": block_hash,
                "height": height,
                "book_at_height": book_at_height,
                "at": at,
            }
        ],
    )


async def book_due(
    uow: Uow,
    *,
    family: Family,
    network: str,
    height: int,
    final_below: int,
    ids: Ids,
    at: datetime,
) -> bool:
    """Book a page of the inflows that reached their full tier; True when there may be more."""
    found = await store.due(
        uow, network=network, height=height, final_below=final_below, limit=PAGE_ROWS
    )
    rows = [_row(row) for row in found]
    postings = {inflow.id: _booking(inflow, family) for inflow in rows}
    await journal.post_many(uow, [(ids.new_id(), item) for item in postings.values()], at=at)
    booked = await store.book_many(
        uow, references={key: item.reference for key, item in postings.items()}, at=at
    )
    events = [
        _event(_row(booked[inflow.id]), "inflow.booked", inflow.state, ids=ids) for inflow in rows
    ]
    await outbox.append_many(uow, events, at=at)
    return len(rows) == PAGE_ROWS


async def disconnect(
    uow: Uow, *, network: str, block_hash: str, ids: Ids, at: datetime
) -> list[InflowRow]:
    """The block left the chain: reverse what was booked and nobody took out of suspense.

    Returns the assigned ones, which keep their posting and need a person.
    """
    found = await store.in_block(uow, network=network, block_hash=block_hash)
    rows = [_row(row) for row in found]
    return await _orphan(uow, rows, ids=ids, at=at, reason="block orphaned")


async def _orphan(
    uow: Uow, rows: Sequence[InflowRow], *, ids: Ids, at: datetime, reason: str
) -> list[InflowRow]:
    standing = [
        (inflow, inflow.posting_reference)
        for inflow in rows
        if inflow.state is InflowState.BOOKED and inflow.posting_reference is not None
    ]
    reversals = [
        Reversal(
            reference=reference,
            new_reference=reference.removesuffix("book") + "orphaned",
            posting_id=ids.new_id(),
            effect=_effect(inflow),
        )
        for inflow, reference in standing
    ]
    await journal.reverse_many(uow, reversals, reason=reason, at=at)
    orphaned = await store.orphan_many(
        uow,
        inflow_ids=[inflow.id for inflow in rows],
        unbooked={inflow.id for inflow in rows if inflow.state is InflowState.BOOKED},
        at=at,
    )
    events = [
        _event(_row(orphaned[inflow.id]), "inflow.orphaned", inflow.state, ids=ids)
        for inflow in rows
    ]
    await outbox.append_many(uow, events, at=at)
    return [inflow for inflow in rows if inflow.state is InflowState.ASSIGNED]


async def recognise(
    uow: Uow, *, network: str, txid: str, ids: Ids, at: datetime
) -> list[InflowRow]:
    """The tx is our own after all: its outputs to us are no inflows, and what was booked of them
    is reversed. Returns the assigned ones, which keep their posting and need a person."""
    found = await store.of_tx(uow, network=network, txid=txid)
    return await _orphan(uow, [_row(row) for row in found], ids=ids, at=at, reason="own tx")


async def unposted(uow: Uow, *, network: str, height: int) -> list[InflowRow]:
    """Mined up to a height, with no effect of that block in the ledger (HOUSE 7)."""
    return [_row(row) for row in await store.unposted(uow, network=network, height=height)]


def _booking(inflow: InflowRow, family: Family) -> Posting:
    position = inflow.position
    if inflow.coinbase_hash:  # two blocks may have the same one (D31)
        position = f"{position}@{inflow.coinbase_hash}"
    return Posting(
        reference=f"inflow:{inflow.network}:{inflow.txid}:{position}:{inflow.cycle}:book",
        kind="inflow_booked",
        entries=(
            debit(_custody(family, inflow), inflow.amount_minor),
            credit(suspense(inflow.asset), inflow.amount_minor),
        ),
        effect=_effect(inflow),
    )


def _custody(family: Family, inflow: InflowRow) -> Account:
    return custody_account(
        family=family,
        network=inflow.network,
        role=inflow.role,
        brand=inflow.brand,
        asset=inflow.asset,
    )


def _effect(inflow: InflowRow) -> ChainEffect | None:
    if inflow.block_hash is None or inflow.height is None:
        return None
    return ChainEffect(network=inflow.network, block_hash=inflow.block_hash, height=inflow.height)


def snapshot(inflow: InflowRow) -> Mapping[str, Any]:
    """The inflow as neutral fields for an event."""
    return {
        "id": str(inflow.id),
        "network": inflow.network,
        "txid": inflow.txid,
        "position": inflow.position,
        "kind": inflow.kind.value,
        "role": inflow.role.value,
        "asset": inflow.asset,
        "amount": str(inflow.amount_minor),
        "address": inflow.address,
        "state": inflow.state.value,
        "block_hash": inflow.block_hash,
        "height": inflow.height,
        "assigned_to": inflow.assigned_to,
        "assigned_brand": inflow.assigned_brand,
        "version": inflow.version,
        "first_seen_at": inflow.first_seen_at.isoformat(),
        "state_at": inflow.state_at.isoformat(),
    }


def _event(inflow: InflowRow, type: str, previous: InflowState, *, ids: Ids) -> outbox.Event:
    return outbox.Event(
        event_id=ids.new_id(),
        brand=None,
        type=type,
        object_kind="inflow",
        object_id=inflow.id,
        object_version=inflow.version,
        previous_state=previous.value,
        snapshot=snapshot(inflow),
    )


def _row(row: RowMapping) -> InflowRow:
    values = {key: value for key, value in row.items() if key != "amount"}
    return InflowRow(
        **{
            **values,
            "amount_minor": int(row["amount"]),
            "kind": InflowKind(row["kind"]),
            "role": AddressRole(row["role"]),
            "state": InflowState(row["state"]),
        }
    )
