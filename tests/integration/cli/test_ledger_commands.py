"""`cage ledger statement | export | verify` as processes of their own against a real API."""

import csv
import json
from pathlib import Path
from uuid import uuid4

import pytest

from config.database import Database, async_url
from ledger import journal
from ledger.accounts import Stage, clearing, custody, player
from ledger.journal import Posting, credit, debit
from tests.support.clock import ManualClock
from tests.support.databases import TestDatabase
from tests.support.desk import FAILED, USAGE, Desk
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres

BTC = "btc:BTC"
POSTINGS = 300  # with two lines each: more than a page of 500


@pytest.fixture
def booked(
    test_database: TestDatabase, loop_thread: LoopThread, clock: ManualClock
) -> TestDatabase:
    """Books with a player's deposits in them, one second apart, long ago."""

    async def post() -> None:
        database = Database(async_url(test_database.owner_url), pool_size=1)
        hot = custody("btc", "hot", BTC)
        anna = player("acme", "=anna", Stage.PROVISIONAL, BTC)
        for number in range(POSTINGS):
            clock.advance(1)
            target = anna if number % 3 == 0 else clearing("acme", BTC)
            posting = Posting(
                reference=f"in:{number}", kind="test", entries=(debit(hot, 2), credit(target, 2))
            )
            async with database.unit_of_work() as uow:
                await journal.post(uow, posting, posting_id=uuid4(), at=clock.now())
        await database.close()

    loop_thread.run(post())
    return test_database


def test_the_journal_is_exported_whole_and_a_cut_file_is_known(
    desk: Desk, booked: TestDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "journal.csv"
    code, out, err = desk.runs("ledger", "export", "--out", str(file), *desk.treasurer)
    assert (code, out) == (0, ""), err
    assert f"{2 * POSTINGS} entries" in err
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * POSTINGS + 2
    assert {row["player_id"] for row in rows[:-2]} == {"", "'=anna"}
    assert len({(row["posting_id"], row["line"]) for row in rows[:-2]}) == 2 * POSTINGS
    assert not file.with_name("journal.csv.part").exists()
    code, out, _ = desk.runs("ledger", "export", "--check", str(file))
    assert (code, f"{2 * POSTINGS} entries" in out) == (0, True)
    file.write_bytes(file.read_bytes()[:-70])
    code, _, err = desk.runs("ledger", "export", "--check", str(file))
    assert (code, "was cut" in err) == (FAILED, True)


def test_json_lines_on_stdout_are_the_same_each_time(desk: Desk, booked: TestDatabase) -> None:
    command = ("ledger", "export", "--format", "jsonl", *desk.treasurer)
    code, first, _ = desk.runs(*command)
    assert (code, first) == (0, desk.runs(*command)[1])
    lines = [json.loads(line) for line in first.splitlines()]
    assert lines[-2] == {
        "total": BTC,
        "entries": 2 * POSTINGS,
        "debits_minor": str(2 * POSTINGS),
        "credits_minor": str(2 * POSTINGS),
    }


def test_a_statement_adds_up_in_every_form(desk: Desk, booked: TestDatabase) -> None:
    command = ("ledger", "statement", "=anna", "--brand", "acme", *desk.treasurer)
    code, out, err = desk.runs(*command)
    assert code == 0, err
    assert "provisional" in out.splitlines()[-1]
    code, out, _ = desk.runs(*command, "--json")
    answer = json.loads(out)
    assert code == 0
    assert (len(answer["items"]), answer["stages"][0]["closing_minor"]) == (100, "200")
    code, out, _ = desk.runs(*command, "--csv")
    assert code == 0
    assert len(out.splitlines()) == 1 + 100 + 1 + 2
    assert desk.runs(*command, "--csv", "--json")[0] == USAGE


def test_l14_verify_tells_each_contradiction_and_exits_1(
    desk: Desk, booked: TestDatabase, loop_thread: LoopThread
) -> None:
    code, out, err = desk.runs("ledger", "verify", *desk.treasurer)
    assert (code, out.splitlines()[-1][:8]) == (0, "verified"), err

    async def plant() -> None:
        database = Database(async_url(booked.owner_url), pool_size=1)
        async with database.unit_of_work() as uow:
            await uow.execute("SET LOCAL session_replication_role = replica")
            await uow.execute(
                "UPDATE ledger.entries SET amount = 3 WHERE line = 1 AND posting_id "
                "= (SELECT id FROM ledger.postings WHERE reference = 'in:7')"
            )
        await database.close()

    loop_thread.run(plant())
    code, out, _ = desk.runs("ledger", "verify", "--json", *desk.treasurer)
    answer = json.loads(out)
    kinds = sorted(finding["kind"] for finding in answer["findings"])
    assert (code, answer["verified"]) == (FAILED, False)
    assert kinds == ["cache_drift", "unbalanced_posting"]
    code, _, err = desk.runs("ledger", "verify", *desk.supporter)
    assert code != 0, err
