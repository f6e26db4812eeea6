"""The source of rates: what it may say, what is refused, and whom it may not speak for."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from config.credit_policy import ReferenceSpec
from config.database import Database, async_url
from config.policy import RateSource
from gateway.webhooks.errors import SourceFailed
from gateway.webhooks.rate_source import RateLoop, SourceClient, parse
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from watchers import rates

pytestmark = pytest.mark.postgres

AT = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = RateSource(
    url="https://rates.example/v1",
    as_of="meta.at",
    assets={"btc:BTC": "data.BTC", "eth:ETH": "data.ETH"},
)
REFERENCE = ReferenceSpec()


class Board:
    """A source whose answer the test writes."""

    def __init__(self) -> None:
        self.body = b""

    def say(self, btc: Any, eth: Any, *, at: Any) -> None:
        """The next answers."""
        self.body = json.dumps({"meta": {"at": at}, "data": {"BTC": btc, "ETH": eth}}).encode()

    async def get(self, url: str) -> bytes:
        """What was said, or nothing."""
        if not self.body or url != SOURCE.url:
            raise SourceFailed("nothing was said")
        return self.body


@pytest.fixture
async def as_webhooks(test_database: TestDatabase) -> AsyncIterator[Database]:
    """The role that reads sources."""
    opened = Database(async_url(test_database.role_url("gateway_webhooks")), pool_size=2)
    yield opened
    await opened.close()


def loop(board: Board, database: Database, clock: ManualClock, ids: SequentialIds) -> RateLoop:
    """The loop over a board."""
    return RateLoop(
        source=SOURCE,
        reference=REFERENCE,
        fetcher=board,
        database=database,
        clock=clock,
        ids=ids,
    )


async def standing(database: Database) -> dict[str, str]:
    """The rates in force."""
    async with database.unit_of_work() as uow:
        found = await rates.newest(uow, assets=list(SOURCE.assets), reference=REFERENCE)
    return {asset: rates.format_rate(rate.rate) for asset, rate in found.items()}


async def test_a_source_is_read_and_the_same_moment_counts_once(
    as_webhooks: Database, clock: ManualClock, ids: SequentialIds
) -> None:
    board = Board()
    reader = loop(board, as_webhooks, clock, ids)
    assert await reader.poll() == 0  # no answer
    board.say("64250.5", 3000.25, at="2025-12-31T23:59:00Z")
    assert [await reader.poll() for _ in range(2)] == [2, 0]
    assert await standing(as_webhooks) == {"btc:BTC": "64250.5", "eth:ETH": "3000.25"}


async def test_a_jump_is_refused_alarms_once_and_holds_up_no_other_asset(
    as_webhooks: Database, database: Database, clock: ManualClock, ids: SequentialIds
) -> None:
    board = Board()
    reader = loop(board, as_webhooks, clock, ids)
    board.say("100", "10", at="2025-12-31T23:59:00Z")
    await reader.poll()
    clock.advance(300)
    board.say("1", "11", at="2026-01-01T00:05:00Z")
    assert [await reader.poll() for _ in range(2)] == [1, 0]
    assert await standing(as_webhooks) == {"btc:BTC": "100", "eth:ETH": "11"}
    async with database.unit_of_work() as uow:
        result = await uow.execute("SELECT kind FROM gateway.alarms")
        assert list(result.scalars()) == ["rate_refused"]


async def test_a_source_that_stands_still_grows_old(
    as_webhooks: Database, clock: ManualClock, ids: SequentialIds
) -> None:
    board = Board()
    reader = loop(board, as_webhooks, clock, ids)
    board.say("100", "10", at="2026-01-01T00:00:00Z")
    await reader.poll()
    clock.advance(3_601)
    assert await reader.poll() == 0
    async with as_webhooks.unit_of_work() as uow:
        found = await rates.newest(uow, assets=["btc:BTC"], reference=REFERENCE)
    assert not found["btc:BTC"].is_fresh(at=clock.now(), reference=REFERENCE)


async def test_what_is_too_old_or_far_ahead_is_no_rate(
    as_webhooks: Database, clock: ManualClock, ids: SequentialIds
) -> None:
    board = Board()
    reader = loop(board, as_webhooks, clock, ids)
    for moment in ("2025-12-31T22:59:59Z", "2026-01-01T00:01:01Z"):
        board.say("100", "10", at=moment)
        assert await reader.poll() == 0
    board.say("100", "10", at="2026-01-01T00:01:00Z")  # a clock that is ahead a little
    assert await reader.poll() == 2


async def test_the_reader_of_a_source_cannot_speak_for_a_person(
    as_webhooks: Database, clock: ManualClock, ids: SequentialIds
) -> None:
    with pytest.raises(DBAPIError, match="row-level security"):
        async with as_webhooks.unit_of_work() as uow:
            await rates.record(
                uow,
                rate_id=ids.new_id(),
                asset="btc:BTC",
                rate=Decimal(1),
                source=rates.STAFF,
                as_of=clock.now(),
                entered_by="ada",
                approved_by="grace",
                reference=REFERENCE,
                at=clock.now(),
            )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"meta": {"at": "soon"}, "data": {"BTC": 1, "ETH": 1}}',
        b'{"meta": {"at": "2026-01-01T00:00:00"}, "data": {"BTC": 1, "ETH": 1}}',
        b'{"meta": {"at": 1767225600}, "data": {"BTC": 1}}',
        b'{"meta": {"at": 1767225600}, "data": {"BTC": 0, "ETH": 1}}',
        b'{"meta": {"at": 1767225600}, "data": {"BTC": -1, "ETH": 1}}',
        b'{"meta": {"at": 1767225600}, "data": {"BTC": NaN, "ETH": 1}}',
        b'{"meta": {"at": 1767225600}, "data": {"BTC": null, "ETH": 1}}',
        b'{"meta": {"at": 1767225600}, "data": {"BTC": true, "ETH": 1}}',
        b'{"meta": {"at": 1e99}, "data": {"BTC": 1, "ETH": 1}}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_not_understood_as_a_whole_is_none(body: bytes) -> None:
    with pytest.raises(SourceFailed):
        parse(body, SOURCE, at=AT)


def test_numbers_keep_every_digit() -> None:
    body = b'{"meta": {"at": 1767225600}, "data": {"BTC": 0.123456789012345678, "ETH": 1E+3}}'
    found = parse(body, SOURCE, at=AT)
    assert [quote.rate for quote in found] == [Decimal("0.123456789012345678"), Decimal(1000)]
    assert {quote.as_of for quote in found} == {AT}


async def test_a34_a_source_on_a_private_address_is_not_called() -> None:
    async with SourceClient(timeout_seconds=5) as client:
        for url in ("https://127.0.0.1/", "https://localhost/", "https://169.254.169.254/"):
            with pytest.raises(SourceFailed):
                await client.get(url)
