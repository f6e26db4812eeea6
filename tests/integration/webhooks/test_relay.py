"""Deliveries: at least once, in order per object, on the schedule, each endpoint for itself."""

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from config.ids import public_id
from gateway.webhooks import deliveries_store
from gateway.webhooks.connector import WebhookClient
from gateway.webhooks.delivery import Schedule
from gateway.webhooks.relay import FAN_OUT
from gateway.webhooks.secrets import seal
from tests.integration.webhooks.desk import SCHEDULE, Desk
from tests.support.receiver import Receiver, receiving

pytestmark = pytest.mark.postgres

# Public test vectors, secrets of nobody.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLDER_SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


def wire_id(event_id: UUID) -> str:
    return public_id("event", event_id, livemode=False)


async def drain(desk: Desk, client: WebhookClient) -> int:
    """Run the relay until nothing is due; the number of tries."""
    relay, tries = desk.relay(client), 0
    while count := await relay.run_once():
        tries += count
    return tries


async def test_event_arrives_signed_with_its_id(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    await desk.add_endpoint(receiver.url, secret=SECRET)
    event_id = await desk.event()
    await desk.number()
    await drain(desk, client)
    [received] = receiver.received
    assert received.webhook_id == wire_id(event_id) == received.event["id"]
    assert Webhook(SECRET).verify(received.body, received.headers)["seq"] == 1
    assert await desk.deliveries() == [("delivered", 1)]


async def test_d78_redelivery_is_identical_byte_for_byte(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    await desk.add_endpoint(receiver.url, secret=SECRET)
    await desk.event()
    await desk.number()
    receiver.answer = lambda received: 500 if len(receiver.received) == 1 else 204
    await drain(desk, client)
    desk.clock.advance(5)
    await drain(desk, client)
    first, second = receiver.received
    assert first.body.encode() == second.body.encode()
    assert first.webhook_id == second.webhook_id
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]


async def test_a35_rotation_signs_with_both_secrets_until_the_overlap_ends(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    endpoint = await desk.add_endpoint(receiver.url, secret=SECRET)
    await desk.rows(
        "UPDATE gateway.webhook_endpoints SET previous_secret_sealed = :sealed, "
        "previous_until = CAST(:at AS timestamptz) + interval '60 seconds' "
        "WHERE id = :id RETURNING 1",
        sealed=seal(desk.key, OLDER_SECRET),
        at=desk.clock.now(),
        id=endpoint,
    )
    await desk.event()
    await desk.number()
    await drain(desk, client)
    desk.clock.advance(61)
    await desk.event()
    await desk.number()
    await drain(desk, client)
    during, after = receiver.received
    for secret in (SECRET, OLDER_SECRET):
        Webhook(secret).verify(during.body, during.headers)
    assert after.headers["webhook-signature"].count("v1,") == 1
    Webhook(SECRET).verify(after.body, after.headers)


async def test_endpoint_gets_its_brand_and_its_types_only(
    desk: Desk, client: WebhookClient
) -> None:
    async with receiving() as acme, receiving() as finals, receiving() as bravo:
        await desk.add_endpoint(acme.url)
        await desk.add_endpoint(finals.url, types=("deposit.final",))
        await desk.add_endpoint(bravo.url, brand="bravo")
        object_id = desk.ids.new_id()
        first = await desk.event(object_id=object_id)
        second = await desk.event(object_id=object_id, version=2)
        await desk.number()
        await drain(desk, client)
        assert acme.ids() == [wire_id(first), wire_id(second)]
        assert finals.ids() == [wire_id(second)]
        assert bravo.ids() == []


async def test_only_the_oldest_event_of_an_object_is_tried(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    await desk.add_endpoint(receiver.url)
    stuck, other = desk.ids.new_id(), desk.ids.new_id()
    first = await desk.event(object_id=stuck, version=1)
    await desk.event(object_id=stuck, version=2)
    free = await desk.event(object_id=other, version=1)
    await desk.number()
    receiver.answer = lambda received: 500 if received.webhook_id == wire_id(first) else 204
    await drain(desk, client)
    assert sorted(receiver.ids()) == sorted([wire_id(first), wire_id(free)])
    assert await desk.deliveries() == [("pending", 1), ("pending", 0), ("delivered", 1)]


async def test_events_of_one_object_arrive_in_the_order_of_their_versions(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    await desk.add_endpoint(receiver.url)
    object_id = desk.ids.new_id()
    for version in range(1, 8):
        await desk.event(object_id=object_id, version=version)
    await desk.number()
    receiver.answer = lambda received: 503 if len(receiver.received) % 3 == 0 else 200
    while [state for state, _ in await desk.deliveries()] != ["delivered"] * 7:
        await drain(desk, client)
        desk.clock.advance(5)
    versions = [received.event["object_version"] for received in receiver.received]
    assert versions == sorted(versions)


@pytest.mark.parametrize("status", [301, 404, 410, 500])
async def test_answer_other_than_2xx_is_tried_again_on_the_schedule(
    desk: Desk, client: WebhookClient, receiver: Receiver, status: int
) -> None:
    await desk.add_endpoint(receiver.url)
    await desk.event()
    await desk.number()
    receiver.answer = lambda received: status
    assert await drain(desk, client) == 1
    for wait_seconds in SCHEDULE.steps_seconds:
        desk.clock.advance(wait_seconds - 1)
        assert await drain(desk, client) == 0
        desk.clock.advance(1)
        assert await drain(desk, client) == 1
    assert await desk.deliveries() == [("pending", 4)]


async def test_p33_delivery_is_parked_with_an_alarm_and_later_ones_go_on(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    await desk.add_endpoint(receiver.url)
    object_id = desk.ids.new_id()
    first = await desk.event(object_id=object_id, version=1)
    second = await desk.event(object_id=object_id, version=2)
    await desk.number()
    receiver.answer = lambda received: 500 if received.webhook_id == wire_id(first) else 204
    for _ in range(10):
        await drain(desk, client)
        desk.clock.advance(SCHEDULE.tail_seconds)
    assert [state for state, _ in await desk.deliveries()] == ["parked", "delivered"]
    assert receiver.ids()[-1] == wire_id(second)
    alarms = await desk.rows("SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL")
    assert alarms == [("webhook_parked",)]


async def test_p33_restart_in_the_middle_of_a_try_repeats_it(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    """The relay dies after the receiver got the event and before it was told so."""
    await desk.add_endpoint(receiver.url)
    event_id = await desk.event()
    await desk.number()
    receiver.hangs = asyncio.Event()
    dying = asyncio.create_task(desk.relay(client).run())
    async with asyncio.timeout(10):
        await receiver.arrived.wait()
    dying.cancel()
    await asyncio.wait([dying])
    receiver.hangs.set()
    receiver.hangs = None
    assert await drain(desk, client) == 0  # the claim of the dead relay still stands
    desk.clock.advance(SCHEDULE.claim_seconds)
    assert await drain(desk, client) == 1
    assert receiver.ids() == [wire_id(event_id)] * 2
    assert await desk.deliveries() == [("delivered", 1)]


async def test_p33_receiver_down_for_a_day_gets_everything_in_order(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    schedule = Schedule(
        steps_seconds=(5, 30, 120, 600, 1800, 3600, 7200),
        tail_seconds=4 * 3600,
        total_seconds=72 * 3600,
        pause_after_failures=20,
        timeout_seconds=5.0,
    )
    await desk.add_endpoint(receiver.url)
    objects = [desk.ids.new_id() for _ in range(3)]
    receiver.answer = lambda received: 503
    for hour in range(24):
        if hour < 5:
            for object_id in objects:
                await desk.event(object_id=object_id, version=hour + 1)
            await desk.number()
        while await desk.relay(client, schedule=schedule).run_once():
            pass
        desk.clock.advance(3600)
    receiver.answer = lambda received: 204
    receiver.received.clear()
    for _ in range(40):
        while await desk.relay(client, schedule=schedule).run_once():
            pass
        desk.clock.advance(3600)
    for object_id in objects:
        mine = [
            received.event["object_version"]
            for received in receiver.received
            if received.event["object"]["id"].endswith(object_id.hex)
        ]
        assert mine == [1, 2, 3, 4, 5]


async def test_p34_failing_endpoint_is_paused_alone_with_one_probe(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    async with receiving() as broken:
        await desk.add_endpoint(receiver.url)
        await desk.add_endpoint(broken.url)
        broken.answer = lambda received: 500
        for _ in range(30):
            await desk.event()
        await desk.number()
        await drain(desk, client)
        assert len(receiver.received) == 30
        states = await desk.rows(
            "SELECT state, failures_in_a_row FROM gateway.webhook_endpoints ORDER BY state"
        )
        assert states == [("active", 0), ("paused", 20)]
        before = len(broken.received)
        desk.clock.advance(SCHEDULE.steps_seconds[0])
        assert await drain(desk, client) == 1
        assert len(broken.received) == before + 1
        alarms = await desk.rows("SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL")
        assert alarms == [("webhook_endpoint_paused",)]

        broken.answer = lambda received: 204
        desk.clock.advance(SCHEDULE.steps_seconds[1])
        await drain(desk, client)
        desk.clock.advance(SCHEDULE.steps_seconds[0])
        await drain(desk, client)
        assert len(set(broken.ids())) == 30
        assert {state for state, _ in await desk.deliveries()} == {"delivered"}
        assert await desk.rows("SELECT 1 FROM gateway.alarms WHERE cleared_at IS NULL") == []


async def test_p34_hanging_receiver_leaves_the_others_alone(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    """More events than places: the hanging endpoint fills its own places only."""
    async with receiving() as hanging:
        hanging.hangs = asyncio.Event()
        await desk.add_endpoint(hanging.url)
        await desk.add_endpoint(receiver.url)
        for _ in range(3 * FAN_OUT):
            await desk.event()
        await desk.number()
        slow = Schedule(
            steps_seconds=(5,),
            tail_seconds=600,
            total_seconds=2000,
            pause_after_failures=20,
            timeout_seconds=30.0,
        )
        async with WebhookClient(allow_hosts=["127.0.0.1"], timeout_seconds=30.0) as patient:
            running = asyncio.create_task(desk.relay(patient, schedule=slow).run())
            try:
                async with asyncio.timeout(20):
                    while len(receiver.received) < 3 * FAN_OUT:
                        receiver.arrived.clear()
                        await receiver.arrived.wait()
                assert len(hanging.received) <= FAN_OUT
            finally:
                running.cancel()
                await asyncio.wait([running])


async def test_p34_places_go_to_who_has_most_left_however_long_the_queues_of_others_are(
    desk: Desk,
) -> None:
    """As many places as the busy endpoints could take at once: their queues are always full."""
    busy = [await desk.add_endpoint(f"https://slow-{number}.test") for number in range(3)]
    idle = await desk.add_endpoint("https://quick.test")
    busy.append(await desk.add_endpoint("https://slow-3.test"))
    for _ in range(4):
        await desk.event()
    await desk.number()
    now = desk.clock.now()
    async with desk.role.unit_of_work() as uow:
        claims = await deliveries_store.claim_due(
            uow,
            at=now,
            claimed_until=now + timedelta(seconds=5),
            fan_out=FAN_OUT,
            free=dict.fromkeys(busy, 2),
            total=6,
        )
    assert Counter(claim.endpoint_id for claim in claims) == {idle: 4, min(busy): 2}


async def test_p18_two_relays_send_each_delivery_once(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    await desk.add_endpoint(receiver.url)
    for _ in range(60):
        await desk.event()
    await desk.number()
    while any(await asyncio.gather(desk.relay(client).run_once(), desk.relay(client).run_once())):
        pass
    assert len(receiver.ids()) == len(set(receiver.ids())) == 60


async def test_late_failure_of_a_lost_claim_does_not_undo_a_delivery(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    """A relay that slept past its claim reports a failure after another one delivered."""
    await desk.add_endpoint(receiver.url)
    await desk.event()
    await desk.number()
    receiver.hangs = asyncio.Event()
    receiver.answer = lambda received: 500 if received is receiver.received[0] else 204
    late = asyncio.create_task(desk.relay(client).run_once())
    async with asyncio.timeout(10):
        await receiver.arrived.wait()
    desk.clock.advance(SCHEDULE.claim_seconds)
    receiver.hangs.set()
    receiver.hangs = None
    await late
    assert await drain(desk, client) <= 1
    desk.clock.advance(SCHEDULE.steps_seconds[0])
    await drain(desk, client)
    assert [state for state, _ in await desk.deliveries()] == ["delivered"]


async def test_secret_under_another_key_stops_no_other_endpoint(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    broken = await desk.add_endpoint(receiver.url)
    await desk.add_endpoint(receiver.url)
    await desk.rows(
        "UPDATE gateway.webhook_endpoints SET secret_sealed = '\\x0102' WHERE id = :id RETURNING 1",
        id=broken,
    )
    await desk.event()
    await desk.number()
    await drain(desk, client)
    assert sorted(state for state, _ in await desk.deliveries()) == ["delivered", "pending"]


async def test_order_holds_while_events_are_numbered_and_delivered_at_once(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    """Few objects, many versions, two relays against the sequencer: nothing waits for ever."""
    await desk.add_endpoint(receiver.url)
    objects = [desk.ids.new_id() for _ in range(5)]
    versions = 20
    receiver.answer = lambda received: 503 if len(receiver.received) % 7 == 0 else 200

    async def write() -> None:
        for version in range(1, versions + 1):
            for object_id in objects:
                await desk.event(object_id=object_id, version=version)
            await desk.number()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        relays = [desk.relay(client), desk.relay(client)]
        while not writing.done() or {s for s, _ in await desk.deliveries()} != {"delivered"}:
            await asyncio.gather(*(relay.run_once() for relay in relays))
            desk.clock.advance(5)
    for object_id in objects:
        seen = [
            received.event["object_version"]
            for received in receiver.received
            if received.event["object"]["id"].endswith(object_id.hex)
        ]
        assert seen == sorted(seen)
        assert set(seen) == set(range(1, versions + 1))


@pytest.mark.parametrize("state", ["active", "deleted"])
async def test_alarm_of_a_pause_ends_when_a_person_ends_the_pause(
    desk: Desk, client: WebhookClient, receiver: Receiver, state: str
) -> None:
    endpoint = await desk.add_endpoint(receiver.url)
    receiver.answer = lambda received: 500
    for _ in range(20):
        await desk.event()
    await desk.number()
    await drain(desk, client)
    open_alarms = "SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL"
    assert await desk.rows(open_alarms) == [("webhook_endpoint_paused",)]
    await desk.rows(
        "UPDATE gateway.webhook_endpoints SET state = :state, failures_in_a_row = 0, "
        "next_probe_at = NULL WHERE id = :id RETURNING 1",
        id=endpoint,
        state=state,
    )
    await desk.relay(client).run_once()
    assert await desk.rows(open_alarms) == []


async def test_deleted_endpoint_gets_nothing_more(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    endpoint = await desk.add_endpoint(receiver.url)
    await desk.event()
    await desk.number()
    await desk.rows(
        "UPDATE gateway.webhook_endpoints SET state = 'deleted' WHERE id = :id RETURNING 1",
        id=endpoint,
    )
    await desk.event()
    await desk.number()
    assert await drain(desk, client) == 0
    assert receiver.received == []
    assert await desk.deliveries() == [("pending", 0)]
