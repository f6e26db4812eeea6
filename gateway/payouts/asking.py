"""Asking the signer for one own tx, whose question is the same after every crash."""

from gateway.payouts import refusals
from gateway.payouts.context import Lane
from gateway.payouts.same_tx import is_signature_of
from signer.protocol import Refusal, SignedTx, SignRequest


async def answer_of(
    lane: Lane, request: SignRequest, *, is_asked: bool, crash: str
) -> SignedTx | Refusal | None:
    """The signature, else the refusal, else None where nothing was signed. Not `is_asked`: only
    what it signed before counts. `crash`: the point between answer and books.

    Raises SignerUnavailable, LeaseLost.
    """
    answer: SignedTx | Refusal | None = None
    if is_asked:
        answer = await lane.signer.sign(request)
    lane.crash(crash)
    if isinstance(answer, Refusal):
        await refusals.raise_unless_about_the_tx(lane, answer)
    if not isinstance(answer, SignedTx):
        known = await lane.signer.lookup(request.attempt_id)
        if isinstance(known, SignedTx) and is_signature_of(
            request.unsigned, raw=known.raw, txid=known.txid
        ):
            answer = known
    return answer
