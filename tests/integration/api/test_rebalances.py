"""Moves between hot and cold over the API: planned, proposed, signed by people, declined."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Database, async_url
from config.rebalance_policy import RebalancePolicy
from gateway.client import Reply
from gateway.payouts import rebalances, rebalances_store
from gateway.payouts.rebalances import Direction, Wish
from tests.support.api import ApiHouse, problem, vector_key
from tests.support.colds import COLD_BTC_ADDRESS
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.postgres

COIN = 100_000_000
OF_THE_SYSTEM = Wish(
    network="btc",
    asset="btc:BTC",
    direction=Direction.HOT_TO_COLD,
    amount_minor=COIN,
    address=COLD_BTC_ADDRESS,
    address_key="00",
    reason="above_max",
    forecast=None,
    requested_by=None,
)
OVERFLOW = {"propose": True, "reason": "over its maximum"}


async def plan(house: ApiHouse, body: Mapping[str, Any], *, key: str = "ada-key") -> Reply:
    return await house.call(
        "POST",
        "/v1/rebalances/plan",
        body=body,
        key=key,
        idempotency_key=house.ids.new_id().hex,
    )


async def proposed(house: ApiHouse, body: Mapping[str, Any] = OVERFLOW) -> dict[str, Any]:
    """A proposal by ada, as the API shows it."""
    [item] = (await plan(house, body)).json()["items"]
    found: dict[str, Any] = (
        await house.call("GET", f"/v1/rebalances/{item['id']}", key="ada-key")
    ).json()
    return found


def words(row: Mapping[str, Any], **changes: str) -> dict[str, str]:
    names = ("direction", "network", "asset", "address", "amount", "valid_until")
    return {"rebalance_id": row["id"], **{name: row[name] for name in names}, **changes}


async def approve(
    house: ApiHouse, row: Mapping[str, Any], *, key: str = "ada-key", **changes: str
) -> Reply:
    return await house.call(
        "POST",
        f"/v1/rebalances/{row['id']}/approve",
        body=words(row, **changes),
        key=key,
        idempotency_key=house.ids.new_id().hex,
    )


async def refused(reply: Reply) -> tuple[int, str]:
    return reply.status, str(problem(reply)["code"])


async def events(house: ApiHouse) -> list[tuple[str, str | None]]:
    rows = await house.rows(
        "SELECT type, previous_state FROM ledger.events WHERE object_kind = 'rebalance'"
        " ORDER BY object_version"
    )
    return [(row["type"], row["previous_state"]) for row in rows]


async def test_a_plan_shows_the_overflow_and_moves_and_stores_nothing(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    found = (await plan(house, {})).json()
    assert [
        (item["direction"], item["amount"], item["reason"], item["id"]) for item in found["items"]
    ] == [("hot_to_cold", "4", "above_max", None)]
    listed = await house.call("GET", "/v1/rebalances", key="ada-key")
    assert listed.json()["items"] == []


async def test_value_that_payouts_wait_for_is_no_overflow(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    await house.withdraw(amount="2.5")
    [item] = (await plan(house, {})).json()["items"]
    assert (item["direction"], item["amount"]) == ("hot_to_cold", "1.5")


async def test_a_proposal_is_told_and_shown_and_names_the_configured_cold_address(
    house: ApiHouse,
) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    row = await proposed(house)
    assert row["address"] == COLD_BTC_ADDRESS
    assert (row["state"], row["people_needed"], row["requested_by"]) == ("proposed", 2, "ada")
    assert (row["brand"], row["signed_by"], row["txid"]) == ("operator", [], None)
    assert await events(house) == [("rebalance.proposed", None)]
    [again] = (await plan(house, OVERFLOW)).json()["items"]
    assert again["id"] == row["id"]  # an open one is shown, not asked for a second time
    listed = await house.call("GET", "/v1/rebalances?state=proposed&asset=btc:BTC", key="ada-key")
    assert listed.json()["items"] == [row]
    other = await house.call("GET", "/v1/rebalances?direction=cold_to_hot", key="ada-key")
    assert other.json()["items"] == []


async def test_s15_above_the_limit_two_people_sign_the_same_and_both_requests_are_kept(
    house: ApiHouse,
) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    row = await proposed(house)
    first = await approve(house, row)
    assert (first.status, first.json()["state"], first.json()["version"]) == (202, "proposed", 1)
    again = await approve(house, row)
    assert (again.status, again.json()["signed_by"]) == (202, ["ada"])
    second = await approve(house, row, key="grace-key")
    assert (second.status, second.json()["state"]) == (200, "approved")
    assert second.json()["signed_by"] == ["ada", "grace"]
    assert await events(house) == [
        ("rebalance.proposed", None),
        ("rebalance.approved", "proposed"),
    ]
    async with house.owner.unit_of_work() as uow:
        [stored] = await rebalances_store.find(uow, limit=9)
        kept = await rebalances_store.requests(uow, stored.id)
    assert [(item.person, json.loads(item.signed.body)) for item in kept] == [
        ("ada", words(row)),
        ("grace", words(row)),
    ]


async def test_up_to_the_limit_one_person_is_enough(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    one = {**OVERFLOW, "asset": "btc:BTC", "direction": "hot_to_cold", "amount": "1"}
    row = await proposed(house, one)
    assert row["people_needed"] == 1
    answer = await approve(house, row, key="grace-key")
    assert (answer.status, answer.json()["state"]) == (200, "approved")


async def test_a31_one_person_is_not_two_whatever_key_they_use(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    row = await proposed(house)
    await approve(house, row)
    await house.add_key(
        "ada-second",
        kind="staff",
        brand=None,
        person="ada",
        scopes=("treasury:write",),
        roles=("treasury",),
    )
    assert await refused(await approve(house, row, key="ada-second")) == (403, "same_person")


async def test_a31_one_key_under_two_names_is_not_two_people(house: ApiHouse) -> None:
    """The database says no where the names of people lie."""
    await house.fund("acme", "btc:BTC", 5 * COIN)
    await approve(house, await proposed(house))
    await house.rows(
        "UPDATE gateway.clients SET public_key = :key WHERE key_id = 'grace-key'",
        key=vector_key("ada-key").public_key().public_bytes_raw(),
    )
    with pytest.raises(DBAPIError, match="twice"):
        await house.rows(
            "INSERT INTO gateway.rebalance_requests SELECT rebalance_id, 'grace', 'grace-key',"
            " method, authority, path, query, headers, body, signature_input, signature, at"
            " FROM gateway.rebalance_requests"
        )


async def test_x04_the_api_cannot_speak_for_the_system_nor_ask_for_fewer_people(
    house: ApiHouse, test_database: TestDatabase
) -> None:
    """What nobody signs is the system's own move, and the system is another process."""
    await house.fund("acme", "btc:BTC", 5 * COIN)
    await proposed(house)
    api = Database(async_url(test_database.role_url("gateway_api")))
    try:
        async with api.unit_of_work() as uow:
            with pytest.raises(DBAPIError, match="takes 2 people, not 0"):
                await uow.execute("UPDATE gateway.rebalances SET people_needed = 0")
        policy = RebalancePolicy(
            two_people_above_minor=2 * COIN, is_automatic=True, pause_seconds=1, valid_seconds=60
        )
        with pytest.raises(DBAPIError, match="names no person"):
            async with api.unit_of_work() as uow:
                await rebalances.propose(
                    uow, OF_THE_SYSTEM, policy=policy, ids=house.ids, at=house.clock.now()
                )
    finally:
        await api.close()


