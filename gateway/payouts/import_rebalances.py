"""Moves between wallets that lost books do not know: paid as signed, and followed again.

For `cage recover`. Each signature finds the row that it was made for: by its family, by the words
that people signed, or else the oldest one that asks for the same, in the order of the signer's log;
so nothing that is approved in these books is signed a second time. Where the row is lost as well
another one is made. It opens no unit of work.
"""

from typing import Final
from uuid import UUID

from config.database import Uow
from config.ids import parse_public_id
from gateway.payouts import raw_tx, rebalances
from gateway.payouts import rebalances_store as store
from gateway.payouts.context import Lane
from gateway.payouts.import_orders import NotImported, Signature, asset_of
from gateway.payouts.rebalances import Direction, State, Trigger, Wish
from gateway.payouts.rebalances_store import RebalanceRow
from signer.protocol import ProtocolError, strict_loads
from watchers import addresses, outgoing
from watchers.outgoing import OutgoingRow, PlannedPayment

REASON: Final = "written again from the signer's log"
SIGNED_BEFORE: Final = "signed_before"
"""Code of a proposal whose move the signer had signed, with words that these books lost."""


async def payments(lane: Lane, uow: Uow, signature: Signature) -> tuple[PlannedPayment, ...]:
    """The one payment of the move; raises NotImported, UnreadableTx."""
    key, amount, asset = _paid(lane, signature)
    to = await addresses.by_text(uow, network=lane.network, key=key)
    wanted = rebalances.TARGETS[_direction(signature)]
    if to is None or to.role is not wanted:
        raise NotImported(f"it goes to no {wanted} address of these books")
    return (PlannedPayment(asset=asset, address=to.address, key=to.key, amount_minor=amount),)


def _direction(signature: Signature) -> Direction:
    return Direction(signature.question.purpose.value)


def _paid(lane: Lane, signature: Signature) -> tuple[str, int, str]:
    """(match key, minor units, asset)"""
    question = signature.question
    if not lane.is_account_based:
        parts = raw_tx.utxo_parts(question.unsigned)
        rest = [at for at in range(len(parts.amounts)) if at not in question.change_paths]
        if len(rest) != 1:
            raise NotImported("it pays more than one output that is not change")
        return parts.scripts[rest[0]].hex(), parts.amounts[rest[0]], lane.spec.native_asset
    found = raw_tx.account_pays(question.unsigned, batch_contract=None)
    [(to, amount)] = found.legs
    return to, amount, asset_of(lane, found.token)


async def attach(lane: Lane, uow: Uow, signature: Signature) -> None:
    """Its row goes on with it; raises NotImported."""
    tx = await outgoing.get(uow, signature.id)
    if tx is None:
        raise NotImported("it was not recorded")
    row = await store.of_family(uow, tx.family_id)
    if row is not None:
        await _follow(lane, uow, row, tx)
        return
    row = await _row_of(lane, uow, signature, tx)
    if row.state == State.PLANNED:
        row = await _move(
            lane, uow, row, Trigger.UNPLAN, attempt_id=None, sign_requested_at=None, code=None
        )
    row = await _move(
        lane,
        uow,
        row,
        Trigger.PLAN,
        attempt_id=tx.id,
        sign_requested_at=lane.now(),
        code=None,
    )
    await _move(lane, uow, row, Trigger.SIGN, txid=tx.txid)


async def _follow(lane: Lane, uow: Uow, row: RebalanceRow, tx: OutgoingRow) -> None:
    """A further attempt of a family that the books know: the newest one counts."""
    current = None if row.attempt_id is None else await outgoing.get(uow, row.attempt_id)
    if current is None or current.family_number >= tx.family_number:
        return
    if row.state in (State.SIGNED, State.SENT):
        await _move(lane, uow, row, Trigger.REPLACE, attempt_id=tx.id, txid=tx.txid)


async def _row_of(lane: Lane, uow: Uow, signature: Signature, tx: OutgoingRow) -> RebalanceRow:
    """The row that waits for this signature, locked; a new one where none does."""
    [payment] = tx.payments
    named = _named(lane, signature)
    direction = _direction(signature)
    found = await store.unsigned_of(
        uow, payment, network=lane.network, direction=direction, rebalance_id=named
    )
    if found is not None and found.state != State.PROPOSED:
        return found
    if found is not None:  # who agreed to it signed words that are lost: it must not go again
        await rebalances.cancel(uow, found, code=SIGNED_BEFORE, ids=lane.ids, at=lane.now())
    made = await rebalances.remake(
        uow,
        Wish(
            network=lane.network,
            asset=payment.asset,
            direction=direction,
            amount_minor=payment.amount_minor,
            address=payment.address,
            address_key=payment.key,
            reason=REASON,
            forecast=None,
            requested_by=None,
        ),
        ids=lane.ids,
        at=lane.now(),
    )
    if made is None:
        raise NotImported("the system has another move of the asset open: decline it, run again")
    return made


def _named(lane: Lane, signature: Signature) -> UUID | None:
    """The rebalance whose words people signed for it; None where the signer was shown none."""
    names = {_name(claim.body) for claim in signature.question.approvals} - {None}
    if len(names) != 1:
        return None
    livemode = lane.registry.settings.livemode
    return parse_public_id("rebalance", str(names.pop()), livemode=livemode)


def _name(body: bytes) -> str | None:
    try:
        raw = strict_loads(body)
    except ProtocolError:
        return None
    name = raw.get("rebalance_id")
    return name if isinstance(name, str) else None


async def _move(
    lane: Lane, uow: Uow, row: RebalanceRow, trigger: Trigger, **changes: object
) -> RebalanceRow:
    return await rebalances.move(uow, row, trigger, changes, ids=lane.ids, at=lane.now())
