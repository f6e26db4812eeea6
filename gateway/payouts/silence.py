"""A signer that answers others, and not for one attempt.

Owns the pace at which such an attempt is asked about again, in memory (losing it is harmless), and
the alarm. It never takes silence for an answer: what was asked for may be signed.
"""

from typing import Final
from uuid import UUID

from config.database import Uow
from config.logs import get_logger
from gateway.payouts import attempts
from gateway.payouts.context import Lane
from gateway.payouts.errors import SignerUnavailable

ASK_AGAIN_SECONDS: Final = 30.0  # an attempt that a living signer does not answer costs a time-out

UNANSWERED: Final = "sign_unanswered"
"""Alarm: a signer that answers others does not answer for this attempt."""

UNSTORED: Final = "sign_unstored"
"""Alarm: the signer has signed an attempt, and the books do not take the signature."""

log = get_logger(__name__)


class Silence:
    """The attempts of one step of a lane that wait for an answer."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._again_at_seconds: dict[UUID, float] = {}

    def is_waiting(self, attempt_id: UUID) -> bool:
        """Whether it was asked about without an answer, too short ago."""
        again_at = self._again_at_seconds.get(attempt_id)
        return again_at is not None and self._lane.clock.monotonic_seconds() < again_at

    async def only_this_one(self, attempt_id: UUID, error: SignerUnavailable) -> None:
        """Raises when the signer is down; else this attempt alone waits, and a person is called."""
        lane = self._lane
        await lane.signer.head()
        self._again_at_seconds[attempt_id] = lane.clock.monotonic_seconds() + ASK_AGAIN_SECONDS
        log.warning("payout.unanswered", attempt_id=str(attempt_id), detail=str(error))
        await lane.run(
            lambda uow: attempts.alarm(lane, uow, UNANSWERED, str(error), object_id=attempt_id)
        )

    async def ended(self, uow: Uow, *attempt_ids: UUID) -> None:
        """The signer's answer is in the books: whoever was called because it was not may go."""
        for attempt_id in attempt_ids:
            self._again_at_seconds.pop(attempt_id, None)
        await attempts.clear(self._lane, uow, UNANSWERED, UNSTORED, objects=attempt_ids)
