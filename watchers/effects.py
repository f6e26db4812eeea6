"""Everything that blocks, or the loss of one, change: the single place that orders the effects.

Runs inside the follower's unit of work, next to the cursor. It must not call a node. Matching is
by key only, never by address text (D27); what no player has is an inflow (D24, D25); outputs of
our own transactions to our own wallets are neither (D18).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from config import alarm_store
from config.chains import Family
from config.database import Uow
from watchers import (
    account_balances,
    addresses,
    coin_store,
    deposit_blocks,
    deposit_due,
    deposit_mempool,
    deposit_store,
    evidence,
    inflows,
    other_scripts,
    outgoing_blocks,
    policies,
    second_pass,
    store,
)
from watchers.address_filter import AddressFilter
from watchers.addresses import APART, AddressRole, AddressRow
from watchers.chain import AccountSend, Block, MempoolTx, Transfer
from watchers.columns import hashes_of, spends_of
from watchers.deposit_due import Tip
from watchers.errors import NodeUnavailable
from watchers.lineage import SpendsByTx
from watchers.matches import Match, Terms, TxDepths
from watchers.network import Depths, Network


async def connect(
    uow: Uow,
    network: Network,
    known: AddressFilter,
    blocks: Sequence[Block],
    *,
    finalised_height: int | None,
    at: datetime,
) -> bool:
    """Apply a run of blocks, the first of which has the cursor's block as its parent, and no two
    of which share a txid (ADR 0017). True when more is due than a page of deposits."""
    await store.connect_blocks(uow, network=network.name, refs=[block.ref for block in blocks])
    own = await record(uow, network, known, blocks, at=at)
    await second_pass.remember(uow, network, blocks, own, at=at)
    return await _settle_run(uow, network, blocks, finalised_height=finalised_height, at=at)


async def record(
    uow: Uow,
    network: Network,
    known: AddressFilter,
    blocks: Sequence[Block],
    *,
    at: datetime,
) -> dict[str, AddressRow]:
    """What a run of blocks of our chain moves, whether it connects now or is looked at again;
    the own addresses that it names, by key. What it has recorded before stays as it is."""
    keys = {key for block in blocks for key in _named_keys(block)}
    siblings = [other_scripts.siblings(network, block.transfers) for block in blocks]
    keys |= {key for items in siblings for _, key in items}
    own = await _own(uow, network, known, keys)
    # Own transactions first: payouts too lock theirs before coins, players and accounts.
    ours = await outgoing_blocks.connect(uow, network, blocks, own_keys=frozenset(own), at=at)
    await account_balances.connect(uow, network, blocks, own)
    found = [(block, _matches(network, block.transfers, own)) for block in blocks]
    terms = await policies.terms(uow, network, [item for _, items in found for item in items])
    others = [
        (block, other_scripts.matches(network, items, own))
        for block, items in zip(blocks, siblings, strict=True)
    ]
    if network.family is Family.BITCOIN:
        await _connect_coins(uow, network, _joined(found, others), terms, ours)
    run = [
        deposit_blocks.Paid(
            block=block,
            found=_of_players(matches, _gas_txids(block.sends, own)),
            unlisted=_unlisted(network, block.transfers, own),
        )
        for block, matches in found
    ]
    await deposit_blocks.connect(uow, network, run, terms=terms, internal_txids=ours, at=at)
    arrived = [_foreign_inflows(network, block, matches, ours) for block, matches in found]
    astray = [other_scripts.arrivals(network, block, items) for block, items in others]
    await inflows.connect(
        uow,
        [item for items in arrived for item in items],
        network=network.name,
        ids=network.ids,
        at=at,
    )
    await other_scripts.connect(uow, network, others, astray, at=at)
    both = [[*usual, *other] for usual, other in zip(arrived, astray, strict=True)]
    await _remember_inputs(uow, network, blocks, both)
    proven = [
        (paid.block, _proven_txids(paid, items)) for paid, items in zip(run, both, strict=True)
    ]
    await evidence.store(uow, network, proven, at=at)
    return own


def _named_keys(block: Block) -> Iterator[str]:
    """Every key that a block names, as it was given and as it counts."""
    yield from (item.to_key for item in block.transfers)
    if block.agreement is not None and block.agreement.transfers is not block.transfers:
        yield from (item.to_key for item in block.agreement.transfers)
    yield from (item.sender_key for item in block.sends)
    yield from (item.batch.payer_key for item in block.sends if item.batch is not None)
    yield from (key for item in block.sends for key, _ in item.collected or ())


def _proven_txids(paid: deposit_blocks.Paid, arrived: Sequence[inflows.Arrival]) -> set[str]:
    """The txs of a block whose inclusion is kept."""
    recorded = paid.unlisted[: deposit_blocks.UNLISTED_PER_BLOCK]
    txids = {item[0].txid for item in paid.found} | {item[1].txid for item in arrived}
    return txids | {transfer.txid for transfer, _ in recorded}


async def _settle_run(
    uow: Uow,
    network: Network,
    blocks: Sequence[Block],
    *,
    finalised_height: int | None,
    at: datetime,
) -> bool:
    """Thresholds that the blocks reach: in one pass, or height by height where that decides. True
    when there is more than a page of them."""
    first, last = blocks[0].ref.height, blocks[-1].ref.height
    final_below = network.final_below(height=last, finalised_height=finalised_height)
    tip = Tip(height=last, final_below=final_below)
    passes = [(first, last)]
    if first < last and await deposit_due.walks(uow, network, tip):
        passes = [(height, height) for height in range(first, last + 1)]
        await deposit_due.lock_ahead(uow, network, tip)
    is_left = False
    for since, height in passes:
        is_left |= await settle_due(
            uow,
            network,
            height=height,
            since=since,
            finalised_height=finalised_height,
            at=at,
        )
    return is_left


async def settle_due(
    uow: Uow,
    network: Network,
    *,
    height: int,
    since: int | None = None,
    finalised_height: int | None,
    at: datetime,
) -> bool:
    """Thresholds that tip `height` reaches; own transactions first, as in `connect`.

    `since`: the first height that it stands for. Of deposits it is one page: True when there may
    be more, which the follower does (`deposit_due.settle_page`).
    """
    final_below = network.final_below(height=height, finalised_height=finalised_height)
    await outgoing_blocks.settle_due(uow, network, height=height, final_below=final_below, at=at)
    tip = Tip(height=height, final_below=final_below, since=since)
    await deposit_due.reverse_dead(uow, network, tip, at=at)
    following = await deposit_due.settle_page(uow, network, tip, at=at)
    await inflows.book_due(
        uow,
        family=network.family,
        network=network.name,
        height=height,
        final_below=final_below,
        ids=network.ids,
        at=at,
    )
    return following is not None


async def disconnect(
    uow: Uow, network: Network, *, block_hash: str, height: int, at: datetime
) -> None:
    """Take back the block that the cursor stands on."""
    await store.disconnect_block(uow, network=network.name, block_hash=block_hash)
    await outgoing_blocks.disconnect(uow, network, block_hash=block_hash, at=at)
    await account_balances.disconnect(uow, network, block_hash=block_hash)
    if network.family is Family.BITCOIN:
        await coin_store.disconnect(uow, network=network.name, block_hash=block_hash)
        await other_scripts.disconnect(uow, network, block_hash=block_hash, at=at)
    await deposit_blocks.disconnect(uow, network, block_hash=block_hash, height=height, at=at)
    assigned = await inflows.disconnect(
        uow, network=network.name, block_hash=block_hash, ids=network.ids, at=at
    )
    if assigned:
        await alarm_store.raise_alarm(
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
    keys = {item.to_key for item in transfers}
    keys |= {tx.sender_key for tx in txs if tx.sender_key is not None}
    own = await _own(uow, network, known, keys)
    txids = [tx.txid for tx in txs]
    ours = await outgoing_blocks.own_txids(uow, network, txids)
    if ours:
        await outgoing_blocks.see(uow, network, sorted(ours), at=at)
    found = _of_players(_matches(network, transfers, own), _gas_txids(txs, own))
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
        if address is None or transfer.amount_minor <= 0:
            continue  # nearly all of a block
        asset = network.asset(transfer.asset)
        if asset is not None:
            found.append((transfer, address, asset))
    return found


def _unlisted(
    network: Network, transfers: Sequence[Transfer], own: dict[str, AddressRow]
) -> list[tuple[Transfer, AddressRow]]:
    """Tokens to players that no list has: told, never booked (D73)."""
    return [
        (transfer, address)
        for transfer in transfers
        if (address := own.get(transfer.to_key)) is not None
        and address.player_id is not None
        and transfer.amount_minor > 0
        and network.asset(transfer.asset) is None
    ]


def _of_players(matches: Sequence[Match], gas_txids: AbstractSet[str]) -> list[Match]:
    return [
        item for item in matches if item[1].player_id is not None and item[0].txid not in gas_txids
    ]


def _gas_txids(
    sent: Iterable[AccountSend | MempoolTx], own: Mapping[str, AddressRow]
) -> frozenset[str]:
    """What a gas account sends is gas for a sweep and never a deposit, whether or not the books
    know the tx (D17): a gas account pays nobody."""
    return frozenset(
        item.txid
        for item in sent
        if (row := own.get(item.sender_key or "")) is not None and row.role is AddressRole.GAS
    )


def _foreign_inflows(
    network: Network, block: Block, matches: Sequence[Match], ours: frozenset[str]
) -> list[inflows.Arrival]:
    depths = TxDepths(network, matches, in_block=True)
    return [
        (block.ref, match[0], match[1], depths.of(match).full_depth)
        for match in matches
        if match[1].player_id is None and match[0].txid not in ours
    ]


async def _connect_coins(
    uow: Uow,
    network: Network,
    found: Sequence[tuple[Block, Sequence[Match]]],
    terms: Terms,
    ours: frozenset[str],
) -> None:
    rows: list[dict[str, Any]] = []
    raws: dict[str, bytes] = {}
    for block, matches in found:
        depths = TxDepths(network, matches, terms, in_block=True)
        for match in matches:
            txid = match[0].txid
            rows.append(_coin(network, block, match, depths.of(match), is_ours=txid in ours))
            raws[txid] = _raw_tx(block, txid)
    if rows:
        await coin_store.insert_txs(uow, network=network.name, raws=raws)
        await coin_store.upsert_mined(uow, rows)
    blocks = [block for block, _ in found]
    if spends := spends_of(blocks):
        await coin_store.mark_spent(
            uow, network=network.name, spends=spends, blocks=hashes_of(blocks)
        )


def _joined(
    found: Sequence[tuple[Block, list[Match]]], others: Sequence[tuple[Block, list[Match]]]
) -> list[tuple[Block, list[Match]]]:
    return [
        (block, [*items, *more]) for (block, items), (_, more) in zip(found, others, strict=True)
    ]


def _raw_tx(block: Block, txid: str) -> bytes:
    """The bytes of a tx that pays us; a node that left them out is asked for the block again."""
    raw = block.raw_txs.get(txid)
    if raw is None:
        raise NodeUnavailable(f"block {block.ref.hash}: no bytes of its tx {txid}")
    return raw


async def _remember_inputs(
    uow: Uow,
    network: Network,
    blocks: Sequence[Block],
    arrived: Sequence[Sequence[inflows.Arrival]],
) -> None:
    """What the txs of inflows spend, as deposits remember it: a later rival is then known."""
    txids = {item[1].txid for items in arrived for item in items}
    inputs = [
        (spend.outpoint.txid, spend.outpoint.vout, spend.txid, spend.txid)
        for block in (blocks if txids else ())
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
    is_other_script = transfer.to_key != address.key
    return {
        "network": network.name,
        "txid": transfer.txid,
        "vout": int(transfer.position.removeprefix("out:")),
        "asset": transfer.asset,
        "amount": transfer.amount_minor,
        "address_id": address.id,
        "key": transfer.to_key,
        "path": address.path,
        "is_own_change": is_ours
        and address.role not in (AddressRole.DEPOSIT, *APART)
        and not is_other_script,
        "is_cold": address.role in APART,
        "is_other_script": is_other_script,
        "is_coinbase": transfer.is_coinbase,
        "block_hash": block.ref.hash,
        "height": block.ref.height,
        "spendable_at_height": block.ref.height + depths.full_depth - 1,
    }
