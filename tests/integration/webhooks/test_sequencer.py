"""The feed has no holes, whoever commits when, and however often the sequencer dies (E2, E5)."""

import asyncio
import json
import random
from uuid import UUID

import pytest

from config.clock import SystemClock, Waker
from config.database import Database, Uow
from gateway.webhooks import store
from gateway.webhooks.listen_store import Listener
from gateway.webhooks.sequencer import LEASE_SECONDS
from ledger import outbox
from tests.integration.webhooks.desk import Desk

pytestmark = pytest.mark.postgres

WRITERS = 8
EVENTS_PER_WRITER = 40


class RolledBack(Exception):
    """The writer changes its mind."""


async def _writer(desk: Desk, number: int, rng: random.Random) -> list[tuple[str, UUID, int]]:
    """Objects with rising versions, two brands, one in four units of work rolled back."""
    committed = []
    for step in range(EVENTS_PER_WRITER):
        object_id = UUID(int=number * 10_000 + step // 4 + 1)
        version = step % 4 + 1
        brand = ("acme", "bravo")[number % 2]
        while True:
            try:
                async with desk.owner.unit_of_work() as uow:
                    await desk.append(uow, object_id=object_id, version=version, brand=brand)
                    await asyncio.wait_for(uow.execute("SELECT 1"), 5)
                    if rng.random() < 0.25:
                        raise RolledBack
            except RolledBack:
                continue
            committed.append((brand, object_id, version))
            break
    return committed


async def test_e2_eight_writers_with_rollbacks_leave_no_hole_and_no_disorder(
    desk: Desk, seed: int
) -> None:
    """Eight concurrent writers against a sequencer that runs all the time."""
    sequencer = desk.sequencer()
    running = asyncio.create_task(sequencer.run())
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_writer(desk, number, random.Random(seed + number)))
                for number in range(1, WRITERS + 1)
            ]
    finally:
        running.cancel()
        await asyncio.wait([running])
    await desk.number()
    committed = [item for task in tasks for item in task.result()]
    for brand in ("acme", "bravo"):
        feed = await desk.feed(brand)
        assert [seq for seq, _, _ in feed] == list(range(1, len(feed) + 1))
        assert sorted((o, v) for _, o, v in feed) == sorted(
            (o, v) for b, o, v in committed if b == brand
        )
        versions: dict[UUID, list[int]] = {}
        for _, object_id, version in feed:
            versions.setdefault(object_id, []).append(version)
        assert all(found == sorted(found) for found in versions.values())
    assert await desk.rows("SELECT 1 FROM gateway.event_queue") == []


async def test_event_of_a_slow_writer_is_numbered_after_it_commits(desk: Desk) -> None:
    """An earlier position that commits later is neither lost nor waited for."""
    first, second = desk.ids.new_id(), desk.ids.new_id()
    sequencer = desk.sequencer()
    async with desk.owner.unit_of_work() as slow:
        await desk.append(slow, object_id=first)
        await desk.event(object_id=second)
        await sequencer.run_once()
        assert [row[1] for row in await desk.feed("acme")] == [second]
    await sequencer.run_once()
    assert [(row[0], row[1]) for row in await desk.feed("acme")] == [(1, second), (2, first)]


async def test_each_brand_and_the_operator_count_for_themselves(desk: Desk) -> None:
    for brand in ("acme", "bravo", "acme", None):
        await desk.event(brand=brand)
    await desk.sequencer().run_once()
    assert [row[0] for row in await desk.feed("acme")] == [1, 2]
    assert [row[0] for row in await desk.feed("bravo")] == [1]
    assert [row[0] for row in await desk.feed("operator")] == [1]


async def test_body_has_the_shape_of_the_contract(desk: Desk) -> None:
    object_id = desk.ids.new_id()
    await desk.event(object_id=object_id)
    await desk.event(object_id=object_id, version=2)
    await desk.sequencer().run_once()
    [(text,)] = await desk.rows("SELECT body FROM gateway.event_log WHERE seq = 2")
    body = json.loads(text)
    assert list(body) == [
        "id", "seq", "type", "created_at", "brand", "object", "object_version", "previous_state",
    ]  # fmt: skip
    assert body["id"].startswith("evt_test_")
    assert (body["seq"], body["type"], body["brand"]) == (2, "deposit.final", "acme")
    assert (body["object_version"], body["previous_state"]) == (2, "pending")
    assert body["object"]["id"] == f"dep_test_{object_id.hex}"
    assert (body["object"]["amount"], body["object"]["amount_minor"]) == ("0.05", "5000000")


