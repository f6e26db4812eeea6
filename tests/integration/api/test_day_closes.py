"""The daily close over the API, and the scheduler that makes it by itself."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from config.database import Database, async_url
from gateway import day_closes
from gateway.client import Reply
from gateway.scheduler import Scheduler
from ledger.accounts import clearing, custody
from tests.support.api import ApiHouse, problem
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.postgres

BTC = "btc:BTC"
COIN = 10**8
DAY_SECONDS = 24 * 3600
SETTLED = day_closes.SETTLED_SECONDS


def today(house: ApiHouse) -> str:
    return house.clock.now().date().isoformat()


async def close(house: ApiHouse, day: str, *, key: str = "ada-key") -> Reply:
    return await house.call("POST", f"/v1/ledger/days/{day}/close", key=key)


async def closed(house: ApiHouse, day: str) -> dict[str, Any]:
    reply = await close(house, day)
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json()
    return found


def of_account(report: dict[str, Any], account: str) -> dict[str, str]:
    [found] = [row for row in report["accounts"] if row["account"] == account]
    return dict(found)


async def test_a_day_opens_with_what_the_day_before_closed_with(house: ApiHouse) -> None:
    first = today(house)
    await house.fund("acme", BTC, COIN)
    house.tick(DAY_SECONDS)
    second = today(house)
    await house.fund("acme", BTC, 5)
    house.tick(DAY_SECONDS + SETTLED)
    one, two = await closed(house, first), await closed(house, second)
    held = clearing("acme", BTC).code
    assert of_account(one["report"], held)["closing_minor"] == str(COIN)
    row = of_account(two["report"], held)
    assert (row["opening_minor"], row["credits_minor"], row["closing_minor"]) == (
        str(COIN),
        "5",
        str(COIN + 5),
    )
    assert two["previous_sha256"] == one["sha256"]
    assert [item["balanced"] for item in two["report"]["totals"]] == [True]
    moved = {(item["account"], item["entries"]) for item in two["report"]["movements"]}
    assert moved == {(held, 1), (custody("btc", "hot", BTC).code, 1)}
    canonical = json.dumps(two["report"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == two["sha256"]
    listed = (await house.call("GET", "/v1/ledger/days", key="ada-key")).json()["items"]
    assert [item["day"] for item in listed] == [second, first]


async def test_closing_again_answers_what_stands(house: ApiHouse) -> None:
    day = today(house)
    await house.fund("acme", BTC, COIN)
    house.tick(DAY_SECONDS + SETTLED)
    first = await closed(house, day)
    house.tick(60)
    assert await closed(house, day) == first
    events = await house.rows("SELECT snapshot FROM ledger.events WHERE type = 'ledger.day_closed'")
    assert [row["snapshot"]["sha256"] for row in events] == [first["sha256"]]


async def test_a_day_that_is_not_over_and_one_before_a_closed_day_are_refused(
    house: ApiHouse,
) -> None:
    day = today(house)
    assert problem(await close(house, day))["code"] == "not_over"
    house.tick(2 * DAY_SECONDS + SETTLED)
    later = (house.clock.now() - timedelta(days=1)).date().isoformat()
    await closed(house, later)
    assert problem(await close(house, day))["code"] == "later_day_closed"
    assert problem(await close(house, "2026-13-01"))["status"] == 422
    assert (await close(house, later, key="acme-key")).status == 403
    assert (await house.call("GET", f"/v1/ledger/days/{later}")).status == 403


async def test_a_journal_that_was_changed_behind_a_close_is_found(house: ApiHouse) -> None:
    day = today(house)
    await house.fund("acme", BTC, COIN)
    house.tick(DAY_SECONDS + SETTLED)
    await closed(house, day)
    path = f"/v1/ledger/days/{day}/check"
    assert (await house.call("GET", path, key="ada-key")).json()["holds"] is True
    async with house.owner.unit_of_work() as uow:
        await uow.execute("SET LOCAL session_replication_role = replica")
        await uow.execute("UPDATE ledger.entries SET amount = amount + 1")
    assert (await house.call("GET", path, key="ada-key")).json()["holds"] is False


async def test_the_scheduler_closes_one_day_per_pass_under_its_own_role(
    house: ApiHouse, test_database: TestDatabase
) -> None:
    await house.fund("acme", BTC, COIN)
    house.tick(DAY_SECONDS)
    role = Database(async_url(test_database.role_url("scheduler")), pool_size=2)
    scheduler = Scheduler(database=role, clock=house.clock, ids=house.ids, networks=["btc", "eth"])
    assert await scheduler.tick("cage_close")
    assert await scheduler.work("cage_close") == 1
    assert await scheduler.work("cage_close") == 0
    house.tick(3 * DAY_SECONDS)
    assert await scheduler.tick("cage_close")
    assert [await scheduler.work("cage_close") for _ in range(4)] == [1, 1, 1, 0]
    async with house.owner.unit_of_work() as uow:
        found = await day_closes.find(uow, before=None, limit=9)
        assert [await day_closes.check(uow, item) for item in found] == [True] * 4
    assert {item.closed_by for item in found} == {"scheduler"}
    states = [row["state"] for row in json.loads(found[0].report)["reconciliations"]]
    assert states == ["never", "never"]
    await role.close()
