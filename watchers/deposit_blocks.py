"""What blocks and mempools do to deposits: include, credit, finalise, orphan, restore, reverse.

Owns the decision which step is due (`due_trigger`); the steps themselves are in `deposits.py`,
their postings in `deposit_postings.py`. Work per block is one statement over thresholds plus the
deposits that really move; nothing is counted per open deposit and block.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from config.assets import AssetSpec
from config.database import Uow
from config.logs import get_logger
from ledger import balances
from watchers import deposit_postings as postings
from watchers import deposit_store as store
from watchers import store as chain_store
from watchers.chain import AccountSend, Block, MempoolTx, Spend, Transfer
from watchers.deposits import (
    RESTORES,
    DepositRow,
    DepositState,
    DepositTrigger,
    from_row,
    step,
    tell,
)
from watchers.matches import Match, TxDepths
from watchers.network import Depths, Network

log = get_logger("watchers.deposits")

Found = Match  # to an address that a player has

_OPEN_TO_INCLUDE = frozenset(
    {
        DepositState.DETECTED,
        DepositState.DROPPED,
        DepositState.REPLACED,
        DepositState.REVERSED,
    }
)
_LEFT_BLOCK: Mapping[str, Any] = {
    "block_hash": None,
    "height": None,
    "provisional_at_height": None,
    "final_at_height": None,
}


def due_trigger(deposit: DepositRow, *, height: int, final_below: int) -> DepositTrigger | None:
    """The step that is due at tip `height`, or None. Pure.

    `final_below` is the highest block that may count as final at this tip.
    """
    is_final = (
        deposit.height is not None
        and deposit.final_at_height is not None
        and deposit.final_at_height <= height
        and deposit.height <= final_below
    )
    is_credited = is_final or (
        deposit.provisional_at_height is not None and deposit.provisional_at_height <= height
    )
    if deposit.state is DepositState.PENDING and is_credited:
        return DepositTrigger.FINALISE if is_final else DepositTrigger.CREDIT
    if deposit.state is DepositState.PROVISIONAL and is_final:
        return DepositTrigger.FINALISE
    if deposit.state is not DepositState.ORPHANED or deposit.prior_state is None:
        return None
    if deposit.block_hash is None:
        conflict_at = deposit.conflict_final_at_height
        is_dead = (
            conflict_at is not None
            and conflict_at <= height
            and conflict_at - deposit.full_depth + 1 <= final_below  # the conflict's own block
        )
        return DepositTrigger.REVERSE if is_dead else None
    is_reached = is_final if deposit.prior_state is DepositState.FINAL else is_credited
    return RESTORES[deposit.prior_state] if is_reached else None


async def detect(
    uow: Uow,
    network: Network,
    txs: Sequence[MempoolTx],
    found: Sequence[Found],
    *,
    internal_txids: frozenset[str],
    at: datetime,
) -> int:
    """Record what the mempool pays to players as `detected`; returns how many are new."""
    known = await _known(uow, network, [(item, "") for item in found])
    fresh = [item for item in found if _key(item[0], "") not in known]
    depths = TxDepths(network, found)
    rows = [
        _new_row(
            network,
            item,
            depths.of(item),
            internal_txids=internal_txids,
            block=None,
            send=None,
            at=at,
        )
        for item in fresh
    ]
    if not rows:
        return 0
    await store.insert(uow, rows)
    await _insert_inputs(uow, network, fresh, [spend for tx in txs for spend in tx.spends])
    for deposit in (await _known(uow, network, [(item, "") for item in fresh])).values():
        await tell(uow, deposit, trigger=None, previous=None, ids=network.ids, at=at)
        log.info("deposit.detected", deposit_id=str(deposit.id), network=network.name)
    return len(rows)


async def connect(
    uow: Uow,
    network: Network,
    block: Block,
    found: Sequence[Found],
    *,
    internal_txids: frozenset[str],
    at: datetime,
) -> None:
    """Include the block's deposits, and note which deposits its other txs make impossible."""
    keyed = [(item, block.ref.hash if item[0].is_coinbase else "") for item in found]
    known = await _known(uow, network, keyed)
    sends = {send.txid: send for send in block.sends}
    fresh = [(item, key) for item, key in keyed if _key(item[0], key) not in known]
    depths = TxDepths(network, found)
    for item, coinbase_hash in keyed:
        deposit = known.get(_key(item[0], coinbase_hash))
        if deposit is not None:
            send = sends.get(item[0].txid)
            await _include(uow, network, deposit, item[2], block, depths.of(item), send, at=at)
    if fresh:
        await store.insert(
            uow,
            [
                _new_row(
                    network,
                    item,
                    depths.of(item),
                    internal_txids=internal_txids,
                    block=block,
                    send=sends.get(item[0].txid),
                    at=at,
                )
                for item, _ in fresh
            ],
        )
        assets = {_key(item[0], key): item[2] for item, key in fresh}
        for key, deposit in (await _known(uow, network, fresh)).items():
            await tell(uow, deposit, trigger=None, previous=None, ids=network.ids, at=at)
            await _underpay(uow, network, deposit, assets[key], at=at)
    await _insert_inputs(uow, network, found, block.spends)
    await _mark_conflicts(uow, network, block)


