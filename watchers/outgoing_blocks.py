"""What blocks do to our own transactions: mined, final, replaced, orphaned.

Every row is locked before it is judged, so that payouts cannot move it meanwhile; a row that moved
all the same raises StaleState, and the block's whole unit of work runs again.

Reads effects only: a UTXO payout is paid when its txid is in a block; an account payout when its
(sender, nonce) is used and the chain's evidence shows exactly the planned transfers (P29).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.chains import Family
from config.database import Uow
from config.logs import get_logger
from ledger.errors import StaleState
from watchers import coin_store, nonces, outgoing_outside
from watchers import outgoing_store as store
from watchers.chain import AccountSend, Block, Movement
from watchers.collect_evidence import collect_evidence
from watchers.columns import spends_of
from watchers.network import Network
from watchers.outgoing import OUTGOING, OutgoingEvent, OutgoingState

log = get_logger("watchers.outgoing")

PAGE_ROWS = 500  # own txs finalised, and as many replaced, in one unit of work


async def own_txids(uow: Uow, network: Network, txids: Sequence[str]) -> frozenset[str]:
    """The txids among `txids` that are ours."""
    rows = await store.by_txids(uow, network=network.name, txids=txids)
    return frozenset(row["txid"] for row in rows)


async def connect(
    uow: Uow,
    network: Network,
    blocks: Sequence[Block],
    *,
    own_keys: frozenset[str],
    at: datetime,
) -> frozenset[str]:
    """Our transactions of a run of blocks, and those that it makes impossible; the txids of ours.

    `own_keys`: the senders among the blocks' account sends that are our own accounts.
    """
    if network.family is Family.BITCOIN:
        await outgoing_outside.adopt(uow, network, blocks, at=at)
        block_of = {txid: block for block in blocks for txid in block.txids}
        rows = await store.by_txids(uow, network=network.name, txids=list(block_of), is_locked=True)
        for row in sorted(rows, key=lambda row: block_of[row["txid"]].ref.height):
            block = block_of[row["txid"]]
            await _mine(uow, network, row, block, _utxo_evidence(row), at=at)
        await _utxo_conflicts(uow, network, blocks, at=at)
        return frozenset(row["txid"] for row in rows)
    sends = {
        (send.sender_key, send.nonce): (send, block)
        for block in blocks
        for send in block.sends
        if send.sender_key in own_keys
    }
    if not sends:
        return frozenset()
    keys, used = [pair[0] for pair in sends], [pair[1] for pair in sends]
    # Twice: a replacement that is signed while the first statement waits for its original is seen
    # by the second, and one that waits for what is locked here finds it mined.
    await store.by_account_nonces(uow, network=network.name, keys=keys, nonces=used)
    rows = await store.by_account_nonces(uow, network=network.name, keys=keys, nonces=used)
    places = [(sends[(row["sender_key"], row["nonce"])], row) for row in rows]
    for (send, block), row in sorted(places, key=lambda place: place[0][1].ref.height):
        if send.txid == row["txid"]:
            await _mine(uow, network, row, block, _account_evidence(row, send), at=at)
        else:
            await _conflict(uow, network, row, block, send.txid, at=at)
    for key, nonce in sorted(sends):
        await nonces.observe(uow, network=network.name, sender_key=key, nonce=nonce)
    return await own_txids(uow, network, [send.txid for send, _ in sends.values()])


async def settle_due(
    uow: Uow, network: Network, *, height: int, final_below: int, at: datetime
) -> bool:
    """Finalise what reached its full tier and replace what a final conflict ended, a page of each;
    True when there may be more: a row that moved is no longer due, so each comes to its turn.

    `final_below` is the highest block that may count as final at this tip (D59).
    """
    due = {"height": height, "final_below": final_below, "limit": PAGE_ROWS}
    final = await store.final_due(uow, network=network.name, **due)
    for row in final:
        is_success = row["is_success"] is not False
        event = OutgoingEvent.FINALISE if is_success else OutgoingEvent.REVERT
        await _advance(uow, row, event, {"final_at": at}, at=at)
    dead = await store.conflict_due(uow, network=network.name, **due)
    for row in dead:
        await _advance(uow, row, OutgoingEvent.REPLACE, {}, at=at)
        await coin_store.free_replaced(uow, attempt_id=row["id"])
    return PAGE_ROWS in (len(final), len(dead))


async def disconnect(uow: Uow, network: Network, *, block_hash: str, at: datetime) -> None:
    """The block left the chain: our transactions in it are unconfirmed again."""
    left: dict[str, Any] = {
        "block_hash": None,
        "height": None,
        "final_at_height": None,
        "final_at": None,
        "is_success": None,
        "is_paid_as_planned": None,
        "moved": None,
    }
    for row in await store.in_block(uow, network=network.name, block_hash=block_hash):
        back = {**left, "broadcast_height": row["height"]}  # it waits for a block from here on
        await _advance(uow, row, OutgoingEvent.ORPHAN, back, at=at)
    await store.clear_conflicts(uow, network=network.name, block_hash=block_hash)


async def see(uow: Uow, network: Network, txids: Sequence[str], *, at: datetime) -> None:
    """A node's mempool has these of our transactions."""
    rows = await store.by_txids(uow, network=network.name, txids=txids, is_locked=True)
    for row in rows:
        if (OutgoingState(row["state"]), OutgoingEvent.SEE) in OUTGOING.transitions:
            await _advance(uow, row, OutgoingEvent.SEE, {}, at=at)


