"""Everything that one block, or its loss, changes: the single place that orders the effects.

Runs inside the follower's unit of work, next to the cursor. It must not call a node. Matching is
by key only, never by address text (D27); what no player has is an inflow (D24, D25); outputs of
our own transactions to our own wallets are neither (D18).
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from config.chains import Family
from config.database import Uow
from watchers import (
    addresses,
    coin_store,
    deposit_blocks,
    deposit_due,
    deposit_mempool,
    deposit_store,
    evidence,
    inflows,
    outgoing_blocks,
    policies,
    second_pass,
    store,
)
from watchers.address_filter import AddressFilter
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import Block, MempoolTx, Transfer
from watchers.deposit_due import Tip
from watchers.errors import NodeUnavailable
from watchers.lineage import SpendsByTx
from watchers.matches import Match, TxDepths
from watchers.network import Depths, Network


async def connect(
    uow: Uow,
    network: Network,
    known: AddressFilter,
    block: Block,
    *,
    finalised_height: int | None,
    at: datetime,
) -> None:
    """Apply a block whose parent is the cursor's block."""
    ref = block.ref
    await store.connect_block(
        uow,
        network=network.name,
        block_hash=ref.hash,
        height=ref.height,
        parent_hash=ref.parent_hash,
        time_seconds=ref.time_seconds,
    )
    given = () if block.agreement is None else block.agreement.transfers
    keys = {item.to_key for item in (*block.transfers, *given)}
    keys |= {item.sender_key for item in block.sends}
    own = await _own(uow, network, known, keys)
    ours = await outgoing_blocks.own_txids(uow, network, block.txids)
    matches = _matches(network, block.transfers, own)
    # Own transactions first: payouts too lock theirs before coins, players and accounts.
    await outgoing_blocks.connect(uow, network, block, own_keys=frozenset(own), at=at)
    if network.family is Family.BITCOIN:
        await _connect_coins(uow, network, block, matches, ours)
    unlisted = _unlisted(network, block.transfers, own)
    await deposit_blocks.connect(
        uow,
        network,
        block,
        _of_players(matches),
        unlisted=unlisted,
        internal_txids=ours,
        at=at,
    )
    found = _foreign_inflows(network, matches, ours)
    await _remember_inputs(uow, network, block, {item[0].txid for item in found})
    await inflows.connect(
        uow,
        block,
        found,
        network=network.name,
        ids=network.ids,
        at=at,
    )
    recorded = unlisted[: deposit_blocks.UNLISTED_PER_BLOCK]
    proven_txids = {item[0].txid for item in (*_of_players(matches), *found)}
    proven_txids |= {transfer.txid for transfer, _ in recorded}
    await evidence.store(uow, network, block, proven_txids, at=at)
    await second_pass.remember(uow, network, block, own, at=at)
    await settle_due(uow, network, height=ref.height, finalised_height=finalised_height, at=at)


async def settle_due(
    uow: Uow, network: Network, *, height: int, finalised_height: int | None, at: datetime
) -> None:
    """Thresholds that tip `height` reaches; own transactions first, as in `connect`.

    Of deposits it is one page: the follower does what is left (`deposit_due.settle_page`).
    """
    final_below = network.final_below(height=height, finalised_height=finalised_height)
    await outgoing_blocks.settle_due(uow, network, height=height, final_below=final_below, at=at)
    tip = Tip(height=height, final_below=final_below)
    await deposit_due.reverse_dead(uow, network, tip, at=at)
    await deposit_due.settle_page(uow, network, tip, at=at)
    await inflows.book_due(
        uow,
        family=network.family,
        network=network.name,
        height=height,
        final_below=final_below,
        ids=network.ids,
        at=at,
    )


async def disconnect(
    uow: Uow, network: Network, *, block_hash: str, height: int, at: datetime
) -> None:
    """Take back the block that the cursor stands on."""
    await store.disconnect_block(uow, network=network.name, block_hash=block_hash)
    await outgoing_blocks.disconnect(uow, network, block_hash=block_hash, at=at)
    if network.family is Family.BITCOIN:
        await coin_store.disconnect(uow, network=network.name, block_hash=block_hash)
    await deposit_blocks.disconnect(uow, network, block_hash=block_hash, height=height, at=at)
    assigned = await inflows.disconnect(
        uow, network=network.name, block_hash=block_hash, ids=network.ids, at=at
    )
    if assigned:
        await store.raise_alarm(
            uow,
            alarm_id=network.ids.new_id(),
            kind="inflow_orphaned",
            network=network.name,
            detail=f"{len(assigned)} inflows already assigned lost their block {block_hash}",
            at=at,
        )


