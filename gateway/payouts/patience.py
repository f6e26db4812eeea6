"""How the loops that nobody waits for take a signer's no: it is out, or it is asked again later.

Pure. What a no means for a void or an address is the business of the loop that asked.
"""

from datetime import datetime, timedelta
from typing import Final, TypeVar

from gateway.payouts.errors import SignerUnavailable
from signer.protocol import Refusal

T = TypeVar("T")

RETRY_SECONDS = 10  # after a refusal; twice as long after each further one
RETRY_SECONDS_MAX = 3_600
DOUBLINGS_MAX = 16  # far past the longest wait, so that no number grows without bound

SIGNER_IS_OUT: Final = frozenset(
    {"store_unwritable", "unknown_peer", "halted", "rate_limited", "token_unavailable"}
)
"""Refusals that say nothing about what was asked: the signer cannot work now (S21)."""


def heard(answer: T | Refusal) -> T | Refusal:
    """The answer, where it is one. Raises SignerUnavailable for a signer that is out."""
    if isinstance(answer, Refusal) and answer.code in SIGNER_IS_OUT:
        raise SignerUnavailable(f"{answer.code}: {answer.reason}")
    return answer


def retry_at(now: datetime, refusals: int) -> datetime:
    """When to ask again what was refused so many times before."""
    seconds = min(RETRY_SECONDS << min(refusals, DOUBLINGS_MAX), RETRY_SECONDS_MAX)
    return now + timedelta(seconds=seconds)
