"""Our own transactions: what was built, signed, sent, and what the chain says of them.

Owns `chain.outgoing` and its lifecycle (HOUSE 6). It must not build, sign or send, and it never
takes an intention for an effect: `is_paid_as_planned` is told by the chain (P29).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from ledger.errors import StaleState
from ledger.lifecycle import Lifecycle
from watchers import coin_store, coins, nonces
from watchers import outgoing_store as store
from watchers.chain import Outpoint
from watchers.errors import AttemptConflict, UnknownAttempt
from watchers.outgoing_parts import ChangeOutput as ChangeOutput
from watchers.outgoing_parts import Moved as Moved
from watchers.outgoing_parts import PlannedPayment as PlannedPayment

OUTSIDE_PURPOSE = store.OUTSIDE_PURPOSE


class OutgoingState(StrEnum):
    """Where an own transaction stands (HOUSE 6)."""

    BUILT = "built"
    """Unsigned bytes are stored."""
    SIGNED = "signed"
    """Signed bytes are stored; it may be sent at any time."""
    BROADCAST = "broadcast"
    """Handed to a node at least once."""
    SEEN = "seen"
    """A node holds it in its mempool, or it left a block by a reorg."""
    MINED = "mined"
    """In a block."""
    FINAL = "final"
    """In a block at the full tier, and successful."""
    REPLACED = "replaced"
    """A tx with one of its inputs, or its nonce, is final instead."""
    DROPPED = "dropped"
    """Left every mempool; the same bytes may be sent again."""
    REVERTED = "reverted"
    """In a block at the full tier, and unsuccessful (EVM receipt status 0)."""
    EXPIRED = "expired"
    """Its validity window passed finality (chains that have one)."""
    REFUSED = "refused"
    """Never signed: the signer refused it; coins and nonce are free again."""


class OutgoingEvent(StrEnum):
    """What moves an own transaction."""

    SIGN = "sign"
    """Signed bytes were committed."""
    REFUSE = "refuse"
    """The signer refused."""
    BROADCAST = "broadcast"
    """It is about to be handed to a node."""
    SEE = "see"
    """A node knows it unconfirmed."""
    MINE = "mine"
    """A block has it."""
    ORPHAN = "orphan"
    """Its block left the chain."""
    FINALISE = "finalise"
    """Full tier, successful."""
    REVERT = "revert"
    """Full tier, unsuccessful."""
    REPLACE = "replace"
    """Another tx with its input or nonce is final."""
    DROP = "drop"
    """Gone from every mempool."""


_S, _E = OutgoingState, OutgoingEvent
_UNMINED = (_S.SIGNED, _S.BROADCAST, _S.SEEN, _S.DROPPED)

OUTGOING = Lifecycle(
    kind="outgoing",
    table="chain.outgoing",
    transitions={
        (_S.BUILT, _E.SIGN): _S.SIGNED,
        (_S.BUILT, _E.REFUSE): _S.REFUSED,
        (_S.SIGNED, _E.BROADCAST): _S.BROADCAST,
        (_S.DROPPED, _E.BROADCAST): _S.BROADCAST,
        (_S.SIGNED, _E.SEE): _S.SEEN,
        (_S.BROADCAST, _E.SEE): _S.SEEN,
        (_S.DROPPED, _E.SEE): _S.SEEN,
        (_S.BROADCAST, _E.DROP): _S.DROPPED,
        (_S.SEEN, _E.DROP): _S.DROPPED,
        **{(state, _E.MINE): _S.MINED for state in (*_UNMINED, _S.REPLACED)},
        **{(state, _E.REPLACE): _S.REPLACED for state in _UNMINED},
        (_S.MINED, _E.FINALISE): _S.FINAL,
        (_S.MINED, _E.REVERT): _S.REVERTED,
        **{(state, _E.ORPHAN): _S.SEEN for state in (_S.MINED, _S.FINAL, _S.REVERTED)},
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingDraft:
    """An attempt to record. UTXO: `inputs` and `change`; account chains: `sender_key`, `nonce`.

    Attempts of one `family_id` exclude each other on chain (CONTRACT 5, exclusion families).
    """

    id: UUID
    network: str
    purpose: str
    family_id: UUID
    unsigned: bytes
    payments: tuple[PlannedPayment, ...]
    fee_cap_minor: int
    inputs: tuple[Outpoint, ...] = ()
    change: tuple[ChangeOutput, ...] = ()
    sender_key: str | None = None
    nonce: int | None = None
    family_number: int = 1
    """The order of the attempts of a family; ids follow a clock, which may jump."""
    replaces_id: UUID | None = None
    """The newest signed attempt of the family, which this one takes the place of."""
    pays_for_id: UUID | None = None
    """CPFP: the payout for whose sake it is built; it bears the fee."""
    planned_height: int | None = None
    payer_key: str | None = None
    """The batch contract or the Safe that pays, one leg each; None: the sender does."""
    expected_txid: str | None = None
    """Signed outside: what it will be called, whoever sends it (UTXO, native segwit)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRow:
    """An own transaction. `fee_minor` is what the chain took (native coin), once mined."""

    id: UUID
    network: str
    purpose: str
    family_id: UUID
    state: OutgoingState
    unsigned: bytes
    raw: bytes | None
    txid: str | None
    sender_key: str | None
    nonce: int | None
    inputs: tuple[Outpoint, ...]
    payments: tuple[PlannedPayment, ...]
    fee_cap_minor: int
    fee_minor: int | None
    block_hash: str | None
    height: int | None
    final_at_height: int | None
    is_success: bool | None
    is_paid_as_planned: bool | None
    moved: tuple[Moved, ...]
    conflict_txid: str | None
    settled_block_hash: str | None
    created_at: datetime
    signed_at: datetime | None
    broadcast_at: datetime | None
    final_at: datetime | None
    state_at: datetime
    version: int
    family_number: int
    replaces_id: UUID | None
    pays_for_id: UUID | None
    planned_height: int | None
    broadcast_height: int | None
    settled_reference: str | None
    payer_key: str | None

    @property
    def is_own_move(self) -> bool:
        """Whether it pays nobody ever: a child, a move of own value, a set-up, a sweep."""
        return self.pays_for_id is not None or self.purpose in store.OWN_PURPOSES

    @property
    def is_batch(self) -> bool:
        """Whether another account pays than the sender, our batch contract or the cold Safe, so
        that each payment is settled by its own leg."""
        return self.payer_key is not None

    @property
    def has_legs(self) -> bool:
        """Whether each payment is settled by its own leg, of our batch contract or collector."""
        return self.is_batch or any(item.from_key is not None for item in self.payments)

    def has_paid(self, output_index: int) -> bool:
        """Whether the chain shows this planned payment; for one in a block."""
        if not self.has_legs:
            return self.is_paid_as_planned is True
        return any(item.output_index == output_index for item in self.moved)

    @property
    def is_paid_differently(self) -> bool:
        """Whether value left us in another way than planned, or nobody can say how it left: then no
        payment of it may be called unpaid. What moved nothing is not paid."""
        if self.is_success is False or self.is_paid_as_planned is True:
            return False
        if self.has_legs:
            is_strange = any(item.output_index is None for item in self.moved)
            return self.is_paid_as_planned is None or is_strange
        return bool(self.moved)


