"""What blocks and mempools do to deposits: record, include, orphan, mark what is impossible.

Owns which rows blocks make and move; what is due at a height is in `deposit_due.py`, the states in
`deposits.py`. A run of blocks is a fixed number of statements, however many deposits it pays; of
two blocks that exclude the same deposit the earlier one counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from config import alarm_store
from config.database import Uow
from config.logs import get_logger
from watchers import deposit_store as store
from watchers import exposure, policies
from watchers.addresses import AddressRow
from watchers.chain import AccountSend, Block, MempoolTx, Transfer
from watchers.columns import hashes_of, spends_of
from watchers.deposit_due import SENT_BACK, locked
from watchers.deposits import (
    RESTORES,
    DepositRow,
    DepositState,
    DepositTrigger,
    Step,
    from_row,
    step_many,
    sweep_state_in,
    tell_new,
)
from watchers.lineage import SpendsByTx, needed_inputs, spends_by_tx
from watchers.matches import Match, Terms, TxDepths
from watchers.network import Depths, Network
from watchers.unsupported import classify

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

REFUND_ORPHANED = "refund_orphaned"
"""Alarm: a deposit left the chain while it is sent back."""

UNLISTED_PER_BLOCK = 50  # rows of tokens that no list has; spam costs its sender a few cents

_Seen = tuple[Transfer, AddressRow, Depths]
"""A transfer to a player's address, and how deep it must be."""

_Key = tuple[str, str, str]
"""Txid, position, and the block of a coinbase or nothing (D31)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """A block of a run, and what it pays to players: of listed assets, and of none."""

    block: Block
    found: Sequence[Found]
    unlisted: Sequence[tuple[Transfer, AddressRow]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a transfer was seen: in `block`, or in a mempool (None)."""

    block: Block | None
    sender: tuple[str, int] | None  # account chains: who sent it, at which nonce
    is_internal: bool
    check_at: int | None = None  # the height at which an unconfirmed tx is looked for
    fee_rate: int | None = None  # what an unconfirmed tx pays, where a node told


async def detect(
    uow: Uow,
    network: Network,
    txs: Sequence[MempoolTx],
    found: Sequence[Found],
    *,
    spends: SpendsByTx,
    internal_txids: frozenset[str],
    check_at: int,
    at: datetime,
) -> int:
    """Record what the mempool pays to players as `detected`; returns how many are new.

    `spends` tells what the mempool's txs spend, those of earlier looks included.
    """
    seen = {_key(item[0], None): item for item in found}
    known = await _known(uow, network, list(seen))
    inputs = needed_inputs({item[0].txid for item in found}, spends)
    if inputs:
        await store.insert_inputs(uow, network=network.name, inputs=inputs)
    fresh = [item for key, item in seen.items() if key not in known]
    if not fresh:
        return 0
    senders = {
        tx.txid: (tx.sender_key, tx.nonce)
        for tx in txs
        if tx.sender_key is not None and tx.nonce is not None
    }
    fee_rates = {tx.txid: tx.fee_rate for tx in txs}
    terms = await policies.terms(uow, network, found)
    depths = TxDepths(network, found, terms, in_block=False)
    rows = [
        _new_row(
            network,
            (item[0], item[1], depths.of(item)),
            _Place(
                block=None,
                sender=senders.get(item[0].txid),
                is_internal=item[0].txid in internal_txids,
                check_at=check_at,
                fee_rate=fee_rates.get(item[0].txid),
            ),
            at=at,
        )
        for item in fresh
    ]
    new = [from_row(row) for row in await store.insert(uow, rows)]
    await tell_new(uow, new, ids=network.ids, at=at)
    for deposit in new:
        log.info("deposit.detected", deposit_id=str(deposit.id), network=network.name)
    return len(new)


