"""Searches over the API: people see what no transaction explains, and say what they found."""

import pytest

from tests.support.api import STAFF_SCOPES, ApiHouse, problem

pytestmark = pytest.mark.postgres

OUTCOME = {"outcome": "the producer of the block pays us its fees"}


async def opened(house: ApiHouse, kind: str, *, height: int, moved: int = 5) -> str:
    """A search as a watcher opens it; its public id."""
    house.clock.advance(1.0)
    search_id = house.ids.new_id()
    await house.rows(
        "INSERT INTO chain.searches (id, network, kind, asset, subject, block_hash, height,"
        " claimed, moved, transfers, opened_at) VALUES (:id, 'eth', :kind, 'eth:ETH',"
        " 'custody:eth/hot:eth:ETH', '0xab', :height, 2, :moved,"
        ' \'[{"txid": "0xcd", "position": "log\\:1", "amount": "2"}]\', :at)',
        id=search_id,
        kind=kind,
        height=height,
        moved=moved,
        at=house.clock.now(),
    )
    return f"sea_test_{search_id.hex}"


async def test_d45_open_searches_are_listed_and_closed_with_what_was_found(
    house: ApiHouse,
) -> None:
    first = await opened(house, "unexplained", height=7, moved=2**200)
    second = await opened(house, "shortfall", height=8, moved=-3)
    listed = (await house.call("GET", "/v1/searches?state=open", key="ada-key")).json()["items"]
    assert [(row["id"], row["moved_minor"]) for row in listed] == [
        (second, "-3"),
        (first, str(2**200)),
    ]
    assert (listed[0]["claimed_minor"], listed[0]["txids"]) == ("2", ["0xcd"])
    path = f"/v1/searches/{first}/close"
    closed = await house.call("POST", path, body=OUTCOME, key="ada-key")
    assert (closed.status, closed.json()["closed_by"]) == (200, "ada")
    again = await house.call("POST", path, body=OUTCOME, key="grace-key")
    assert (again.status, again.json()["closed_by"]) == (200, "ada")
    other = await house.call("POST", path, body={"outcome": "no idea"}, key="grace-key")
    assert (other.status, problem(other)["code"]) == (409, "closed_already")
    left = (await house.call("GET", "/v1/searches?state=open", key="ada-key")).json()["items"]
    assert [row["id"] for row in left] == [second]
    elsewhere = await house.call("GET", "/v1/searches?network=btc", key="ada-key")
    assert elsewhere.json()["items"] == []


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "field"),
    [
        ("GET", "/v1/searches?state=lost", None, 422, "state"),
        ("POST", "/v1/searches/{id}/close", {"outcome": " "}, 422, "outcome"),
        ("POST", "/v1/searches/{id}/close", {}, 422, "outcome"),
        ("POST", "/v1/searches/sea_test_" + "0" * 32 + "/close", OUTCOME, 404, None),
    ],
)
async def test_a_search_is_asked_for_and_closed_in_words(
    house: ApiHouse,
    method: str,
    target: str,
    body: dict[str, str] | None,
    status: int,
    field: str | None,
) -> None:
    found = await opened(house, "short", height=7)
    reply = await house.call(method, target.replace("{id}", found), body=body, key="ada-key")
    assert reply.status == status
    if field is not None:
        assert [item["field"] for item in problem(reply)["errors"]] == [field]


async def test_a29_a_person_of_one_brand_and_one_who_only_reads_close_nothing(
    house: ApiHouse,
) -> None:
    found = await opened(house, "short", height=7)
    for name, brand, roles in (("bob", "acme", ("treasury",)), ("eve", None, ("support",))):
        await house.add_key(
            f"{name}-key",
            kind="staff",
            brand=brand,
            person=name,
            scopes=STAFF_SCOPES,
            roles=roles,
        )
        path = f"/v1/searches/{found}/close"
        refused = await house.call("POST", path, body=OUTCOME, key=f"{name}-key")
        assert refused.status == 403
    [row] = await house.rows("SELECT state, outcome FROM chain.searches")
    assert (row["state"], row["outcome"]) == ("open", None)
