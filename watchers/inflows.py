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
from ledger.journal import ChainEffect, Posting, credit, debit
from watchers import inflow_store as store
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import Block, Transfer

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


@dataclass(frozen=True, slots=True, kw_only=True)
class InflowRow:
    """An inflow. `posting_reference` names the standing posting."""

    id: UUID
    network: str
    txid: str
    position: str
    coinbase_hash: str
    cycle: int
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
    """The custody account of an address (HOUSE 7): UTXO networks have one hot wallet."""
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
    await _tell(uow, inflow, "inflow.assigned", InflowState.BOOKED, ids=ids, at=at)
    return inflow


async def connect(
    uow: Uow,
    block: Block,
    found: Sequence[tuple[Transfer, AddressRow, int]],
    *,
    network: str,
    ids: Ids,
    at: datetime,
) -> None:
    """Record the inflows of a block: (transfer, own address, full depth in blocks)."""
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
                "coinbase_hash": block.ref.hash if transfer.is_coinbase else "",
                "role": address.role.value,
                "brand": address.brand,
                "asset": transfer.asset,
                "amount": transfer.amount_minor,
                "address_id": address.id,
                "address": address.address,
                "block_hash": block.ref.hash,
                "height": block.ref.height,
                "book_at_height": block.ref.height + full_depth - 1,
                "at": at,
            }
            for transfer, address, full_depth in found
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
    for inflow in rows:
        position = inflow.position
        if inflow.coinbase_hash:
            position = (
                f"{position}@{inflow.coinbase_hash}"  # two blocks may have the same one (D31)
            )
        reference = f"inflow:{inflow.network}:{inflow.txid}:{position}:{inflow.cycle}:book"
        posting = Posting(
            reference=reference,
            kind="inflow_booked",
            entries=(
                debit(_custody(family, inflow), inflow.amount_minor),
                credit(suspense(inflow.asset), inflow.amount_minor),
            ),
            effect=_effect(inflow),
        )
        await journal.post(uow, posting, posting_id=ids.new_id(), at=at)
        booked = _row(await store.book(uow, inflow_id=inflow.id, reference=reference, at=at))
        await _tell(uow, booked, "inflow.booked", InflowState.SEEN, ids=ids, at=at)
    return len(rows) == PAGE_ROWS


async def disconnect(
    uow: Uow, *, network: str, block_hash: str, ids: Ids, at: datetime
) -> list[InflowRow]:
    """The block left the chain: reverse what was booked and nobody took out of suspense.

    Returns the assigned ones, which keep their posting and need a person.
    """
    assigned = []
    for row in await store.in_block(uow, network=network, block_hash=block_hash):
        inflow = _row(row)
        is_unbooked = inflow.state is InflowState.BOOKED
        if is_unbooked and inflow.posting_reference is not None:
            await journal.reverse(
                uow,
                inflow.posting_reference,
                new_reference=inflow.posting_reference.removesuffix("book") + "orphaned",
                posting_id=ids.new_id(),
                at=at,
                reason="block orphaned",
                effect=_effect(inflow),
            )
        if inflow.state is InflowState.ASSIGNED:
            assigned.append(inflow)
        orphaned = _row(
            await store.orphan(uow, inflow_id=inflow.id, is_unbooked=is_unbooked, at=at)
        )
        await _tell(uow, orphaned, "inflow.orphaned", inflow.state, ids=ids, at=at)
    return assigned


async def unposted(uow: Uow, *, network: str, height: int) -> list[InflowRow]:
    """Mined up to a height, with no effect of that block in the ledger (HOUSE 7)."""
    return [_row(row) for row in await store.unposted(uow, network=network, height=height)]


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


async def _tell(
    uow: Uow, inflow: InflowRow, type: str, previous: InflowState, *, ids: Ids, at: datetime
) -> None:
    await outbox.append(
        uow,
        event_id=ids.new_id(),
        brand=None,
        type=type,
        object_kind="inflow",
        object_id=inflow.id,
        object_version=inflow.version,
        previous_state=previous.value,
        snapshot=snapshot(inflow),
        at=at,
    )


def _row(row: RowMapping) -> InflowRow:
    values = {key: value for key, value in row.items() if key != "amount"}
    return InflowRow(
        **{
            **values,
            "amount_minor": int(row["amount"]),
            "role": AddressRole(row["role"]),
            "state": InflowState(row["state"]),
        }
    )
