"""Limits of withdrawals over the API: judged at acceptance, never passed together (W9)."""

import asyncio
from typing import Any

import pytest

from gateway.client import Reply
from gateway.payouts import limits
from tests.support.api import ApiHouse, problem
from tests.support.auditor import audit
from tests.support.staff import (
    COIN,
    PEOPLE,
    SCOPES,
    approve,
    decline,
    hire,
    set_limits,
    set_rate,
    standing,
    states,
)

pytestmark = pytest.mark.postgres

HOUR = 3_600


@pytest.fixture(autouse=True)
async def desk(house: ApiHouse) -> None:
    """Three people, a bitcoin at 50,000 and money to pay."""
    await hire(house, *PEOPLE)
    await set_rate(house, "50000")
    for brand in ("acme", "bravo"):
        await house.fund(brand, "btc:BTC", 100 * COIN)
        await house.fund(brand, "eth:ETH", 10**20)


@pytest.fixture(autouse=True)
async def sums(house: ApiHouse, desk: None) -> Any:
    """After each test the sums agree with the rows, and the auditor with the books."""
    yield
    async with house.owner.unit_of_work() as uow:
        assert await limits.check(uow) == []
    assert await audit(house.owner.engine, at_rest=False) == []


async def order(house: ApiHouse, amount: str, **fields: Any) -> dict[str, Any]:
    """Order and answer the object."""
    reply = await house.withdraw(amount=amount, **fields)
    assert reply.status == 202, reply.body
    found: dict[str, Any] = reply.json()
    return found


def seen(found: dict[str, Any]) -> tuple[str, str | None]:
    """State and code."""
    return found["state"], found["code"]


async def judged_by(house: ApiHouse, found: dict[str, Any]) -> int:
    """The version of the limits that judged it, as staff see it."""
    path = f"/v1/withdrawals/{found['id']}/decisions"
    reply = await house.call("GET", path, key="rosa-key")
    version: int = reply.json()["limits_version"]
    return version


async def test_without_limits_nothing_is_asked_and_it_counts_all_the_same(house: ApiHouse) -> None:
    first = await order(house, "1")
    assert seen(first) == ("queued", None)
    assert await judged_by(house, first) == 0
    await set_limits(house, {"scope": "brand", "window": "24h", "max": "60000"})
    assert seen(await order(house, "0.2")) == ("queued", None)
    assert seen(await order(house, "0.00010001")) == ("rejected", "limit_brand_24h")