async def settle_due(
    uow: Uow, network: Network, *, height: int, finalised_height: int | None, at: datetime
) -> int:
    """Do every step that is due at tip `height`; returns how many deposits moved."""
    final_below = network.final_below(height=height, finalised_height=finalised_height)
    rows = await store.due(uow, network=network.name, height=height, final_below=final_below)
    deposits = await locked(uow, [from_row(row) for row in rows])
    moved = 0
    left_out = _over_limit(deposits, network, height=height, final_below=final_below)
    if left_out:
        await tell_over_limit(uow, network, len(left_out), at=at)
    for deposit in (item for item in deposits if item.id not in left_out):
        current = deposit
        while trigger := due_trigger(current, height=height, final_below=final_below):
            current = await apply(uow, network, current, trigger, at=at)
            moved += 1
        await _book_below_minimum(
            uow, network, current, height=height, final_below=final_below, at=at
        )
    return moved


async def disconnect(
    uow: Uow, network: Network, *, block_hash: str, height: int, at: datetime
) -> None:
    """The block left the chain: its deposits return to `detected` or become `orphaned`."""
    rows = await store.in_block(uow, network=network.name, block_hash=block_hash)
    deposits = await locked(uow, [from_row(row) for row in rows])
    absent_at = height + network.spec.absence_blocks
    again = [item.id for item in deposits if item.state is DepositState.ORPHANED]
    if again:
        await store.leave_block_orphaned(
            uow, deposit_ids=again, orphaned_at=height, absent_at=absent_at
        )
    for deposit in deposits:
        if deposit.state is DepositState.PENDING:
            changes = dict(_LEFT_BLOCK)
        elif deposit.state in RESTORES:
            changes = {
                **_LEFT_BLOCK,
                "prior_state": deposit.state.value,
                "orphaned_at_height": height,
                "absent_at_height": absent_at,
            }
        else:
            continue
        await step(uow, deposit, DepositTrigger.ORPHAN, changes, ids=network.ids, at=at)
        log.warning("deposit.orphaned", deposit_id=str(deposit.id), network=network.name)
    await store.clear_conflicts(uow, network=network.name, block_hash=block_hash)