async def test_only_one_of_two_sequencers_works(desk: Desk) -> None:
    first, second = desk.sequencer(), desk.sequencer()
    await first.run_once()
    await desk.event()
    await second.run_once()
    assert await desk.feed("acme") == []
    await first.run_once()
    assert len(await desk.feed("acme")) == 1


async def test_p13_sequencer_whose_lease_was_taken_over_numbers_nothing(desk: Desk) -> None:
    first, second = desk.sequencer(), desk.sequencer()
    await first.run_once()
    await desk.rows("UPDATE gateway.leases SET expires_at = clock_timestamp() RETURNING 1")
    await second.run_once()
    await desk.event()
    await first.run_once()
    assert await desk.feed("acme") == []
    await second.run_once()
    assert len(await desk.feed("acme")) == 1


async def test_lease_of_a_killed_sequencer_runs_out(desk: Desk) -> None:
    await desk.sequencer().run_once()
    [(is_soon,)] = await desk.rows(
        "SELECT expires_at <= clock_timestamp() + make_interval(secs => :seconds) "
        "FROM gateway.leases WHERE name = 'sequencer'",
        seconds=LEASE_SECONDS,
    )
    assert is_soon


async def test_p01_death_between_numbering_and_commit_changes_nothing(desk: Desk) -> None:
    """The batch is rolled back whole: the next run gives the same numbers, without a hole."""
    await desk.event()
    sequencer = desk.sequencer()
    await sequencer.run_once()
    await desk.event()

    class Died(Exception):
        pass

    async def dies(uow: Uow) -> None:
        events = await store.take_unnumbered(uow, limit=500)
        await store.advance_counters(uow, {"acme": len(events)})
        raise Died

    with pytest.raises(Died):
        await desk.role.run(dies)
    await sequencer.run_once()
    assert [row[0] for row in await desk.feed("acme")] == [1, 2]


async def test_batch_takes_earlier_versions_along(desk: Desk) -> None:
    """A limit between two versions of an object never lets the later one go first."""
    object_id = desk.ids.new_id()
    await desk.event(object_id=object_id, version=2)
    await desk.event(object_id=object_id, version=1)

    async def take_one(uow: Uow) -> list[int]:
        rows = await store.take_unnumbered(uow, limit=1)
        return sorted(row.object_version for row in rows)

    assert await desk.role.run(take_one) == [1, 2]


async def test_listeners_are_told_when_rows_are_numbered(
    desk: Desk, database: Database, database_url: str
) -> None:

    waker = Waker(poll_seconds=10)
    listener = Listener(database_url, channels={store.FEED_CHANNEL: waker}, clock=SystemClock())
    task = asyncio.create_task(listener.run())
    try:
        async with asyncio.timeout(10):
            await listener.is_listening.wait()
            await waker.wait()  # the hint of the connection itself
            await desk.event()
            await desk.sequencer().run_once()
            await waker.wait()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_an_event_that_cannot_be_rendered_stops_its_object_alone(desk: Desk) -> None:
    """The rest of the brand is numbered without a hole; a new process tries the stuck one again."""
    bad, good = desk.ids.new_id(), desk.ids.new_id()
    async with desk.owner.unit_of_work() as uow:
        await outbox.append(
            uow,
            event_id=desk.ids.new_id(),
            brand="acme",
            type="deposit.pending",
            object_kind="deposit",
            object_id=bad,
            object_version=1,
            previous_state=None,
            snapshot={"id": str(bad)},
            at=desk.clock.now(),
        )
    await desk.event(object_id=bad, version=2)
    await desk.event(object_id=good)
    sequencer = desk.sequencer()
    await sequencer.run_once()
    await sequencer.run_once()
    assert [(seq, object_id) for seq, object_id, _ in await desk.feed("acme")] == [(1, good)]
    alarms = await desk.rows("SELECT kind, object_id FROM gateway.alarms")
    assert [tuple(row) for row in alarms] == [("event_stuck", bad)]
    assert len(await desk.rows("SELECT 1 FROM gateway.event_queue")) == 2
