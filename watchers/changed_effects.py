"""Txs of account chains that do something else when they are mined again.

A UTXO txid commits to its outputs; an EVM txid only to the call. After a reorganisation the same
(txid, position) may hold another sum, asset or receiver, or nothing. Owns that comparison, inside
the block's unit of work and before `effects.connect` matches by position: what was credited is
never taken for confirmed by another effect (D02, D50), and is reversed once that one is final.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from config.chains import Family
from config.database import Uow
from config.logs import get_logger
from watchers import addresses, inflows, store, token_store
from watchers.addresses import AddressRow
from watchers.chain import Block, Transfer
from watchers.deposits import DepositState
from watchers.network import Network
from watchers.token_checks import BOOKED_MAX_MINOR

log = get_logger("watchers.changed_effects")

KIND = "changed"
_UNBOOKED = frozenset(
    {
        DepositState.DETECTED,
        DepositState.DROPPED,
        DepositState.REPLACED,
        DepositState.REVERSED,
    }
)
"""States without a posting, which the block includes: they take its sum."""

_Place = tuple[str, str]


async def settle(uow: Uow, network: Network, block: Block, *, at: datetime) -> Block:
    """The block without transfers that contradict a deposit at their place.

    A deposit without a posting takes the new sum to the same account. Any other one stays
    orphaned, with this block as its conflict; what the tx pays now is an inflow, in suspense.
    """
    if network.family is not Family.EVM or not block.txids:
        return block
    rows = await token_store.deposits_of(uow, network=network.name, txids=block.txids)
    here = {(item.txid, item.position): item for item in block.transfers}
    changed = [row for row in rows if not _is_same(row, here.get(_place(row)))]
    if not changed:
        return block
    withheld: dict[_Place, Transfer] = {}
    gone = []
    for row in changed:
        found = here.get(_place(row))
        if DepositState(row["state"]) is DepositState.ORPHANED:
            gone.append(row)
        if found is None:
            continue
        is_open = DepositState(row["state"]) in _UNBOOKED
        if is_open and (found.asset, found.to_key) == (row["asset"], row["key"]):
            await token_store.take_amount(uow, deposit_id=row["id"], amount=found.amount_minor)
        else:
            withheld[_place(row)] = found
    await token_store.mark_changed(
        uow,
        deposit_ids=[row["id"] for row in gone],
        block_hash=block.ref.hash,
        height=block.ref.height,
    )
    contradicted = [row for row in changed if row in gone or _place(row) in withheld]
    await _tell(uow, network, block, contradicted, withheld, at=at)
    await _suspend(uow, network, block, list(withheld.values()), at=at)
    kept = (item for item in block.transfers if (item.txid, item.position) not in withheld)
    return replace(block, transfers=tuple(kept))


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
    arrived: list[tuple[Transfer, AddressRow, int]] = []
    for item in withheld:
        asset = network.asset(item.asset)
        if asset is None or item.to_key not in own or item.amount_minor > BOOKED_MAX_MINOR:
            continue
        depths = network.depths(asset, item.amount_minor, is_coinbase=False)
        arrived.append((item, own[item.to_key], depths.full_depth))
    await inflows.connect(uow, block, arrived, network=network.name, ids=network.ids, at=at)


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
        await store.raise_alarm(
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
