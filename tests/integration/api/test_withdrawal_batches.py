"""`POST /v1/withdrawal_batches`: items stand alone, a crash is continued, the signer reads it."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from gateway.client import Reply
from ledger.reconcile import check_books
from tests.support.api import BTC_ADDRESS, ETH_ADDRESS, ApiHouse, problem

COIN = 100_000_000
PATH = "/v1/withdrawal_batches"


def item(number: int, **fields: Any) -> dict[str, Any]:
    """A good order of its own player."""
    return {
        "request_id": f"r-{number}",
        "player_id": f"p-{number}",
        "asset": "btc:BTC",
        "address": BTC_ADDRESS,
        "amount": "0.1",
        "pam_balance": "0",
        **fields,
    }


async def send(
    house: ApiHouse, items: list[dict[str, Any]], *, key: str = "k1", client: str = "acme-key"
) -> Reply:
    return await house.call("POST", PATH, body={"items": items}, idempotency_key=key, key=client)


async def count(house: ApiHouse, table: str) -> int:
    [row] = await house.rows(f"SELECT count(*) AS n FROM {table}")
    return int(row["n"])


async def test_results_stand_in_the_order_of_the_items(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    house_address = await house.own_text("btc", "hot")
    reply = await send(
        house,
        [
            item(1),
            item(2, amount="0.00001"),
            item(3, asset="doge:DOGE"),
            item(4, amount="5"),
            item(5, address=house_address),
            item(6, address=BTC_ADDRESS[:-1] + "x"),
            item(7, amount="0.123456789"),
            item(8, amount="0.2"),
        ],
    )
    assert reply.status == 202, reply.body
    found = reply.json()["items"]
    assert [each["request_id"] for each in found] == [f"r-{n}" for n in range(1, 9)]
    assert [each.get("state", each.get("status")) for each in found] == [
        "queued", "rejected", 422, "waiting_liquidity", 422, 422, 422, "queued",
    ]  # fmt: skip
    assert [each["errors"][0]["code"] for each in found if "errors" in each] == [
        "unknown_asset", "own_address", "invalid_address", "invalid_amount",
    ]  # fmt: skip
    assert await count(house, "gateway.withdrawals") == 4
    assert await count(house, "ledger.holds") == 2
    one = await house.call("GET", f"/v1/withdrawals/{found[0]['id']}")
    assert one.json() == found[0]
    async with house.owner.unit_of_work() as uow:
        assert await check_books(uow) == []


async def test_a01_the_same_key_and_body_again_is_the_stored_answer(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    replies = await asyncio.gather(*(send(house, [item(n) for n in range(5)]) for _ in range(6)))
    assert {reply.status for reply in replies} <= {202, 409}
    done = [reply for reply in replies if reply.status == 202]
    assert len({reply.body for reply in done}) == 1
    again = await send(house, [item(n) for n in range(5)])
    assert (again.body, again.headers["Idempotent-Replayed"]) == (done[0].body, "true")
    assert await count(house, "gateway.withdrawals") == 5
    assert await count(house, "ledger.holds") == 5


async def test_a02_the_same_key_with_another_body_is_refused(house: ApiHouse) -> None:
    await send(house, [item(1)])
    reply = await send(house, [item(1), item(2)])
    assert (reply.status, problem(reply)["code"]) == (422, "idempotency_mismatch")
    assert await count(house, "gateway.withdrawals") == 1


async def test_one_request_id_twice_stores_nothing(house: ApiHouse) -> None:
    reply = await send(house, [item(1), item(2), item(1, amount="0.2")])
    found = problem(reply)
    assert (reply.status, found["code"]) == (422, "duplicate_request_id")
    assert found["errors"][0]["field"] == "items[2].request_id"
    assert await count(house, "gateway.withdrawals") == 0
    assert await count(house, "gateway.withdrawal_batches") == 0
    assert (await send(house, [item(1)])).status == 202  # the key stayed free


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([], "items"),
        ([item(n) for n in range(501)], "items"),
        ([item(1), item(2, amount=5)], "items[1].amount"),
        ([item(1), item(2, status="queued")], "items[1].status"),
        ([item(1), {**item(2), "request_id": ""}], "items[1].request_id"),
        ([item(1), 7], "items[1]"),
    ],
)
async def test_a32_a_body_off_its_form_is_refused_whole(
    house: ApiHouse, items: list[Any], field: str
) -> None:
    reply = await send(house, items)
    found = problem(reply)
    assert (reply.status, found["errors"][0]["field"]) == (422, field)
    assert await count(house, "gateway.withdrawals") == 0


async def test_a_request_id_that_stands_is_its_object_or_a_mismatch(house: ApiHouse) -> None:
    single = (await house.withdraw(request_id="r-1", player_id="p-1")).json()
    first = (await send(house, [item(1), item(2)])).json()["items"]
    assert first[0] == single
    second = (await send(house, [item(3), item(2), item(1, amount="0.2")], key="k2")).json()
    [third, again, mismatch] = second["items"]
    assert third["state"] == "waiting_liquidity"
    assert again == first[1]
    assert (mismatch["status"], mismatch["code"]) == (422, "idempotency_mismatch")
    alone = await house.withdraw(**item(2))
    assert (alone.json(), alone.headers["Idempotent-Replayed"]) == (first[1], "true")


async def test_a06_a_crashed_batch_is_continued_by_the_retry(house: ApiHouse) -> None:
    """Item 3 waits for its player when the process loses its database, as when it dies."""
    await house.fund("acme", "btc:BTC", COIN)
    items = [item(n) for n in range(1, 6)]
    await house.withdraw(request_id="x", player_id="p-3", amount="0.01")
    async with house.owner.unit_of_work() as uow:
        await uow.execute(
            "SELECT 1 FROM ledger.players WHERE brand = 'acme' AND player_id = 'p-3' FOR UPDATE"
        )
        calling = asyncio.create_task(send(house, items))
        while await count(house, "gateway.withdrawals") < 3:
            assert not calling.done()
        standing = await house.rows(
            "SELECT id FROM gateway.withdrawals WHERE request_id IN ('r-1', 'r-2') ORDER BY id"
        )
        await uow.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'gateway_api' AND datname = current_database()"
        )
        crashed = await calling
    assert crashed.status == 503
    assert await count(house, "gateway.withdrawals") == 3
    assert await count(house, "gateway.idempotency WHERE key = 'k1'") == 0

    reply = await send(house, items)
    assert reply.status == 202
    assert "Idempotent-Replayed" not in reply.headers
    found = reply.json()["items"]
    assert [each["state"] for each in found] == ["queued"] * 5
    rows = await house.rows(
        "SELECT id FROM gateway.withdrawals WHERE request_id IN ('r-1', 'r-2') ORDER BY id"
    )
    assert rows == standing
    assert await count(house, "ledger.holds") == 6
    assert (await send(house, items)).body == reply.body


async def test_a07_items_of_two_batches_never_reserve_more_than_there_is(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    replies = await asyncio.gather(
        send(house, [item(n, amount="0.3") for n in range(10)], key="a"),
        send(house, [item(n, amount="0.3") for n in range(10, 20)], key="b"),
    )
    states = [each["state"] for reply in replies for each in reply.json()["items"]]
    assert sorted(states) == ["queued"] * 3 + ["waiting_liquidity"] * 17


async def test_a_large_body_is_taken_and_kept_once(house: ApiHouse) -> None:
    """Each request stands for itself and shares the signed bytes."""
    notes = {f"note-{n}": "n" * 500 for n in range(6)}
    items = [item(n, metadata=notes) for n in range(100)]
    assert 256 * 1024 < len(json.dumps({"items": items})) < 512 * 1024
    reply = await send(house, items)
    assert reply.status == 202
    assert len({each["id"] for each in reply.json()["items"]}) == 100
    assert await count(house, "gateway.withdrawal_batches") == 1
    [row] = await house.rows(
        "SELECT count(*) AS n, count(body) AS own FROM gateway.withdrawal_requests"
    )
    assert (row["n"], row["own"]) == (100, 0)
    [row] = await house.rows("SELECT count(DISTINCT body) AS n FROM gateway.signed_requests")
    assert row["n"] == 1


async def test_a24_bodies_over_their_limit_are_413(house: ApiHouse) -> None:
    wide = {"note": "n" * 500}
    batch = await send(house, [item(n, metadata=wide) for n in range(500)] + [item(500)])
    assert batch.status == 422  # one too many, within the size
    over = await house.call(
        "POST", PATH, body=b'{"items": [' + b" " * 512 * 1024 + b"]}", idempotency_key="k"
    )
    assert (over.status, problem(over)["code"]) == (413, "body_too_large")
    single = await house.call(
        "POST", "/v1/withdrawals", body=b"{" + b" " * 64 * 1024 + b"}", idempotency_key="k"
    )
    assert single.status == 413


async def test_a29_another_brand_orders_for_itself_only(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await send(house, [item(1)])
    other = (await send(house, [item(1)], client="bravo-key")).json()["items"][0]
    assert (other["brand"], other["state"]) == ("bravo", "waiting_liquidity")
    assert other["version"] == 2


async def test_a05_a_batch_takes_a_key_and_the_right_scope(house: ApiHouse) -> None:
    bare = await house.call("POST", PATH, body={"items": [item(1)]})
    assert (bare.status, problem(bare)["code"]) == (400, "idempotency_key_required")
    await house.add_key("reader", scopes=("withdrawals:read",))
    assert (await send(house, [item(1)], client="reader")).status == 403
    assert (await send(house, [item(1)], client="operator-key")).status == 403


async def test_items_of_other_assets_and_fees_ride_in_one_batch(house: ApiHouse) -> None:
    until = (house.clock.now() + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    reply = await send(
        house,
        [
            item(1, valid_until=until),
            item(2, asset="eth:ETH", address=ETH_ADDRESS, fee_class="urgent"),
            item(3, fee_mode="player", max_fee="0.001"),
        ],
    )
    found = reply.json()["items"]
    assert [each["asset"] for each in found] == ["btc:BTC", "eth:ETH", "btc:BTC"]
    assert found[2]["code"] == "fees_unknown"