async def test_s15_the_database_counts_the_people_too(house: ApiHouse) -> None:
    """A gateway that says `approved` by itself is refused; and nothing begins as approved."""
    await house.fund("acme", "btc:BTC", 5 * COIN)
    await approve(house, await proposed(house))
    with pytest.raises(DBAPIError, match="takes 2 people"):
        await house.rows("UPDATE gateway.rebalances SET state = 'approved'")
    with pytest.raises(DBAPIError, match="begins as approved"):
        await house.rows(
            "INSERT INTO gateway.rebalances (id, network, asset, direction, amount, address,"
            " address_key, reason, state, people_needed, valid_until, created_at, state_at)"
            " SELECT gen_random_uuid(), network, asset, direction, amount, address, address_key,"
            " reason, 'approved', 0, valid_until, created_at, state_at FROM gateway.rebalances"
        )


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "4.1"},
        {"direction": "cold_to_hot"},
        {"asset": "eth:ETH"},
        {"network": "ltc"},
        {"address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"},
        {"valid_until": "2031-01-01T00:00:00Z"},
    ],
)
async def test_s15_other_words_than_those_of_the_rebalance_are_refused(
    house: ApiHouse, change: dict[str, str]
) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    row = await proposed(house)
    assert await refused(await approve(house, row, **change)) == (409, "other_content")
    assert (await approve(house, row, amount="4.00")).status == 202  # the same amount


