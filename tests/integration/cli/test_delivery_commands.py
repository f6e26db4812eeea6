"""`cage deliveries`: the log of webhooks and sending again, under the person's own key."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from config.database import Database, async_url
from config.ids import public_id
from gateway.webhooks.secrets import load_key
from tests.integration.webhooks.desk import Desk as WebhookDesk
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.desk import FAILED, REFUSED, Desk
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres


@pytest.fixture
def endpoint(
    desk: Desk,
    test_database: TestDatabase,
    loop_thread: LoopThread,
    clock: ManualClock,
    ids: SequentialIds,
    tmp_path: Path,
) -> str:
    """An endpoint with two events of one object and one of another, numbered and not sent; the
    first of the two was given up."""

    async def prepare() -> str:
        owner = Database(async_url(test_database.owner_url))
        role = Database(async_url(test_database.role_url("gateway_webhooks")))
        hooks = WebhookDesk(
            owner=owner, role=role, clock=clock, ids=ids, key=load_key(tmp_path / "sealing", ids)
        )
        endpoint_id = await hooks.add_endpoint("https://pam.example/hook")
        twice = ids.new_id()
        for object_id, version in ((twice, 1), (twice, 2), (ids.new_id(), 1)):
            await hooks.event(object_id=object_id, version=version)
            clock.advance(1)
        await hooks.number()
        async with owner.unit_of_work() as uow:
            await uow.execute(
                "UPDATE gateway.deliveries SET state = 'parked', is_oldest = false WHERE seq = 3"
            )
        await role.close()
        await owner.close()
        return public_id("webhook_endpoint", endpoint_id, livemode=False)

    return loop_thread.run(prepare())


def test_e4_an_admin_lists_shows_and_sends_again(desk: Desk, endpoint: str) -> None:
    code, out, err = desk.runs("deliveries", "list", "--endpoint", endpoint, *desk.admin, "--json")
    assert code == 0, err
    found = {row["seq"]: row for row in json.loads(out)["items"]}
    assert {seq: row["state"] for seq, row in found.items()} == {
        1: "pending", 2: "pending", 3: "parked",
    }  # fmt: skip
    code, out, _ = desk.runs("deliveries", "list", "--state", "parked", *desk.admin)
    assert (code, found[3]["id"] in out, found[1]["id"] in out) == (0, True, False)

    code, out, _ = desk.runs("deliveries", "redeliver", found[3]["id"], *desk.admin)
    assert (code, out.startswith(f"{found[3]['id']} is pending; next try")) == (0, True)
    code, out, _ = desk.runs("deliveries", "redeliver", found[2]["id"], *desk.admin)
    assert (code, "behind an older event" in out) == (0, True)
    code, out, _ = desk.runs("deliveries", "show", found[3]["id"], *desk.admin, "--json")
    shown = json.loads(out)
    assert (code, shown["state"], shown["event_id"]) == (0, "pending", found[3]["event_id"])


def test_e4_what_was_parked_in_a_time_is_queued_again_once(desk: Desk, endpoint: str) -> None:
    recover = ("deliveries", "recover", endpoint, "--since", "2000-01-01T00:00:00Z")
    code, _, err = desk.runs(*recover, *desk.admin)
    assert (code, "At most 90 days" in err) == (REFUSED, True), err
    code, out, err = desk.runs("deliveries", "list", "--state", "parked", *desk.admin, "--json")
    [parked] = json.loads(out)["items"]
    queued = datetime.fromisoformat(parked["created_at"])
    since, until = queued - timedelta(minutes=1), queued + timedelta(days=1)
    window = ("--since", since.isoformat(), "--until", until.isoformat())
    code, out, err = desk.runs("deliveries", "recover", endpoint, *window, *desk.admin)
    assert (code, out.splitlines()) == (0, [f"1 events are queued for {endpoint}"]), err
    code, out, _ = desk.runs("deliveries", "list", "--state", "parked", *desk.admin, "--json")
    assert json.loads(out)["items"] == []


def test_e4_a_supporter_sends_nothing_again_and_an_unknown_one_fails(
    desk: Desk, endpoint: str
) -> None:
    code, _, err = desk.runs("deliveries", "list", *desk.supporter)
    assert (code, "your key" in err) == (REFUSED, True)
    nobody = "del_test_" + "0" * 32
    code, _, err = desk.runs("deliveries", "redeliver", nobody, *desk.admin)
    assert (code, "not_found" in err) == (FAILED, True)
