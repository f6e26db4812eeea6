"""`GET /v1/rebalances/{id}/unsigned`, `POST .../signed`, `POST .../cancel`: cold to hot.

The file leaves as it was committed; of what comes back only signatures are taken, and only those
that verify over it (`watchers/chains/<family>`). Nothing is sent from here: payouts look at all of
it again and send it.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from uuid import UUID

from gateway.api import rebalance_safes, two_people
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.qr import qr_svg
from gateway.api.rebalances import KIND, READ, ROLES, STAFF, WRITE, wire
from gateway.api.switches import check_operator
from gateway.api.wire_rebalance_files import (
    SignedRebalance,
    SignedRebalanceIn,
    UnsignedRebalance,
)
from gateway.api.wire_rebalances import RebalanceDeclineIn, RebalanceDetail
from gateway.errors import Conflict, Invalid, NotFound, invalid_field
from gateway.payouts import rebalances, rebalances_store, refills_store, safe_plans_store
from gateway.payouts.rebalances import Direction, State, Trigger
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.payouts.safe_plans_store import SafePlanRow
from ledger import lifecycle
from watchers import outgoing, registry
from watchers.cold_spends import ColdProgress, ColdSignature
from watchers.errors import SignedFileRefused
from watchers.outgoing import OutgoingRow

SIGNED_BYTES_MAX = 512 * 1024  # of a body; the largest plan is half of it (refill_step)

_TAKEN = (State.UNSIGNED_READY, State.SIGNED, State.SENT, State.DONE, State.FAILED)


@endpoint(
    "GET",
    "/v1/rebalances/{id}/unsigned",
    "What the owners of the cold wallet sign, with what it takes to check it.",
    answers=UnsignedRebalance,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def get_unsigned(call: Call) -> UnsignedRebalance:
    """The committed file, also after it was signed. 409 `not_ready` until it is built."""
    check_operator(call)
    row = await rebalances_store.get(call.uow, call.object_id(KIND))
    if row is None:
        raise NotFound
    safe = await _safe_of(call, row)
    if safe is not None:
        return await rebalance_safes.unsigned(call, row, safe)
    tx = await _plan_of(call, row)
    progress = await _progress(call, tx)
    context, spec = call.services.wire, call.services.registry.chains[tx.network]
    is_account, native = tx.sender_key is not None, spec.native_asset
    text = base64.b64encode(tx.unsigned).decode("ascii")
    payload, suffix = tx.unsigned.hex(), "json" if is_account else "psbt"
    return UnsignedRebalance.model_validate(
        {
            "rebalance_id": context.id(KIND, row.id),
            "network": row.network,
            "format": "eip1559" if is_account else "psbt",
            "psbt": None if is_account else text,
            "tx": f"0x{payload}" if is_account else None,
            "transaction": registry.cold_transaction(spec, tx.unsigned),
            "typed_data": None,
            "safe_tx_hash": None,
            "file_name": f"{context.id(KIND, row.id)}.{suffix}",
            "txid": progress.txid,
            "asset": row.asset,
            "address": row.address,
            "amount": context.amount(row.amount_minor, row.asset),
            "amount_minor": str(row.amount_minor),
            "fee": context.amount(tx.fee_cap_minor, native),
            "fee_minor": str(tx.fee_cap_minor),
            "coins": len(tx.inputs),
            "signatures": rebalance_safes.signatures(progress),
            "qr_svg": qr_svg(payload if is_account else text),
        }
    )


@endpoint(
    "POST",
    "/v1/rebalances/{id}/signed",
    "A signed file comes back; payouts send it once every signature is there.",
    answers=SignedRebalance,
    body=SignedRebalanceIn,
    scopes=WRITE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
    body_bytes_max=SIGNED_BYTES_MAX,
)
async def post_signed(call: Call) -> Answer:
    """202 while others must sign, 200 once it is complete. The same file again changes nothing;
    with `dry_run` it is checked, and nothing is kept."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)
    row = await _locked(call)
    safe = await _safe_of(call, row)
    if safe is not None:
        new, progress = await _take_owner(call, row, safe)
    else:
        new, progress = await _take_file(call, row, await _plan_of(call, row))
    is_dry = call.body.dry_run
    if row.state == State.UNSIGNED_READY and progress.raw is not None and not is_dry:
        await lifecycle.set_actor(call.uow, two_people.person_of(call))
        row = await rebalances.move(
            call.uow, row, Trigger.SIGN, {}, ids=call.services.ids, at=call.at
        )
    body = SignedRebalance(
        rebalance=await wire(call, row),
        signatures=rebalance_safes.signatures(progress),
        new_signatures=new,
        dry_run=is_dry,
    )
    return Answer(body=body, status=200 if progress.raw is not None else 202)


@endpoint(
    "POST",
    "/v1/rebalances/{id}/cancel",
    "Take a move from cold to hot back while its file waits for signatures.",
    answers=RebalanceDetail,
    body=RebalanceDeclineIn,
    scopes=WRITE,
    kinds=STAFF,
    roles=ROLES,
    idempotency=Idempotency.OPTIONAL,
)
async def cancel_unsigned(call: Call) -> RebalanceDetail:
    """One person; its coins are free again. Whoever has the file can still sign and send it: the
    coins reach the hot wallet all the same, as an inflow that nobody expected."""
    two_people.check_operator(call, roles=ROLES, scopes=WRITE)
    row = await _locked(call)
    if row.state != State.CANCELLED:
        if row.state != State.UNSIGNED_READY:
            raise Conflict("too_late", f"It is {row.state}.")
        if call.body.dry_run:
            return await wire(call, row)
        await lifecycle.set_actor(call.uow, two_people.person_of(call), reason=call.body.reason)
        changes = {"code": "cancelled_by_staff"}
        row = await rebalances.move(
            call.uow, row, Trigger.CANCEL, changes, ids=call.services.ids, at=call.at
        )
    return await wire(call, row)


