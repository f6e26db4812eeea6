"""`cage treasury nodes` and `pardon` as their own processes against a real API."""

import json

import pytest

from config.database import Database, async_url
from tests.support.databases import TestDatabase
from tests.support.desk import REFUSED, Desk
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres

LABEL = "node-a.internal:8332"


@pytest.fixture
def barred(desk: Desk, test_database: TestDatabase, loop_thread: LoopThread) -> str:
    """The label of a node that a watcher caught lying just now."""

    async def write() -> None:
        owner = Database(async_url(test_database.owner_url), pool_size=1)
        async with owner.unit_of_work() as uow:
            await uow.execute(
                "INSERT INTO chain.nodes (network, label, preference, state, reason, since, "
                "height, top_height, cause, version, observed_at, barred_at, barred_until) VALUES "
                "('btc', :label, 0, 'lying', 'a false block', now(), 9, 9, "
                "'lying: a false block', '', now(), now(), now() + interval '1 hour')",
                {"label": LABEL},
            )
        await owner.close()

    loop_thread.run(write())
    return LABEL


def test_n05_two_people_end_a_bar_by_the_same_command(desk: Desk, barred: str) -> None:
    _, out, _ = desk.runs("treasury", "nodes", *desk.treasurer, "--json")
    [node] = json.loads(out)["items"]
    assert (node["network"], node["node"], node["state"]) == ("btc", barred, "lying")
    _, out, _ = desk.runs("treasury", "nodes", "--network", "ltc", *desk.treasurer, "--json")
    assert json.loads(out)["items"] == []
    command = ("treasury", "pardon", "btc", barred, "--reason", "its disk was replaced")
    code, out, _ = desk.runs(*command, *desk.treasurer)
    assert (code, "another person runs the same command" in out) == (0, True)
    assert desk.runs(*command, *desk.risk)[:2] == (0, f"{barred} counts again after its looks\n")
    code, _, error = desk.runs(*command, *desk.risk)
    assert (code, "not barred" in error) == (REFUSED, True)


def test_n05_support_ends_no_bar(desk: Desk, barred: str) -> None:
    command = ("treasury", "pardon", "btc", barred, "--reason", "please")
    assert desk.runs(*command, *desk.supporter)[0] == REFUSED
