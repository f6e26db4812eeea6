"""Rescans over the API: one person asks for a range that makes sense, and all see how far it is."""

import asyncio
from typing import Any

import pytest

from gateway.client import Reply
from tests.support.api import ApiHouse, problem
from watchers.rescans import RANGE_BLOCKS_MAX, RUNNING_MAX

pytestmark = pytest.mark.postgres

PATH = "/v1/networks/btc/rescans"
HEIGHT = 2 * RANGE_BLOCKS_MAX


@pytest.fixture
async def followed(house: ApiHouse) -> ApiHouse:
    """A watcher stands at HEIGHT."""
    async with house.owner.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO chain.cursors (network, height, hash, fence, updated_at) VALUES "
            "('btc', :height, 'aa', 1, now()) ON CONFLICT (network) DO UPDATE "
            "SET height = excluded.height, hash = excluded.hash",
            {"height": HEIGHT},
        )
    return house


async def ask(
    house: ApiHouse, *, key: str = "ada-key", path: str = PATH, **fields: object
) -> Reply:
    """POST; fields replace those of a good body."""
    body = {"from_height": HEIGHT - 10, "reason": "a deposit is missing", **fields}
    return await house.call(
        "POST", path, body=body, key=key, idempotency_key=house.ids.new_id().hex
    )


async def test_d11_a_person_asks_for_a_range_and_sees_it_in_the_list(followed: ApiHouse) -> None:
    asked = await ask(followed)
    assert asked.status == 201
    found = asked.json()
    assert (found["from_height"], found["to_height"], found["next_height"]) == (
        HEIGHT - 10,
        HEIGHT,
        HEIGHT - 10,
    )
    assert (found["state"], found["found"], found["asked_by"]) == ("running", 0, "ada")
    listed = await followed.call("GET", PATH, key="grace-key")
    assert listed.json()["items"] == [found]
    other = await followed.call("GET", "/v1/networks/eth/rescans", key="grace-key")
    assert other.json()["items"] == []


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"from_height": HEIGHT + 1}, "from_height", "above_cursor"),
        ({"to_height": HEIGHT + 1}, "to_height", "above_cursor"),
        ({"to_height": HEIGHT - 11}, "to_height", "below_from"),
        ({"from_height": HEIGHT - RANGE_BLOCKS_MAX}, "from_height", "range_too_long"),
        ({"from_height": -1}, "from_height", None),
        ({"from_height": "7"}, "from_height", None),
        ({"reason": ""}, "reason", None),
    ],
)
async def test_d11_a_range_that_makes_no_sense_is_refused_by_its_field(
    followed: ApiHouse, fields: dict[str, Any], field: str, code: str | None
) -> None:
    refused = await ask(followed, **fields)
    assert refused.status in (400, 422)
    [error] = problem(refused)["errors"]
    assert error["field"] == field
    assert code is None or error["code"] == code
    assert await followed.rows("SELECT id FROM chain.rescans") == []


async def test_d11_nobody_asks_where_nobody_follows(house: ApiHouse) -> None:
    async with house.owner.unit_of_work() as uow:
        await uow.execute("DELETE FROM chain.cursors")
    refused = await ask(house)
    assert (refused.status, problem(refused)["code"]) == (409, "not_followed")
    assert (await ask(house, path="/v1/networks/doge/rescans")).status == 404


@pytest.mark.parametrize("key", ["acme-key", "operator-key"])
async def test_a31_only_a_person_of_the_operator_asks(followed: ApiHouse, key: str) -> None:
    assert (await ask(followed, key=key)).status == 403


async def test_a31_a_person_of_one_brand_neither_asks_nor_sees(followed: ApiHouse) -> None:
    await followed.add_key(
        "brand-person",
        kind="staff",
        brand="acme",
        person="eve",
        scopes=("treasury:write",),
        roles=("treasury",),
    )
    assert (await ask(followed, key="brand-person")).status == 403
    assert (await followed.call("GET", PATH, key="brand-person")).status == 403


