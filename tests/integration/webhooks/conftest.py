"""Fixtures of the webhook tests."""

from collections.abc import AsyncIterator

import pytest

from config.clock import SystemClock
from config.database import Database, async_url
from gateway.webhooks.connector import WebhookClient
from gateway.webhooks.secrets import SealingKey
from tests.integration.webhooks.desk import SCHEDULE, Desk
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.receiver import Receiver, receiving


@pytest.fixture
async def desk(test_database: TestDatabase, database: Database) -> AsyncIterator[Desk]:
    """Two brands on a fresh database. Time starts at the real one: verifiers look at the clock."""
    clock = ManualClock(start=SystemClock().now())
    ids = SequentialIds(clock)
    role = Database(async_url(test_database.role_url("gateway_webhooks")))
    desk = Desk(owner=database, role=role, clock=clock, ids=ids, key=SealingKey(bytes(32), ids))
    await desk.add_brands("acme", "bravo")
    yield desk
    await role.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A PAM that answers 204."""
    async with receiving() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    """The real client, allowed to call loopback."""
    async with WebhookClient(
        allow_hosts=["127.0.0.1"], timeout_seconds=SCHEDULE.timeout_seconds
    ) as opened:
        yield opened
