"""Policies, rates and players' flags over the API: two people, versions, and who may not."""

import asyncio
from typing import Any

import pytest

from gateway.client import Reply
from tests.support.api import ApiHouse, problem

pytestmark = pytest.mark.postgres

TIERS = [{"asset": "btc:BTC", "group": "vip", "steps": [{"min": 1, "full": 2}]}]
CAPS = [{"per_player": "500.00", "per_asset": {"btc:BTC": "20000.00"}}]


@pytest.fixture(autouse=True)
async def people(house: ApiHouse) -> None:
    """Two people of the risk desk, and one of one brand's."""
    for person in ("rosa", "remy"):
        await house.add_key(
            f"{person}-key",
            kind="staff",
            brand=None,
            person=person,
            scopes=("policies:write", "withdrawals:approve"),
            roles=("risk",),
        )


async def put_policy(house: ApiHouse, key: str, **fields: Any) -> Reply:
    """PUT the policy; fields replace those of a good body."""
    body = {"base_version": 0, "tiers": TIERS, "caps": CAPS, "reason": "season", **fields}
    return await house.call("PUT", "/v1/policies/confirmations", body=body, key=key)


async def put_rate(house: ApiHouse, key: str, rate: str, **fields: Any) -> Reply:
    """PUT a rate of bitcoin."""
    body = {"asset": "btc:BTC", "rate": rate, **fields}
    return await house.call("PUT", "/v1/rates", body=body, key=key)


async def policy(house: ApiHouse, key: str = "rosa-key") -> Any:
    """The policy that a key sees."""
    reply = await house.call("GET", "/v1/policies/confirmations", key=key)
    assert reply.status == 200
    return reply.json()


async def test_a_new_version_takes_a_second_person(house: ApiHouse) -> None:
    assert (await policy(house))["version"] == 0
    first = await put_policy(house, "rosa-key")
    again = await put_policy(house, "rosa-key")
    assert (first.status, again.status) == (202, 202)
    assert (await policy(house))["version"] == 0
    second = await put_policy(house, "remy-key")
    assert second.status == 200
    found = await policy(house)
    assert (found["version"], found["proposed_by"], found["approved_by"]) == (1, "rosa", "remy")
    assert found["tiers"][0]["steps"] == [{"up_to": None, "min": 1, "full": 2}]
    assert found["caps"][0]["per_asset"] == {"btc:BTC": "20000.00"}
    (event,) = await house.rows(
        "SELECT brand, object_version FROM ledger.events WHERE type = 'policy.changed'"
    )
    assert event == {"brand": None, "object_version": 1}


async def test_the_second_persons_call_may_be_repeated(house: ApiHouse) -> None:
    await put_policy(house, "rosa-key")
    replies = [await put_policy(house, "remy-key") for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200]
    assert (await policy(house))["version"] == 1


async def test_s18_one_person_with_two_keys_is_one_person(house: ApiHouse) -> None:
    await house.add_key(
        "rosa-other",
        kind="staff",
        brand=None,
        person="rosa",
        scopes=("policies:write",),
        roles=("risk",),
    )
    await put_policy(house, "rosa-key")
    reply = await put_policy(house, "rosa-other")
    assert (reply.status, problem(reply)["code"]) == (403, "same_person")
    assert (await policy(house))["version"] == 0


async def test_a_version_written_against_an_older_one_is_refused(house: ApiHouse) -> None:
    await put_policy(house, "rosa-key")
    await put_policy(house, "remy-key")
    reply = await put_policy(house, "rosa-key", caps=[])
    assert (reply.status, problem(reply)["code"]) == (409, "version_moved")


async def test_other_content_is_not_what_the_first_person_proposed(house: ApiHouse) -> None:
    await put_policy(house, "rosa-key")
    reply = await put_policy(house, "remy-key", caps=[])
    assert (reply.status, problem(reply)["code"]) == (409, "other_content")


async def test_the_second_person_may_agree_by_the_list_of_decisions(house: ApiHouse) -> None:
    approval = (await put_policy(house, "rosa-key")).json()["approval"]["id"]
    reply = await house.call(
        "POST",
        f"/v1/approvals/{approval}",
        body={"decision": "approve"},
        key="remy-key",
        idempotency_key="a1",
    )
    assert (reply.status, reply.json()["state"]) == (200, "done")
    assert (await policy(house))["version"] == 1