async def connect(
    uow: Uow,
    network: Network,
    run: Sequence[Paid],
    *,
    terms: Terms,
    internal_txids: frozenset[str],
    at: datetime,
) -> None:
    """Include the blocks' deposits, and note which deposits their other txs make impossible."""
    placed: dict[_Key, tuple[_Seen, _Place]] = {}
    for paid in run:
        placed |= _placed(network, paid, terms, internal_txids)
        if len(paid.unlisted) > UNLISTED_PER_BLOCK:
            await _tell_flood(uow, network, paid.block, len(paid.unlisted), at=at)
    known = await _known(uow, network, list(placed))
    included = await _include(
        uow, network, [(deposit, *placed[key]) for key, deposit in known.items()], at=at
    )
    rows = [
        _new_row(network, seen, place, at=at)
        for key, (seen, place) in placed.items()
        if key not in known
    ]
    new = [from_row(row) for row in await store.insert(uow, rows)] if rows else []
    await tell_new(uow, new, ids=network.ids, at=at)
    await _refuse(uow, network, [*included, *new], at=at)
    await _insert_inputs(uow, network, run)
    blocks = [paid.block for paid in run]
    await _mark_conflicts(uow, network, blocks)
    await _replace(uow, network, blocks, at=at)


def _placed(
    network: Network, paid: Paid, terms: Terms, internal_txids: frozenset[str]
) -> dict[_Key, tuple[_Seen, _Place]]:
    """What one block pays to players, in order. Pure."""
    block, spec = paid.block, network.spec
    depths = TxDepths(network, paid.found, terms, in_block=True)
    usual = Depths(min_depth=spec.min_depth, full_depth=spec.full_depth)
    seen: list[_Seen] = [(item[0], item[1], depths.of(item)) for item in paid.found]
    seen += [(item, address, usual) for item, address in paid.unlisted[:UNLISTED_PER_BLOCK]]
    if not seen:
        return {}
    sends = {send.txid: send for send in block.sends}
    return {
        _key(item[0], block): (
            item,
            _Place(
                block=block,
                sender=_sender(sends.get(item[0].txid)),
                is_internal=item[0].txid in internal_txids,
            ),
        )
        for item in seen
    }


async def disconnect(
    uow: Uow, network: Network, *, block_hash: str, height: int, at: datetime
) -> None:
    """The block left the chain: its deposits return to `detected` or become `orphaned`.

    One that is sent back keeps its state, and its chain columns tell (docs/adr/0042).
    """
    rows = await store.in_block(uow, network=network.name, block_hash=block_hash)
    deposits = await locked(uow, [from_row(row) for row in rows])
    absent_at = height + network.spec.absence_blocks
    refunding = [item for item in deposits if item.state is DepositState.REFUNDING]
    again = [
        item.id for item in deposits if item.state is DepositState.ORPHANED or item in refunding
    ]
    if again:
        await store.leave_block_orphaned(
            uow, deposit_ids=again, orphaned_at=height, absent_at=absent_at
        )
    steps = [
        Step(
            deposit=item,
            trigger=DepositTrigger.ORPHAN,
            changes=_left(item, height=height, absent_at=absent_at),
        )
        for item in deposits
        if item.state is DepositState.PENDING or item.state in RESTORES
    ]
    after = await step_many(uow, steps, ids=network.ids, at=at)
    await exposure.keep(uow, network, after, at=at)
    for deposit in after:
        log.warning("deposit.orphaned", deposit_id=str(deposit.id), network=network.name)
    for deposit in refunding:
        await _tell_refunding(uow, network, deposit, at=at)
    await store.clear_conflicts(uow, network=network.name, block_hash=block_hash)


def _left(deposit: DepositRow, *, height: int, absent_at: int) -> dict[str, Any]:
    if deposit.state is DepositState.PENDING:
        # It asks for room again when it is back; whether somebody has its tx is looked at soon.
        return {**_LEFT_BLOCK, "substatus": None, "check_at_height": height}
    return {
        **_LEFT_BLOCK,
        **sweep_state_in(deposit, is_final=False),
        "prior_state": deposit.state.value,
        "orphaned_at_height": height,
        "absent_at_height": absent_at,
    }


