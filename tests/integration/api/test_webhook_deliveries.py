"""The log of deliveries, and sending again by hand: real sequencer, relay, receiver and API."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Database, async_url
from config.ids import public_id
from gateway.client import Reply
from gateway.webhooks.connector import WebhookClient
from tests.integration.webhooks.desk import SCHEDULE, Desk
from tests.support.api import ApiHouse, problem
from tests.support.databases import TestDatabase
from tests.support.receiver import Receiver, receiving

pytestmark = pytest.mark.postgres

ROUNDS = 12  # of a race


@dataclass(slots=True, kw_only=True)
class Post:
    """The API, the webhook role's loops by hand, and a receiver of brand acme."""

    house: ApiHouse
    desk: Desk
    client: WebhookClient
    receiver: Receiver
    endpoint: UUID

    async def drain(self) -> None:
        """Number and deliver until nothing is due."""
        await self.desk.number()
        relay = self.desk.relay(self.client)
        while await relay.run_once():
            pass

    async def deliveries(
        self, query: str = "", *, key: str = "acme-key"
    ) -> list[dict[str, object]]:
        reply = await self.house.call("GET", f"/v1/webhook_deliveries{query}", key=key)
        assert reply.status == 200, reply.body
        found: list[dict[str, object]] = reply.json()["items"]
        return found

    async def redeliver(self, delivery_id: object, *, key: str = "acme-key") -> Reply:
        return await self.house.call(
            "POST", f"/v1/webhook_deliveries/{delivery_id}/redeliver", body={}, key=key
        )

    async def recover(self, *, key: str = "acme-key", **body: str) -> Reply:
        target = f"/v1/webhook_endpoints/{self.wire(self.endpoint)}/recover"
        return await self.house.call("POST", target, body=body, key=key)

    async def test(self, *, key: str = "acme-key") -> Reply:
        target = f"/v1/webhook_endpoints/{self.wire(self.endpoint)}/test"
        return await self.house.call("POST", target, body={}, key=key)

    async def park(self) -> None:
        """Whatever is pending gives up."""
        self.receiver.answer = lambda _received: 500
        await self.desk.number()
        while any(state == "pending" for state, _ in await self.desk.deliveries()):
            await self.drain()
            self.house.clock.advance(SCHEDULE.tail_seconds)
            await self.house.rows(
                "UPDATE gateway.webhook_endpoints SET state = 'active',"
                " failures_in_a_row = 0, next_probe_at = NULL"
            )
        self.receiver.answer = lambda _received: 204

    def wire(self, endpoint_id: UUID) -> str:
        return public_id("webhook_endpoint", endpoint_id, livemode=False)


@pytest.fixture
async def post(house: ApiHouse, test_database: TestDatabase) -> AsyncIterator[Post]:
    role = Database(async_url(test_database.role_url("gateway_webhooks")))
    desk = Desk(
        owner=house.owner,
        role=role,
        clock=house.clock,
        ids=house.ids,
        key=house.server._services.sealing_key,
    )
    async with (
        receiving() as receiver,
        WebhookClient(
            allow_hosts=["127.0.0.1"], timeout_seconds=SCHEDULE.timeout_seconds
        ) as client,
    ):
        endpoint = await desk.add_endpoint(receiver.url, types=("deposit.*",))
        yield Post(house=house, desk=desk, client=client, receiver=receiver, endpoint=endpoint)
    await role.close()


async def test_e4_the_log_tells_what_became_of_each_event(post: Post) -> None:
    first = await post.desk.event()
    await post.drain()
    post.house.tick(1)  # ids are in the order of their milliseconds
    post.receiver.answer = lambda _received: 503
    await post.desk.event()
    await post.drain()
    newest, oldest = await post.deliveries()
    assert (oldest["state"], oldest["last_status"], oldest["attempts"]) == ("delivered", 204, 1)
    assert oldest["event_id"] == public_id("event", first, livemode=False)
    assert oldest["next_attempt_at"] is None
    assert (newest["state"], newest["last_status"], newest["attempts"]) == ("pending", 503, 1)
    assert newest["next_attempt_at"] == "2026-01-01T00:00:06.000000Z"
    assert await post.deliveries("?state=delivered") == [oldest]
    assert await post.deliveries("?state=parked") == []
    assert await post.deliveries(f"?event={oldest['event_id']}") == [oldest]
    assert await post.deliveries(f"?endpoint={newest['endpoint_id']}") == [newest, oldest]
    reply = await post.house.call("GET", f"/v1/webhook_deliveries/{oldest['id']}")
    assert reply.json() == oldest


