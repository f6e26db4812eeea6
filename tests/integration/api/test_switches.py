"""Switches over the API: one person stops at once, two start again, and nobody alone does."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.api.two_people import VALID_SECONDS
from gateway.client import Reply
from tests.support.api import STAFF_SCOPES, ApiHouse, api_house, problem
from tests.support.clock import SequentialIds
from tests.support.databases import TestDatabase
from watchers import switches
from watchers.switches import Action

pytestmark = pytest.mark.postgres

BTC = "network:btc"


async def ask(
    house: ApiHouse,
    state: str,
    *,
    key: str = "ada-key",
    idempotency_key: str | None = None,
    **fields: object,
) -> Reply:
    """POST /v1/switches; fields replace those of a good body."""
    body = {"scope": BTC, "action": "all", "state": state, "reason": "drill", **fields}
    return await house.call(
        "POST",
        "/v1/switches",
        body=body,
        key=key,
        idempotency_key=idempotency_key or house.ids.new_id().hex,
    )


async def decide(house: ApiHouse, approval: str, *, key: str, decision: str = "approve") -> Reply:
    """POST /v1/approvals/{id}."""
    return await house.call(
        "POST",
        f"/v1/approvals/{approval}",
        body={"decision": decision},
        key=key,
        idempotency_key=house.ids.new_id().hex,
    )


async def second_key(house: ApiHouse, person: str, *, roles: Sequence[str] = ("treasury",)) -> str:
    """Another key of a person."""
    name = f"{person}-other-key"
    await house.add_key(
        name, kind="staff", brand=None, person=person, scopes=STAFF_SCOPES, roles=roles
    )
    return name


async def is_stopped(house: ApiHouse, action: Action = Action.SIGN) -> bool:
    """What a step of the payouts would be told."""
    async with house.owner.unit_of_work() as uow:
        return await switches.is_stopped(uow, network="btc", asset="btc:BTC", action=action)


async def versions(house: ApiHouse) -> list[tuple[int, str]]:
    """The operator's events about switches, in order."""
    rows = await house.rows(
        "SELECT object_version, snapshot->>'state' AS state FROM ledger.events"
        " WHERE type = 'switch.changed' ORDER BY position"
    )
    return [(row["object_version"], row["state"]) for row in rows]


async def test_one_person_stops_at_once_and_two_start_again(house: ApiHouse) -> None:
    stopped = (await ask(house, "stopped")).json()["switch"]
    assert (stopped["state"], stopped["changed_by"], stopped["approved_by"]) == (
        "stopped",
        "ada",
        None,
    )
    assert await is_stopped(house)

    first = await ask(house, "running", reason="drill is over")
    assert (first.status, first.json()["approval"]["state"]) == (202, "pending_approval")
    assert await is_stopped(house)

    second = await ask(house, "running", key="grace-key", reason="I agree")
    assert second.status == 200
    found = second.json()
    assert (found["switch"]["state"], found["approval"]["state"]) == ("running", "done")
    assert (found["switch"]["changed_by"], found["switch"]["approved_by"]) == ("ada", "grace")
    assert not await is_stopped(house)
    assert await versions(house) == [(1, "stopped"), (2, "running")]


async def test_the_second_person_may_approve_by_the_decision_itself(house: ApiHouse) -> None:
    await ask(house, "stopped")
    approval = (await ask(house, "running")).json()["approval"]["id"]
    waiting = await house.call("GET", "/v1/approvals?state=pending_approval", key="grace-key")
    assert [item["id"] for item in waiting.json()["items"]] == [approval]
    done = await decide(house, approval, key="grace-key")
    assert (done.status, done.json()["state"], done.json()["decided_by"]) == (200, "done", "grace")
    assert not await is_stopped(house)
    again = await decide(house, approval, key="grace-key")
    assert problem(again)["code"] == "decided"