def _utxo_evidence(row: RowMapping) -> dict[str, Any]:
    """The txid commits to every output, so the planned payments are what moved."""
    return {
        "is_success": True,
        "is_paid_as_planned": True,
        "fee_minor": row["fee_cap_minor"],  # exact: inputs less outputs of the signed tx
        "moved": [
            {"asset": item["asset"], "key": item["key"], "amount_minor": item["amount_minor"]}
            for item in row["payments"]
        ],
    }


def _account_evidence(row: RowMapping, send: AccountSend) -> dict[str, Any]:
    if row["payer_key"] is not None:
        return _batch_evidence(row, send)
    if any(item.get("from_key") is not None for item in row["payments"]):
        return collect_evidence(row["payments"], send)
    planned = Counter(
        (item["asset"], item["key"], int(item["amount_minor"])) for item in row["payments"]
    )
    return {
        "is_success": send.is_success,
        "is_paid_as_planned": send.is_success and Counter(send.transfers_out) == planned,
        "fee_minor": send.fee_minor,
        "moved": [
            {"asset": asset, "key": key, "amount_minor": str(amount)}
            for asset, key, amount in send.transfers_out
        ],
    }


def _batch_evidence(row: RowMapping, send: AccountSend) -> dict[str, Any]:
    """Leg by leg. `is_paid_as_planned` is None when the tx succeeded and yet does not tell of every
    leg: a reader that does not know the contract has shown nothing, and nobody is unpaid by that.
    """
    planned = [(item["asset"], item["key"], int(item["amount_minor"])) for item in row["payments"]]
    is_payer = send.batch is not None and send.batch.payer_key == row["payer_key"]
    legs = send.batch.legs if send.batch is not None and is_payer else ()
    told = [(leg.asset, leg.to_key, leg.amount_minor) for leg in legs]
    is_told = told == planned and [leg.index for leg in legs] == list(range(len(planned)))
    paid = [leg for leg in legs if leg.is_paid and is_told]
    rest = Counter(() if send.batch is None else send.batch.moved) + Counter(send.transfers_out)
    rest.subtract((leg.asset, leg.to_key, leg.amount_minor) for leg in paid)
    is_as_planned = len(paid) == len(planned) and not any(rest.values())
    moved: list[tuple[Movement, int | None]] = [(planned[leg.index], leg.index) for leg in paid]
    moved += [(item, None) for item, count in rest.items() for _ in range(count)]
    return {
        "is_success": send.is_success,
        "is_paid_as_planned": is_as_planned if is_told or not send.is_success else None,
        "fee_minor": send.fee_minor,
        "moved": [
            {
                "asset": asset,
                "key": key,
                "amount_minor": str(amount),
                **({} if index is None else {"output_index": index}),
            }
            for (asset, key, amount), index in moved
        ],
    }


