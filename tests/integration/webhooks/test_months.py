"""Events, history, log and deliveries by month: the keys hold, and an old month goes (HOUSE 7)."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from config import month_store
from config.database import LOCK_NOT_AVAILABLE, Database, async_url, sqlstate
from config.ids import uuid7
from config.migrate import migrate
from gateway.scheduler_store import MONTHLY_TABLES, make_months
from gateway.webhooks.connector import WebhookClient
from tests.integration.webhooks.desk import Desk
from tests.support.databases import TestDatabase, recreate_at
from tests.support.receiver import Receiver
from tests.support.waiting import until_it_waits

pytestmark = pytest.mark.postgres

JANUARY = datetime(2031, 1, 1, tzinfo=UTC)  # far from the months that a migration makes
FEBRUARY = datetime(2031, 2, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
APPEND_ONLY = "CG001"
UNIQUE_VIOLATION = "23505"
NOT_ALLOWED = "42501"
TOLD = ("ledger.events", "gateway.event_log", "gateway.deliveries")
WHERE = "SELECT tableoid::regclass::text, count(*)::int FROM {table} GROUP BY 1 ORDER BY 1"


async def begin(desk: Desk, *, at: datetime = JANUARY) -> None:
    """Months from January 2031 on in every table, and it is January."""
    async with desk.owner.unit_of_work() as uow:
        for table in MONTHLY_TABLES:
            assert await make_months(uow, table, at=JANUARY, months=1) == 2
    travel(desk, at)


def travel(desk: Desk, at: datetime) -> None:
    desk.clock.advance((at - desk.clock.now()).total_seconds())


async def detach(desk: Desk, table: str, *, month: datetime = JANUARY) -> bool:
    async with desk.owner.unit_of_work() as uow:
        return await month_store.detach(uow, table, month=month)


async def drain(desk: Desk, client: WebhookClient) -> None:
    relay = desk.relay(client)
    while await relay.run_once():
        pass


async def refusal(database: Database, statement: str) -> str | None:
    """The SQLSTATE that a statement of this role ends with."""
    with pytest.raises(DBAPIError) as refused:
        async with database.unit_of_work() as uow:
            await uow.execute(statement)
    return sqlstate(refused.value)


async def test_every_table_by_month_gets_its_months(desk: Desk) -> None:
    rows = await desk.rows("SELECT partrelid::regclass::text FROM pg_partitioned_table ORDER BY 1")
    assert [name for (name,) in rows] == sorted(MONTHLY_TABLES)
    assert set(month_store.DETACHABLE_TABLES) < set(MONTHLY_TABLES)
    await begin(desk)
    async with desk.owner.unit_of_work() as uow:
        again = [await make_months(uow, table, at=JANUARY, months=1) for table in MONTHLY_TABLES]
    assert again == [0] * len(MONTHLY_TABLES)


async def test_a_row_lies_in_the_month_of_its_id_to_the_millisecond(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    await begin(desk, at=FEBRUARY - MILLISECOND)
    await desk.add_endpoint(receiver.url)
    old = desk.ids.new_id()
    await desk.event(object_id=old)
    desk.clock.advance(0.001)
    await desk.event(object_id=old, version=2)
    await desk.event()
    await desk.number()
    for table in ("ledger.events", "gateway.event_log"):
        assert await desk.rows(WHERE.format(table=table)) == [
            (f"{table}_203101", 1),
            (f"{table}_203102", 2),
        ]
    assert await desk.rows(WHERE.format(table="gateway.deliveries")) == [
        ("gateway.deliveries_203101", 2),  # both events of the object that was born in January
        ("gateway.deliveries_203102", 1),
    ]
    await drain(desk, client)
    assert await desk.deliveries() == [("delivered", 1)] * 3
    told = [received.event["seq"] for received in receiver.received]
    assert sorted(told) == [1, 2, 3]
    assert told.index(1) < told.index(2)  # of one object; the other's may come at any time


async def test_months_are_made_only_when_nobody_holds_the_table(desk: Desk) -> None:
    """Whoever waits for a whole table makes all others wait: it gives up, and comes again."""
    async with desk.owner.unit_of_work() as writing:
        await desk.append(writing, object_id=desk.ids.new_id())
        with pytest.raises(DBAPIError) as refused:
            async with desk.owner.unit_of_work() as uow:
                await make_months(uow, "ledger.events", at=JANUARY, months=0)
        assert sqlstate(refused.value) == LOCK_NOT_AVAILABLE
    async with desk.owner.unit_of_work() as uow:
        assert await make_months(uow, "ledger.events", at=JANUARY, months=0) == 1


async def test_a_month_whose_rows_lie_in_the_default_partition_stays_there(desk: Desk) -> None:
    travel(desk, JANUARY)
    await desk.event()
    async with desk.owner.unit_of_work() as uow:
        assert await make_months(uow, "ledger.events", at=JANUARY, months=1) == 1
    await desk.event()
    assert await desk.rows(WHERE.format(table="ledger.events")) == [("ledger.events_default", 2)]


async def test_months_without_end_are_not_made(desk: Desk) -> None:
    for table, months in (("ledger.events", 301), ("ledger.events", -1), ("ledger.postings", 1)):
        with pytest.raises(DBAPIError):
            async with desk.owner.unit_of_work() as uow:
                await make_months(uow, table, at=JANUARY, months=months)


async def test_an_id_that_tells_no_time_lies_in_the_default_partition(desk: Desk) -> None:
    await begin(desk)
    await desk.add_endpoint("https://pam.test")
    await desk.event(object_id=UUID("6ba7b811-9dad-51d1-80b4-00c04fd430c8"))
    await desk.number()
    assert await desk.rows(WHERE.format(table="gateway.deliveries")) == [
        ("gateway.deliveries_default", 1)
    ]


async def test_a_look_up_by_its_object_opens_one_month(desk: Desk) -> None:
    await begin(desk)
    key = uuid7(at=FEBRUARY, entropy=bytes(10))
    for table, column in (
        ("ledger.state_history", "object_id"),
        ("gateway.deliveries", "object_id"),
        ("gateway.event_log", "event_id"),
        ("ledger.events", "id"),
    ):
        plan = "\n".join(
            line
            for (line,) in await desk.rows(
                f"EXPLAIN SELECT * FROM {table} WHERE {column} = '{key}'"
            )
        )
        name = table.partition(".")[2]
        assert f"{name}_203102" in plan
        assert f"{name}_203101" not in plan
        assert f"{name}_default" not in plan


async def test_numbers_events_and_deliveries_are_unique_over_all_months(desk: Desk) -> None:
    await begin(desk)
    await desk.add_endpoint("https://pam.test")
    event_id = await desk.event()
    await desk.number()
    other = uuid7(at=FEBRUARY, entropy=bytes(10))
    for statement in (
        "INSERT INTO gateway.event_log SELECT brand, seq, CAST('{other}' AS uuid), type,"
        " object_kind, object_id, object_version, body, created_at FROM gateway.event_log",
        "INSERT INTO gateway.event_log SELECT brand, seq + 1, event_id, type, object_kind,"
        " object_id, object_version, body, created_at FROM gateway.event_log",
        "INSERT INTO ledger.events (id, brand, type, object_kind, object_id, object_version,"
        " snapshot, created_at) SELECT id, brand, type, object_kind, object_id, object_version,"
        " snapshot, created_at FROM ledger.events",
        # The same event once more, and another one of the object that may go first.
        "INSERT INTO gateway.deliveries SELECT (jsonb_populate_record(d, jsonb_build_object("
        "'id', '{other}', 'is_oldest', false))).* FROM gateway.deliveries d",
        "INSERT INTO gateway.deliveries SELECT (jsonb_populate_record(d, jsonb_build_object("
        "'id', '{other}', 'event_id', '{other}'))).* FROM gateway.deliveries d",
    ):
        assert await refusal(desk.owner, statement.format(other=other)) == UNIQUE_VIOLATION
    assert await desk.rows("SELECT brand, seq, event_id FROM gateway.event_numbers") == [
        ("acme", 1, event_id)
    ]


async def test_l03_a_month_is_as_closed_as_its_parent(desk: Desk) -> None:
    await begin(desk)
    await desk.add_endpoint("https://pam.test")
    await desk.event()
    await desk.number()
    for statement in (
        "TRUNCATE ledger.events_203101",
        "DELETE FROM ledger.events_203101",
        "UPDATE ledger.events_203101 SET type = 'x'",
        "TRUNCATE ledger.events_default",
        "TRUNCATE ledger.state_history_203101",
        "DELETE FROM gateway.event_numbers",
        "TRUNCATE gateway.event_numbers",
    ):
        assert await refusal(desk.owner, statement) == APPEND_ONLY, statement
    for table in month_store.DETACHABLE_TABLES:
        for part in (f"{table}_203101", f"{table}_default"):
            assert await refusal(desk.role, f"SELECT 1 FROM {part}") == NOT_ALLOWED


async def test_a_month_that_was_put_away_leaves_feed_and_webhooks_at_work(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    await begin(desk)
    await desk.add_endpoint(receiver.url)
    old = desk.ids.new_id()
    await desk.event(object_id=old)
    await desk.number()
    await drain(desk, client)
    travel(desk, FEBRUARY)
    for table in month_store.DETACHABLE_TABLES:
        assert await detach(desk, table)
        assert not await detach(desk, table)

    # The object of the month that is gone goes on, and so does a new one.
    await desk.event(object_id=old, version=2)
    await desk.event()
    await desk.number()
    await drain(desk, client)

    assert sorted(received.event["seq"] for received in receiver.received) == [1, 2, 3]
    assert await desk.rows(WHERE.format(table="gateway.deliveries")) == [
        ("gateway.deliveries_203102", 1),
        ("gateway.deliveries_default", 1),
    ]
    for table in TOLD:
        assert await desk.rows(f"SELECT count(*) FROM {table}_203101") == [(1,)]
        assert await refusal(desk.owner, f"DELETE FROM {table}_203101") == APPEND_ONLY
    assert await desk.rows("SELECT brand, last_seq, put_away_seq FROM gateway.event_counters") == [
        ("acme", 3, 1)
    ]
    assert await desk.rows(
        "SELECT subject FROM gateway.audit WHERE action = 'month.detached' ORDER BY 1"
    ) == [(f"{table}_203101",) for table in sorted(month_store.DETACHABLE_TABLES)]
    async with desk.owner.unit_of_work() as uow:
        assert await make_months(uow, "ledger.events", at=JANUARY, months=0) == 0


async def test_what_is_numbered_while_a_month_is_looked_at_is_told_as_put_away(desk: Desk) -> None:
    """The look holds no lock, and a number of that month comes behind it."""
    await begin(desk)
    await desk.event()
    await desk.number()
    async with desk.owner.unit_of_work() as uow:  # a busy machine may need more than its 2 s
        await uow.execute(
            "ALTER FUNCTION config.detach_month(regclass, timestamptz) SET lock_timeout = '30s'"
        )
    async with desk.owner.unit_of_work() as numbering:
        await numbering.execute(
            "UPDATE gateway.event_counters SET last_seq = 3 WHERE brand = 'acme'"
        )
        for seq, at in ((2, JANUARY), (3, FEBRUARY)):
            await numbering.execute(
                "INSERT INTO gateway.event_log (brand, seq, event_id, type, object_kind,"
                " object_id, object_version, body, created_at) VALUES ('acme', :seq, :id, 'x.y',"
                " 'x', :id, 1, '{}', :at)",
                {"seq": seq, "id": uuid7(at=at, entropy=bytes([seq] * 10)), "at": at},
            )
        detaching = asyncio.create_task(detach(desk, "gateway.event_log"))
        await until_it_waits(desk.owner)
    assert await detaching
    assert await desk.rows("SELECT brand, last_seq, put_away_seq FROM gateway.event_counters") == [
        ("acme", 3, 2)
    ]


async def test_a_month_that_still_has_work_is_not_put_away(
    desk: Desk, client: WebhookClient, receiver: Receiver
) -> None:
    await begin(desk)
    await desk.add_endpoint(receiver.url)
    await desk.event()
    statement = "SELECT config.detach_month('{table}', '2031-01-15 00:00+00')"
    assert await refusal(desk.owner, statement.format(table="ledger.events")) == month_store.REFUSED
    await desk.number()
    for table in ("gateway.deliveries", "gateway.event_log"):
        assert await refusal(desk.owner, statement.format(table=table)) == month_store.REFUSED
    for table in ("ledger.entries", "gateway.audit"):
        assert await refusal(desk.owner, statement.format(table=table)) == month_store.REFUSED
    assert await refusal(desk.role, statement.format(table="ledger.events")) == NOT_ALLOWED
    await drain(desk, client)
    assert [await detach(desk, table) for table in month_store.DETACHABLE_TABLES] == [True] * 4


async def test_what_waits_for_a_deleted_endpoint_keeps_no_month(desk: Desk) -> None:
    await begin(desk)
    await desk.add_endpoint("https://pam.test")
    await desk.event()
    await desk.number()
    async with desk.owner.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.webhook_endpoints SET state = 'deleted'")
    assert [await detach(desk, table) for table in month_store.DETACHABLE_TABLES] == [True] * 4


async def test_the_rows_of_an_older_release_move_to_their_months(
    test_database: TestDatabase,
) -> None:
    """On a database of the release before: every column of every row is the same afterwards, what
    waits for its number still waits, and positions go on where they were."""
    await recreate_at(test_database, "0048")
    database = Database(async_url(test_database.owner_url))
    ids = [uuid7(at=at, entropy=bytes([n] * 10)) for n, at in enumerate((JANUARY, FEBRUARY), 1)]
    older = uuid7(at=datetime(2024, 5, 6, tzinfo=UTC), entropy=bytes(10))
    fixed = UUID("6ba7b811-9dad-51d1-80b4-00c04fd430c8")
    keys = [older, *ids, fixed]
    queries = {
        "ledger.events": "SELECT to_jsonb(t) - 'xid' FROM ledger.events t ORDER BY id",
        "ledger.state_history": "SELECT to_jsonb(t) FROM ledger.state_history t ORDER BY object_id",
        "gateway.event_log": "SELECT to_jsonb(t) FROM gateway.event_log t ORDER BY event_id",
        "gateway.deliveries": "SELECT to_jsonb(t) FROM gateway.deliveries t ORDER BY id",
        "gateway.event_queue": "SELECT to_jsonb(t) FROM gateway.event_queue t ORDER BY event_id",
        "grants": "SELECT jsonb_agg(x ORDER BY x) FROM (SELECT table_schema, table_name,"
        " column_name, grantee, privilege_type FROM information_schema.column_privileges"
        " WHERE table_name IN ('events', 'state_history', 'event_log', 'deliveries')) x",
        "policies": "SELECT jsonb_agg(x ORDER BY x) FROM (SELECT schemaname, tablename, policyname,"
        " permissive, roles, cmd, qual, with_check FROM pg_policies WHERE tablename IN"
        " ('events', 'state_history', 'event_log', 'deliveries')) x",
    }

    async def everything() -> dict[str, list[object]]:
        async with database.unit_of_work() as uow:
            return {
                name: list((await uow.execute(query)).scalars()) for name, query in queries.items()
            }

    async with database.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO gateway.webhook_endpoints (id, brand, url, secret_sealed, state,"
            " created_at) VALUES (:id, 'acme', 'https://pam.test', '', 'active', now())",
            {"id": older},
        )
        for seq, key in enumerate(keys, start=1):
            values = {"id": key, "seq": seq, "body": json.dumps({"seq": seq})}
            await uow.execute(
                "INSERT INTO ledger.events (id, brand, type, object_kind, object_id,"
                " object_version, snapshot, created_at) VALUES (:id, 'acme', 'x.y', 'x', :id, 1,"
                " '{}', now())",
                {"id": key},
            )
            await uow.execute(
                "INSERT INTO ledger.state_history (object_kind, object_id, version, to_state, at)"
                " VALUES ('x', :id, 1, 'y', now())",
                {"id": key},
            )
            await uow.execute(
                "INSERT INTO gateway.event_log (brand, seq, event_id, type, object_kind,"
                " object_id, object_version, body, created_at) VALUES ('acme', :seq, :id, 'x.y',"
                " 'x', :id, 1, :body, now())",
                values,
            )
            await uow.execute(
                "INSERT INTO gateway.deliveries (id, endpoint_id, brand, seq, event_id, object_id,"
                " object_version, state, next_attempt_at, is_oldest, created_at)"
                " SELECT :id, e.id, 'acme', :seq, :id, :id, 1, 'pending', now(), true, now()"
                " FROM gateway.webhook_endpoints e",
                {"id": key, "seq": seq},
            )
    before = await everything()
    await database.close()

    await migrate(test_database.owner_url)

    assert await everything() == before
    async with database.unit_of_work() as uow:
        for table in month_store.DETACHABLE_TABLES:
            found = await uow.execute(WHERE.format(table=table))
            assert [tuple(row) for row in found] == [
                (f"{table}_202405", 1),
                (f"{table}_default", 3),
            ]
        numbers = await uow.execute("SELECT seq, event_id FROM gateway.event_numbers ORDER BY seq")
        assert [tuple(row) for row in numbers] == list(enumerate(keys, start=1))
        position = await uow.execute(
            "INSERT INTO ledger.events (id, brand, type, object_kind, object_id, object_version,"
            " snapshot, created_at) VALUES (gen_random_uuid(), 'acme', 'x.y', 'x',"
            " gen_random_uuid(), 1, '{}', now()) RETURNING position"
        )
        assert position.scalar_one() == len(keys) + 1
        queued = await uow.execute("SELECT count(*) FROM gateway.event_queue")
        assert queued.scalar_one() == len(keys) + 1
    await database.close()
