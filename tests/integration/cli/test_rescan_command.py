"""`cage deposits rescan` as its own process against a real API."""

import json

import pytest

from config.database import Database, async_url
from tests.support.databases import TestDatabase
from tests.support.desk import REFUSED, USAGE, Desk
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres

ASK = ("deposits", "rescan", "btc", "--from", "800", "--reason", "a deposit is missing")


@pytest.fixture
def followed(desk: Desk, test_database: TestDatabase, loop_thread: LoopThread) -> Desk:
    """A watcher stands at 900."""

    async def stand() -> None:
        owner = Database(async_url(test_database.owner_url), pool_size=1)
        async with owner.unit_of_work() as uow:
            await uow.execute(
                "INSERT INTO chain.cursors (network, height, hash, fence, updated_at) "
                "VALUES ('btc', 900, 'aa', 1, now())"
            )
            await uow.execute(
                "INSERT INTO chain.node_health (network, nodes_total, nodes_agreeing, is_healthy, "
                "observed_at) VALUES ('btc', 1, 1, true, now())"
            )
        await owner.close()

    loop_thread.run(stand())
    return desk


def test_d11_a_range_is_asked_for_and_listed(followed: Desk) -> None:
    assert followed.runs("deposits", "rescan", "btc", *followed.risk)[1] == (
        "nothing was looked at again\n"
    )
    assert followed.runs(*ASK, "--dry-run", *followed.treasurer)[:2] == (
        0,
        "btc stands at 900; 101 blocks would be looked at again\n",
    )
    code, out, _ = followed.runs(*ASK, "--to", "850", "--json", *followed.treasurer)
    asked = json.loads(out)
    assert (code, asked["to_height"], asked["state"], asked["dry_run"]) == (
        0,
        850,
        "running",
        False,
    )
    code, out, _ = followed.runs("deposits", "rescan", "btc", "--json", *followed.risk)
    [listed] = json.loads(out)["items"]
    assert (code, listed["id"], listed["asked_by"]) == (0, asked["id"], "alice")
    table = followed.runs("deposits", "rescan", "btc", *followed.risk)[1]
    assert "800 to 850" in table
    assert "a deposit is missing" in table


def test_d11_a_rescan_is_cancelled_with_a_reason(followed: Desk) -> None:
    asked = json.loads(followed.runs(*ASK, "--json", *followed.treasurer)[1])
    ending = ("deposits", "rescan", "btc", "--cancel", asked["id"])
    assert followed.runs(*ending, *followed.risk)[0] == USAGE
    assert followed.runs(*ending, "--from", "1", "--reason", "why", *followed.risk)[0] == USAGE
    assert followed.runs(*ending, "--reason", "why", *followed.supporter)[0] == REFUSED
    for _ in range(2):
        code, out, _ = followed.runs(*ending, "--reason", "why", *followed.risk)
        assert (code, out) == (0, f"{asked['id']}: ended at 800, 0 found\n")


def test_d11_a_range_above_the_watcher_is_refused(followed: Desk) -> None:
    above = ("deposits", "rescan", "btc", "--from", "901", "--reason", "a deposit is missing")
    code, _, error = followed.runs(*above, *followed.treasurer)
    assert (code, "above_cursor" in error) == (REFUSED, True)
    assert followed.runs(*above, "--dry-run", *followed.treasurer)[0] == USAGE


@pytest.mark.parametrize(
    "arguments", [("--from", "800"), ("--to", "850"), ("--reason", "why"), ("--dry-run",)]
)
def test_d11_half_a_command_is_a_question_of_usage(desk: Desk, arguments: tuple[str, ...]) -> None:
    code, _, error = desk.runs("deposits", "rescan", "btc", *arguments, *desk.treasurer)
    assert (code, error.startswith("cage: ")) == (USAGE, True)


def test_d11_support_asks_for_nothing(followed: Desk) -> None:
    assert followed.runs(*ASK, *followed.supporter)[0] == REFUSED
