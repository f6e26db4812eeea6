"""Ordering a payout: rules, reservation, cancel."""

from tests.support.api import ApiHouse


async def test_a_valid_order_is_reserved_and_queued_at_once(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 100_000_000)
    reply = await house.withdraw(amount="0.25")
    found = reply.json()
    assert (reply.status, found["state"], found["amount_minor"]) == (202, "queued", "25000000")
    timeline = await house.call("GET", f"/v1/withdrawals/{found['id']}/timeline")
    assert [item["state"] for item in timeline.json()["items"]] == [
        "received",
        "reserved",
        "queued",
    ]
