"""Sweeps and their gas that lost books do not know: each signature finds its sweep again.

For `cage recover`: the sweep of its address goes on with it, so that no second one is planned at
the same address meanwhile. Deposits that no sweep has yet are collected as ever; what then lies at
the address decides. The tx itself is booked whether a sweep is found or not. It opens no unit of
work.
"""

from collections.abc import Mapping
from typing import Any, Final

from config.database import Uow
from gateway.payouts import sweeps
from gateway.payouts import sweeps_store as store
from gateway.payouts.context import Lane
from gateway.payouts.import_orders import Signature
from gateway.payouts.sweep_building import UNBOUND
from gateway.payouts.sweeps import State, Step, Trigger
from gateway.payouts.sweeps_store import SweepRow
from signer.protocol import Purpose
from watchers import addresses, outgoing
from watchers.outgoing import OutgoingRow, OutgoingState

_BACK: Final[Mapping[State, Trigger]] = {
    State.GAS_PLANNED: Trigger.RECONSIDER,
    State.GAS_SENT: Trigger.RECONSIDER,
    State.PLANNED: Trigger.RECONSIDER,
    State.FAILED: Trigger.RETRY,
    State.UNSWEEPABLE: Trigger.REVIVE,
}
"""How a sweep comes back to where it is planned from."""
_UNSIGNED: Final = (State.GAS_READY, State.WAITING, *_BACK)


async def attach(lane: Lane, uow: Uow, signature: Signature) -> None:
    """The sweeps of its addresses go on with it."""
    tx = await outgoing.get(uow, signature.id)
    if tx is None:
        return
    if tx.replaces_id is not None:
        family = await outgoing.family(uow, tx.family_id)
        older = [item.id for item in family if item.family_number < tx.family_number]
        await store.follow(uow, older=older, attempt_id=tx.id, txid=tx.txid)
    elif signature.question.purpose is Purpose.GAS_TOP_UP:
        await _top_up(lane, uow, tx)
    else:
        await _sweep(lane, uow, tx)


async def _sweep(lane: Lane, uow: Uow, tx: OutgoingRow) -> None:
    """One sweep for each address that gives."""
    for payment in tx.payments:
        key = payment.from_key or tx.sender_key or ""
        row = await _row_at(lane, uow, key, asset=payment.asset, states=_UNSIGNED)
        if row is None:
            continue
        if State(row.state) in _BACK:
            row = await _back(lane, uow, row)
        changes: dict[str, Any] = {
            "attempt_id": tx.id, "txid": None, "moved": payment.amount_minor, "code": None,
        }  # fmt: skip
        row = await _move(lane, uow, row, Trigger.PLAN, changes)
        await _move(lane, uow, row, Trigger.SIGN, {"txid": tx.txid})


async def _top_up(lane: Lane, uow: Uow, tx: OutgoingRow) -> None:
    """The token's sweep that waits for gas at the address."""
    [payment] = tx.payments
    for asset in lane.registry.assets_of(lane.network):
        if asset.id == lane.spec.native_asset:
            continue
        states = (State.WAITING, State.GAS_PLANNED)
        row = await _row_at(lane, uow, payment.key, asset=asset.id, states=states)
        if row is None:
            continue
        if State(row.state) in _BACK:
            row = await _back(lane, uow, row)
        await _move(lane, uow, row, Trigger.PLAN_GAS, {"gas_attempt_id": tx.id, "code": None})
        return


async def _row_at(
    lane: Lane, uow: Uow, key: str, *, asset: str, states: tuple[State, ...]
) -> SweepRow | None:
    """The sweep of an address and asset that may be planned, locked; none where its own tx may be
    signed."""
    address = await addresses.by_text(uow, network=lane.network, key=key)
    if address is None:
        return None
    rows = await store.open_at(uow, [(address.id, asset)], states=[state.value for state in states])
    for row in sorted(rows, key=lambda row: (states.index(State(row.state)), row.id)):
        if row.state not in (State.PLANNED, State.GAS_PLANNED):
            return row
        named = row.attempt_id if row.state == State.PLANNED else row.gas_attempt_id
        known = None if named is None else await outgoing.get(uow, named)
        if known is None or known.state is OutgoingState.REFUSED:
            return row
    return None


async def _back(lane: Lane, uow: Uow, row: SweepRow) -> SweepRow:
    changes = {**UNBOUND, "look_at": lane.now()}
    return await _move(lane, uow, row, _BACK[State(row.state)], changes)


async def _move(
    lane: Lane, uow: Uow, row: SweepRow, trigger: Trigger, changes: Mapping[str, Any]
) -> SweepRow:
    step = Step(row=row, trigger=trigger, changes=changes)
    [moved] = await sweeps.move_many(uow, [step], ids=lane.ids, at=lane.now())
    return moved
