"""The sample PAM takes what we send, once, in the order of versions, and nothing that is forged."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gateway.sandbox.sample_pam import SamplePam
from gateway.webhooks.connector import WebhookClient
from tests.integration.webhooks.desk import Desk

# Public test vectors, secrets of nobody.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"

pytestmark = pytest.mark.postgres


@pytest.fixture
async def pam(tmp_path: Path) -> AsyncIterator[tuple[SamplePam, str]]:
    """A PAM that knows one secret, and the URL of its webhooks."""
    secrets = tmp_path / "secrets"
    secrets.write_text(SECRET + "\n")
    pam = SamplePam(secret_file=secrets)
    async with TestClient(TestServer(pam.app(), host="127.0.0.1")) as client:
        yield pam, str(client.make_url("/webhooks"))


async def deliver(desk: Desk, client: WebhookClient) -> None:
    await desk.number()
    while await desk.relay(client).run_once():
        pass


async def test_deposit_becomes_playable_value_when_it_is_final(
    desk: Desk, client: WebhookClient, pam: tuple[SamplePam, str]
) -> None:
    receiver, url = pam
    await desk.add_endpoint(url, secret=SECRET)
    object_id = desk.ids.new_id()
    await desk.event(object_id=object_id)
    await deliver(desk, client)
    key = "acme/player-ü-1/btc:BTC"
    assert receiver.balances()[key] == {"playable_minor": 0, "withdrawable_minor": 0}
    await desk.event(object_id=object_id, version=2)
    await deliver(desk, client)
    assert receiver.balances()[key] == {"playable_minor": 5000000, "withdrawable_minor": 5000000}
    assert (receiver.delivered, receiver.bad_signatures) == (2, 0)
    assert receiver.stats()["last_seq"] == {"acme": 2}


async def test_a35_event_under_another_secret_is_refused_and_counted(
    desk: Desk, client: WebhookClient, pam: tuple[SamplePam, str]
) -> None:
    receiver, url = pam
    await desk.add_endpoint(url, secret=OTHER_SECRET)
    await desk.event()
    await deliver(desk, client)
    assert (receiver.delivered, receiver.bad_signatures) == (0, 1)
    assert [state for state, _ in await desk.deliveries()] == ["pending"]


async def test_event_that_comes_twice_counts_once(
    desk: Desk, client: WebhookClient, pam: tuple[SamplePam, str]
) -> None:
    receiver, url = pam
    for _ in range(2):  # two endpoints of one PAM: the same webhook-id twice
        await desk.add_endpoint(url, secret=SECRET)
    await desk.event()
    await deliver(desk, client)
    assert (receiver.delivered, receiver.repeated) == (1, 1)


def test_older_version_that_comes_late_changes_nothing(tmp_path: Path) -> None:
    receiver = SamplePam(secret_file=tmp_path / "none")
    thing = {"id": f"dep_test_{UUID(int=1).hex}", "player_id": "p", "asset": "btc:BTC"}
    for version, state in ((2, "final"), (1, "provisional")):
        event = {
            "type": f"deposit.{state}",
            "seq": version,
            "brand": "acme",
            "object_version": version,
            "object": {**thing, "state": state, "amount_minor": "7"},
        }
        receiver.take(f"evt_test_{version}", event)
    assert receiver.stale == 1
    assert receiver.balances()["acme/p/btc:BTC"]["withdrawable_minor"] == 7
