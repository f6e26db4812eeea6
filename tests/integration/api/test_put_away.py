"""The feed after a month of it was put away: nothing is left out in silence."""

from datetime import UTC, datetime

import pytest

from config import month_store
from config.ids import uuid7
from gateway.scheduler_store import make_months
from tests.support.api import ApiHouse, problem

pytestmark = pytest.mark.postgres

JANUARY = datetime(2031, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2031, 2, 1, tzinfo=UTC)


async def put_away(house: ApiHouse) -> None:
    """Three events, two of January; then January goes."""
    async with house.owner.unit_of_work() as uow:
        await make_months(uow, "gateway.event_log", at=JANUARY, months=1)
        await uow.execute("INSERT INTO gateway.event_counters VALUES ('acme', 3), ('zest', 1)")
        for brand, seq, at in (
            ("acme", 1, JANUARY),
            ("acme", 2, JANUARY),
            ("acme", 3, FEBRUARY),
            ("zest", 1, FEBRUARY),
        ):
            await uow.execute(
                "INSERT INTO gateway.event_log (brand, seq, event_id, type, object_kind,"
                " object_id, object_version, body, created_at) VALUES (:brand, :seq, :id, 'x', 'x',"
                " :id, 1, :body, :at)",
                {"brand": brand, "seq": seq, "body": str(seq), "at": at}
                | {"id": uuid7(at=at, entropy=house.ids.token_bytes(10))},
            )
    async with house.owner.unit_of_work() as uow:
        assert await month_store.detach(uow, "gateway.event_log", month=JANUARY)


async def test_a_feed_that_would_have_a_hole_is_refused_with_where_it_goes_on(
    house: ApiHouse,
) -> None:
    await put_away(house)
    for after in (0, 1):
        reply = await house.call("GET", f"/v1/events?after={after}")
        assert (reply.status, problem(reply)["code"]) == (409, "events_put_away")
        assert "after=2" in reply.json()["detail"]
    kept = await house.call("GET", "/v1/events?after=2")
    assert kept.json() == {"items": [3], "next_after": 3}
