"""Set-ups of the batch contract that lost books do not know: their words are in the signer's log.

For `cage recover`. Two people signed every one of them, and the signer signs for each reference
once: the row of that reference goes on, or is made anew from the words. It opens no unit of work.
"""

from collections.abc import Sequence
from typing import Any

from config.database import Uow
from gateway.payouts import setup_step, setups, signed_orders
from gateway.payouts import setups_store as store
from gateway.payouts.context import Lane
from gateway.payouts.import_orders import NotImported, Signature
from gateway.payouts.setups import SetupAction, State, Trigger, Words
from gateway.payouts.setups_store import SetupRow
from ledger.errors import AmountError
from ledger.money import parse_amount
from signer.protocol import ProtocolError, strict_loads
from watchers import addresses, outgoing
from watchers.addresses import AddressRow
from watchers.outgoing import PlannedPayment


async def payments(lane: Lane, uow: Uow, signature: Signature) -> tuple[PlannedPayment, ...]:
    """What moves between lane 0 and the contract; raises NotImported."""
    words = _words(lane, signature)
    [path] = signature.question.input_paths
    own = await addresses.by_paths(uow, network=lane.network, paths=[path])
    if path not in own:
        raise NotImported(f"no address of ours at {path}")
    contract = await _contract(lane, uow, words)
    return setup_step.payments_of(words, owner=own[path], contract=contract)


async def payer(lane: Lane, uow: Uow, signature: Signature) -> dict[str, Any]:
    """The contract where it pays, as a draft says it."""
    words = _words(lane, signature)
    contract = await _contract(lane, uow, words)
    is_back = words.action is SetupAction.WITHDRAW and contract is not None
    return {"payer_key": contract.key if is_back and contract is not None else None}


async def attach(lane: Lane, uow: Uow, signature: Signature) -> None:
    """The row of its reference goes on with it; raises NotImported."""
    words = _words(lane, signature)
    row = await store.by_reference(uow, network=lane.network, reference=words.reference)
    if row is None:
        row = await _remade(lane, uow, words, _keys(signature))
    if setups.words_of(row) != words:
        raise NotImported(f"the books have another set-up called {words.reference}")
    if row.state in (State.SIGNED, State.SENT):
        await _follow(lane, uow, row, signature)
        return
    if row.state == State.PROPOSED:
        agreed = {"agreed_by": _keys(signature)[-1]}
        row = await setups.move(uow, row, Trigger.AGREE, agreed, at=lane.now())
    if row.state == State.PLANNED:
        changes: dict[str, Any] = {"attempt_id": None, "sign_requested_at": None}
        row = await setups.move(uow, row, Trigger.UNPLAN, changes, at=lane.now())
    if row.state != State.APPROVED:
        raise NotImported(f"the set-up {words.reference} is {row.state} in the books")
    changes = {"attempt_id": signature.id, "sign_requested_at": lane.now()}
    row = await setups.move(uow, row, Trigger.PLAN, changes, at=lane.now())
    await setups.move(uow, row, Trigger.SIGN, {"txid": signature.answer.txid}, at=lane.now())


async def _follow(lane: Lane, uow: Uow, row: SetupRow, signature: Signature) -> None:
    """A further attempt of a family that the books know: the newest one counts."""
    tx = await outgoing.get(uow, signature.id)
    current = None if row.attempt_id is None else await outgoing.get(uow, row.attempt_id)
    if tx is None or current is None or tx.family_id != current.family_id:
        raise NotImported(f"the set-up {row.reference} has another tx in the books")
    if tx.family_number > current.family_number:
        changes = {"attempt_id": tx.id, "txid": tx.txid}
        await setups.move(uow, row, Trigger.REPLACE, changes, at=lane.now())


async def _remade(lane: Lane, uow: Uow, words: Words, keys: Sequence[str]) -> SetupRow:
    row = setups.proposed(words, person=keys[0], ids=lane.ids, at=lane.now())
    if not await store.insert(uow, row):
        raise NotImported("another set-up is on its way in the books: decline it, run again")
    return row


async def _contract(lane: Lane, uow: Uow, words: Words) -> AddressRow | None:
    if words.action is SetupAction.DEPLOY:
        return None
    contract = await addresses.batch_contract(uow, network=lane.network)
    if contract is None or contract.key != lane.spec.batch_contract:
        raise NotImported("the batch contract is not among our addresses yet")
    return contract


def _words(lane: Lane, signature: Signature) -> Words:
    """The same of every request that people signed; the signer compared them with the tx."""
    said = [claim.body for claim in signature.question.approvals]
    try:
        [words] = {_read(lane, body) for body in said}
    except (ProtocolError, AmountError, LookupError, TypeError, ValueError) as error:
        raise NotImported(f"the words of the set-up: {type(error).__name__}") from error
    return words


def _read(lane: Lane, body: bytes) -> Words:
    raw = strict_loads(body)
    asset = raw.get("asset")
    amount = None
    if asset is not None:
        decimals = lane.registry.assets[asset].decimals
        amount = parse_amount(raw["amount"], decimals=decimals)
    return Words(
        action=SetupAction(raw["action"]),
        network=str(raw["network"]),
        reference=str(raw["reference"]),
        asset=asset,
        amount_minor=amount,
    )


def _keys(signature: Signature) -> list[str]:
    """Whose keys signed: names of people may be lost with the books."""
    return [signed_orders.key_id(claim) for claim in signature.question.approvals]
