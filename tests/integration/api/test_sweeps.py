"""Sweeps and their policy over the API: who sees, who asks, and that two people decide."""

from typing import Any
from uuid import UUID

import pytest

from gateway.payouts import sweeps
from gateway.payouts.sweeps_store import SweepRow
from tests.support.api import ApiHouse, problem
from watchers import addresses

pytestmark = pytest.mark.postgres

RULES = [{"asset": "eth:USDT", "threshold": "100", "max_age_hours": 168, "fee_permille": 20}]
GAS = [
    {"network": "eth", "account_min": "0.1", "account_target": "0.5", "refill_day_max": "1"},
]


@pytest.fixture(autouse=True)
async def people(house: ApiHouse) -> None:
    """Two treasurers and an auditor."""
    for person in ("rosa", "remy"):
        await house.add_key(
            f"{person}-key",
            kind="staff",
            brand=None,
            person=person,
            scopes=("policies:write", "treasury:read", "treasury:write"),
            roles=("treasury",),
        )
    await house.add_key(
        "olga-key", kind="staff", brand=None, person="olga", scopes=("treasury:read",),
        roles=("auditor",),
    )  # fmt: skip


async def sweep(house: ApiHouse, *, brand: str = "acme", asset: str = "eth:ETH") -> UUID:
    """One that waits, at an address of a player of the brand."""
    house.tick(1)  # ids follow the clock
    at, sweep_id = house.clock.now(), house.ids.new_id()
    async with house.owner.unit_of_work() as uow:
        to = await addresses.hand_out(
            uow, brand=brand, player_id=f"p-{sweep_id}", network="eth", at=at
        )
        row = SweepRow(
            id=sweep_id, network="eth", brand=brand, address_id=to.id, address=to.address,
            key=to.key, asset=asset, amount_minor=10**18, moved_minor=None, deposits=2,
            oldest_at=at, state="waiting", code="below_threshold", reason=None, requested_by=None,
            version=1, tries=0, gas_attempt_id=None, attempt_id=None, txid=None, look_at=at,
            created_at=at, state_at=at,
        )  # fmt: skip
        await sweeps.open_many(uow, [row], ids=house.ids, at=at)
    return sweep_id


async def requested(house: ApiHouse) -> list[str | None]:
    rows = await house.rows("SELECT requested_by FROM gateway.sweeps ORDER BY id")
    return [row["requested_by"] for row in rows]


async def test_t2_sweeps_are_listed_and_a_brand_sees_its_own(house: ApiHouse) -> None:
    mine, other = await sweep(house), await sweep(house, brand="bravo")
    reply = await house.call("GET", "/v1/sweeps", key="olga-key")
    assert reply.status == 200, reply.body
    assert [item["id"] for item in reply.json()["items"]] == [
        f"swp_test_{other.hex}", f"swp_test_{mine.hex}",
    ]  # fmt: skip
    await house.add_key("acme-treasury", scopes=("treasury:read",))
    reply = await house.call("GET", "/v1/sweeps", key="acme-treasury")
    [item] = reply.json()["items"]
    assert (item["id"], item["amount"], item["state"]) == (f"swp_test_{mine.hex}", "1", "waiting")
    reply = await house.call("GET", f"/v1/sweeps/swp_test_{other.hex}", key="acme-treasury")
    assert reply.status == 404
    reply = await house.call("GET", "/v1/sweeps?state=swept", key="olga-key")
    assert reply.json()["items"] == []


async def test_a_person_asks_for_what_waits_and_a_dry_run_asks_for_nothing(
    house: ApiHouse,
) -> None:
    await sweep(house)
    await sweep(house, asset="eth:USDT")
    body: dict[str, Any] = {"asset": "eth:ETH", "dry_run": True}
    reply = await house.call("POST", "/v1/sweeps", body=body, key="rosa-key")
    assert reply.status == 200, reply.body
    assert (reply.status, reply.json()["sweeps"]) == (200, 1)
    assert await requested(house) == [None, None]
    body["dry_run"] = False
    reply = await house.call("POST", "/v1/sweeps", body=body, key="rosa-key")
    assert reply.json()["waiting"] == [
        {
            "asset": "eth:ETH", "state": "waiting", "sweeps": 1, "amount": "1",
            "amount_minor": str(10**18),
        }
    ]  # fmt: skip
    assert await requested(house) == ["rosa", None]


async def test_whoever_only_reads_asks_for_nothing(house: ApiHouse) -> None:
    await sweep(house)
    reply = await house.call("POST", "/v1/sweeps", body={}, key="olga-key")
    assert reply.status == 403
    reply = await house.call("POST", "/v1/sweeps", body={"asset": "eth:XXX"}, key="rosa-key")
    assert problem(reply)["errors"][0]["code"] == "unknown_asset"
    assert await requested(house) == [None]


async def test_t5_a_sweep_policy_takes_two_people(house: ApiHouse) -> None:
    body = {"base_version": 0, "rules": RULES, "gas": GAS, "reason": "first"}
    reply = await house.call("PUT", "/v1/policies/sweep", body=body, key="rosa-key")
    assert (reply.status, reply.json()["policy"]["version"]) == (202, 0)
    reply = await house.call("PUT", "/v1/policies/sweep", body=body, key="rosa-key")
    assert reply.status == 202  # the same person again is one person (A31)
    reply = await house.call("PUT", "/v1/policies/sweep", body=body, key="remy-key")
    assert (reply.status, reply.json()["policy"]["version"]) == (200, 1)
    found = (await house.call("GET", "/v1/policies/sweep", key="olga-key")).json()
    assert (found["version"], found["proposed_by"], found["approved_by"]) == (1, "rosa", "remy")
    assert found["rules"][0]["threshold"] == "100"
    stale = {**body, "reason": "again"}
    reply = await house.call("PUT", "/v1/policies/sweep", body=stale, key="remy-key")
    assert (reply.status, reply.json()["policy"]["version"]) == (200, 1)  # the same content
    other = {**body, "rules": [{"asset": "eth:USDT", "threshold": "5"}]}
    reply = await house.call("PUT", "/v1/policies/sweep", body=other, key="rosa-key")
    assert problem(reply)["code"] == "version_moved"


async def test_a_sweep_policy_that_cannot_be_is_refused_by_field(house: ApiHouse) -> None:
    rules = [{"asset": "btc:BTC", "threshold": "1"}]
    body = {"base_version": 0, "rules": rules, "gas": [], "reason": "coins"}
    reply = await house.call("PUT", "/v1/policies/sweep", body=body, key="rosa-key")
    assert reply.status == 422
    assert problem(reply)["errors"][0]["field"] == "rules[0].asset"
