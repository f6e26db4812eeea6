"""The Standard Webhooks headers of one try (CONTRACT 6).

The public library signs; this module only chooses what goes in. During a rotation the header holds
a signature per secret, newest first, so that the receiver may change over at any moment. It must
not know where secrets are kept.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook


def signed_headers(
    *, webhook_id: str, body: str, at: datetime, secrets: Sequence[str]
) -> dict[str, str]:
    """`webhook-id`, `webhook-timestamp` and `webhook-signature` for exactly this body.

    `webhook_id` is the event's public id, the same at each try; `secrets` are `whsec_...` texts.
    Raises ValueError when there is no secret or `at` is not aware.
    """
    if not secrets:
        raise ValueError("webhook signature: at least one secret is needed")
    if at.tzinfo is None:
        raise ValueError("webhook signature: the time must be aware")
    # The library stamps the wall-clock digits as if they were UTC: it gets UTC and nothing else.
    moment = at.astimezone(UTC)
    signatures = [Webhook(secret).sign(webhook_id, moment, body) for secret in secrets]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