async def apply(
    uow: Uow,
    network: Network,
    deposit: DepositRow,
    trigger: DepositTrigger,
    *,
    at: datetime,
) -> DepositRow:
    """One due step with its posting; the caller holds the player's lock."""
    changes: dict[str, Any] = {}
    family, ids = network.family, network.ids
    if trigger is DepositTrigger.CREDIT:
        await postings.book(uow, deposit, stage="provisional", family=family, ids=ids, at=at)
        changes = _credited(deposit, "provisional")
    elif trigger is DepositTrigger.FINALISE and deposit.state is DepositState.PENDING:
        await postings.book(uow, deposit, stage="clearing", family=family, ids=ids, at=at)
        changes = _credited(deposit, "clearing")
    elif trigger is DepositTrigger.FINALISE:
        await postings.finalise(uow, deposit, ids=ids, at=at)
        changes = {"credited_stage": "clearing"}
    elif trigger is DepositTrigger.REVERSE:
        await postings.reverse(uow, deposit, family=family, ids=ids, at=at)
        changes = {
            "prior_state": None,
            "absent_at_height": None,
            "credited_stage": None,
            "custody_block_hash": None,
            "custody_height": None,
        }
    elif trigger in RESTORES.values():
        changes = {"prior_state": None, "orphaned_at_height": None, "absent_at_height": None}
        if deposit.credited_stage == "unallocated":
            changes["final_at_height"] = None  # its posting stands: nothing is due any more
    else:
        raise ValueError(f"{trigger} is not a step of the chain")
    after = await step(uow, deposit, trigger, changes, ids=ids, at=at)
    log.info(
        f"deposit.{after.state.value}",
        deposit_id=str(after.id),
        network=network.name,
        height=after.height,
    )
    return after


def _credited(deposit: DepositRow, stage: str) -> dict[str, Any]:
    return {
        "credited_stage": stage,
        "custody_block_hash": deposit.block_hash,
        "custody_height": deposit.height,
    }


def _over_limit(
    deposits: Sequence[DepositRow], network: Network, *, height: int, final_below: int
) -> frozenset[UUID]:
    """Reversals that wait for people, because too many are due at once (CONTRACT 4, breaker)."""
    dead = frozenset(
        item.id
        for item in deposits
        if due_trigger(item, height=height, final_below=final_below) is DepositTrigger.REVERSE
    )
    return dead if len(dead) > network.reversed_per_step_max else frozenset()


async def tell_over_limit(uow: Uow, network: Network, count: int, *, at: datetime) -> None:
    """Raise the alarm of the breaker: `count` reversals wait for two people (CONTRACT 4)."""
    log.error("deposit.reversals_over_limit", network=network.name, count=count)
    await chain_store.raise_alarm(
        uow,
        alarm_id=network.ids.new_id(),
        kind="reversals_over_limit",
        network=network.name,
        detail=f"{count} deposits would be reversed in one step; nothing was reversed",
        at=at,
    )


async def _book_below_minimum(
    uow: Uow,
    network: Network,
    deposit: DepositRow,
    *,
    height: int,
    final_below: int,
    at: datetime,
) -> None:
    """At finality a deposit below the minimum is booked as unallocated (D20)."""
    if deposit.state is not DepositState.BELOW_MINIMUM or deposit.credited_stage is not None:
        return
    if deposit.height is None or deposit.block_hash is None or deposit.final_at_height is None:
        return
    if deposit.final_at_height > height or deposit.height > final_below:
        return
    await postings.book(
        uow, deposit, stage="unallocated", family=network.family, ids=network.ids, at=at
    )
    await store.mark_booked(
        uow,
        deposit_id=deposit.id,
        stage="unallocated",
        block_hash=deposit.block_hash,
        height=deposit.height,
    )


async def _include(
    uow: Uow,
    network: Network,
    deposit: DepositRow,
    asset: AssetSpec,
    block: Block,
    depths: Depths,
    send: AccountSend | None,
    *,
    at: datetime,
) -> None:
    """In a block. A mempool may have shown less of the tx, so a tier may rise; it never falls."""
    min_depth = max(deposit.min_depth, depths.min_depth)
    full_depth = max(deposit.full_depth, depths.full_depth)
    changes: dict[str, Any] = {
        "block_hash": block.ref.hash,
        "height": block.ref.height,
        "min_depth": min_depth,
        "full_depth": full_depth,
        "provisional_at_height": block.ref.height + min_depth - 1,
        "final_at_height": block.ref.height + full_depth - 1,
    }
    if send is not None:
        changes |= {"sender_key": send.sender_key, "sender_nonce": send.nonce}
    if deposit.state is DepositState.ORPHANED:
        await store.include_orphaned(
            uow, deposit_id=deposit.id, changes=changes | {"absent_at_height": None}, at=at
        )
    elif deposit.state in _OPEN_TO_INCLUDE:
        if deposit.state is DepositState.REVERSED:
            changes |= {"cycle": deposit.cycle + 1, "orphaned_at_height": None}
        after = await step(uow, deposit, DepositTrigger.INCLUDE, changes, ids=network.ids, at=at)
        await _underpay(uow, network, after, asset, at=at)