@pytest.mark.parametrize("way", ["switches", "approvals"])
async def test_a31_the_same_person_through_two_keys_starts_nothing(
    house: ApiHouse, way: str
) -> None:
    other = await second_key(house, "ada")
    await ask(house, "stopped")
    approval = (await ask(house, "running")).json()["approval"]["id"]
    if way == "switches":
        refused = await ask(house, "running", key=other)
    else:
        refused = await decide(house, approval, key=other)
    assert (refused.status, problem(refused)["code"]) == (403, "same_person")
    assert await is_stopped(house)


async def test_a31_the_first_person_asking_again_changes_nothing(house: ApiHouse) -> None:
    await ask(house, "stopped")
    first = await ask(house, "running")
    again = await ask(house, "running")
    assert (again.status, again.json()["approval"]) == (202, first.json()["approval"])
    assert await is_stopped(house)


async def test_a_hundred_starts_at_once_have_one_effect(house: ApiHouse) -> None:
    await ask(house, "stopped")
    keys = ["ada-key", "grace-key"]
    replies = await asyncio.gather(
        *(ask(house, "running", key=keys[i % 2], idempotency_key=f"s{i}") for i in range(100))
    )
    assert {reply.status for reply in replies} <= {200, 202, 409}
    assert sum(reply.status == 200 for reply in replies) == 1
    assert not await is_stopped(house)
    assert await versions(house) == [(1, "stopped"), (2, "running")]
    rows = await house.rows("SELECT state, count(*) AS n FROM gateway.approvals GROUP BY state")
    assert [(row["state"], row["n"]) for row in rows] == [("done", 1)]


async def test_a_cause_that_nobody_knew_voids_the_first_persons_word(house: ApiHouse) -> None:
    await ask(house, "stopped")
    approval = (await ask(house, "running")).json()["approval"]["id"]
    async with house.owner.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope=BTC,
            action=Action.ALL,
            reason="21 reversals in one step",
            actor="watcher",
            ids=house.ids,
            at=house.clock.now(),
        )
    assert problem(await decide(house, approval, key="grace-key"))["code"] == "changed_meanwhile"
    assert (await ask(house, "running", key="grace-key")).status == 202  # now hers is the first
    assert await is_stopped(house)
    shown = (await house.call("GET", "/v1/switches", key="ada-key")).json()["items"][0]
    assert shown["causes"] == ["ada: drill", "watcher: 21 reversals in one step"]
    assert (await ask(house, "running")).status == 200
    assert not await is_stopped(house)


async def test_a_word_given_a_day_ago_counts_no_more(house: ApiHouse) -> None:
    await ask(house, "stopped")
    approval = (await ask(house, "running")).json()["approval"]["id"]
    house.tick(VALID_SECONDS)
    assert problem(await decide(house, approval, key="grace-key"))["code"] == "expired"
    assert (await ask(house, "running", key="grace-key")).status == 202
    assert await is_stopped(house)


async def test_a_first_person_whose_key_was_revoked_has_not_agreed(house: ApiHouse) -> None:
    await ask(house, "stopped")
    approval = (await ask(house, "running")).json()["approval"]["id"]
    await house.rows(
        "UPDATE gateway.clients SET revoked_at = :at WHERE key_id = 'ada-key'",
        at=house.clock.now(),
    )
    assert problem(await decide(house, approval, key="grace-key"))["code"] == "proposer_left"
    declined = await decide(house, approval, key="grace-key", decision="decline")
    assert declined.json()["state"] == "declined"
    assert await is_stopped(house)


async def test_something_else_than_was_proposed_is_not_agreed_to(house: ApiHouse) -> None:
    await ask(house, "stopped")
    await ask(house, "running")
    other = await ask(house, "running", key="grace-key", accept_reversals=50)
    assert (other.status, problem(other)["code"]) == (409, "other_content")
    assert await is_stopped(house)


