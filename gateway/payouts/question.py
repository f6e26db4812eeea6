"""The question to the signer, and whether it fits into one message.

Owns the one way from rows to a SignRequest, so that what is measured at planning and at the gate
is what is sent. The orders' bodies and the coins' previous transactions are what makes it large;
the frame is the signer's limit (`signer.protocol.MAX_FRAME_BYTES`). It asks nobody.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from config.database import Uow
from gateway.payouts import approvals, refunds_store, store
from gateway.payouts.approvals import Action
from gateway.payouts.attempts import Attempt
from gateway.payouts.context import Lane
from gateway.payouts.errors import BrokenAttempt
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import (
    MAX_FRAME_BYTES,
    Authorisation,
    Payment,
    ProtocolError,
    Purpose,
    RequestWriter,
    SignRequest,
    encode_sign_request,
    frame,
)
from watchers import addresses, outgoing
from watchers.addresses import AddressRow

EPOCH_ROOM_BYTES = 32  # the lane's epoch may be longer when the same question is asked again
ORDERS_MAX_BYTES = MAX_FRAME_BYTES * 3 // 4  # of one plan; the rest is for the coins

REQUEST_TOO_LARGE: Final = "sign_request_too_large"
"""Code of a withdrawal that fits into no message to the signer, and the alarm about it."""

REQUEST_LOST: Final = "request_lost"
"""Code of a withdrawal whose signed request is not stored any more, and the alarm about it."""


async def of_attempt(lane: Lane, uow: Uow, attempt: Attempt) -> SignRequest:
    """The question about an attempt, from committed rows only: the same after every crash."""
    return (await of_attempts(lane, uow, [attempt]))[attempt.id]


async def of_attempts(lane: Lane, uow: Uow, found: Sequence[Attempt]) -> dict[UUID, SignRequest]:
    """`of_attempt` of many, by attempt; what they share is read once."""
    ids = [row.id for attempt in found for row in attempt.rows()]
    signed = await store.authorisations(uow, ids)
    people = await approvals.for_payment(uow, ids)
    refunds = await refunds_store.approvals(
        uow, [row.id for item in found for row in item.rows() if row.deposit_id is not None]
    )
    senders: dict[str, AddressRow] = {}
    for key in sorted({item.tx.sender_key for item in found if item.tx.sender_key is not None}):
        sender = await addresses.by_text(uow, network=lane.network, key=key)
        if sender is None:
            raise BrokenAttempt(f"{key}: the sender of an attempt is no address of ours")
        senders[key] = sender
    return {
        item.id: await _of_one(
            lane, uow, item, signed=signed, people=people, refunds=refunds, senders=senders
        )
        for item in found
    }


async def _of_one(
    lane: Lane,
    uow: Uow,
    attempt: Attempt,
    *,
    signed: Mapping[UUID, Authorisation],
    people: Mapping[UUID, tuple[Authorisation, ...]],
    refunds: Mapping[UUID, tuple[Authorisation, ...]],
    senders: Mapping[str, AddressRow],
) -> SignRequest:
    ids = [row.id for row in attempt.rows()]
    is_abort = attempt.tx.purpose == Purpose.ABORT
    is_refund = attempt.tx.purpose == Purpose.REFUND
    if any(not refunds.get(item) if is_refund else item not in signed for item in ids):
        raise BrokenAttempt(f"attempt {attempt.id}: a member has no stored request")
    if attempt.tx.sender_key is None:
        input_paths, change_paths = await outgoing.signing_paths(uow, attempt.id)
    else:
        input_paths, change_paths = (senders[attempt.tx.sender_key].path,), {}
    about: Sequence[Authorisation] = ()
    if is_abort:
        about = await approvals.of(uow, ids[0], Action.ABORT)
    elif is_refund:  # what two people signed is all that the signer reads
        about = [item for row_id in ids for item in refunds[row_id]]
    return build(
        lane,
        attempt_id=attempt.id,
        unsigned=attempt.tx.unsigned,
        input_paths=input_paths,
        change_paths=change_paths,
        outputs=[]
        if is_abort or is_refund
        else [(member.withdrawal, member.output_index) for member in attempt.members],
        signed=signed,
        purpose=Purpose(attempt.tx.purpose),
        replaces_id=attempt.tx.replaces_id if attempt.members else None,
        people=people,
        about=about,
    )


def build(
    lane: Lane,
    *,
    attempt_id: UUID,
    unsigned: bytes,
    input_paths: Sequence[str],
    change_paths: Mapping[int, str],
    outputs: Sequence[tuple[WithdrawalRow, int]],
    signed: Mapping[UUID, Authorisation],
    purpose: Purpose = Purpose.WITHDRAWAL,
    replaces_id: UUID | None = None,
    people: Mapping[UUID, tuple[Authorisation, ...]] | None = None,
    about: Sequence[Authorisation] = (),
) -> SignRequest:
    """The question; `outputs` says which withdrawal is paid at which output, `people` what staff
    signed about each, `about` what they signed about the tx."""
    return SignRequest(
        attempt_id=str(attempt_id),
        purpose=purpose,
        network=lane.network,
        worker_epoch=lane.lease.fence,
        unsigned=unsigned,
        input_paths=tuple(input_paths),
        change_paths=change_paths,
        payments=tuple(
            _payment(row, index, signed) for row, index in sorted(outputs, key=lambda item: item[1])
        ),
        replaces=None if replaces_id is None else str(replaces_id),
        approvals=(
            *about,
            *(item for row, _ in outputs for item in (people or {}).get(row.id, ())),
        ),
    )


def fits(request: SignRequest) -> bool:
    """Whether the signer can be asked this in one frame, whatever the epoch of the asking."""
    size = frame_bytes(request)
    return size is not None and size <= MAX_FRAME_BYTES - EPOCH_ROOM_BYTES


def frame_bytes(request: SignRequest, writer: RequestWriter | None = None) -> int | None:
    """The size of the frame, or None past the protocol's limit. With a `writer` what it wrote
    before is not counted again."""
    try:
        return len(frame(encode_sign_request(request, writer)))
    except ProtocolError:  # the one thing that frame() refuses
        return None


def within_orders(
    lane: Lane, rows: Sequence[WithdrawalRow], signed: Mapping[UUID, Authorisation]
) -> list[WithdrawalRow]:
    """As many of the rows, in order and at least one, as leave room for the coins."""
    taken: list[WithdrawalRow] = []
    writer, used = RequestWriter(), 0
    for row in rows:
        size = _order_bytes(lane, row, signed, writer) if row.id in signed else 0
        if taken and used + size > ORDERS_MAX_BYTES:
            break
        taken.append(row)
        used += size
    return taken


def _order_bytes(
    lane: Lane, row: WithdrawalRow, signed: Mapping[UUID, Authorisation], writer: RequestWriter
) -> int:
    """What one order adds to a frame, rounded up by the frame's own few hundred bytes."""
    alone = build(
        lane,
        attempt_id=row.id,
        unsigned=b"",
        input_paths=(),
        change_paths={},
        outputs=[(row, 0)],
        signed=signed,
    )
    return frame_bytes(alone, writer) or MAX_FRAME_BYTES


def _payment(row: WithdrawalRow, index: int, signed: Mapping[UUID, Authorisation]) -> Payment:
    return Payment(
        brand=row.brand,
        request_id=row.request_id,
        output_index=index,
        authorisation=signed[row.id],
    )