async def test_s15_an_id_that_the_path_does_not_name_is_refused(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    row = await proposed(house)
    other = "reb_test_" + "0" * 32
    assert await refused(await approve(house, row, rebalance_id=other)) == (422, "other_id")


async def test_what_is_past_its_time_is_not_approved(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    row = await proposed(house)
    house.tick(timedelta(days=1, seconds=1).total_seconds())
    assert await refused(await approve(house, row)) == (409, "proposal_expired")


async def test_one_person_declines_and_what_was_approved_is_cancelled(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    no = {"reason": "not now"}
    for is_approved, state in ((False, "declined"), (True, "cancelled")):
        row = await proposed(house)
        for key in ("ada-key", "grace-key") if is_approved else ():
            await approve(house, row, key=key)
        target = f"/v1/rebalances/{row['id']}/decline"
        answer = await house.call("POST", target, body=no, key="grace-key")
        assert (answer.json()["state"], answer.json()["code"]) == (state, "declined_by_staff")
        again = await house.call("POST", target, body=no, key="grace-key")
        assert again.json()["version"] == answer.json()["version"]
        if not is_approved:
            assert await refused(await approve(house, row)) == (409, "decided")


async def test_machines_readers_and_brands_propose_and_approve_nothing(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    row = await proposed(house)
    await house.add_key(
        "risk-key", kind="staff", brand=None, person="ron", scopes=("treasury:write",),
        roles=("risk",),
    )  # fmt: skip
    await house.add_key(
        "reader-key", kind="staff", brand=None, person="rea", scopes=("treasury:read",),
        roles=("treasury",),
    )  # fmt: skip
    await house.add_key("machine-key", kind="operator", brand=None, scopes=("treasury:write",))
    for key in ("risk-key", "reader-key", "machine-key"):
        assert (await approve(house, row, key=key)).status == 403
        assert (await plan(house, OVERFLOW, key=key)).status == 403
    assert (await plan(house, {}, key="acme-key")).status == 403
    assert (await house.call("GET", "/v1/rebalances")).status == 403


async def test_a30_a_person_of_one_brand_sees_no_move_of_the_operator(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 5 * COIN)
    row = await proposed(house)
    await house.add_key(
        "bea-key", kind="staff", brand="acme", person="bea",
        scopes=("treasury:read", "treasury:write"), roles=("treasury",),
    )  # fmt: skip
    path = "/v1/rebalances"
    for target in (path, f"{path}/{row['id']}", f"{path}/{row['id']}/unsigned"):
        reply = await house.call("GET", target, key="bea-key")
        assert (reply.status, problem(reply)["code"]) == (403, "operator_only"), target
    assert await refused(await plan(house, {}, key="bea-key")) == (403, "operator_only")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({**OVERFLOW, "asset": "btc:NONE"}, "unknown_asset"),
        ({**OVERFLOW, "amount": "1"}, "required"),
        ({**OVERFLOW, "asset": "btc:BTC", "amount": "1"}, "required"),
        (
            {**OVERFLOW, "asset": "btc:BTC", "amount": "0.00000001", "direction": "hot_to_cold"},
            "too_small",
        ),
        ({"propose": True}, "required"),
        ({**OVERFLOW, "asset": "btc:BTC"}, "inside_band"),
        (
            {**OVERFLOW, "asset": "btc:BTC", "amount": "1.1", "direction": "hot_to_cold"},
            "not_enough",
        ),
        (
            {**OVERFLOW, "asset": "btc:BTC", "amount": "0.1", "direction": "cold_to_hot"},
            "not_enough",
        ),
        (
            {**OVERFLOW, "asset": "ltc:LTC", "amount": "1", "direction": "hot_to_cold"},
            "no_cold_wallet",
        ),
    ],
)
async def test_a_plan_that_makes_no_sense_is_refused(
    house: ApiHouse, body: dict[str, Any], code: str
) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await house.fund("acme", "ltc:LTC", COIN)
    assert (await refused(await plan(house, body)))[1] == code


async def test_p26_the_system_has_one_open_request_per_asset_and_direction(
    house: ApiHouse,
) -> None:
    """Two instances ask in the same moment, again and again: there is one; ended, another may."""
    policy = house.registry.policy.rebalances["btc:BTC"]

    async def ask() -> bool:
        async with house.owner.unit_of_work() as uow:
            row = await rebalances.propose(
                uow, OF_THE_SYSTEM, policy=policy, ids=house.ids, at=house.clock.now()
            )
            return row is not None

    assert sorted(await asyncio.gather(*(ask() for _ in range(4)))) == [False, False, False, True]
    async with house.owner.unit_of_work() as uow:
        [row] = await rebalances_store.find(uow, limit=9)
        await rebalances.cancel(
            uow, row, code=rebalances.NOT_NEEDED, ids=house.ids, at=house.clock.now()
        )
    assert await ask()