async def start_of_btc(house: ApiHouse) -> Reply:
    """Ada stops bitcoin and proposes to start it."""
    for state in ("stopped", "running"):
        body = {"scope": "network:btc", "action": "all", "state": state, "reason": "drill"}
        reply = await house.call(
            "POST", "/v1/switches", body=body, key="ada-key", idempotency_key=state
        )
    return reply


@pytest.mark.parametrize("decision", ["approve", "decline"])
async def test_a31_who_may_not_propose_decides_nothing_by_the_list_either(
    house: ApiHouse, decision: str
) -> None:
    """The list is open to every role that decides something: each kind asks for its own."""
    await house.add_key(
        "fay-key",
        kind="staff",
        brand=None,
        person="fay",
        scopes=("treasury:write", "policies:write"),
        roles=("finance",),
    )
    proposed = (
        await put_policy(house, "rosa-key"),
        await put_rate(house, "rosa-key", "60000"),
        await start_of_btc(house),
    )
    for reply in proposed:
        approval = reply.json()["approval"]
        refused = await house.call(
            "POST",
            f"/v1/approvals/{approval['id']}",
            body={"decision": decision},
            key="fay-key",
            idempotency_key=approval["id"],
        )
        assert (refused.status, problem(refused)["code"]) == (403, "missing_role"), approval["kind"]
    rows = await house.rows("SELECT DISTINCT state FROM gateway.approvals")
    assert [row["state"] for row in rows] == ["pending_approval"]


async def test_two_who_agree_at_once_make_one_version(house: ApiHouse) -> None:
    await put_policy(house, "rosa-key")
    replies = await asyncio.gather(*(put_policy(house, "remy-key") for _ in range(4)))
    assert (await policy(house))["version"] == 1
    assert {reply.status for reply in replies} == {200}
    assert len(await house.rows("SELECT 1 FROM gateway.approvals")) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"tiers": [{"asset": "xrp:XRP", "steps": [{"min": 1, "full": 1}]}]},
        {"tiers": [{"asset": "btc:BTC", "steps": [{"min": 3, "full": 2}]}]},
        {"tiers": [{"asset": "btc:BTC", "steps": [{"min": 0, "full": 2}]}]},
        {"tiers": [{"asset": "btc:BTC", "steps": []}]},
        {"tiers": [{"asset": "btc:BTC", "steps": [{"up_to": "1", "min": 1, "full": 2}]}]},
        {
            "tiers": [
                {
                    "asset": "btc:BTC",
                    "steps": [{"up_to": "1", "min": 2, "full": 6}, {"min": 1, "full": 6}],
                }
            ]
        },
        {"tiers": [TIERS[0], TIERS[0]]},
        {"tiers": [{**TIERS[0], "brand": "nobody"}]},
        {"caps": [{"per_player": "1.001"}]},
        {"caps": [{"per_player": "-1"}]},
        {"caps": [{"per_asset": {"xrp:XRP": "1"}}]},
        {"caps": [{}, {}]},
        {"caps": [{"per_week": "1"}]},
        {"reason": ""},
    ],
)
async def test_what_cannot_be_meant_is_refused(house: ApiHouse, fields: dict[str, Any]) -> None:
    reply = await put_policy(house, "rosa-key", **fields)
    assert reply.status == 422
    assert await house.rows("SELECT 1 FROM gateway.approvals") == []


async def test_a_brand_sees_its_own_rules_and_no_names(house: ApiHouse) -> None:
    tiers = [{**TIERS[0], "brand": "acme"}, {**TIERS[0], "brand": "bravo"}]
    caps = [{"per_brand": "9.00"}, {"brand": "bravo", "per_brand": "7.00"}]
    await put_policy(house, "rosa-key", tiers=tiers, caps=caps)
    await put_policy(house, "remy-key", tiers=tiers, caps=caps)
    found = await policy(house, "acme-key")
    assert [rule["brand"] for rule in found["tiers"]] == ["acme"]
    assert [cap["brand"] for cap in found["caps"]] == [None]
    assert (found["proposed_by"], found["approved_by"]) == (None, None)


@pytest.mark.parametrize("key", ["acme-key", "operator-key", "ada-key"])
async def test_who_does_not_answer_for_risk_changes_nothing(house: ApiHouse, key: str) -> None:
    assert (await put_policy(house, key)).status == 403
    assert await house.rows("SELECT 1 FROM gateway.approvals") == []


