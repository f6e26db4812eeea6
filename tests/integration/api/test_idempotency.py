"""One effect per key and per request_id, whatever the caller repeats (A01-A06)."""

import asyncio
import json

import pytest

from gateway.client import Reply
from tests.support.api import BTC_ADDRESS, ApiHouse, api_house, problem
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase

DAY_SECONDS = 86_400.0


def order(**fields: str) -> dict[str, str]:
    """A good order with its own request_id."""
    return {
        "request_id": "r1",
        "player_id": "p1",
        "asset": "btc:BTC",
        "address": BTC_ADDRESS,
        "amount": "0.1",
        "pam_balance": "0",
        **fields,
    }


async def send(house: ApiHouse, body: dict[str, str] | bytes, *, idempotency_key: str) -> Reply:
    """One freshly signed order."""
    return await house.call("POST", "/v1/withdrawals", body=body, idempotency_key=idempotency_key)


async def test_a01_the_same_key_sent_100_times_at_once_makes_one_withdrawal(
    house: ApiHouse,
) -> None:
    await house.fund("acme", "btc:BTC", 100_000_000)
    async with house.client() as client:
        replies = await asyncio.gather(
            *(
                client.request("POST", "/v1/withdrawals", body=order(), idempotency_key="k1")
                for _ in range(100)
            )
        )
    assert {reply.status for reply in replies} <= {202, 409}
    first = [reply for reply in replies if reply.status == 202]
    assert len({reply.body for reply in first}) == 1
    assert sum("Idempotent-Replayed" not in reply.headers for reply in first) == 1
    assert len(await house.rows("SELECT id FROM gateway.withdrawals")) == 1
    assert len(await house.rows("SELECT id FROM ledger.holds")) == 1
    again = await send(house, order(), idempotency_key="k1")
    assert (again.status, again.body) == (202, first[0].body)
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_an_operator_key_named_like_a_brand_has_its_own_idempotency_keys(
    house: ApiHouse,
) -> None:
    await house.add_key("acme", kind="operator", brand=None)
    replies = [
        await house.call(
            "POST",
            "/v1/players/p1/addresses?brand=acme",
            body={"network": "btc"},
            key=key,
            idempotency_key="k1",
        )
        for key in ("acme-key", "acme", "acme-key")
    ]
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert ["Idempotent-Replayed" in reply.headers for reply in replies] == [False, False, True]


async def test_a01_the_same_request_id_under_other_keys_is_one_withdrawal(
    house: ApiHouse,
) -> None:
    await house.fund("acme", "btc:BTC", 100_000_000)
    async with house.client() as client:
        replies = await asyncio.gather(
            *(
                client.request(
                    "POST", "/v1/withdrawals", body=order(), idempotency_key=f"k{number}"
                )
                for number in range(20)
            )
        )
    assert {reply.status for reply in replies} == {202}
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert len(await house.rows("SELECT id FROM gateway.withdrawals")) == 1


async def test_a01_a_request_id_with_another_body_is_refused(house: ApiHouse) -> None:
    await send(house, order(), idempotency_key="k1")
    reply = await send(house, order(amount="0.2"), idempotency_key="k2")
    assert (reply.status, problem(reply)["code"]) == (422, "idempotency_mismatch")


async def test_a02_another_body_is_refused_and_another_order_of_keys_is_not(
    house: ApiHouse,
) -> None:
    first = await send(house, order(), idempotency_key="k1")
    other = await send(house, order(amount="0.2"), idempotency_key="k1")
    assert (other.status, problem(other)["code"]) == (422, "idempotency_mismatch")
    turned = dict(reversed(order().items()))
    same = await send(house, json.dumps(turned, indent=2).encode(), idempotency_key="k1")
    assert (same.status, same.body) == (202, first.body)
    found = await house.call("GET", f"/v1/withdrawals/{first.json()['id']}")
    assert found.json()["amount"] == "0.1"


async def test_a03_the_same_key_and_request_id_of_another_brand_are_independent(
    house: ApiHouse,
) -> None:
    one = await house.withdraw(request_id="same", idempotency_key="same")
    two = await house.withdraw(request_id="same", idempotency_key="same", key="bravo-key")
    assert (one.status, two.status) == (202, 202)
    assert one.json()["id"] != two.json()["id"]
    assert two.json()["brand"] == "bravo"


async def test_a04_a_key_is_remembered_after_30_days(house: ApiHouse) -> None:
    first = await send(house, order(), idempotency_key="k1")
    house.tick(31 * DAY_SECONDS)
    again = await send(house, order(), idempotency_key="k1")
    fresh = await send(house, order(), idempotency_key="k2")
    assert again.body == first.body
    assert fresh.json()["id"] == first.json()["id"]


async def test_a05_a_money_call_without_a_key_is_refused(house: ApiHouse) -> None:
    reply = await house.call("POST", "/v1/withdrawals", body=order())
    assert (reply.status, problem(reply)["code"]) == (400, "idempotency_key_required")
    assert await house.rows("SELECT id FROM gateway.withdrawals") == []


@pytest.mark.parametrize("key", ["a b", "k" * 256])
async def test_a05_an_unusable_key_is_refused(house: ApiHouse, key: str) -> None:
    reply = await send(house, order(), idempotency_key=key)
    assert (reply.status, problem(reply)["code"]) == (400, "idempotency_key_invalid")


async def test_a06_the_retry_after_a_lost_answer_finds_the_same_withdrawal(
    test_database: TestDatabase, house: ApiHouse, ids: SequentialIds, clock: ManualClock
) -> None:
    """The first process commits and dies with its answer; another one gets the retry."""
    first = await send(house, order(), idempotency_key="k1")
    await house.server.stop()
    folder = house.registry.settings.state_dir
    async with api_house(
        test_database, folder, clock=clock, ids=ids, is_furnished=True
    ) as successor:
        again = await send(successor, order(), idempotency_key="k1")
    assert (again.status, again.json()["id"]) == (202, first.json()["id"])


async def test_a_refused_order_leaves_nothing_and_its_ids_stay_free(house: ApiHouse) -> None:
    bad = await send(house, order(amount="0"), idempotency_key="k1")
    good = await send(house, order(), idempotency_key="k1")
    assert (bad.status, good.status) == (422, 202)
    assert len(await house.rows("SELECT key FROM gateway.idempotency")) == 1