async def _underpay(
    uow: Uow, network: Network, deposit: DepositRow, asset: AssetSpec, *, at: datetime
) -> None:
    if deposit.amount_minor < asset.minimum_deposit_minor:
        await step(uow, deposit, DepositTrigger.UNDERPAY, {}, ids=network.ids, at=at)


async def locked(uow: Uow, deposits: Sequence[DepositRow]) -> list[DepositRow]:
    """The deposits re-read under the locks of their players, taken in one order."""
    if not deposits:
        return []
    pairs = sorted({(item.brand, item.player_id) for item in deposits})
    await balances.lock_players(uow, pairs)
    return [from_row(row) for row in await store.lock(uow, [item.id for item in deposits])]


async def _mark_conflicts(uow: Uow, network: Network, block: Block) -> None:
    spends = _triples(block.spends)
    if spends:
        await store.mark_conflicts_by_input(
            uow,
            network=network.name,
            spends=spends,
            block_hash=block.ref.hash,
            height=block.ref.height,
        )
    if block.sends:
        await store.mark_conflicts_by_nonce(
            uow,
            network=network.name,
            sends=[(send.sender_key, send.nonce, send.txid) for send in block.sends],
            block_hash=block.ref.hash,
            height=block.ref.height,
        )


async def _insert_inputs(
    uow: Uow, network: Network, found: Sequence[Found], spends: Sequence[Spend]
) -> None:
    txids = {transfer.txid for transfer, _, _ in found}
    inputs = _triples([spend for spend in spends if spend.txid in txids])
    if inputs:
        await store.insert_inputs(uow, network=network.name, inputs=inputs)


def _triples(spends: Sequence[Spend]) -> list[tuple[str, int, str]]:
    return [(spend.outpoint.txid, spend.outpoint.vout, spend.txid) for spend in spends]


def _key(transfer: Transfer, coinbase_hash: str) -> tuple[str, str, str]:
    return (transfer.txid, transfer.position, coinbase_hash)


async def _known(
    uow: Uow, network: Network, keyed: Sequence[tuple[Found, str]]
) -> dict[tuple[str, str, str], DepositRow]:
    if not keyed:
        return {}
    rows = await store.known(
        uow, network=network.name, keys=[_key(item[0], key) for item, key in keyed]
    )
    return {(row["txid"], row["position"], row["coinbase_hash"]): from_row(row) for row in rows}


def _new_row(
    network: Network,
    item: Found,
    depths: Depths,
    *,
    internal_txids: frozenset[str],
    block: Block | None,
    send: AccountSend | None,
    at: datetime,
) -> dict[str, Any]:
    transfer, address, _ = item
    height = None if block is None else block.ref.height
    return {
        "id": network.ids.new_id(),
        "brand": address.brand,
        "player_id": address.player_id,
        "network": network.name,
        "txid": transfer.txid,
        "position": transfer.position,
        "coinbase_hash": block.ref.hash if block is not None and transfer.is_coinbase else "",
        "asset": transfer.asset,
        "amount": transfer.amount_minor,
        "address_id": address.id,
        "address": address.address,
        "state": (DepositState.DETECTED if block is None else DepositState.PENDING).value,
        "is_internal": transfer.txid in internal_txids,
        "is_coinbase": transfer.is_coinbase,
        "block_hash": None if block is None else block.ref.hash,
        "height": height,
        "min_depth": depths.min_depth,
        "full_depth": depths.full_depth,
        "provisional_at_height": None if height is None else height + depths.min_depth - 1,
        "final_at_height": None if height is None else height + depths.full_depth - 1,
        "sender_key": None if send is None else send.sender_key,
        "sender_nonce": None if send is None else send.nonce,
        "at": at,
    }