async def test_the_log_comes_in_pages(post: Post) -> None:
    for _ in range(5):
        await post.desk.event()
        await post.drain()
        post.house.tick(1)
    seen, cursor = [], ""
    while True:
        reply = await post.house.call("GET", f"/v1/webhook_deliveries?limit=2{cursor}")
        seen += [item["seq"] for item in reply.json()["items"]]
        if reply.json()["next_cursor"] is None:
            break
        cursor = f"&cursor={reply.json()['next_cursor']}"
    assert seen == [5, 4, 3, 2, 1]
    for wrong in ("?endpoint=we_1", "?event=evt_test_0", "?state=lost", "?cursor=!"):
        reply = await post.house.call("GET", f"/v1/webhook_deliveries{wrong}")
        assert problem(reply)["status"] == 422, wrong


async def test_d78_a_delivered_event_is_sent_again_byte_for_byte(post: Post) -> None:
    await post.desk.event()
    await post.drain()
    [delivery] = await post.deliveries()
    reply = await post.redeliver(delivery["id"])
    assert (reply.status, reply.json()["state"], reply.json()["attempts"]) == (202, "pending", 0)
    await post.drain()
    first, second = post.receiver.received
    assert first.body == second.body
    assert first.webhook_id == second.webhook_id
    assert [item["state"] for item in await post.deliveries()] == ["delivered"]


async def test_p33_a_parked_event_goes_before_what_waits_of_its_object(post: Post) -> None:
    """The later version waits for the older one again, and the alarm ends."""
    object_id = post.desk.ids.new_id()
    await post.desk.event(object_id=object_id)
    await post.park()
    alarms = "SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL AND kind = 'webhook_parked'"
    assert len(await post.house.rows(alarms)) == 1
    await post.desk.event(object_id=object_id, version=2)
    await post.desk.number()
    [parked] = await post.deliveries("?state=parked")
    assert (await post.redeliver(parked["id"])).json()["is_waiting"] is False
    assert await post.house.rows(alarms) == []
    [later] = [item for item in await post.deliveries("?state=pending") if item["seq"] == 2]
    assert later["is_waiting"] is True
    post.receiver.received.clear()
    await post.drain()
    assert [received.event["object_version"] for received in post.receiver.received] == [1, 2]


async def test_a_pending_one_is_due_now_and_still_waits_its_turn(post: Post) -> None:
    object_id = post.desk.ids.new_id()
    for version in (1, 2):
        await post.desk.event(object_id=object_id, version=version)
    post.receiver.answer = lambda _received: 500
    await post.drain()
    first, later = sorted(await post.deliveries(), key=lambda item: str(item["seq"]))
    post.receiver.answer = lambda _received: 204
    post.receiver.received.clear()
    reply = await post.redeliver(later["id"])
    assert reply.json()["is_waiting"] is True
    await post.drain()
    assert post.receiver.received == []
    reply = await post.redeliver(first["id"])
    assert (reply.json()["attempts"], reply.json()["is_waiting"]) == (1, False)
    await post.drain()
    assert [received.event["object_version"] for received in post.receiver.received] == [1, 2]


async def test_sending_again_beside_the_sequencer_never_frees_two_of_an_object(post: Post) -> None:
    """Both want to say which is the oldest of an object; the relay works meanwhile."""
    object_id = post.desk.ids.new_id()
    await post.desk.event(object_id=object_id)
    await post.drain()
    [first] = await post.deliveries()
    relay = post.desk.relay(post.client)
    for version in range(2, ROUNDS + 2):
        await post.desk.event(object_id=object_id, version=version)
        reply, *_ = await asyncio.gather(
            post.redeliver(first["id"]), post.desk.number(), relay.run_once()
        )
        assert reply.status == 202
        oldest = await post.house.rows(
            "SELECT count(*) FILTER (WHERE is_oldest) AS free, min(seq) = min(seq)"
            " FILTER (WHERE is_oldest) AS is_first FROM gateway.deliveries WHERE state = 'pending'"
        )
        assert (oldest[0]["free"], oldest[0]["is_first"]) in ((1, True), (0, None))
    await post.drain()
    assert {state for state, _ in await post.desk.deliveries()} == {"delivered"}
    assert len(await post.deliveries()) == ROUNDS + 1


