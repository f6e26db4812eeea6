"""Txs that do something else in a block than a deposit of them says.

An EVM txid commits to the call, not to its effects: mined again, the same (txid, position) may hold
another sum, asset or receiver, or nothing. And what was seen unconfirmed is the word of one node.
Owns that comparison, inside the block's unit of work and before `effects.connect` matches by
position. A deposit that no block had yet becomes what the block says. What was credited is never
taken for confirmed by another effect (D02, D50), and is reversed once that one is final.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config import alarm_store
from config.database import Uow
from config.logs import get_logger
from watchers import addresses, deposit_store, inflows, token_store
from watchers.agreement import is_traced_at
from watchers.chain import Block, Transfer
from watchers.deposits import DepositState, DepositTrigger, Step, from_row, step_many
from watchers.network import Network
from watchers.token_checks import BOOKED_MAX_MINOR

log = get_logger("watchers.changed_effects")

KIND = "changed"
_UNTOLD = frozenset({DepositState.DETECTED, DepositState.DROPPED, DepositState.REPLACED})
"""In no block: they become what the block says."""

_Place = tuple[str, str]


async def settle(
    uow: Uow,
    network: Network,
    blocks: Sequence[Block],
    *,
    at: datetime,
    only: frozenset[UUID] | None = None,
) -> list[Block]:
    """The blocks of a run without transfers that contradict a deposit at their place.

    A deposit in no block takes the new effect; where there is none, its block excludes it. A
    reversed one takes another sum to the same account. Any other one stays orphaned, with its
    block as its conflict; what the tx pays now is an inflow, in suspense. `only`: of all deposits
    these (`retrace.py`).
    """
    txids = [txid for block in blocks for txid in block.txids]
    if not txids:
        return list(blocks)
    rows = await token_store.deposits_of(uow, network=network.name, txids=txids)
    by_txid: dict[str, list[RowMapping]] = {}
    for row in rows:
        by_txid.setdefault(row["txid"], []).append(row)
    settled = []
    for block in blocks:
        told = [row for txid in block.txids for row in by_txid.get(txid, ())] if rows else []
        settled.append(await _settle(uow, network, block, told, at=at, only=only))
    return settled


async def _settle(
    uow: Uow,
    network: Network,
    block: Block,
    rows: Sequence[RowMapping],
    *,
    at: datetime,
    only: frozenset[UUID] | None,
) -> Block:
    if not rows:
        return block
    here = {(item.txid, item.position): item for item in block.transfers}
    changed = [
        row
        for row in rows
        if (only is None or row["id"] in only)
        and not _is_same(row, here.get(_place(row)))
        and not (block.traces_incomplete and is_traced_at(row["position"]))
    ]
    if not changed:
        return block
    untold = [row for row in changed if DepositState(row["state"]) in _UNTOLD]
    excluded = await _correct(uow, network, untold, here, at=at)
    withheld: dict[_Place, Transfer] = {}
    gone = []
    for row in changed:
        found, state = here.get(_place(row)), DepositState(row["state"])
        if state is DepositState.ORPHANED:
            gone.append(row)
        if found is None or state in _UNTOLD:
            continue
        is_same_account = (found.asset, found.to_key) == (row["asset"], row["key"])
        if state is DepositState.REVERSED and is_same_account:
            await token_store.take_amount(uow, deposit_id=row["id"], amount=found.amount_minor)
        else:
            withheld[_place(row)] = found
    await token_store.mark_changed(
        uow,
        deposit_ids=[row["id"] for row in (*gone, *excluded)],
        block_hash=block.ref.hash,
        height=block.ref.height,
    )
    contradicted = [row for row in changed if row in gone or _place(row) in withheld]
    await _tell(uow, network, block, contradicted, withheld, at=at)
    await _suspend(uow, network, block, list(withheld.values()), at=at)
    kept = (item for item in block.transfers if (item.txid, item.position) not in withheld)
    return replace(block, transfers=tuple(kept))


async def _correct(
    uow: Uow,
    network: Network,
    rows: Sequence[RowMapping],
    here: Mapping[_Place, Transfer],
    *,
    at: datetime,
) -> list[RowMapping]:
    """Deposits in no block become what the block says; returns those of which it says nothing.

    Whoever was told of one that is another's or of another asset is told that it is `replaced`.
    """
    found = {_place(row): here[_place(row)] for row in rows if _place(row) in here}
    own = await addresses.by_keys(
        uow, network=network.name, keys=sorted({item.to_key for item in found.values()})
    )
    paid = {
        row["id"]: (found[_place(row)], own[found[_place(row)].to_key])
        for row in rows
        if _place(row) in found
        and (address := own.get(found[_place(row)].to_key)) is not None
        and address.player_id is not None
    }
    moved = [
        row["id"]
        for row in rows
        if row["id"] in paid
        and DepositState(row["state"]) is DepositState.DETECTED
        and (paid[row["id"]][0].asset, paid[row["id"]][0].to_key) != (row["asset"], row["key"])
    ]
    held = [from_row(row) for row in await deposit_store.lock(uow, moved)] if moved else []
    steps = [Step(deposit=item, trigger=DepositTrigger.REPLACE, changes={}) for item in held]
    await step_many(uow, steps, ids=network.ids, at=at)
    for deposit_id, (transfer, address) in paid.items():
        await token_store.take_effect(
            uow,
            deposit_id=deposit_id,
            effect={
                "brand": address.brand,
                "player_id": address.player_id,
                "address_id": address.id,
                "address": address.address,
                "asset": transfer.asset,
                "amount": transfer.amount_minor,
            },
        )
    for row in rows:
        log.warning("deposit.corrected", network=network.name, deposit_id=str(row["id"]))
    return [row for row in rows if row["id"] not in paid]


def _place(row: RowMapping) -> _Place:
    return (row["txid"], row["position"])


def _is_same(row: RowMapping, found: Transfer | None) -> bool:
    return found is not None and (found.asset, found.to_key, found.amount_minor) == (
        row["asset"],
        row["key"],
        int(row["amount"]),
    )


async def _suspend(
    uow: Uow, network: Network, block: Block, withheld: Sequence[Transfer], *, at: datetime
) -> None:
    own = await addresses.by_keys(
        uow, network=network.name, keys=sorted({item.to_key for item in withheld})
    )
    arrived: list[inflows.Arrival] = []
    for item in withheld:
        asset = network.asset(item.asset)
        if asset is None or item.to_key not in own or item.amount_minor > BOOKED_MAX_MINOR:
            continue
        depths = network.depths(asset, item.amount_minor, is_coinbase=False)
        arrived.append((block.ref, item, own[item.to_key], depths.full_depth))
    await inflows.connect(uow, arrived, network=network.name, ids=network.ids, at=at)


async def _tell(
    uow: Uow,
    network: Network,
    block: Block,
    rows: Sequence[RowMapping],
    withheld: Mapping[_Place, Transfer],
    *,
    at: datetime,
) -> None:
    for row in rows:
        log.error("deposit.effect_changed", network=network.name, deposit_id=str(row["id"]))
        await token_store.open_search(uow, _search(network, block, row, withheld, at=at))
    if rows:
        await alarm_store.raise_alarm(
            uow,
            alarm_id=network.ids.new_id(),
            kind="effect_changed",
            network=network.name,
            detail=f"{len(rows)} deposits: their txs do something else in block {block.ref.height}",
            at=at,
        )


def _search(
    network: Network,
    block: Block,
    row: RowMapping,
    withheld: Mapping[_Place, Transfer],
    *,
    at: datetime,
) -> dict[str, Any]:
    found = withheld.get(_place(row))
    return {
        "id": network.ids.new_id(),
        "network": network.name,
        "kind": KIND,
        "asset": row["asset"],
        "subject": str(row["id"]),
        "brand": row["brand"],
        "player_id": row["player_id"],
        "block_hash": block.ref.hash,
        "height": block.ref.height,
        "claimed": int(row["amount"]),
        "moved": 0 if found is None else found.amount_minor,
        "transfers": []
        if found is None
        else [
            {
                "txid": found.txid,
                "position": found.position,
                "asset": found.asset,
                "key": found.to_key,
                "amount": str(found.amount_minor),
            }
        ],
        "at": at,
    }
