"""Merges and splits over the API: who asks, who sees, and what a request must say."""

from collections.abc import Mapping
from typing import Any, Literal

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Database, async_url
from gateway.client import Reply
from tests.support.api import ApiHouse, problem
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.postgres

PATH = "/v1/consolidations"
BTC = {"network": "btc", "fee_max": "0.0001"}
INSERT = (
    "INSERT INTO gateway.consolidations (id, network, asset, purpose, is_dry, state, requested_by,"
    " fee_max, coins, parts, amount, fee, rate_per_kvb, attempt_id, created_at, state_at) VALUES"
    " (gen_random_uuid(), 'ltc', 'ltc:LTC', 'consolidate', false, '{state}', {person}, 9, 2, 1, 9,"
    " 1, 1000, {attempt}, now(), now())"
)


@pytest.fixture(autouse=True)
async def people(house: ApiHouse) -> None:
    """A treasurer, an auditor, a machine of the operator, and a treasurer of one brand."""
    for name, brand, scopes, roles in (
        ("rosa", None, ("treasury:write",), ("treasury",)),
        ("olga", None, ("treasury:read",), ("auditor",)),
        ("bea", "acme", ("treasury:read", "treasury:write"), ("treasury",)),
    ):
        await house.add_key(
            f"{name}-key", kind="staff", brand=brand, person=name, scopes=scopes, roles=roles
        )
    await house.add_key("machine-key", kind="operator", brand=None, scopes=("treasury:write",))


async def ask(
    house: ApiHouse, body: Mapping[str, Any], *, key: str = "rosa-key", once: str | None = None
) -> Reply:
    return await house.call(
        "POST", PATH, body=body, key=key, idempotency_key=once or house.ids.new_id().hex
    )


async def test_t8_a_treasurer_asks_once_and_whoever_reads_sees_it(house: ApiHouse) -> None:
    reply = await ask(house, BTC, once="first")
    found = reply.json()
    assert (reply.status, found["state"], found["purpose"]) == (202, "asked", "consolidate")
    assert (found["dry_run"], found["fee_max"]) == (False, "0.0001")
    assert (found["requested_by"], found["brand"]) == ("rosa", "operator")
    again = await ask(house, BTC, once="first")
    assert (again.json()["id"], again.headers["Idempotent-Replayed"]) == (found["id"], "true")
    other = await ask(house, {"network": "btc"})
    assert (other.status, problem(other)["code"]) == (409, "already_asked")
    listed = await house.call("GET", f"{PATH}?network=btc&state=asked", key="olga-key")
    assert [item["id"] for item in listed.json()["items"]] == [found["id"]]
    one = await house.call("GET", f"{PATH}/{found['id']}", key="machine-key")
    assert one.json() == found
    rows = await house.rows(
        "SELECT action FROM gateway.audit WHERE action = 'consolidation.created'"
    )
    assert len(rows) == 1


async def test_t8_without_the_most_that_it_may_cost_it_is_a_dry_run(house: ApiHouse) -> None:
    found = (await ask(house, {"network": "btc", "purpose": "fan_out"})).json()
    assert (found["dry_run"], found["fee_max"], found["purpose"]) == (True, None, "fan_out")
    assert not await house.rows(
        "SELECT action FROM gateway.audit WHERE action = 'consolidation.created'"
    )


async def test_t8_an_account_chain_has_nothing_to_consolidate(house: ApiHouse) -> None:
    reply = await ask(house, {"network": "eth"})
    assert (reply.status, problem(reply)["code"]) == (409, "no_coins")
    assert "treasury sweep" in problem(reply)["detail"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"network": "xyz"}, "network"),
        ({"purpose": "withdrawal"}, "purpose"),
        ({"fee_max": "0"}, "fee_max"),
        ({"fee_max": "0.000000001"}, "fee_max"),
        ({"fee_max": 1}, "fee_max"),
        ({"address": "mine"}, "address"),
    ],
)
async def test_t8_a_request_that_cannot_be_is_refused_by_field(
    change: Mapping[str, Any], field: str, house: ApiHouse
) -> None:
    reply = await ask(house, {**BTC, **change})
    assert reply.status == 422
    assert problem(reply)["errors"][0]["field"] == field
    assert await house.rows("SELECT id FROM gateway.consolidations") == []


async def test_a05_no_key_no_request(house: ApiHouse) -> None:
    reply = await house.call("POST", PATH, body=BTC, key="rosa-key")
    assert reply.status == 400
    assert await house.rows("SELECT id FROM gateway.consolidations") == []


@pytest.mark.parametrize("key", ["olga-key", "machine-key", "bea-key", "acme-key"])
async def test_t8_whoever_may_not_asks_for_nothing(key: str, house: ApiHouse) -> None:
    assert (await ask(house, BTC, key=key)).status == 403
    assert await house.rows("SELECT id FROM gateway.consolidations") == []


@pytest.mark.parametrize("key", ["bea-key", "acme-key"])
async def test_a30_a_brand_sees_no_move_of_the_operator(key: str, house: ApiHouse) -> None:
    found = (await ask(house, BTC)).json()
    assert (await house.call("GET", PATH, key=key)).status == 403
    assert (await house.call("GET", f"{PATH}/{found['id']}", key=key)).status == 403


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("gateway_api", "UPDATE gateway.consolidations SET state = 'quoted'"),
        ("gateway_api", INSERT.format(state="planned", person="NULL", attempt="gen_random_uuid()")),
        ("gateway_payouts", INSERT.format(state="asked", person="'ada'", attempt="NULL")),
    ],
)
async def test_t8_the_api_plans_nothing_and_payouts_asks_for_nothing(
    role: Literal["gateway_api", "gateway_payouts"],
    statement: str,
    house: ApiHouse,
    test_database: TestDatabase,
) -> None:
    await ask(house, BTC)
    database = Database(async_url(test_database.role_url(role)))
    try:
        with pytest.raises(DBAPIError, match=r"permission denied|row-level security"):
            async with database.unit_of_work() as uow:
                await uow.execute(statement)
    finally:
        await database.close()