async def record(uow: Uow, draft: OutgoingDraft, *, at: datetime) -> None:
    """Store a built attempt before anything is asked of the signer; twice changes nothing.

    Coins and nonce are reserved by the caller in the same unit of work (`coins`, `nonces`).
    """
    await store.insert(uow, [inserted(draft, at=at)])
    if draft.inputs:
        await store.insert_inputs(
            uow,
            [
                {
                    "attempt_id": draft.id,
                    "network": draft.network,
                    "txid": outpoint.txid,
                    "vout": outpoint.vout,
                }
                for outpoint in draft.inputs
            ],
        )
    if draft.change:
        await store.insert_change(
            uow,
            [
                {
                    "attempt_id": draft.id,
                    "vout": output.vout,
                    "address_id": output.address_id,
                    "amount": output.amount_minor,
                }
                for output in draft.change
            ],
        )


def inserted(draft: OutgoingDraft, *, at: datetime) -> dict[str, Any]:
    """The row of a draft, as the store takes it."""
    payments = [
        {
            "asset": payment.asset,
            "address": payment.address,
            "key": payment.key,
            "amount_minor": str(payment.amount_minor),
            **({} if payment.from_key is None else {"from_key": payment.from_key}),
        }
        for payment in draft.payments
    ]
    return {
        "id": draft.id,
        "network": draft.network,
        "purpose": draft.purpose,
        "family_id": draft.family_id,
        "unsigned": draft.unsigned,
        "sender_key": draft.sender_key,
        "nonce": draft.nonce,
        "payer_key": draft.payer_key,
        "payments": json.dumps(payments),
        "fee_cap_minor": draft.fee_cap_minor,
        "family_number": draft.family_number,
        "replaces_id": draft.replaces_id,
        "pays_for_id": draft.pays_for_id,
        "planned_height": draft.planned_height,
        "expected_txid": draft.expected_txid,
        "at": at,
    }