async def test_each_scope_bounds_what_it_says(house: ApiHouse) -> None:
    await set_limits(
        house,
        {"scope": "transaction", "max": "40000"},
        {"scope": "player", "window": "24h", "max": "50000"},
        {"scope": "asset", "asset": "btc:BTC", "window": "24h", "max": "80000"},
        {"scope": "brand", "window": "24h", "max": "90000"},
    )
    await set_rate(house, "1000", asset="eth:ETH")
    eth = {"asset": "eth:ETH", "address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}
    assert seen(await order(house, "0.81")) == ("rejected", "limit_transaction")
    assert seen(await order(house, "0.8")) == ("queued", None)
    assert seen(await order(house, "0.21")) == ("rejected", "limit_player_24h")
    assert seen(await order(house, "0.7", player_id="p2")) == ("queued", None)
    assert seen(await order(house, "0.2", player_id="p3")) == ("rejected", "limit_asset_24h")
    assert seen(await order(house, "16", player_id="p3", **eth)) == ("rejected", "limit_brand_24h")
    assert seen(await order(house, "15", player_id="p3", **eth)) == ("queued", None)
    assert seen(await order(house, "0.5", key="bravo-key")) == ("queued", None)


async def test_a_window_moves_to_the_second(house: ApiHouse) -> None:
    await set_limits(house, {"scope": "player", "window": "24h", "max": "50000"})
    house.tick(1_000)
    await order(house, "1")
    house.tick(24 * HOUR - 1)
    await set_rate(house, "50000")
    assert seen(await order(house, "0.1")) == ("rejected", "limit_player_24h")
    house.tick(1)
    assert seen(await order(house, "0.1")) == ("queued", None)


async def test_thirty_days_count_what_a_day_forgets(house: ApiHouse) -> None:
    await set_limits(
        house,
        {"scope": "player", "window": "24h", "max": "50000"},
        {"scope": "player", "window": "30d", "max": "75000"},
    )
    await order(house, "1")
    house.tick(10 * 24 * HOUR)
    await set_rate(house, "50000")
    assert seen(await order(house, "0.6")) == ("rejected", "limit_player_30d")
    assert seen(await order(house, "0.5")) == ("queued", None)
    house.tick(20 * 24 * HOUR)
    await set_rate(house, "50000")
    assert seen(await order(house, "1")) == ("queued", None)


async def test_a_hundred_at_once_never_pass_a_limit_together(house: ApiHouse) -> None:
    """Room for seven; a hundred ask at the same moment, of ten players."""
    await set_limits(house, {"scope": "brand", "window": "24h", "max": "35000"})
    replies = await asyncio.gather(
        *(house.withdraw(amount="0.1", player_id=f"p{n % 10}") for n in range(100))
    )
    found = await states(house, replies)
    assert found == [*["queued None"] * 7, *["rejected limit_brand_24h"] * 93]


async def test_who_ends_unpaid_gives_the_room_back(house: ApiHouse) -> None:
    await set_limits(house, {"scope": "brand", "window": "24h", "max": "50000"})
    first = await order(house, "1")
    assert seen(await order(house, "1")) == ("rejected", "limit_brand_24h")
    await house.call("POST", f"/v1/withdrawals/{first['id']}/cancel")
    second = await order(house, "1")
    assert seen(second) == ("queued", None)
    assert (await decline(house, second, key="rosa-key")).status == 200
    assert seen(await order(house, "1")) == ("queued", None)


async def test_over_the_approval_limit_people_are_asked_and_it_counts(house: ApiHouse) -> None:
    version = await set_limits(
        house, {"scope": "transaction", "approval_above": "5000", "max": "60000"},
        {"scope": "brand", "window": "24h", "max": "60000"},
    )  # fmt: skip
    found = await order(house, "1")
    assert seen(found) == ("pending_approval", "limit_transaction")
    assert await judged_by(house, found) == version
    assert seen(await order(house, "0.3")) == ("rejected", "limit_brand_24h")
    assert seen(await order(house, "0.1")) == ("queued", None)


async def test_what_was_judged_keeps_its_version(house: ApiHouse) -> None:
    first = await set_limits(house, {"scope": "transaction", "approval_above": "5000"})
    found = await order(house, "1")
    await set_limits(house)
    assert seen(await standing(house, found)) == ("pending_approval", "limit_transaction")
    assert await judged_by(house, found) == first
    assert seen(await order(house, "1")) == ("queued", None)


async def test_a_missing_or_old_rate_asks_people_and_never_guesses(house: ApiHouse) -> None:
    await set_limits(house, {"scope": "transaction", "max": "60000"})
    eth = {"asset": "eth:ETH", "address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}
    assert seen(await order(house, "0.1", **eth)) == ("pending_approval", "rate_unknown")
    house.tick(HOUR)
    assert seen(await order(house, "0.1")) == ("queued", None)
    house.tick(1)
    assert seen(await order(house, "0.1")) == ("pending_approval", "rate_unknown")
    assert seen(await order(house, "0.00000001")) == ("rejected", "below_minimum")


async def test_what_had_no_value_fills_the_limit_until_a_rate_is_known(house: ApiHouse) -> None:
    await set_limits(house, {"scope": "brand", "window": "24h", "approval_above": "6000"})
    eth = {"asset": "eth:ETH", "address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}
    unknown = await order(house, "5", **eth)
    assert seen(unknown) == ("pending_approval", "rate_unknown")
    assert seen(await order(house, "0.01")) == ("pending_approval", "rate_unknown")
    await set_rate(house, "1000", asset="eth:ETH")
    assert seen(await order(house, "0.01")) == ("queued", None)  # 5,000 and twice 500
    assert seen(await order(house, "0.01")) == ("pending_approval", "limit_brand_24h")
    assert (await approve(house, unknown, key="rosa-key")).json()["withdrawal"]["state"] == "queued"


async def test_an_order_that_waits_for_clearing_is_asked_about_when_it_is_reserved(
    house: ApiHouse,
) -> None:
    await set_limits(house, {"scope": "transaction", "approval_above": "5000"})
    found = await order(house, "101")
    assert seen(found) == ("waiting_liquidity", "clearing")


async def put(house: ApiHouse, key: str, **fields: Any) -> Reply:
    """PUT the limits; fields replace those of a good body."""
    rule = {"scope": "transaction", "max": "1"}
    body = {"base_version": 0, "limits": [rule], "reason": "season", **fields}
    return await house.call("PUT", "/v1/policies/limits", body=body, key=key)


async def test_s18_new_limits_take_a_second_person(house: ApiHouse) -> None:
    first, again = await put(house, "rosa-key"), await put(house, "rosa-key")
    assert (first.status, again.status) == (202, 202)
    other = await put(house, "remy-key", limits=[])
    assert (other.status, problem(other)["code"]) == (409, "other_content")
    assert seen(await order(house, "1")) == ("queued", None)
    second, repeated = await put(house, "remy-key"), await put(house, "remy-key")
    assert (second.status, repeated.status) == (200, 200)
    assert seen(await order(house, "1")) == ("rejected", "limit_transaction")
    late = await put(house, "rosa-key", limits=[])
    assert (late.status, problem(late)["code"]) == (409, "version_moved")
    [event] = await house.rows("SELECT brand FROM ledger.events WHERE type = 'policy.changed'")
    assert event["brand"] is None


async def test_s18_one_person_with_two_keys_puts_no_limits_in_force(house: ApiHouse) -> None:
    await house.add_key(
        "rosa-other", kind="staff", brand=None, person="rosa", scopes=SCOPES, roles=("risk",)
    )
    approval = (await put(house, "rosa-key")).json()["approval"]["id"]
    assert problem(await put(house, "rosa-other"))["code"] == "same_person"
    decided = await house.call(
        "POST",
        f"/v1/approvals/{approval}",
        body={"decision": "approve"},
        key="remy-key",
        idempotency_key="a1",
    )
    assert decided.json()["state"] == "done"
    found = await house.call("GET", "/v1/policies/limits", key="acme-key")
    assert (found.json()["version"], found.json()["proposed_by"]) == (1, None)


@pytest.mark.parametrize(
    "limit",
    [
        {"scope": "transaction"},
        {"scope": "brand", "max": "1"},
        {"scope": "transaction", "max": "1", "brand": "nobody"},
        {"scope": "transaction", "max": "-1"},
        {"scope": "transaction", "max": 1},
        {"scope": "asset", "asset": "btc:DOGE", "window": "24h", "max": "1"},
    ],
)
async def test_limits_that_make_no_sense_are_refused(house: ApiHouse, limit: Any) -> None:
    assert (await put(house, "rosa-key", limits=[limit])).status == 422


async def test_a_brand_sees_only_rules_that_may_concern_it(house: ApiHouse) -> None:
    await set_limits(
        house,
        {"scope": "transaction", "max": "1"},
        {"brand": "bravo", "scope": "transaction", "max": "2"},
    )
    found = (await house.call("GET", "/v1/policies/limits", key="acme-key")).json()
    assert [(row["brand"], row["max"]) for row in found["limits"]] == [(None, "1")]
