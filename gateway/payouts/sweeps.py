"""Sweeps: what a deposit address of an account chain holds of one asset, on its way to hot (T2-T5).

Owns the lifecycle of a sweep, its events, and that its deposits say the same. One is open per
(address, asset), and one of an address has a tx at a time. What is due is `sweep_choice`, its txs
are made by `sweep_step` and `gas_station`, sent by `sweep_sending`, followed by `sweep_follow` and
booked by `sweep_books`. Deposits of UTXO networks are coins of the hot wallet and have none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from config.database import Uow
from config.ids import Ids
from config.policy_versions import PolicyVersions
from config.sweep_policy import EMPTY
from gateway.payouts import sweeps_store as store
from gateway.payouts.sweeps_store import SweepRow
from ledger import lifecycle, outbox
from ledger.lifecycle import Lifecycle
from watchers import sweepable

VERSIONS: Final = PolicyVersions(table="gateway.sweep_policies", empty=EMPTY)


class State(StrEnum):
    """Where a sweep stands."""

    WAITING = "waiting"
    """Final deposits lie at the address; `code` says what for."""
    GAS_PLANNED = "gas_planned"
    """A top-up for its gas is stored, not sent yet."""
    GAS_SENT = "gas_sent"
    """The top-up was sent; nothing goes on before a block has it."""
    GAS_READY = "gas_ready"
    """A block has the top-up."""
    PLANNED = "planned"
    """Unsigned bytes and a nonce of the deposit address are stored."""
    SIGNED = "signed"
    """Signed bytes are stored; it may be sent at any time."""
    SENT = "sent"
    """Nodes have it, or a block that is not final."""
    SWEPT = "swept"
    """Final, as planned, and booked."""
    FAILED = "failed"
    """Its tx moved nothing; tried again at `look_at`."""
    UNSWEEPABLE = "unsweepable"
    """It stays where it is, `code` says why; looked at again now and then, without spending gas."""


class Trigger(StrEnum):
    """What moves a sweep."""

    GROW = "grow"
    """Further final deposits of its address and asset."""
    PLAN_GAS = "plan_gas"
    """A top-up is stored."""
    SEND_GAS = "send_gas"
    """The top-up was handed to a node."""
    CONFIRM_GAS = "confirm_gas"
    """A block has the top-up."""
    LOSE_GAS = "lose_gas"
    """The block of the top-up left the chain."""
    RECONSIDER = "reconsider"
    """Nothing was signed: it is looked at anew."""
    PLAN = "plan"
    """Bytes and nonce are stored."""
    SIGN = "sign"
    """Signed bytes are stored."""
    SEND = "send"
    """It was handed to a node."""
    CONFIRM = "confirm"
    """Final, as planned."""
    FAIL = "fail"
    """Final, and nothing moved."""
    RETRY = "retry"
    """Its pause is over."""
    GIVE_UP = "give_up"
    """Not worth its gas, or the token does not move."""
    REVIVE = "revive"
    """What held it is gone."""
    FIND = "find"
    """An earlier tx of its address, out of its block since, moved it after all."""
    REOPEN = "reopen"
    """Its final block left the chain."""


_S, _T = State, Trigger

SWEEPS: Final = Lifecycle(
    kind="sweep",
    table="gateway.sweeps",
    transitions={
        (_S.WAITING, _T.GROW): _S.WAITING,
        (_S.UNSWEEPABLE, _T.GROW): _S.WAITING,
        (_S.WAITING, _T.PLAN_GAS): _S.GAS_PLANNED,
        (_S.GAS_PLANNED, _T.SEND_GAS): _S.GAS_SENT,
        (_S.GAS_PLANNED, _T.RECONSIDER): _S.WAITING,
        (_S.GAS_SENT, _T.CONFIRM_GAS): _S.GAS_READY,
        (_S.GAS_SENT, _T.RECONSIDER): _S.WAITING,
        (_S.GAS_READY, _T.LOSE_GAS): _S.GAS_SENT,
        (_S.GAS_READY, _T.RECONSIDER): _S.WAITING,
        (_S.GAS_READY, _T.PLAN): _S.PLANNED,
        (_S.WAITING, _T.PLAN): _S.PLANNED,
        (_S.PLANNED, _T.RECONSIDER): _S.WAITING,
        (_S.PLANNED, _T.SIGN): _S.SIGNED,
        (_S.SIGNED, _T.SEND): _S.SENT,
        (_S.SENT, _T.CONFIRM): _S.SWEPT,
        (_S.SENT, _T.FAIL): _S.FAILED,
        (_S.SENT, _T.GIVE_UP): _S.UNSWEEPABLE,
        (_S.FAILED, _T.RETRY): _S.WAITING,
        (_S.WAITING, _T.GIVE_UP): _S.UNSWEEPABLE,
        (_S.UNSWEEPABLE, _T.REVIVE): _S.WAITING,
        **{(state, _T.FIND): _S.SWEPT for state in (_S.WAITING, _S.FAILED, _S.UNSWEEPABLE)},
        **{(state, _T.REOPEN): _S.SENT for state in (_S.SWEPT, _S.FAILED, _S.UNSWEEPABLE)},
    },
)

MOVING: Final = (
    State.GAS_PLANNED,
    State.GAS_SENT,
    State.GAS_READY,
    State.PLANNED,
    State.SIGNED,
    State.SENT,
)
"""States in which an address is busy."""

_OF_DEPOSITS: Final[Mapping[State, str]] = {
    State.WAITING: "waiting",
    State.FAILED: "waiting",
    State.SWEPT: "swept",
    State.UNSWEEPABLE: "unsweepable",
}
"""What a deposit says of its sweep (`sweep_state`); in all other states `sweeping`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A transition to make, with the further columns that change."""

    row: SweepRow
    trigger: Trigger
    changes: Mapping[str, Any]


async def move_many(uow: Uow, steps: Sequence[Step], *, ids: Ids, at: datetime) -> list[SweepRow]:
    """Transitions of distinct sweeps, with their events and what their deposits say; all or none.

    Raises StaleState, IllegalTransition.
    """
    if not steps:
        return []
    moved = [
        store.from_row(row)
        for row in await lifecycle.advance_many(
            uow,
            SWEEPS,
            [
                lifecycle.Move(
                    object_id=step.row.id,
                    current=State(step.row.state),
                    event=step.trigger,
                    set=step.changes,
                )
                for step in steps
            ],
            at=at,
        )
    ]
    told: dict[str, list[SweepRow]] = {}
    for step, row in zip(steps, moved, strict=True):
        now = deposit_state(State(row.state))
        if now != deposit_state(State(step.row.state)):
            told.setdefault(now, []).append(row)
    for state, rows in sorted(told.items()):
        await sweepable.tell(uow, [row.id for row in rows], sweep_state=state)
    await outbox.append_many(
        uow,
        [
            event(row, previous=step.row.state, ids=ids)
            for step, row in zip(steps, moved, strict=True)
            if row.state != step.row.state
        ],
        at=at,
    )
    return moved


async def open_many(uow: Uow, rows: Sequence[SweepRow], *, ids: Ids, at: datetime) -> None:
    """Store new sweeps, waiting."""
    await store.insert(uow, rows)
    await outbox.append_many(uow, [event(row, previous=None, ids=ids) for row in rows], at=at)


def deposit_state(state: State) -> str:
    """`sweep_state` of the deposits of a sweep in this state."""
    return _OF_DEPOSITS.get(state, "sweeping")


def event(row: SweepRow, *, previous: str | None, ids: Ids) -> outbox.Event:
    """`sweep.<state>`, for the brand whose deposits these are."""
    return outbox.Event(
        event_id=ids.new_id(),
        brand=row.brand,
        type=f"sweep.{row.state}",
        object_kind="sweep",
        object_id=row.id,
        object_version=row.version,
        previous_state=previous,
        snapshot=snapshot(row),
    )


def snapshot(row: SweepRow) -> dict[str, Any]:
    """The sweep as neutral fields."""
    return {
        "id": str(row.id),
        "brand": row.brand,
        "network": row.network,
        "asset": row.asset,
        "address": row.address,
        "amount": str(row.amount_minor),
        "moved": None if row.moved_minor is None else str(row.moved_minor),
        "deposits": row.deposits,
        "state": row.state,
        "code": row.code,
        "reason": row.reason,
        "tries": row.tries,
        "txid": row.txid,
        "version": row.version,
        "look_at": row.look_at.isoformat(),
        "oldest_at": row.oldest_at.isoformat(),
        "created_at": row.created_at.isoformat(),
        "state_at": row.state_at.isoformat(),
    }