async def test_what_was_parked_or_never_had_is_recovered_and_nothing_twice(post: Post) -> None:
    start = post.house.clock.now()
    await post.desk.event()
    await post.drain()
    await post.desk.event()
    await post.park()
    await post.house.rows("UPDATE gateway.webhook_endpoints SET state = 'deleted'")
    await post.desk.event()
    await post.drain()
    await post.house.rows("UPDATE gateway.webhook_endpoints SET state = 'active'")
    assert len(await post.deliveries()) == 2
    post.receiver.received.clear()
    post.house.tick(1)
    reply = await post.recover(since=start.isoformat())
    assert (reply.status, reply.json()) == (202, {"queued": 2, "next_since": None})
    assert (await post.recover(since=start.isoformat())).json()["queued"] == 0
    await post.drain()
    assert sorted(received.event["seq"] for received in post.receiver.received) == [2, 3]
    assert {item["state"] for item in await post.deliveries()} == {"delivered"}
    assert (await post.recover(since=start.isoformat())).json()["queued"] == 0


async def test_only_the_endpoints_types_brand_and_time_are_recovered(post: Post) -> None:
    start = post.house.clock.now()
    await post.house.rows(
        "UPDATE gateway.webhook_endpoints SET types = '{deposit.final}', state = 'deleted'"
    )
    object_id = post.desk.ids.new_id()
    for version in (1, 2):
        await post.desk.event(object_id=object_id, version=version)
    await post.desk.event(version=2, brand="bravo")
    post.house.tick(60)
    await post.desk.event(version=2)
    await post.desk.number()
    await post.house.rows("UPDATE gateway.webhook_endpoints SET state = 'active'")
    until = (start + timedelta(seconds=30)).isoformat()
    reply = await post.recover(since=start.isoformat(), until=until)
    assert reply.json()["queued"] == 1
    await post.drain()
    [received] = post.receiver.received
    assert (received.event["type"], received.event["brand"]) == ("deposit.final", "acme")


@pytest.mark.parametrize(
    "body",
    [
        {"since": "yesterday"},
        {"since": "2026-01-01T00:00:00"},
        {"since": "2027-01-01T00:00:00Z"},
        {"since": "2025-01-01T00:00:00Z"},
        {"since": "2025-12-31T00:00:00Z", "until": "2025-12-30T00:00:00Z"},
    ],
)
async def test_a_time_that_is_none_or_too_long_is_refused(post: Post, body: dict[str, str]) -> None:
    assert problem(await post.recover(**body))["status"] == 422


async def test_a_test_event_reaches_its_endpoint_alone_whatever_it_asked_for(post: Post) -> None:
    async with receiving() as other:
        await post.desk.add_endpoint(other.url)
        reply = await post.test()
        assert reply.status == 202
        await post.drain()
        [received] = post.receiver.received
        assert other.received == []
    assert received.event["type"] == "webhook.test"
    assert received.webhook_id == reply.json()["event_id"]
    [delivery] = await post.deliveries(f"?event={reply.json()['event_id']}")
    assert delivery["state"] == "delivered"
    await post.house.rows("UPDATE gateway.webhook_endpoints SET state = 'paused'")
    assert problem(await post.test())["code"] == "endpoint_paused"


async def test_a29_deliveries_of_another_brand_do_not_exist(post: Post) -> None:
    await post.desk.event()
    await post.drain()
    [delivery] = await post.deliveries()
    assert await post.deliveries(key="bravo-key") == []
    since = post.house.clock.now().isoformat()
    post.house.tick(1)
    for reply in (
        await post.house.call("GET", f"/v1/webhook_deliveries/{delivery['id']}", key="bravo-key"),
        await post.redeliver(delivery["id"], key="bravo-key"),
        await post.recover(key="bravo-key", since=since),
        await post.test(key="bravo-key"),
    ):
        assert problem(reply)["status"] == 404
    async with post.desk.role.unit_of_work() as uow:
        with pytest.raises(DBAPIError, match="permission denied"):
            await uow.execute("SELECT gateway.send_again(NULL, NULL, NULL, now())")
    assert len(post.receiver.received) == 1