async def get(uow: Uow, attempt_id: UUID, *, is_locked: bool = False) -> OutgoingRow | None:
    """One attempt; locked, no block can come or go for it until the unit of work ends."""
    row = await store.get(uow, attempt_id, is_locked=is_locked)
    return None if row is None else (await with_inputs(uow, [row]))[0]


async def by_txid(uow: Uow, network: str, txid: str) -> OutgoingRow | None:
    """The attempt with this txid."""
    rows = await store.by_txids(uow, network=network, txids=[txid])
    return (await with_inputs(uow, rows))[0] if rows else None


async def family(uow: Uow, family_id: UUID) -> list[OutgoingRow]:
    """Every attempt of a family, the newest last."""
    return await with_inputs(uow, await store.family(uow, family_id))


async def in_states(
    uow: Uow, *, network: str, states: Sequence[OutgoingState], limit: int
) -> list[OutgoingRow]:
    """Attempts of a network in some states, oldest first, at most `limit`."""
    rows = await store.in_states(
        uow, network=network, states=[state.value for state in states], limit=limit
    )
    return await with_inputs(uow, rows)


async def settled_elsewhere(uow: Uow, *, network: str, limit: int) -> list[OutgoingRow]:
    """Attempts whose settled block left the chain: unconfirmed again, or in another block now."""
    return await with_inputs(uow, await store.settled_elsewhere(uow, network=network, limit=limit))


async def signing_paths(uow: Uow, attempt_id: UUID) -> tuple[tuple[str, ...], dict[int, str]]:
    """Own paths of an attempt on a UTXO chain: (of its inputs, of its change by output index).

    Inputs are in the order of (txid, vout), which is the order that payouts builds them in.
    """
    inputs = await store.input_paths(uow, attempt_id)
    ordered = sorted(inputs, key=lambda row: (row["txid"], row["vout"]))
    change = await store.change_of(uow, attempt_id)
    return tuple(row["path"] for row in ordered), {row["vout"]: row["path"] for row in change}


async def mark_signed(
    uow: Uow, *, attempt_id: UUID, raw: bytes, txid: str, at: datetime
) -> OutgoingRow:
    """Store the signed bytes before the first send; its change becomes selectable at once.

    The same bytes again change nothing. Raises AttemptConflict for other bytes, UnknownAttempt.
    """
    row = await _locked(uow, attempt_id)
    if row["raw"] is not None:
        if bytes(row["raw"]) != raw or row["txid"] != txid:
            raise AttemptConflict("the attempt has other signed bytes already")
        return (await with_inputs(uow, [row]))[0]
    signed = await _advance(
        uow, row, OutgoingEvent.SIGN, {"raw": raw, "txid": txid, "signed_at": at}, at
    )
    change = await store.change_of(uow, attempt_id)
    if change:
        paid = row["payments"]
        asset = paid[0]["asset"] if paid else await store.asset_of_inputs(uow, attempt_id)
        await coin_store.insert_txs(uow, network=row["network"], raws={txid: raw})
        await coin_store.insert_unmined(
            uow,
            [
                {
                    "network": row["network"],
                    "txid": txid,
                    "vout": output["vout"],
                    "asset": asset,
                    "amount": output["amount"],
                    "address_id": output["address_id"],
                    "key": output["key"],
                    "path": output["path"],
                }
                for output in change
            ],
        )
    return (await with_inputs(uow, [signed]))[0]


async def mark_broadcast(uow: Uow, *, attempt_id: UUID, at: datetime) -> OutgoingRow:
    """Committed before each send (HOUSE, write then act); further states stay as they are."""
    row = await _locked(uow, attempt_id)
    if row["raw"] is None:
        raise AttemptConflict("an attempt without signed bytes cannot be sent")
    if (OutgoingState(row["state"]), OutgoingEvent.BROADCAST) in OUTGOING.transitions:
        changes: dict[str, Any] = {"broadcast_at": at}
        if row["broadcast_height"] is None:
            changes["broadcast_height"] = await store.followed_height(uow, network=row["network"])
        row = await _advance(uow, row, OutgoingEvent.BROADCAST, changes, at)
    return (await with_inputs(uow, [row]))[0]


