"""The sealer: one of several works, a second behind at most, and its heads are told in a file."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from config.clock import SystemClock, Waker
from config.database import Database, Uow, async_url
from gateway import anchors, audit, audit_store, sealing
from gateway.scheduler import Scheduler
from gateway.sealing import Sealer
from ledger import journal, seals
from ledger.accounts import clearing, custody
from ledger.journal import Posting, credit, debit
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.postgres

BTC = "btc:BTC"


@pytest.fixture
async def own_role(test_database: TestDatabase) -> AsyncIterator[Database]:
    opened = Database(async_url(test_database.role_url("scheduler")), pool_size=4)
    yield opened
    await opened.close()


@pytest.fixture
def anchor_file(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "anchors.jsonl"


def _sealer(database: Database, clock: ManualClock, ids: SequentialIds, file: Path) -> Sealer:
    return Sealer(
        database=database, clock=clock, ids=ids, waker=Waker(poll_seconds=0.5), anchor_file=file
    )


async def _change(database: Database, brand: str, *, index: int) -> None:
    async with database.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO gateway.brands (id, account_index, created_at) VALUES (:id, :n, now())",
            {"id": brand, "n": index},
        )


async def _post(database: Database, clock: ManualClock, reference: str) -> None:
    posting = Posting(
        reference=reference,
        kind="test",
        entries=(debit(custody("btc", "hot", BTC), 5), credit(clearing("acme", BTC), 5)),
    )
    async with database.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=uuid4(), at=clock.now())


async def _tail(database: Database) -> audit_store.Tail:
    async with database.unit_of_work() as uow:
        return await audit_store.tail(uow)


async def _alarms(database: Database) -> list[tuple[str, str]]:
    async with database.unit_of_work() as uow:
        rows = await uow.rows("SELECT kind, detail FROM gateway.alarms ORDER BY raised_at")
    return [(row["kind"], row["detail"]) for row in rows]


async def test_of_two_sealers_one_works_and_the_other_takes_over(
    own_role: Database,
    database: Database,
    clock: ManualClock,
    ids: SequentialIds,
    anchor_file: Path,
) -> None:
    first = _sealer(own_role, clock, ids, anchor_file)
    second = _sealer(own_role, clock, ids, anchor_file)
    await _change(database, "acme", index=1)
    await first.run_once()
    await _change(database, "bravo", index=2)
    await second.run_once()
    assert (await _tail(database)).waiting == 1
    async with database.unit_of_work() as uow:  # the first one died; its lease has run out
        await uow.execute("UPDATE gateway.leases SET expires_at = now() WHERE name = 'sealer'")
    await second.run_once()
    tail = await _tail(database)
    assert (tail.sequence, tail.waiting) == (2, 0)
    await _change(database, "coral", index=3)
    await first.run_once()  # believes itself the leader still
    assert (await _tail(database)).sequence == 2


async def test_a_sealer_that_dies_before_its_commit_leaves_the_rows_waiting(
    database: Database,
) -> None:
    await _change(database, "acme", index=1)
    async with database.engine.connect() as connection:
        uow = Uow(connection)
        await uow.execute("SELECT set_config('cage.brand', '*', true)")
        assert await audit.seal_next(uow) == 1
        await connection.rollback()
    tail = await _tail(database)
    assert (tail.sequence, tail.waiting, tail.lost) == (0, 1, 0)


async def test_more_rows_than_one_unit_of_work_takes_are_sealed_in_their_order(
    database: Database,
) -> None:
    async with database.unit_of_work() as uow:
        await uow.execute(
            "SELECT gateway.write_audit('x', 'x', n::text, NULL, NULL, NULL, NULL)"
            " FROM generate_series(1, :count) AS n",
            {"count": audit.SEAL_ROWS + 1},
        )
    async with database.unit_of_work() as uow:
        assert await audit.seal_next(uow) == audit.SEAL_ROWS
        assert await audit.seal_next(uow) == 1
        links = await audit_store.chain(uow, after=0, limit=1_000)
    assert [link.row.subject for link in links if link.row] == [
        str(n) for n in range(1, audit.SEAL_ROWS + 2)
    ]


async def test_both_heads_are_told_in_a_file_once_a_minute_when_they_moved(
    own_role: Database,
    database: Database,
    clock: ManualClock,
    ids: SequentialIds,
    anchor_file: Path,
) -> None:
    sealer = _sealer(own_role, clock, ids, anchor_file)
    await _change(database, "acme", index=1)
    await _post(database, clock, "in:1")
    clock.advance(60)
    await sealer.run_once()
    anchor = anchors.newest(anchor_file)
    assert anchor is not None
    assert (anchor.audit.sequence, anchor.journal.sequence) == (1, 1)
    async with database.unit_of_work() as uow:
        head = await seals.newest(uow)
        assert head is not None
        assert anchor.journal.hash == head.hash
        assert await audit_store.seal_at(uow, 1) == anchor.audit.hash
    clock.advance(sealing.JOURNAL_SECONDS)
    await sealer.run_once()
    assert _lines(anchor_file) == 1
    await _post(database, clock, "in:2")
    clock.advance(sealing.JOURNAL_SECONDS)
    await sealer.run_once()
    assert _lines(anchor_file) == 2


async def test_a_history_that_was_written_anew_raises_an_alarm_and_sealing_goes_on(
    own_role: Database,
    database: Database,
    clock: ManualClock,
    ids: SequentialIds,
    anchor_file: Path,
) -> None:
    """A superuser who rewrites every row and every seal leaves chains that hold by themselves."""
    sealer = _sealer(own_role, clock, ids, anchor_file)
    await _change(database, "acme", index=1)
    await _post(database, clock, "in:1")
    clock.advance(60)
    await sealer.run_once()
    assert await _alarms(database) == []
    async with database.unit_of_work() as uow:
        await uow.execute("SET LOCAL session_replication_role = replica")
        await uow.execute("UPDATE gateway.audit SET actor = 'nobody'")
        await uow.execute("INSERT INTO gateway.audit_queue SELECT position, at FROM gateway.audit")
        await uow.execute("DELETE FROM gateway.audit_seals")
        await uow.execute("UPDATE ledger.entries SET amount = 4")
        await uow.execute("DELETE FROM ledger.seals")
        await audit.seal_next(uow)
        await seals.seal_next(uow, at=clock.now() + timedelta(hours=1))
        assert await seals.flaws(uow, after=0) == (1, [])
    clock.advance(sealing.JOURNAL_SECONDS)
    await sealer.run_once()
    [(kind, detail)] = await _alarms(database)
    assert kind == sealing.REWRITTEN
    assert "audit seal 1, journal seal 1" in detail
    await _change(database, "bravo", index=2)
    await sealer.run_once()
    assert (await _tail(database)).waiting == 0


async def test_an_anchor_that_cannot_be_written_is_an_alarm_and_the_chain_goes_on(
    own_role: Database,
    database: Database,
    clock: ManualClock,
    ids: SequentialIds,
) -> None:
    sealer = _sealer(own_role, clock, ids, Path("/dev/null/anchors.jsonl"))
    await _change(database, "acme", index=1)
    await sealer.run_once()
    assert (await _tail(database)).sequence == 1
    assert {kind for kind, _ in await _alarms(database)} <= {
        "anchor_unreadable",
        "anchor_unwritable",
    }
    assert await _alarms(database)


async def test_the_scheduler_seals_within_a_second_of_the_commit(
    test_database: TestDatabase, own_role: Database, database: Database, anchor_file: Path
) -> None:
    clock = SystemClock()
    ids = SequentialIds(clock, seed=1)
    sealer = Sealer(
        database=own_role,
        clock=clock,
        ids=ids,
        waker=Waker(poll_seconds=sealing.POLL_SECONDS),
        anchor_file=anchor_file,
    )
    scheduler = Scheduler(database=own_role, clock=clock, ids=ids)
    url = test_database.role_url("scheduler")
    running = asyncio.create_task(scheduler.run(url, ticks=(), sealer=sealer))
    try:
        await _change(database, "acme", index=1)
        await _until_sealed(database, 1)  # it has begun
        for number in range(2, 6):
            await _change(database, f"brand{number}", index=number)
            await _until_sealed(database, number)
        async with database.unit_of_work() as uow:
            rows = await uow.rows(
                "SELECT extract(epoch FROM sealed_at - at) AS seconds FROM gateway.audit_seals"
                " WHERE sequence > 1"
            )
        assert sorted(float(row["seconds"]) for row in rows)[1] < 1.0
    finally:
        running.cancel()
        await asyncio.wait({running})


def _lines(file: Path) -> int:
    assert file.stat().st_mode & 0o777 == 0o600
    return len(file.read_text().splitlines())


async def _until_sealed(database: Database, sequence: int) -> None:
    async with asyncio.timeout(30):
        while (await _tail(database)).sequence < sequence:
            pass  # each look is a query, and lets the sealer work
