"""`cage ledger close-day` as a process of its own against a real API."""

import csv
import json
from pathlib import Path
from uuid import uuid4

import pytest

from config.database import Database, async_url
from ledger import journal
from ledger.accounts import clearing, custody
from ledger.journal import Posting, credit, debit
from tests.support.clock import ManualClock
from tests.support.databases import TestDatabase
from tests.support.desk import FAILED, Desk
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres

DAY = "2026-01-01"


@pytest.fixture
def booked(test_database: TestDatabase, loop_thread: LoopThread, clock: ManualClock) -> None:
    """One posting of a day long ago."""
    posting = Posting(
        reference="in:1",
        kind="test",
        entries=(
            debit(custody("btc", "hot", "btc:BTC"), 9),
            credit(clearing("acme", "btc:BTC"), 9),
        ),
    )

    async def post() -> None:
        database = Database(async_url(test_database.owner_url), pool_size=1)
        async with database.unit_of_work() as uow:
            await journal.post(uow, posting, posting_id=uuid4(), at=clock.now())
        await database.close()

    loop_thread.run(post())


def test_a_day_is_closed_shown_checked_and_downloaded(
    desk: Desk, booked: None, tmp_path: Path
) -> None:
    code, out, err = desk.runs("ledger", "close-day", DAY, "--json", *desk.treasurer)
    answer = json.loads(out)
    assert (code, answer["day"]) == (0, DAY), err
    file = tmp_path / "day.csv"
    code, _, err = desk.runs(
        "ledger", "close-day", DAY, "--csv", "--out", str(file), *desk.treasurer
    )
    assert code == 0, err
    with file.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0][0] == "account"
    assert {row[0]: row[-1] for row in rows[1:-1]} == {
        "brand:acme:clearing:btc:BTC": "9",
        "custody:btc/hot:btc:BTC": "9",
    }
    assert rows[-1][1] == answer["sha256"]
    code, out, _ = desk.runs("ledger", "close-day", DAY, "--check", *desk.treasurer)
    assert (code, "holds" in out) == (0, True)


def test_a_day_that_is_not_closed_and_a_person_without_the_role_are_refused(desk: Desk) -> None:
    code, _, err = desk.runs("ledger", "close-day", DAY, "--check", *desk.treasurer)
    assert (code, "Traceback" in err) == (FAILED, False)
    code, _, err = desk.runs("ledger", "close-day", DAY, *desk.supporter)
    assert (code != 0, "Traceback" in err) == (True, False)