async def test_every_switch_is_listed(
    house: ApiHouse,
) -> None:
    await ask(house, "stopped", action="credit")
    await ask(house, "stopped", scope="asset:eth:USDT", action="build")
    listed = (await house.call("GET", "/v1/switches", key="operator-key")).json()["items"]
    assert [(item["scope"], item["action"], item["state"]) for item in listed] == [
        ("asset:eth:USDT", "build", "stopped"),
        (BTC, "credit", "stopped"),
    ]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"scope": "network:doge"}, "unknown_scope"),
        ({"scope": "asset:btc:USDT"}, "unknown_scope"),
        ({"scope": "brand:acme"}, "invalid_request"),
        ({"action": "everything"}, "invalid_request"),
        ({"state": "open"}, "invalid_request"),
        ({"reason": ""}, "invalid_request"),
        ({"accept_reversals": 5}, "not_applicable"),
        ({"accept_reversals_value": "5"}, "not_applicable"),
        ({"force": True}, "invalid_request"),
    ],
)
async def test_a_stop_that_says_something_unclear_is_refused(
    house: ApiHouse, fields: dict[str, Any], code: str
) -> None:
    refused = await ask(house, **{"state": "stopped", **fields})
    assert (refused.status, problem(refused)["code"]) == (422, code)
    assert await house.rows("SELECT 1 FROM chain.switches") == []


async def test_what_runs_is_not_started(house: ApiHouse) -> None:
    refused = await ask(house, "running")
    assert (refused.status, problem(refused)["code"]) == (409, "not_stopped")


@pytest.mark.parametrize("key", ["acme-key", "operator-key"])
async def test_a31_machines_touch_no_switch(house: ApiHouse, key: str) -> None:
    assert (await ask(house, "stopped", key=key)).status == 403
    assert not await is_stopped(house)


@pytest.mark.parametrize(
    ("brand", "roles"), [(None, ("support",)), (None, ("finance",)), ("acme", ("treasury",))]
)
async def test_people_of_other_roles_or_of_one_brand_touch_no_switch(
    house: ApiHouse, brand: str | None, roles: tuple[str, ...]
) -> None:
    await house.add_key(
        "mallory-key",
        kind="staff",
        brand=brand,
        person="mallory",
        scopes=STAFF_SCOPES,
        roles=roles,
    )
    assert (await ask(house, "stopped", key="mallory-key")).status == 403
    assert not await is_stopped(house)


async def test_a05_a_switch_needs_an_idempotency_key(house: ApiHouse) -> None:
    body = {"scope": BTC, "action": "all", "state": "stopped", "reason": "drill"}
    refused = await house.call("POST", "/v1/switches", body=body, key="ada-key")
    assert problem(refused)["code"] == "idempotency_key_required"


async def test_a31_an_inflow_is_approved_by_its_decision_too(house: ApiHouse) -> None:
    await house.inflow(asset="btc:BTC", amount_minor=100_000_000)
    [inflow] = (await house.call("GET", "/v1/inflows", key="ada-key")).json()["items"]
    proposed = await house.call(
        "POST",
        f"/v1/inflows/{inflow['id']}/assign",
        body={"as": "capital"},
        key="ada-key",
        idempotency_key="one",
    )
    approval = proposed.json()["id"]
    [listed] = (await house.call("GET", "/v1/approvals", key="grace-key")).json()["items"]
    assert (listed["id"], listed["kind"], listed["subject"]) == (approval, "inflow", inflow["id"])
    assert problem(await decide(house, approval, key="ada-key"))["code"] == "same_person"
    assert (await decide(house, approval, key="grace-key")).json()["state"] == "done"
    [moved] = (await house.call("GET", "/v1/inflows", key="ada-key")).json()["items"]
    assert (moved["state"], moved["assigned_to"]) == ("assigned", "capital")


