"""What lost books have to know of a signature beside its payments: its family, and whom it serves.

For replacements, aborts, children that pay for a parent, and gas top-ups. Whatever hangs on a tx
that is not in the books is a person's case (`NotImported`). It writes nothing.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from config.database import Uow
from gateway.payouts import raw_tx, store
from gateway.payouts.comparison import uuid_of
from gateway.payouts.context import Lane
from gateway.payouts.import_orders import NotImported, Signature, asset_of
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Purpose
from watchers import addresses, outgoing, outgoing_families
from watchers.chain import Outpoint
from watchers.outgoing import OutgoingRow, PlannedPayment


async def lineage(uow: Uow, signature: Signature, *, inputs: Sequence[Outpoint]) -> dict[str, Any]:
    """Family, number in it, what it replaces and what it pays for, as a draft says them."""
    if signature.question.purpose is Purpose.SAFE_REFILL:
        raise NotImported("a Safe's refill: follow its txid, book it and its fee by hand")
    if signature.question.purpose is Purpose.CPFP:
        return await _of_child(uow, signature, inputs)
    if signature.question.replaces is None:
        return {"family_id": UUID(signature.entry.family)}
    replaced = await _replaced(uow, signature)
    return {
        "family_id": replaced.family_id,
        "family_number": replaced.family_number + 1,
        "replaces_id": replaced.id,
    }


async def aborted(uow: Uow, signature: Signature) -> WithdrawalRow:
    """The one member of what an abort replaces, locked."""
    replaced = await _replaced(uow, signature)
    members = await store.members(uow, replaced.id, lock=True, is_current=False)
    if len(members) != 1:
        raise NotImported(f"an abort of a tx with {len(members)} members")
    return members[0].withdrawal


async def own_payments(lane: Lane, uow: Uow, signature: Signature) -> tuple[PlannedPayment, ...]:
    """What a gas top-up, a sweep or a collect moves between addresses of our own; raises
    NotImported, UnreadableTx."""
    question = signature.question
    if question.purpose is Purpose.COLLECT:
        return await _collected(lane, uow, signature)
    path = question.own_path or ""
    own = await addresses.by_paths(uow, network=lane.network, paths=[path])
    if path not in own:
        raise NotImported(f"no address of ours at {path} yet")
    found = raw_tx.account_pays(question.unsigned, batch_contract=None)
    [(to, amount)] = found.legs
    if to != own[path].key:
        raise NotImported(f"it does not pay {path}")
    asset = asset_of(lane, found.token)
    return (PlannedPayment(asset=asset, address=own[path].address, key=to, amount_minor=amount),)


async def _collected(lane: Lane, uow: Uow, signature: Signature) -> tuple[PlannedPayment, ...]:
    """Leg by leg, to hot lane 0, which stands in the collector's code."""
    question = signature.question
    found = raw_tx.collect_takes(question.unsigned, collector=lane.spec.collector)
    wanted = [question.change_paths[index] for index in range(len(found.legs))]
    own = await addresses.by_paths(uow, network=lane.network, paths=wanted)
    hot = await addresses.own_address(uow, network=lane.network, role="hot")
    asset = asset_of(lane, found.token)
    payments = []
    for path, (key, amount) in zip(wanted, found.legs, strict=True):
        if path not in own or own[path].key != key:
            raise NotImported(f"it does not take from an address of ours at {path}")
        payments.append(
            PlannedPayment(
                asset=asset, address=hot.address, key=hot.key, amount_minor=amount, from_key=key
            )
        )
    return tuple(payments)


async def _replaced(uow: Uow, signature: Signature) -> OutgoingRow:
    attempt_id = uuid_of(signature.question.replaces or "")
    found = None if attempt_id is None else await outgoing.get(uow, attempt_id)
    if found is None:
        raise NotImported(f"what it replaces is not in the books: {signature.question.replaces}")
    return found


async def _of_child(uow: Uow, signature: Signature, inputs: Sequence[Outpoint]) -> dict[str, Any]:
    """A child continues the family of an earlier child at its coins; to the signer each is a family
    of its own. Otherwise it pays for its parent, or for what that pays for."""
    network = signature.question.network
    earlier = [
        tx
        for tx in await outgoing_families.spenders(uow, network=network, outpoints=inputs)
        if tx.purpose == Purpose.CPFP and tx.id != signature.id
    ]
    if earlier:
        newest = earlier[-1]
        return {
            "family_id": newest.family_id,
            "family_number": newest.family_number + 1,
            "replaces_id": newest.id,
            "pays_for_id": newest.pays_for_id,
        }
    for outpoint in inputs:
        parent = await outgoing.by_txid(uow, network, outpoint.txid)
        if parent is not None:
            return {
                "family_id": UUID(signature.entry.family),
                "pays_for_id": parent.pays_for_id or parent.id,
            }
    raise NotImported("nothing that it pays for is in the books")