async def observe_mempool(
    uow: Uow,
    network: Network,
    known: AddressFilter,
    txs: Sequence[MempoolTx],
    *,
    spends: SpendsByTx,
    height: int,
    at: datetime,
) -> int:
    """Record deposits seen unconfirmed, and which ones they replace; returns how many are new.

    Nothing is credited. `spends`: of what the mempool showed before, too.
    """
    await deposit_mempool.replace(uow, network, txs, at=at)
    transfers = [transfer for tx in txs for transfer in tx.transfers]
    own = await _own(uow, network, known, {item.to_key for item in transfers})
    txids = [tx.txid for tx in txs]
    ours = await outgoing_blocks.own_txids(uow, network, txids)
    if ours:
        await outgoing_blocks.see(uow, network, sorted(ours), at=at)
    found = _of_players(_matches(network, transfers, own))
    return await deposit_blocks.detect(
        uow,
        network,
        txs,
        found,
        spends=spends,
        internal_txids=ours,
        check_at=height + deposit_mempool.check_interval(network),
        at=at,
    )


async def _own(
    uow: Uow, network: Network, known: AddressFilter, keys: AbstractSet[str]
) -> dict[str, AddressRow]:
    """The own addresses among `keys`, up to those committed just before."""
    await known.extend(uow)
    return await addresses.by_keys(uow, network=network.name, keys=known.candidates(keys))


def _matches(
    network: Network, transfers: Sequence[Transfer], own: dict[str, AddressRow]
) -> list[Match]:
    """Listed assets of a positive amount to own keys; a value of zero is no transfer (D21)."""
    found: list[Match] = []
    for transfer in transfers:
        address = own.get(transfer.to_key)
        asset = network.asset(transfer.asset)
        if address is not None and asset is not None and transfer.amount_minor > 0:
            found.append((transfer, address, asset))
    return found


def _unlisted(
    network: Network, transfers: Sequence[Transfer], own: dict[str, AddressRow]
) -> list[tuple[Transfer, AddressRow]]:
    """Tokens to players that no list has: told, never booked (D73)."""
    return [
        (transfer, address)
        for transfer in transfers
        if transfer.amount_minor > 0
        and network.asset(transfer.asset) is None
        and (address := own.get(transfer.to_key)) is not None
        and address.player_id is not None
    ]


def _of_players(matches: Sequence[Match]) -> list[Match]:
    return [item for item in matches if item[1].player_id is not None]


def _foreign_inflows(
    network: Network, matches: Sequence[Match], ours: frozenset[str]
) -> list[tuple[Transfer, AddressRow, int]]:
    depths = TxDepths(network, matches, in_block=True)
    return [
        (match[0], match[1], depths.of(match).full_depth)
        for match in matches
        if match[1].player_id is None and match[0].txid not in ours
    ]


async def _connect_coins(
    uow: Uow,
    network: Network,
    block: Block,
    matches: Sequence[Match],
    ours: frozenset[str],
) -> None:
    depths = await policies.tx_depths(uow, network, matches, in_block=True)
    rows = [
        _coin(network, block, match, depths.of(match), is_ours=match[0].txid in ours)
        for match in matches
    ]
    if rows:
        raws = {txid: _raw_tx(block, txid) for txid in {row["txid"] for row in rows}}
        await coin_store.insert_txs(uow, network=network.name, raws=raws)
        await coin_store.upsert_mined(uow, rows)
    if block.spends:
        await coin_store.mark_spent(
            uow,
            network=network.name,
            spends=[
                (spend.outpoint.txid, spend.outpoint.vout, spend.txid) for spend in block.spends
            ],
            block_hash=block.ref.hash,
            height=block.ref.height,
        )


def _raw_tx(block: Block, txid: str) -> bytes:
    """The bytes of a tx that pays us; a node that left them out is asked for the block again."""
    raw = block.raw_txs.get(txid)
    if raw is None:
        raise NodeUnavailable(f"block {block.ref.hash}: no bytes of its tx {txid}")
    return raw


async def _remember_inputs(
    uow: Uow, network: Network, block: Block, txids: AbstractSet[str]
) -> None:
    """What the txs of inflows spend, as deposits remember it: a later rival is then known."""
    inputs = [
        (spend.outpoint.txid, spend.outpoint.vout, spend.txid, spend.txid)
        for spend in block.spends
        if spend.txid in txids
    ]
    if inputs:
        await deposit_store.insert_inputs(uow, network=network.name, inputs=inputs)


def _coin(
    network: Network,
    block: Block,
    match: Match,
    depths: Depths,
    *,
    is_ours: bool,
) -> dict[str, Any]:
    transfer, address, _ = match
    return {
        "network": network.name,
        "txid": transfer.txid,
        "vout": int(transfer.position.removeprefix("out:")),
        "asset": transfer.asset,
        "amount": transfer.amount_minor,
        "address_id": address.id,
        "key": address.key,
        "path": address.path,
        "is_own_change": is_ours and address.role is not AddressRole.DEPOSIT,
        "is_coinbase": transfer.is_coinbase,
        "block_hash": block.ref.hash,
        "height": block.ref.height,
        "spendable_at_height": block.ref.height + depths.full_depth - 1,
    }