async def test_an_alarm_that_holds_work_back_is_not_cleared_by_one_person(house: ApiHouse) -> None:
    await ask(house, "stopped")
    await house.rows(
        "INSERT INTO gateway.alarms (id, kind, network, detail, raised_at)"
        " VALUES (:id, 'payout_uncertain', 'btc', 'look', :at)",
        id=house.ids.new_id(),
        at=house.clock.now(),
    )
    found = (await house.call("GET", "/v1/alarms?state=open", key="ada-key")).json()["items"]
    by_kind = {item["kind"]: item["id"] for item in found}
    held = await house.call("POST", f"/v1/alarms/{by_kind['switch_stopped']}/clear", key="ada-key")
    assert (held.status, problem(held)["code"]) == (409, "holds_work")
    cleared = await house.call(
        "POST", f"/v1/alarms/{by_kind['payout_uncertain']}/clear", key="ada-key"
    )
    assert (cleared.status, cleared.json()["cleared_at"] is not None) == (200, True)
    left = (await house.call("GET", "/v1/alarms?state=open", key="ada-key")).json()["items"]
    assert [item["kind"] for item in left] == ["switch_stopped"]


async def test_stopped_accept_stores_nothing_and_the_same_order_is_taken_later(
    house: ApiHouse,
) -> None:
    await house.fund("acme", "btc:BTC", 100_000_000)
    before = await house.withdraw(request_id="before")
    await ask(house, "stopped", scope="asset:btc:BTC", action="accept")

    refused = await house.withdraw(request_id="held", idempotency_key="held")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "60")
    assert (problem(refused)["code"], problem(refused)["retryable"]) == ("accept_stopped", True)
    assert len(await house.rows("SELECT 1 FROM gateway.withdrawals")) == 1
    found = await house.call("GET", "/v1/withdrawals?request_id=held")
    assert found.status == 404

    again = await house.withdraw(request_id="before")  # what stands is told
    assert (again.status, again.json()["id"]) == (202, before.json()["id"])
    await ask(house, "running", scope="asset:btc:BTC", action="accept")
    await ask(house, "running", scope="asset:btc:BTC", action="accept", key="grace-key")
    taken = await house.withdraw(request_id="held", idempotency_key="held")
    assert (taken.status, taken.json()["state"]) == (202, "queued")


async def test_networks_show_what_is_stopped(house: ApiHouse) -> None:
    await ask(house, "stopped", action="credit")
    await ask(house, "stopped", scope="asset:eth:USDT", action="build")
    items = (await house.call("GET", "/v1/networks")).json()["items"]
    assert {item["network"]: item["switches"] for item in items} == {
        "btc": ["credit"],
        "ltc": [],
        "eth": ["eth:USDT/build"],
    }


async def test_d05_two_people_allow_a_reorg_and_reversals_in_the_start_itself(
    house: ApiHouse,
) -> None:
    await house.rows(
        "INSERT INTO chain.cursors (network, height, hash, stopped_reason, updated_at)"
        " VALUES ('btc', 500, 'aa', 'no common block', :at)",
        at=house.clock.now(),
    )
    await ask(house, "stopped")
    allowed: dict[str, Any] = {"accept_reorg_depth": 200, "accept_reversals": 30}
    await ask(house, "running", **allowed)
    assert await house.rows("SELECT 1 FROM chain.switch_grants") == []
    assert (await ask(house, "running", key="grace-key", **allowed)).status == 200
    grants = await house.rows(
        "SELECT kind, count, height, proposed_by, approved_by FROM chain.switch_grants"
        " ORDER BY kind"
    )
    assert [tuple(row.values()) for row in grants] == [
        ("reorg", 200, 500, "ada", "grace"),
        ("reversals", 30, None, "ada", "grace"),
    ]
    [cursor] = await house.rows("SELECT stopped_reason FROM chain.cursors")
    assert cursor["stopped_reason"] is None