async def _include(
    uow: Uow,
    network: Network,
    known: Sequence[tuple[DepositRow, _Seen, _Place]],
    *,
    at: datetime,
) -> list[DepositRow]:
    """Known deposits are in a block; returns those that are `pending` by it.

    A mempool may have shown less of the tx, so a tier may rise; it never falls.
    """
    steps: list[Step] = []
    again: list[dict[str, Any]] = []
    for deposit, seen, place in known:
        changes = _included(deposit, seen[2], place)
        is_sent_back = deposit.state is DepositState.REFUNDING and deposit.block_hash is None
        if deposit.state is DepositState.ORPHANED or is_sent_back:
            again.append({"id": deposit.id, **changes})
        elif deposit.state in _OPEN_TO_INCLUDE:
            if deposit.state is DepositState.REVERSED:
                changes |= {"cycle": deposit.cycle + 1, "orphaned_at_height": None}
            changes["absent_at_height"] = None
            steps.append(Step(deposit=deposit, trigger=DepositTrigger.INCLUDE, changes=changes))
    if again:
        await store.include_orphaned(uow, again)
    return await step_many(uow, steps, ids=network.ids, at=at)


def _included(deposit: DepositRow, depths: Depths, place: _Place) -> dict[str, Any]:
    if place.block is None:
        raise ValueError("a deposit is included by a block")
    ref = place.block.ref
    min_depth = max(deposit.min_depth, depths.min_depth)
    full_depth = max(deposit.full_depth, depths.full_depth)
    is_deeper = (min_depth, full_depth) != (deposit.min_depth, deposit.full_depth)
    changes: dict[str, Any] = {
        "block_hash": ref.hash,
        "height": ref.height,
        "min_depth": min_depth,
        "full_depth": full_depth,
        "policy_version": depths.policy_version if is_deeper else deposit.policy_version,
        "provisional_at_height": ref.height + min_depth - 1,
        "final_at_height": ref.height + full_depth - 1,
    }
    if place.sender is not None:
        changes |= {"sender_key": place.sender[0], "sender_nonce": place.sender[1]}
    return changes


async def _refuse(
    uow: Uow, network: Network, deposits: Sequence[DepositRow], *, at: datetime
) -> None:
    """Pending ones that no tier credits: of no listed asset, or under its minimum."""
    steps = []
    changes: dict[str, str | None]
    for deposit in deposits:
        asset = network.asset(deposit.asset)
        if asset is None:
            changes = {"substatus": classify(network, deposit.asset)}
            steps.append(Step(deposit=deposit, trigger=DepositTrigger.DISALLOW, changes=changes))
        elif deposit.amount_minor < asset.minimum_deposit_minor:
            # It may say what it was before it was reversed; what was sent back stays known.
            is_sent_back = deposit.substatus == SENT_BACK
            changes = {"substatus": SENT_BACK if is_sent_back else None}
            steps.append(Step(deposit=deposit, trigger=DepositTrigger.UNDERPAY, changes=changes))
    await step_many(uow, steps, ids=network.ids, at=at)


async def _tell_refunding(uow: Uow, network: Network, deposit: DepositRow, *, at: datetime) -> None:
    """A person hears of it: what nothing was signed for waits, all else goes on."""
    log.error("deposit.refunding_orphaned", deposit_id=str(deposit.id), network=network.name)
    await alarm_store.raise_alarm(
        uow,
        alarm_id=network.ids.new_id(),
        kind=REFUND_ORPHANED,
        network=network.name,
        object_id=deposit.id,
        detail=f"deposit {deposit.txid} {deposit.position} left the chain while it is sent back",
        at=at,
    )