async def _mine(
    uow: Uow,
    network: Network,
    row: RowMapping,
    block: Block,
    evidence: Mapping[str, Any],
    *,
    at: datetime,
) -> None:
    if row["block_hash"] == block.ref.hash:  # a block that is looked at again (`rescans.py`)
        return
    changes = {
        **evidence,
        "block_hash": block.ref.hash,
        "height": block.ref.height,
        "final_at_height": block.ref.height + _full_depth(network, row) - 1,
        "conflict_txid": None,
        "conflict_hash": None,
        "conflict_final_at_height": None,
    }
    await _advance(uow, row, OutgoingEvent.MINE, changes, at=at)


async def _utxo_conflicts(
    uow: Uow, network: Network, blocks: Sequence[Block], *, at: datetime
) -> None:
    """What the blocks' inputs exclude: our txs with one of them, and all that descend from such.

    Coins that we spent may come from a deposit or inflow whose block was orphaned: when a block
    has a rival of that tx, nothing of ours below it can be mined (CONTRACT 5, `anchor_dead`).
    """
    spends = spends_of(blocks)
    if not spends:
        return
    hits = await store.excluded(uow, network=network.name, spends=spends)
    if not hits:
        return
    block_of = {spend.txid: block for block in blocks for spend in block.spends}
    # The first block counts, and in it a rival for an input of our own before one further up.
    hits = sorted(
        hits,
        key=lambda hit: (
            block_of[hit["spender"]].ref.height,
            not hit["is_direct"],
            hit["spender"],
        ),
    )
    rivals: dict[UUID, str] = {}
    for hit in hits:
        rivals.setdefault(hit["id"], hit["spender"])
    for attempt_id in sorted(rivals):
        row = await store.get(uow, attempt_id, is_locked=True)
        if row is not None:
            rival = rivals[attempt_id]
            await _conflict(uow, network, row, block_of[rival], rival, at=at)


async def _conflict(
    uow: Uow, network: Network, row: RowMapping, block: Block, txid: str, *, at: datetime
) -> None:
    """Note the rival; an earlier one stands until its block leaves the chain."""
    if row["conflict_txid"] is not None:
        return
    await _update(
        uow,
        row,
        {
            "conflict_txid": txid,
            "conflict_hash": block.ref.hash,
            "conflict_final_at_height": block.ref.height + _full_depth(network, row) - 1,
        },
        at=at,
    )
    log.warning("outgoing.conflict", attempt_id=str(row["id"]), txid=txid, network=network.name)


def _full_depth(network: Network, row: RowMapping) -> int:
    """The deepest full tier among the payments; the total per asset decides its tier."""
    totals: Counter[str] = Counter()
    for item in row["payments"]:
        totals[item["asset"]] += int(item["amount_minor"])
    depths = [network.spec.full_depth if not totals else 1]
    for asset_id, amount in totals.items():
        asset = network.asset(asset_id)
        depths.append(network.spec.full_depth if asset is None else asset.tier(amount).full_depth)
    return max(depths)


async def _advance(
    uow: Uow,
    row: RowMapping,
    event: OutgoingEvent,
    changes: Mapping[str, Any],
    *,
    at: datetime,
) -> None:
    state = OUTGOING.next(OutgoingState(row["state"]), event)
    await _update(uow, row, {**changes, "state": state.value}, at=at)
    log.info(f"outgoing.{state.value}", attempt_id=str(row["id"]), network=row["network"])


async def _update(uow: Uow, row: RowMapping, changes: Mapping[str, Any], *, at: datetime) -> None:
    """Compare-and-set of a row that was read; a block's effect is never lost in silence."""
    updated = await store.update(
        uow, attempt_id=row["id"], current=row["state"], changes=changes, at=at
    )
    if updated is None:
        raise StaleState(f"outgoing {row['id']} is no longer {row['state']}")
    await store.notify(uow, network=row["network"])
