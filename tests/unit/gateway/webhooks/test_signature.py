"""The public Standard Webhooks library accepts what we sign, and rejects forgeries (A35)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from config.clock import SystemClock
from gateway.webhooks.signature import signed_headers

# Public test vectors, secrets of nobody.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLDER_SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
BODY = '{"id":"evt_test_1","type":"deposit.final","player":"Zoë"}'
CLOCK = SystemClock()  # the verifier's library looks at the real clock


def headers(**changes: object) -> dict[str, str]:
    arguments: dict[str, object] = {
        "webhook_id": "evt_test_1",
        "body": BODY,
        "at": CLOCK.now(),
        "secrets": [SECRET],
    }
    return signed_headers(**(arguments | changes))  # type: ignore[arg-type]


def test_reference_library_accepts_the_signature() -> None:
    assert Webhook(SECRET).verify(BODY, headers())["type"] == "deposit.final"


def test_a35_vector_of_the_specification() -> None:
    """The example of the Standard Webhooks specification, computed with other tools."""
    found = signed_headers(
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        body='{"test": 2432232314}',
        at=datetime.fromtimestamp(1614265330, UTC),
        secrets=[SECRET],
    )
    assert found["webhook-timestamp"] == "1614265330"
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_time_of_another_zone_is_stamped_as_the_same_moment() -> None:
    moment = CLOCK.now()
    shifted = moment.astimezone(timezone(timedelta(hours=9)))
    assert headers(at=shifted) == headers(at=moment)


def test_a35_wrong_secret_is_rejected() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(OLDER_SECRET).verify(BODY, headers())


def test_a35_altered_body_is_rejected() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY.replace("final", "finaL"), headers())


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a35_old_or_future_timestamp_is_rejected(minutes: int) -> None:
    stamped = headers(at=CLOCK.now() + timedelta(minutes=minutes))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, stamped)


def test_a35_other_timestamp_than_the_signed_one_is_rejected() -> None:
    changed = headers()
    changed["webhook-timestamp"] = str(int(changed["webhook-timestamp"]) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, changed)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a35_missing_header_is_rejected(name: str) -> None:
    without = {key: value for key, value in headers().items() if key != name}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, without)


@pytest.mark.parametrize("secret", [SECRET, OLDER_SECRET])
def test_a35_during_a_rotation_both_secrets_verify(secret: str) -> None:
    both = headers(secrets=[SECRET, OLDER_SECRET])
    assert both["webhook-signature"].count("v1,") == 2
    Webhook(secret).verify(BODY, both)


def test_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        headers(at=CLOCK.now().replace(tzinfo=None))


def test_no_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="secret"):
        headers(secrets=[])