async def _locked(call: Call) -> RebalanceRow:
    row = await rebalances_store.get(call.uow, call.object_id(KIND), lock=True)
    if row is None:
        raise NotFound
    return row


async def _plan_of(call: Call, row: RebalanceRow) -> OutgoingRow:
    """The tx that people sign. Raises Conflict where there is none (any more)."""
    if row.direction != Direction.COLD_TO_HOT:
        raise Conflict("not_signed_outside", f"The signer signs {row.direction}.")
    if row.state not in _TAKEN or row.attempt_id is None:
        raise Conflict("not_ready", f"It is {row.state}: there is nothing to sign.")
    tx = await outgoing.get(call.uow, row.attempt_id)
    if tx is None or tx.purpose != outgoing.OUTSIDE_PURPOSE:  # a Safe's, whose plan was dropped
        raise Conflict("not_ready", f"It is {row.state}: there is nothing to sign.")
    return tx


async def _safe_of(call: Call, row: RebalanceRow) -> SafePlanRow | None:
    """What the owners of a Safe sign for it, if it is that kind of refill."""
    if row.state not in _TAKEN:
        return None
    return await safe_plans_store.of_rebalance(call.uow, row.id)


async def _take_owner(call: Call, row: RebalanceRow, safe: SafePlanRow) -> tuple[int, ColdProgress]:
    """(new signatures, how far it is signed) after one owner of a Safe. Raises Invalid."""
    name, upload = _upload(call.body)
    if name != "signature":
        raise invalid_field(name, "not_a_signature", "A Safe takes signatures, one by one.")
    try:
        found = await asyncio.to_thread(rebalance_safes.signature_of, safe, upload)
    except SignedFileRefused as error:
        raise _refused(name, error) from error
    if row.state != State.UNSIGNED_READY:
        return 0, await rebalance_safes.progress_of(call, safe)
    new, beside = await _keep(call, row, safe.id, found)
    return new, await rebalance_safes.progress_of(call, safe, beside=beside)


async def _take_file(call: Call, row: RebalanceRow, tx: OutgoingRow) -> tuple[int, ColdProgress]:
    """(new signatures, how far it is signed) after a file. Raises Invalid."""
    found = await _verified(call, tx)
    if row.state != State.UNSIGNED_READY or tx.raw is not None:
        return 0, await _progress(call, tx)
    new, beside = await _keep(call, row, tx.id, found)
    return new, await _progress(call, tx, beside=beside)


async def _keep(
    call: Call, row: RebalanceRow, plan_id: UUID, found: Sequence[ColdSignature]
) -> tuple[int, Sequence[ColdSignature]]:
    """(how many are new, those that a dry run does not keep): of one input and key the first one
    stays."""
    if call.body.dry_run:
        known = await refills_store.of_attempt(call.uow, plan_id)
        places = {(item.input_index, item.public_key) for item in known}
        beside = [item for item in found if (item.input_index, item.public_key) not in places]
        return len(beside), beside
    new = await refills_store.add(
        call.uow,
        rebalance_id=row.id,
        attempt_id=plan_id,
        signatures=found,
        person=two_people.person_of(call),
        at=call.at,
    )
    return new, ()


async def _verified(call: Call, tx: OutgoingRow) -> tuple[ColdSignature, ...]:
    """The signatures of the upload. Raises Invalid with field, reason and remedy."""
    name, upload = _upload(call.body)
    if name == "signature":
        raise invalid_field(name, "not_a_signed_file", "This cold wallet is no Safe.")
    spec = call.services.registry.chains[tx.network]
    try:
        return await asyncio.to_thread(
            registry.cold_signatures,
            spec,
            unsigned=tx.unsigned,
            upload=upload,
            sender_key=tx.sender_key,
        )
    except SignedFileRefused as error:
        raise _refused(name, error) from error


def _refused(name: str, error: SignedFileRefused) -> Invalid:
    detail = f"{_sentence(error.reason)} {_sentence(error.remedy)}"
    return invalid_field(name, error.code, detail)


def _upload(body: SignedRebalanceIn) -> tuple[str, bytes]:
    """(field, bytes) of the one that was sent; strict, nothing is repaired."""
    sent = {"psbt": body.psbt, "tx": body.tx, "signature": body.signature}
    given = [(name, text) for name, text in sent.items() if text is not None]
    if len(given) != 1:
        raise Invalid("one_file", "Send exactly one of psbt, tx and signature.")
    [(name, text)] = given
    try:
        if name == "psbt":
            return name, base64.b64decode(text, validate=True)
        return name, bytes.fromhex(text.removeprefix("0x"))
    except (binascii.Error, ValueError) as error:
        kind = "base64" if name == "psbt" else "hex"
        raise invalid_field(name, "invalid", f"It is not {kind}.") from error


async def _progress(
    call: Call, tx: OutgoingRow, *, beside: Sequence[ColdSignature] = ()
) -> ColdProgress:
    spec, sender = call.services.registry.chains[tx.network], tx.sender_key
    signatures = [*await refills_store.of_attempt(call.uow, tx.id), *beside]
    if tx.raw is not None:  # they sent it themselves: its block shows who signed
        shown = registry.cold_signatures(
            spec, unsigned=tx.unsigned, upload=tx.raw, sender_key=sender
        )
        signatures = list(shown)
    return registry.cold_progress(
        spec, unsigned=tx.unsigned, signatures=signatures, sender_key=sender
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
