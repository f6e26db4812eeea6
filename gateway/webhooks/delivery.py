"""One try of one delivery, and when the next one is (CONTRACT 6).

Owns the schedule and the headers of a try. It must not write rows: the relay does, with what is
returned here.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from config.clock import Clock
from config.ids import public_id
from config.settings import WebhookSettings
from gateway.webhooks.connector import Poster
from gateway.webhooks.deliveries_store import Claim
from gateway.webhooks.errors import DeliveryFailed, SecretUnreadable
from gateway.webhooks.secrets import SealingKey, unseal
from gateway.webhooks.signature import signed_headers

CLAIM_MARGIN_SECONDS = 5.0  # beyond the time-out of the try, for the result to be written


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a failed try is repeated: fixed steps, then a tail, up to a total age."""

    steps_seconds: tuple[int, ...]
    tail_seconds: int
    total_seconds: int
    pause_after_failures: int
    timeout_seconds: float

    @classmethod
    def from_settings(cls, settings: WebhookSettings) -> Self:
        """The schedule of the configuration; its defaults are those of CONTRACT 6."""
        return cls(
            steps_seconds=settings.retry_seconds,
            tail_seconds=settings.retry_tail_seconds,
            total_seconds=settings.retry_total_seconds,
            pause_after_failures=settings.pause_after_failures,
            timeout_seconds=settings.timeout_seconds,
        )

    @property
    def claim_seconds(self) -> float:
        """How long a claim holds: a try that takes longer died with its process."""
        return self.timeout_seconds + CLAIM_MARGIN_SECONDS

    def delay_seconds(self, failures: int) -> int:
        """Seconds to wait after the `failures`-th failure in a row (1 = the first)."""
        steps = self.steps_seconds
        return steps[failures - 1] if failures <= len(steps) else self.tail_seconds

    def next_attempt_at(
        self, *, failures: int, first_attempt_at: datetime, at: datetime
    ) -> datetime | None:
        """The next try after a failure at `at`, or None when it would come after the total."""
        next_at = at + timedelta(seconds=self.delay_seconds(failures))
        is_over = next_at > first_attempt_at + timedelta(seconds=self.total_seconds)
        return None if is_over else next_at

    def next_probe_at(self, *, failures: int, at: datetime) -> datetime:
        """The next probe of an endpoint that has failed `failures` times in a row."""
        since_pause = failures - self.pause_after_failures + 1
        return at + timedelta(seconds=self.delay_seconds(max(1, since_pause)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one try ended. `status` is None when no answer came; `reason` is empty on success."""

    claim: Claim
    status: int | None
    reason: str

    @property
    def is_delivered(self) -> bool:
        return not self.reason


async def try_once(
    claim: Claim, *, poster: Poster, key: SealingKey, clock: Clock, livemode: bool
) -> Outcome:
    """Send the stored body once, signed now. Never raises for what the other side does."""
    now = clock.now()
    try:
        headers = signed_headers(
            webhook_id=public_id("event", claim.event_id, livemode=livemode),
            body=claim.body,
            at=now,
            secrets=_secrets(claim, key, now),
        )
        status = await poster.post(claim.url, body=claim.body.encode("utf-8"), headers=headers)
    except DeliveryFailed as error:
        return Outcome(claim=claim, status=error.status, reason=str(error))
    except SecretUnreadable as error:
        return Outcome(claim=claim, status=None, reason=f"secret unreadable: {error}")
    return Outcome(claim=claim, status=status, reason="")


def _secrets(claim: Claim, key: SealingKey, now: datetime) -> list[str]:
    """The current secret, and until the overlap ends the one before it (A35)."""
    secrets = [unseal(key, claim.secret_sealed)]
    if (
        claim.previous_secret_sealed is not None
        and claim.previous_until is not None
        and now < claim.previous_until
    ):
        secrets.append(unseal(key, claim.previous_secret_sealed))
    return secrets