async def test_a31_a_person_without_the_role_or_scope_does_not_ask(followed: ApiHouse) -> None:
    await followed.add_key(
        "support",
        kind="staff",
        brand=None,
        person="sue",
        scopes=("deposits:read",),
        roles=("support",),
    )
    assert (await ask(followed, key="support")).status == 403


async def test_d11_the_list_of_open_rescans_is_bounded_and_a_repeat_is_one(
    followed: ApiHouse,
) -> None:
    body = {"from_height": HEIGHT, "reason": "a deposit is missing"}
    replies = await asyncio.gather(
        *(
            followed.call("POST", PATH, body=body, key="ada-key", idempotency_key="same")
            for _ in range(5)
        )
    )
    assert {reply.status for reply in replies} <= {201, 409}
    assert len(await followed.rows("SELECT id FROM chain.rescans")) == 1
    for _ in range(RUNNING_MAX - 1):
        assert (await ask(followed)).status == 201
    refused = await ask(followed)
    assert (refused.status, problem(refused)["code"]) == (409, "too_many")


async def test_d11_the_api_cannot_write_the_work_of_the_watcher(followed: ApiHouse) -> None:
    await ask(followed)
    found = await followed.rows(
        "SELECT privilege_type, column_name FROM information_schema.column_privileges "
        "WHERE table_schema = 'chain' AND table_name = 'rescans' AND grantee = 'gateway_api' "
        "AND (privilege_type = 'UPDATE' OR column_name IN ('state', 'found') "
        "AND privilege_type = 'INSERT')"
    )
    assert {row["column_name"] for row in found} == {
        "state",
        "waits_for",
        "cancelled_by",
        "cancel_reason",
        "finished_at",
    }


async def cancel(
    house: ApiHouse, rescan_id: str, *, key: str = "grace-key", path: str = PATH
) -> Reply:
    """POST without an idempotency key: the state itself makes a repeat safe."""
    body = {"reason": "the wrong range"}
    return await house.call("POST", f"{path}/{rescan_id}/cancel", body=body, key=key)


async def test_d11_a_running_rescan_is_cancelled_once_and_names_who_and_why(
    followed: ApiHouse,
) -> None:
    rescan_id = (await ask(followed)).json()["id"]
    ended = (await cancel(followed, rescan_id)).json()
    assert (ended["state"], ended["cancelled_by"], ended["cancel_reason"]) == (
        "cancelled",
        "grace",
        "the wrong range",
    )
    assert ended["finished_at"] is not None
    again = await cancel(followed, rescan_id, key="ada-key")
    assert (again.status, again.json()) == (200, ended)
    listed = await followed.call("GET", PATH, key="ada-key")
    assert listed.json()["items"] == [ended]


async def test_d11_a_rescan_that_ended_or_is_of_another_network_is_not_cancelled(
    followed: ApiHouse,
) -> None:
    rescan_id = (await ask(followed)).json()["id"]
    elsewhere = await cancel(followed, rescan_id, path="/v1/networks/eth/rescans")
    assert elsewhere.status == 404
    assert (await cancel(followed, "rsc_test_" + "0" * 32)).status == 404
    async with followed.owner.unit_of_work() as uow:
        await uow.execute(
            "UPDATE chain.rescans SET state = 'done', next_height = to_height + 1, "
            "finished_at = now()"
        )
    refused = await cancel(followed, rescan_id)
    assert (refused.status, problem(refused)["code"]) == (409, "ended")


@pytest.mark.parametrize("key", ["acme-key", "operator-key"])
async def test_a31_only_a_person_of_the_operator_cancels(followed: ApiHouse, key: str) -> None:
    rescan_id = (await ask(followed)).json()["id"]
    assert (await cancel(followed, rescan_id, key=key)).status == 403
    assert await followed.rows("SELECT state FROM chain.rescans") == [{"state": "running"}]