async def _tell_flood(
    uow: Uow, network: Network, block: Block, count: int, *, at: datetime
) -> None:
    await alarm_store.raise_alarm(
        uow,
        alarm_id=network.ids.new_id(),
        kind="unsupported_flood",
        network=network.name,
        detail=f"block {block.ref.hash} pays players {count} amounts of tokens that no list has; "
        f"{UNLISTED_PER_BLOCK} are recorded",
        at=at,
    )


async def _mark_conflicts(uow: Uow, network: Network, blocks: Sequence[Block]) -> None:
    hashes = hashes_of(blocks)
    if spends := spends_of(blocks):
        await store.mark_conflicts_by_input(uow, network=network.name, spends=spends, blocks=hashes)
    sends = [
        (send.sender_key, send.nonce, send.txid, block.ref.height)
        for block in blocks
        for send in block.sends
    ]
    if sends:
        await store.mark_conflicts_by_nonce(uow, network=network.name, sends=sends, blocks=hashes)


async def _replace(uow: Uow, network: Network, blocks: Sequence[Block], *, at: datetime) -> None:
    """What a block makes impossible and was in no block yet is `replaced` (D03, D14, D51)."""
    rows = await store.conflicted(
        uow, network=network.name, block_hashes=[block.ref.hash for block in blocks]
    )
    steps = [
        Step(deposit=from_row(row), trigger=DepositTrigger.REPLACE, changes={}) for row in rows
    ]
    await step_many(uow, steps, ids=network.ids, at=at)


async def _insert_inputs(uow: Uow, network: Network, run: Sequence[Paid]) -> None:
    """What the txs that pay players need, as far as their own block tells (D13)."""
    inputs = []
    for paid in run:
        if paid.found and paid.block.spends:
            txids = {item[0].txid for item in paid.found}
            inputs += needed_inputs(txids, spends_by_tx(paid.block.spends))
    if inputs:
        await store.insert_inputs(uow, network=network.name, inputs=inputs)


def _sender(send: AccountSend | None) -> tuple[str, int] | None:
    return None if send is None else (send.sender_key, send.nonce)


def _key(transfer: Transfer, block: Block | None) -> _Key:
    is_coinbase = block is not None and transfer.is_coinbase
    return (
        transfer.txid,
        transfer.position,
        block.ref.hash if block is not None and is_coinbase else "",
    )


async def _known(uow: Uow, network: Network, keys: Sequence[_Key]) -> dict[_Key, DepositRow]:
    if not keys:
        return {}
    rows = await store.known(uow, network=network.name, keys=keys)
    return {(row["txid"], row["position"], row["coinbase_hash"]): from_row(row) for row in rows}


def _new_row(network: Network, seen: _Seen, place: _Place, *, at: datetime) -> dict[str, Any]:
    transfer, address, depths = seen
    block = place.block
    sender_key, sender_nonce = place.sender or (None, None)
    height = None if block is None else block.ref.height
    return {
        "id": network.ids.new_id(),
        "brand": address.brand,
        "player_id": address.player_id,
        "network": network.name,
        "txid": transfer.txid,
        "position": transfer.position,
        "coinbase_hash": _key(transfer, block)[2],
        "asset": transfer.asset,
        "amount": str(transfer.amount_minor),
        "address_id": address.id,
        "address": address.address,
        "state": (DepositState.DETECTED if block is None else DepositState.PENDING).value,
        "is_internal": place.is_internal,
        "is_late": address.retired_at is not None,
        "is_coinbase": transfer.is_coinbase,
        "block_hash": None if block is None else block.ref.hash,
        "height": height,
        "min_depth": depths.min_depth,
        "full_depth": depths.full_depth,
        "policy_version": depths.policy_version,
        "provisional_at_height": None if height is None else height + depths.min_depth - 1,
        "final_at_height": None if height is None else height + depths.full_depth - 1,
        "absent_at_height": None,
        "check_at_height": place.check_at,
        "fee_rate": place.fee_rate,
        "sender_key": sender_key,
        "sender_nonce": sender_nonce,
        "first_seen_at": at,
        "state_at": at,
    }
