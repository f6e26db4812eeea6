"""What a lane does first: see where the last process stopped, and say so.

Owns the start report: the signer's log head, and each attempt that was left between two steps. It
changes nothing. The ordinary steps continue every row from exactly where it stands: asked for a
signature, the same question again; signed, the same bytes again; uncertain, look first. Comparing
the whole signer log with the books, and the `recovery` lane, belong to a later issue.
"""

from config.logs import get_logger
from gateway.payouts import attempts, store
from gateway.payouts.context import Lane
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.withdrawals import State

OPEN_STATES = (State.PLANNED, State.SIGNED, State.BROADCASTING, State.UNCERTAIN)
REPORTED_MAX = 200  # attempts in the start report; the steps themselves go round all of them

log = get_logger(__name__)


async def report(lane: Lane) -> int:
    """Log the attempts that were interrupted, oldest first; returns how many were logged."""
    try:
        head = await lane.signer.head()
        log.info(
            "payout.signer_head",
            network=lane.network,
            sequence=head.sequence,
            entry_hash=head.entry_hash,
            fingerprint=head.fingerprint,
        )
    except SignerUnavailable as error:
        log.warning("payout.signer_unavailable", network=lane.network, detail=str(error))
    async with lane.database.unit_of_work() as uow:
        ids = await store.open_attempts(
            uow, network=lane.network, states=OPEN_STATES, limit=REPORTED_MAX
        )
        found = [await attempts.load(uow, attempt_id, lock=False) for attempt_id in ids]
    for attempt in found:
        rows = attempt.rows()
        log.info(
            "payout.continues",
            network=lane.network,
            attempt_id=str(attempt.id),
            txid=attempt.tx.txid,
            states=sorted({row.state for row in rows}),
            is_sign_requested=all(row.sign_requested_at is not None for row in rows),
        )
    return len(found)