async def test_the_first_rate_takes_two_people_and_the_next_follow_the_market(
    house: ApiHouse,
) -> None:
    assert (await put_rate(house, "rosa-key", "60000")).status == 202
    reply = await put_rate(house, "remy-key", "60000")
    assert reply.status == 200
    assert reply.json()["rate"]["approved_by"] == "remy"
    house.tick(60)
    alone = await put_rate(house, "rosa-key", "60500.25")
    assert (alone.status, alone.json()["approval"]) == (200, None)
    listed = (await house.call("GET", "/v1/rates", key="ada-key")).json()["items"]
    assert [(row["rate"], row["is_fresh"]) for row in listed] == [("60500.25", True)]
    house.tick(3_601)
    listed = (await house.call("GET", "/v1/rates?asset=btc:BTC", key="ada-key")).json()["items"]
    assert [(row["rate"], row["is_fresh"]) for row in listed] == [
        ("60500.25", False),
        ("60000", False),
    ]


async def test_a_jump_takes_two_people_and_many_small_steps_are_a_jump(house: ApiHouse) -> None:
    await put_rate(house, "rosa-key", "100")
    await put_rate(house, "remy-key", "100")
    statuses = []
    for rate in ("119", "121", "84", "83"):
        house.tick(60)
        statuses.append((await put_rate(house, "rosa-key", rate)).status)
        if statuses[-1] == 202:
            await house.rows(
                "UPDATE gateway.approvals SET state = 'expired', decided_at = now()"
                " WHERE state = 'pending_approval'"
            )
    assert statuses == [200, 202, 202, 202]
    house.tick(3_700)
    assert (await put_rate(house, "rosa-key", "121")).status == 200
    house.tick(60)
    far = await put_rate(house, "rosa-key", "200")
    assert far.json()["rate"]["rate"] == "121"
    assert (await put_rate(house, "remy-key", "200")).status == 200


@pytest.mark.parametrize("rate", ["0", "0.0", "-1", "1e5", "NaN", "1.0000000000000000001", "", "٣"])
async def test_a_rate_that_is_no_positive_decimal_is_refused(house: ApiHouse, rate: str) -> None:
    assert (await put_rate(house, "rosa-key", rate)).status == 422


async def test_a_rate_from_the_future_or_from_long_ago_is_refused(house: ApiHouse) -> None:
    for moment, code in (("2026-01-01T00:00:01Z", "from_the_future"), ("2025-12-31Z", "invalid")):
        reply = await put_rate(house, "rosa-key", "100", as_of=moment)
        assert (reply.status, problem(reply)["code"]) == (422, code)
    reply = await put_rate(house, "rosa-key", "100", as_of="2025-12-31T22:59:59Z")
    assert (reply.status, problem(reply)["code"]) == (422, "stale")


@pytest.mark.parametrize("key", ["acme-key", "operator-key"])
async def test_rates_are_the_operators_people_business(house: ApiHouse, key: str) -> None:
    assert (await put_rate(house, key, "100")).status == 403


async def test_flags_of_a_player_have_versions_and_a_history(house: ApiHouse) -> None:
    await house.add_key("crm-key", scopes=("players:write",))
    body = {"group": "vip", "country": "DE", "kyc_level": "full", "blocked_reasons": []}
    for group in ("vip", "vip", "new"):
        reply = await house.call(
            "PUT", "/v1/players/anna/flags", body={**body, "group": group}, key="crm-key"
        )
        assert reply.status == 200
    assert (reply.json()["version"], reply.json()["group"]) == (2, "new")
    rows = await house.rows(
        "SELECT version, player_group, changed_by FROM chain.player_flags_history ORDER BY version"
    )
    assert [tuple(row.values()) for row in rows] == [(1, "vip", "crm-key"), (2, "new", "crm-key")]
    refused = await house.call("PUT", "/v1/players/anna/flags", body=body, key="acme-key")
    assert refused.status == 403


async def test_a30_flags_of_one_brand_are_not_those_of_another(house: ApiHouse) -> None:
    for brand in ("acme", "bravo"):
        await house.add_key(f"{brand}-crm", brand=brand, scopes=("players:write",))
        reply = await house.call(
            "PUT", "/v1/players/anna/flags", body={"group": brand}, key=f"{brand}-crm"
        )
        assert (reply.status, reply.json()["version"]) == (200, 1)
