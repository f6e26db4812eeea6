"""Set-ups of the batch contract over the API: two people, the same words, and nobody else (S15)."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from gateway.client import Reply
from gateway.payouts import setups_store
from signer import contract_setup
from tests.support.api import ApiHouse, api_house, problem, vector_key
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.vault import BATCH_CONTRACT

pytestmark = pytest.mark.postgres

DEPLOY = {"action": "deploy", "network": "eth", "reference": "first"}
FUND = {**DEPLOY, "action": "fund", "asset": "eth:USDT", "amount": "250.5"}
WITHDRAW = {**FUND, "action": "withdraw", "reference": "back"}


@pytest.fixture
async def with_contract(
    test_database: TestDatabase, tmp_path: Path, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[ApiHouse]:
    """A house whose contract is in force, with 300 at lane 0 and 100 in the contract."""
    async with api_house(
        test_database, tmp_path, clock=clock, ids=ids, batch_contract=BATCH_CONTRACT
    ) as running:
        await running.rows(
            "INSERT INTO chain.addresses (id, network, role, account, branch, address_index, path,"
            " key, address, scheme, is_verified, created_at) VALUES (:id, 'eth', 'hot', 0, 2, 0,"
            " 'contract of lane 0', :key, :key, 'contract', true, :at)",
            id=ids.new_id(),
            key=BATCH_CONTRACT,
            at=clock.now(),
        )
        lane = await running.own_text("eth", "hot")
        for key, amount in ((lane.lower(), 300_000_000), (BATCH_CONTRACT, 100_000_000)):
            await running.rows(
                "INSERT INTO chain.account_balances (network, key, asset, amount)"
                " VALUES ('eth', :key, 'eth:USDT', :amount)",
                key=key,
                amount=amount,
            )
        yield running


async def ask(house: ApiHouse, body: dict[str, Any], *, key: str = "ada-key") -> Reply:
    return await house.call(
        "POST", "/v1/contract_setups", body=body, key=key, idempotency_key=house.ids.new_id().hex
    )


async def refused(
    house: ApiHouse, body: dict[str, Any], *, key: str = "ada-key"
) -> tuple[int, str]:
    reply = await ask(house, body, key=key)
    return reply.status, str(problem(reply)["code"])


async def test_s15_two_people_sign_the_same_and_both_requests_are_kept(house: ApiHouse) -> None:
    first = await ask(house, DEPLOY)
    assert (first.status, first.json()["state"]) == (202, "proposed")
    again = await ask(house, DEPLOY)
    assert (again.status, again.json()["signed_by"]) == (202, ["ada"])

    second = await ask(house, DEPLOY, key="grace-key")
    found = second.json()
    assert (second.status, found["state"]) == (200, "approved")
    assert (found["signed_by"], found["version"]) == (["ada", "grace"], 2)
    late = await ask(house, DEPLOY)
    assert (late.status, late.json()["state"]) == (200, "approved")

    async with house.owner.unit_of_work() as uow:
        [row] = await setups_store.newest(uow, limit=10)
        kept = await setups_store.requests(uow, row.id)
    assert [(item.person, json.loads(item.signed.body)) for item in kept] == [
        ("ada", DEPLOY),
        ("grace", DEPLOY),
    ]
    assert all(contract_setup.ROUTE.fullmatch(item.signed.path) for item in kept)
    shown = await house.call("GET", f"/v1/contract_setups/{found['id']}", key="operator-key")
    listed = await house.call("GET", "/v1/contract_setups", key="ada-key")
    assert shown.json() == found
    assert listed.json()["items"] == [found]


async def test_s15_one_person_is_not_two_whatever_key_they_use(house: ApiHouse) -> None:
    await ask(house, DEPLOY)
    await house.add_key(
        "ada-second",
        kind="staff",
        brand=None,
        person="ada",
        scopes=("treasury:write",),
        roles=("treasury",),
    )
    assert await refused(house, DEPLOY, key="ada-second") == (403, "same_person")
    assert (await ask(house, DEPLOY, key="grace-key")).json()["state"] == "approved"


async def test_s15_one_key_under_two_names_is_not_two_people(house: ApiHouse) -> None:
    """The database says no where the names of people lie."""
    await ask(house, DEPLOY)
    await house.rows(
        "UPDATE gateway.clients SET public_key = :key WHERE key_id = 'grace-key'",
        key=vector_key("ada-key").public_key().public_bytes_raw(),
    )
    with pytest.raises(DBAPIError, match="twice"):
        await house.rows(
            "INSERT INTO gateway.contract_setup_requests SELECT setup_id, 'grace', 'grace-key',"
            " method, authority, path, query, headers, body, signature_input, signature, at"
            " FROM gateway.contract_setup_requests"
        )


@pytest.mark.parametrize(
    "change", [{"action": "withdraw"}, {"amount": "250.6"}, {"asset": "eth:ETH"}]
)
async def test_s15_other_words_under_the_same_reference_are_refused(
    with_contract: ApiHouse, change: dict[str, str]
) -> None:
    assert (await ask(with_contract, FUND)).status == 202
    other = {**FUND, **change}
    assert await refused(with_contract, other, key="grace-key") == (409, "other_content")
    assert (await ask(with_contract, FUND, key="grace-key")).json()["state"] == "approved"


async def test_s15_machines_and_other_roles_are_refused(house: ApiHouse) -> None:
    await house.add_key(
        "risk-key",
        kind="staff",
        brand=None,
        person="ron",
        scopes=("treasury:write",),
        roles=("risk",),
    )
    await house.add_key(
        "reader-key", kind="staff", brand=None, person="rea", scopes=("treasury:read",),
        roles=("treasury",),
    )  # fmt: skip
    await house.add_key(
        "branded-key", kind="staff", brand="acme", person="bra", scopes=("treasury:write",),
        roles=("treasury",),
    )  # fmt: skip
    for key in ("acme-key", "operator-key", "risk-key", "reader-key", "branded-key"):
        assert (await ask(house, DEPLOY, key=key)).status == 403, key
    assert await house.rows("SELECT id FROM gateway.contract_setups") == []


async def test_s15_what_is_not_there_is_not_moved(with_contract: ApiHouse) -> None:
    house = with_contract
    assert await refused(house, {**FUND, "amount": "300.000001"}) == (409, "not_enough")
    assert await refused(house, {**WITHDRAW, "amount": "100.000001"}) == (409, "not_enough")
    assert await refused(house, DEPLOY) == (409, "contract_there")
    assert (await ask(house, {**WITHDRAW, "amount": "100"})).status == 202


async def test_s15_bodies_that_the_signer_would_not_read_are_refused(house: ApiHouse) -> None:
    for body, code in (
        (FUND, "no_contract"),
        ({**DEPLOY, "network": "btc"}, "no_contracts"),
        ({**DEPLOY, "network": "tron"}, "unknown_network"),
        ({**DEPLOY, "asset": None}, "invalid"),
        ({**FUND, "asset": "btc:BTC"}, "unknown_asset"),
        ({**FUND, "amount": "1e3"}, "invalid"),
        ({**FUND, "amount": "0.0000001"}, "invalid"),
    ):
        reply = await ask(house, body)
        found = problem(reply)
        codes = {found["code"], *(item["code"] for item in found["errors"])}
        assert (reply.status in (409, 422), code in codes) == (True, True), (body, found)
    for change in ({"reference": "a b"}, {"more": "x"}, {"action": "pay"}):
        assert (await ask(house, {**DEPLOY, **change})).status == 422
    query = await house.call(
        "POST", "/v1/contract_setups?x=1", body=DEPLOY, key="ada-key", idempotency_key="q"
    )
    assert (query.status, problem(query)["code"]) == (422, "query_not_allowed")


async def test_one_set_up_of_a_network_at_a_time_and_a_person_may_say_no(house: ApiHouse) -> None:
    found = (await ask(house, DEPLOY)).json()
    other = {**DEPLOY, "reference": "second"}
    assert await refused(house, other, key="grace-key") == (409, "setup_open")

    path = f"/v1/contract_setups/{found['id']}/decline"
    for _ in range(2):
        reply = await house.call("POST", path, body={"reason": "not now"}, key="grace-key")
        assert (reply.status, reply.json()["state"]) == (200, "declined")
    assert await refused(house, DEPLOY, key="grace-key") == (409, "decided")
    assert (await ask(house, other, key="grace-key")).status == 202


async def test_a_proposal_of_yesterday_or_of_a_lost_key_is_not_agreed_to(house: ApiHouse) -> None:
    found = (await ask(house, DEPLOY)).json()
    await house.rows("UPDATE gateway.clients SET revoked_at = now() WHERE key_id = 'ada-key'")
    assert await refused(house, DEPLOY, key="grace-key") == (409, "proposer_left")
    await house.rows("UPDATE gateway.clients SET revoked_at = NULL WHERE key_id = 'ada-key'")
    house.tick(24 * 3600)
    assert await refused(house, DEPLOY, key="grace-key") == (409, "proposal_expired")
    reply = await house.call("GET", f"/v1/contract_setups/{found['id']}", key="grace-key")
    assert reply.json()["state"] == "proposed"


async def test_a_set_up_that_is_not_there_is_not_found(house: ApiHouse) -> None:
    path = "/v1/contract_setups/cst_test_" + "0" * 32
    body = {"reason": "no"}
    assert (await house.call("GET", path, key="ada-key")).status == 404
    assert (await house.call("POST", f"{path}/decline", body=body, key="ada-key")).status == 404