async def mark_seen(uow: Uow, *, attempt_id: UUID, at: datetime) -> OutgoingRow:
    """A node knows the tx; further states stay as they are."""
    row = await _locked(uow, attempt_id)
    if row["raw"] is None:
        raise AttemptConflict("an attempt without signed bytes cannot be seen")
    if (OutgoingState(row["state"]), OutgoingEvent.SEE) in OUTGOING.transitions:
        row = await _advance(uow, row, OutgoingEvent.SEE, {}, at)
    return (await with_inputs(uow, [row]))[0]


async def drop_unsigned(uow: Uow, *, attempt_id: UUID, at: datetime) -> None:
    """The signer refused: free coins and nonce. Raises AttemptConflict once bytes exist."""
    row = await _locked(uow, attempt_id)
    if row["raw"] is not None:
        raise AttemptConflict("a signed attempt keeps its coins and its nonce")
    if row["state"] == OutgoingState.BUILT:
        await _advance(uow, row, OutgoingEvent.REFUSE, {}, at)
    await coins.free(uow, attempt_id=attempt_id)
    await nonces.give_back(uow, attempt_id=attempt_id)


async def mark_settled(
    uow: Uow, *, attempt_id: UUID, block_hash: str, reference: str | None = None
) -> None:
    """The ledger holds the whole effect of `block_hash`, fee included; `reference` is the posting
    of an own move.

    In the unit of work of the settlement postings; the reconciliation counts what is not marked.
    Raises StaleState when the attempt is not at rest in that block (any more).
    """
    count = await store.set_settled(
        uow, attempt_id=attempt_id, block_hash=block_hash, reference=reference
    )
    if count != 1:
        raise StaleState(f"outgoing {attempt_id} is not at rest in block {block_hash}")


async def mark_unsettled(uow: Uow, *, attempt_id: UUID) -> None:
    """The settlement was reversed (a completed block was orphaned)."""
    if await store.set_unsettled(uow, attempt_id=attempt_id) != 1:
        raise UnknownAttempt(str(attempt_id))


async def with_inputs(uow: Uow, rows: Sequence[RowMapping]) -> list[OutgoingRow]:
    """Rows of the store as values, inputs included."""
    inputs: dict[UUID, list[Outpoint]] = {row["id"]: [] for row in rows}
    for found in await store.inputs_of(uow, list(inputs)) if rows else ():
        inputs[found["attempt_id"]].append(
            Outpoint(txid=found["outpoint_txid"], vout=found["outpoint_vout"])
        )
    return [_row(row, tuple(inputs[row["id"]])) for row in rows]


async def _locked(uow: Uow, attempt_id: UUID) -> RowMapping:
    row = await store.get(uow, attempt_id, is_locked=True)
    if row is None:
        raise UnknownAttempt(str(attempt_id))
    return row


async def _advance(
    uow: Uow, row: RowMapping, event: OutgoingEvent, changes: dict[str, Any], at: datetime
) -> RowMapping:
    state = OUTGOING.next(OutgoingState(row["state"]), event)
    updated = await store.update(
        uow,
        attempt_id=row["id"],
        current=row["state"],
        changes={**changes, "state": state.value},
        at=at,
    )
    if updated is None:
        raise AttemptConflict("the attempt moved meanwhile; read it again")
    await store.notify(uow, network=row["network"])
    return updated


def _row(row: RowMapping, inputs: tuple[Outpoint, ...]) -> OutgoingRow:
    fee = row["fee_minor"]
    return OutgoingRow(
        **{
            **row,
            "state": OutgoingState(row["state"]),
            "unsigned": bytes(row["unsigned"]),
            "raw": None if row["raw"] is None else bytes(row["raw"]),
            "inputs": inputs,
            "payments": tuple(
                PlannedPayment(**{**item, "amount_minor": int(item["amount_minor"])})
                for item in row["payments"]
            ),
            "fee_cap_minor": int(row["fee_cap_minor"]),
            "fee_minor": None if fee is None else int(fee),
            "moved": tuple(
                Moved(**{**item, "amount_minor": int(item["amount_minor"])})
                for item in row["moved"] or ()
            ),
        }
    )
