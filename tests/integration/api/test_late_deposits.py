"""What the casino sees of a payment to an address that was rotated away: object and feed agree."""

import pytest

from config.clock import Waker
from config.database import Database, async_url
from gateway.api.wire_base import WireContext
from gateway.webhooks.sequencer import Sequencer
from tests.support.databases import TestDatabase
from tests.support.ward import COIN, Ward

pytestmark = pytest.mark.postgres


async def number(ward: Ward, database: TestDatabase) -> None:
    """Put what is committed into the feed."""
    role = Database(async_url(database.role_url("gateway_webhooks")))
    sequencer = Sequencer(
        database=role,
        clock=ward.clock,
        ids=ward.house.ids,
        context=WireContext(assets=ward.house.registry.assets, livemode=False),
        waker=Waker(poll_seconds=1.0),
    )
    while await sequencer.run_once():
        pass
    await role.close()


async def test_d22_a_late_payment_is_flagged_in_the_object_and_in_every_event(
    ward: Ward, test_database: TestDatabase
) -> None:
    """Credited like any other; a payment to the new address in the same block is not flagged."""
    watch = ward.watches["btc"]
    old = await watch.address("anna")
    reply = await ward.house.call("POST", f"/v1/addresses/addr_test_{old.id.hex}/rotate", body={})
    assert reply.status == 200, reply.body
    new = await watch.address("anna")
    ward.btc.pay([(old.address, COIN)])
    ward.btc.pay([(new.address, COIN)])
    ward.btc.mine(6)
    await ward.follow()
    await number(ward, test_database)

    listed = (await ward.house.call("GET", "/v1/deposits?player_id=anna")).json()["items"]
    assert {item["address"]: (item["late"], item["state"]) for item in listed} == {
        old.address: (True, "final"),
        new.address: (False, "final"),
    }
    for item in listed:
        one = (await ward.house.call("GET", f"/v1/deposits/{item['id']}")).json()
        assert one["late"] is item["late"]
    events = (await ward.house.call("GET", "/v1/events?after=0")).json()["items"]
    told = {(item["type"], item["object"]["address"], item["object"]["late"])
            for item in events if item["type"].startswith("deposit.")}  # fmt: skip
    assert told == {
        (f"deposit.{state}", address, is_late)
        for state in ("pending", "provisional", "final")
        for address, is_late in ((old.address, True), (new.address, False))
    }
