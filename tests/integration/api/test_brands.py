"""No call of one brand sees another's rows (A29, A30)."""

from gateway.client import Reply
from tests.support.api import ApiHouse, problem


def bare(reply: Reply) -> dict[str, object]:
    """A problem without what differs in every answer."""
    found = problem(reply)
    found.pop("correlation_id")
    return found


async def objects_of_acme(house: ApiHouse) -> dict[str, str]:
    """One of each, by the path that shows it."""
    withdrawal = (await house.withdraw()).json()
    address = await house.call("POST", "/v1/players/p1/addresses", body={"network": "btc"})
    await house.deposit(
        brand="acme", player_id="p1", asset="btc:BTC", amount_minor=5, state="pending"
    )
    deposits = (await house.call("GET", "/v1/deposits")).json()
    endpoint = await house.call(
        "POST", "/v1/webhook_endpoints", body={"url": "https://acme.example/hook"}
    )
    return {
        "withdrawals": withdrawal["id"],
        "addresses": address.json()["id"],
        "deposits": deposits["items"][0]["id"],
        "webhook_endpoints": endpoint.json()["id"],
    }


async def test_a29_another_brands_objects_do_not_exist(house: ApiHouse) -> None:
    found = await objects_of_acme(house)
    unknown = {name: text[:-4] + "0000" for name, text in found.items()}
    for name, text in found.items():
        for suffix in ("", "/timeline") if name in ("withdrawals", "deposits") else ("",):
            mine = await house.call("GET", f"/v1/{name}/{text}{suffix}")
            theirs = await house.call("GET", f"/v1/{name}/{text}{suffix}", key="bravo-key")
            nobodys = await house.call("GET", f"/v1/{name}/{unknown[name]}", key="bravo-key")
            assert (mine.status, theirs.status) == (200, 404), name
            assert bare(theirs) == bare(nobodys), name


async def test_a29_another_brand_changes_nothing(house: ApiHouse) -> None:
    found = await objects_of_acme(house)
    calls = (
        ("POST", f"/v1/withdrawals/{found['withdrawals']}/cancel", None),
        ("POST", f"/v1/addresses/{found['addresses']}/rotate", None),
        ("PATCH", f"/v1/webhook_endpoints/{found['webhook_endpoints']}", {"state": "paused"}),
        ("DELETE", f"/v1/webhook_endpoints/{found['webhook_endpoints']}", None),
    )
    for method, target, body in calls:
        reply = await house.call(method, target, body=body, key="bravo-key")
        assert reply.status == 404, target
    still = await house.call("GET", f"/v1/withdrawals/{found['withdrawals']}")
    assert still.json()["state"] == "waiting_liquidity"


async def test_a29_lists_and_look_ups_hold_only_ones_own(house: ApiHouse) -> None:
    made = (await house.withdraw(request_id="mine")).json()
    await objects_of_acme(house)
    for name in ("withdrawals", "deposits", "webhook_endpoints", "events"):
        reply = await house.call("GET", f"/v1/{name}", key="bravo-key")
        assert reply.json()["items"] == [], name
    found = await house.call("GET", "/v1/withdrawals?request_id=mine", key="bravo-key")
    assert found.status == 404
    address = await house.call("POST", "/v1/players/p1/addresses", body={"network": "btc"})
    text = address.json()["address"]
    assert (await house.call("GET", f"/v1/addresses/{text}")).status == 200
    assert (await house.call("GET", f"/v1/addresses/{text}", key="bravo-key")).status == 404
    funds = await house.call("GET", "/v1/players/p1/funds", key="bravo-key")
    assert {item["pending"] for item in funds.json()["assets"]} == {"0"}
    assert made["brand"] == "acme"


async def test_a29_naming_another_brand_does_not_help(house: ApiHouse) -> None:
    for text in ("bravo", "*", "operator"):
        reply = await house.call("GET", f"/v1/withdrawals?brand={text}")
        assert reply.status == 404, text
    assert (await house.withdraw(brand="bravo")).status == 422


async def test_an_operator_key_sees_all_brands_or_the_one_it_names(house: ApiHouse) -> None:
    await house.withdraw()
    await house.withdraw(key="bravo-key")
    every = await house.call("GET", "/v1/withdrawals", key="operator-key")
    one = await house.call("GET", "/v1/withdrawals?brand=bravo", key="operator-key")
    assert {item["brand"] for item in every.json()["items"]} == {"acme", "bravo"}
    assert {item["brand"] for item in one.json()["items"]} == {"bravo"}
    missing = await house.call(
        "POST", "/v1/players/p1/addresses", body={"network": "btc"}, key="operator-key"
    )
    assert (missing.status, problem(missing)["code"]) == (422, "brand_required")


async def test_the_database_itself_hides_other_brands(house: ApiHouse) -> None:
    """Row-level security: the API's role sees one brand even where a filter were forgotten."""
    await house.withdraw()
    database = house.server._services.database
    async with database.unit_of_work(brand="bravo") as uow:
        result = await uow.execute("SELECT count(*) FROM gateway.withdrawals")
        assert result.scalar_one() == 0
