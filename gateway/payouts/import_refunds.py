"""Refunds that lost books do not know: their words are in the signer's log (docs/adr/0042).

For `cage recover`. Two people signed every one of them, and the signer sends a deposit back once:
the refund of that deposit goes on, or is made anew from the words. A deposit that these books do
not have is a person's case. It opens no unit of work.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from config.database import Uow
from config.ids import parse_public_id
from gateway import clients_store, withdrawals_store
from gateway.payouts import raw_tx, refunds, signed_orders
from gateway.payouts import refunds_store as store
from gateway.payouts.acceptance import walked
from gateway.payouts.context import Lane
from gateway.payouts.import_orders import NotImported, Signature, asset_of
from gateway.payouts.raw_tx import UnreadableTx
from gateway.payouts.refunds import FEE_CLASS, Words
from gateway.withdrawals_store import WithdrawalRow
from ledger import outbox
from ledger.errors import AmountError
from ledger.money import parse_amount
from ledger.outbox import Event
from signer.protocol import ProtocolError, strict_loads
from watchers import deposit_refunds
from watchers.deposit_commands import DepositRow
from watchers.errors import DepositStays, InvalidAddress

_UNREADABLE = (
    ProtocolError, AmountError, InvalidAddress, LookupError, TypeError, ValueError,
)  # fmt: skip


async def member(lane: Lane, uow: Uow, signature: Signature) -> dict[int, WithdrawalRow]:
    """The refund at its output, locked, with what the tx charged it. Raises NotImported."""
    words = _words(lane, signature)
    index, paid_minor = _paid(lane, signature, words)
    found = await deposit_refunds.lock(uow, [words.deposit_id])
    if words.deposit_id not in found:
        raise NotImported(f"deposit {words.deposit_id}, which was sent back, is not in the books")
    deposit = found[words.deposit_id]
    standing = await withdrawals_store.refund_of(uow, deposit.id)
    if standing is None:
        row = await _remade(lane, uow, words, deposit)
    else:
        locked = await withdrawals_store.get(uow, standing.id, lock=True)
        row = standing if locked is None else locked
    if refunds.words_of(row) != words:
        raise NotImported(f"the books have another refund of deposit {deposit.id}: decline it")
    await _keep(lane, uow, row, signature)
    charged = words.amount_minor - paid_minor
    if row.txid is not None and (row.fee_charged_minor or 0) != charged:
        raise NotImported(f"{row.request_id}: the books pay {row.output_minor} for it")
    return {index: replace(row, fee_charged_minor=charged or None)}


async def _remade(lane: Lane, uow: Uow, words: Words, deposit: DepositRow) -> WithdrawalRow:
    """As after the first person: what follows is `imports`'s way to what the signer knew."""
    try:
        source = deposit_refunds.source_of(deposit)
    except DepositStays as error:
        raise NotImported(f"deposit {deposit.id}: {error}") from error
    promise = lane.registry.policy.classes[FEE_CLASS].promise_seconds
    row = refunds.received(words, deposit, promise_seconds=promise, ids=lane.ids, at=lane.now())
    await deposit_refunds.begin(uow, deposit, ids=lane.ids, at=lane.now())
    await refunds.place(uow, row, source, at=lane.now())
    told: list[Event] = []
    row = walked(row, refunds.ASKED, told, ids=lane.ids)
    if not await withdrawals_store.insert_refund(uow, row):
        raise NotImported(f"another refund of deposit {deposit.id} stands")
    await outbox.append_many(uow, told, at=lane.now())
    return row


async def _keep(lane: Lane, uow: Uow, row: WithdrawalRow, signature: Signature) -> None:
    """What people signed, for each dearer attempt is shown to the signer with the same words.
    Whoever the books do not know is left out, as the API would refuse them."""
    people = {
        key.key_id: key.person
        for key in await clients_store.every(uow)
        if key.kind == "staff" and key.person is not None
    }
    kept = {item.person for item in await store.requests(uow, row.id)}
    for claim in signature.question.approvals:
        key_id = signed_orders.key_id(claim)
        person = people.get(key_id)
        if person is not None and person not in kept:
            kept.add(person)
            await store.add_request(
                uow, row.id, person=person, key_id=key_id, signed=claim, at=lane.now()
            )


def _paid(lane: Lane, signature: Signature, words: Words) -> tuple[int, int]:
    """(output, what the tx pays there), minor units. Raises NotImported."""
    question = signature.question
    try:
        if not lane.is_account_based:
            amounts = raw_tx.utxo_parts(question.unsigned).amounts
            [index] = set(range(len(amounts))) - set(question.change_paths)
            return index, amounts[index]
        found = raw_tx.account_pays(question.unsigned, batch_contract=lane.spec.batch_contract)
        [(to, amount)] = found.legs
    except (UnreadableTx, ValueError) as error:
        raise NotImported(f"the refund cannot be read: {error}") from error
    if to != words.address_key or asset_of(lane, found.token) != words.asset:
        raise NotImported("the tx pays somebody else, or another asset, than people signed")
    return 0, amount


def _words(lane: Lane, signature: Signature) -> Words:
    """The same of every request that people signed; the signer compared them with the tx."""
    try:
        [words] = {_read(lane, claim.body) for claim in signature.question.approvals}
    except (
        ProtocolError,
        AmountError,
        InvalidAddress,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise NotImported(f"the words of the refund: {type(error).__name__}") from error
    return words


def _read(lane: Lane, body: bytes) -> Words:
    raw: dict[str, Any] = strict_loads(body)
    asset = lane.registry.assets[str(raw["asset"])]
    place = lane.chain.codec.parse(str(raw["address"]))
    livemode = lane.registry.settings.livemode
    deposit_id = parse_public_id("deposit", str(raw["deposit_id"]), livemode=livemode)
    if deposit_id is None:
        raise ValueError("no deposit of this house")
    return Words(
        deposit_id=deposit_id,
        asset=asset.id,
        address=place.address,
        address_key=place.key,
        amount_minor=parse_amount(str(raw["amount"]), decimals=asset.decimals),
        valid_until=datetime.fromisoformat(str(raw["valid_until"])).astimezone(UTC),
    )