async def test_d05_two_people_name_the_most_value_that_reversals_may_have(
    house: ApiHouse,
) -> None:
    await ask(house, "stopped")
    allowed: dict[str, Any] = {"accept_reversals": 30, "accept_reversals_value": "5000"}
    proposed = (await ask(house, "running", **allowed)).json()["approval"]
    assert proposed["content"]["accept_reversals_value"] == "5000 USD"
    other = {**allowed, "accept_reversals_value": "5000.01"}
    refused = await ask(house, "running", key="grace-key", **other)
    assert (refused.status, problem(refused)["code"]) == (409, "other_content")
    same = {**allowed, "accept_reversals_value": "5000.00"}
    assert (await ask(house, "running", key="grace-key", **same)).status == 200
    grants = await house.rows(
        "SELECT kind, count, value_minor, value_currency FROM chain.switch_grants"
    )
    assert [tuple(row.values()) for row in grants] == [("reversals", 30, 500_000, "USD")]


@pytest.mark.parametrize("text", ["0", "-1", "5e3", "5,000", "0.001", "", "9" * 79, 5000])
async def test_d05_a_value_that_is_no_amount_of_the_reference_currency_is_refused(
    house: ApiHouse, text: object
) -> None:
    await ask(house, "stopped")
    refused = await ask(house, "running", accept_reversals=30, accept_reversals_value=text)
    assert refused.status == 422
    assert problem(refused)["errors"][0]["field"] == "accept_reversals_value"
    assert await house.rows("SELECT 1 FROM gateway.approvals") == []


async def test_d05_a_value_without_a_number_of_reversals_is_refused(house: ApiHouse) -> None:
    await ask(house, "stopped")
    refused = await ask(house, "running", accept_reversals_value="5000")
    assert (refused.status, problem(refused)["code"]) == (422, "not_applicable")


async def test_a_stop_and_a_first_persons_word_outlive_the_process(
    house: ApiHouse, test_database: TestDatabase, tmp_path: Path
) -> None:
    await ask(house, "stopped")
    first = (await ask(house, "running")).json()["approval"]["id"]
    await house.server.stop()
    ids = SequentialIds(house.clock, seed=1)
    async with api_house(
        test_database, tmp_path, clock=house.clock, ids=ids, is_furnished=True
    ) as other:
        assert await is_stopped(other)
        done = await ask(other, "running", key="grace-key")
        assert (done.status, done.json()["approval"]["id"]) == (200, first)
        assert not await is_stopped(other)


async def test_starts_and_stops_at_once_end_as_the_history_says(house: ApiHouse) -> None:
    """Whatever the order: each change is one version, and each start has two people."""
    await ask(house, "stopped")
    calls = [
        ask(
            house,
            "stopped" if n % 3 == 0 else "running",
            key=("ada-key", "grace-key")[n % 2],
            reason=f"reason {n}",
            idempotency_key=f"m{n}",
        )
        for n in range(45)
    ]
    replies = await asyncio.gather(*calls)
    assert {reply.status for reply in replies} <= {200, 202, 409}
    rows = await house.rows(
        "SELECT version, state, changed_by, approved_by FROM chain.switch_history ORDER BY version"
    )
    assert [row["version"] for row in rows] == list(range(1, len(rows) + 1))
    started = [row for row in rows if row["state"] == "running"]
    assert all({row["changed_by"], row["approved_by"]} == {"ada", "grace"} for row in started)
    assert await versions(house) == [(row["version"], row["state"]) for row in rows]
    assert await is_stopped(house) == (rows[-1]["state"] == "stopped")


@pytest.mark.parametrize(
    "path", ["switches", "switches/history", "approvals", "alarms", "searches"]
)
async def test_a29_control_is_shown_to_no_person_of_one_brand(house: ApiHouse, path: str) -> None:
    await ask(house, "stopped")
    await house.add_key(
        "bob-key",
        kind="staff",
        brand="acme",
        person="bob",
        scopes=STAFF_SCOPES,
        roles=("treasury",),
    )
    refused = await house.call("GET", f"/v1/{path}", key="bob-key")
    assert (refused.status, problem(refused)["code"]) == (403, "operator_only")
    assert (await house.call("GET", f"/v1/{path}", key="ada-key")).status == 200
