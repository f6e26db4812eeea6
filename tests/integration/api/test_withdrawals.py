"""Ordering a payout: rules, reservation, cancel (CONTRACT 1 and 5)."""

import asyncio
import json
from datetime import timedelta

import pytest

from gateway.api.wire import WireContext, render_object
from ledger import balances, journal
from ledger.accounts import AccountKind, clearing, custody
from ledger.errors import InsufficientFunds
from ledger.journal import Posting, credit, debit
from ledger.reconcile import check_books
from tests.support.api import ApiHouse, problem

COIN = 100_000_000


async def test_a_valid_order_is_reserved_and_queued_at_once(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    reply = await house.withdraw(amount="0.25")
    found = reply.json()
    assert (reply.status, found["state"], found["amount_minor"]) == (202, "queued", "25000000")
    timeline = await house.call("GET", f"/v1/withdrawals/{found['id']}/timeline")
    states = [item["state"] for item in timeline.json()["items"]]
    assert states == ["received", "reserved", "queued"]


async def test_each_state_has_its_own_event_with_the_snapshot(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await house.withdraw(request_id="x", amount="0.25")
    events = await house.rows(
        "SELECT type, object_version, previous_state, snapshot FROM ledger.events"
        " WHERE object_kind = 'withdrawal' ORDER BY position"
    )
    assert [(row["type"], row["object_version"], row["previous_state"]) for row in events] == [
        ("withdrawal.received", 1, None),
        ("withdrawal.reserved", 2, "received"),
        ("withdrawal.queued", 3, "reserved"),
    ]


async def test_an_events_object_is_the_object_as_the_api_shows_it(house: ApiHouse) -> None:
    """Webhooks render the stored snapshot: it must not differ from the answer."""
    made = (await house.withdraw(amount="0.25", metadata={"table": "7"})).json()
    [event] = await house.rows(
        "SELECT snapshot FROM ledger.events WHERE type = 'withdrawal.waiting_liquidity'"
    )
    snapshot = event["snapshot"]
    fields = json.loads(snapshot) if isinstance(snapshot, str) else snapshot
    context = WireContext(assets=house.registry.assets, livemode=False)
    assert render_object("withdrawal", fields, context=context) == made


async def test_the_signed_bytes_are_kept_as_received(house: ApiHouse) -> None:
    async with house.client() as client:
        body = (
            b'{"request_id": "r1",  "player_id":"p1","asset":"btc:BTC","address":'
            b'"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080","amount":"0.10","pam_balance":"0"}'
        )
        signed = client.signer.sign("POST", "/v1/withdrawals", body=body, idempotency_key="k1")
        await client.send(signed)
    [row] = await house.rows("SELECT * FROM gateway.withdrawal_requests")
    assert bytes(row["body"]) == body
    assert row["signature"] == signed.headers["Signature"]
    assert row["signature_input"] == signed.headers["Signature-Input"]
    assert (row["method"], row["authority"], row["path"], row["query"]) == (
        "POST",
        "cage.test:8080",
        "/v1/withdrawals",
        "?",
    )


async def test_a07_100_orders_for_all_of_clearing_reserve_one(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    replies = await asyncio.gather(
        *(house.withdraw(request_id=f"w{n}", amount="1") for n in range(100))
    )
    states = sorted(reply.json()["state"] for reply in replies)
    assert states == ["queued", *["waiting_liquidity"] * 99]
    waiting = {r.json()["code"] for r in replies if r.json()["state"] == "waiting_liquidity"}
    assert waiting == {"clearing"}
    [clearing] = await house.rows("SELECT count(*) AS open FROM ledger.holds")
    assert clearing["open"] == 1


async def test_a08_orders_cancels_and_a_reversal_at_once_never_overdraw_clearing(
    house: ApiHouse,
) -> None:
    """Ten coins; twenty orders, cancels and a reversal of six coins race for them."""
    await house.fund("acme", "btc:BTC", 10 * COIN)

    async def order_and_cancel(number: int) -> None:
        made = (await house.withdraw(request_id=f"w{number}", amount="1")).json()
        if number % 3 == 0:
            await house.call("POST", f"/v1/withdrawals/{made['id']}/cancel")

    async def reverse() -> int:
        """Takes what is free of clearing, as a reversed final deposit does."""
        posting = Posting(
            reference="test:reversal",
            kind="deposit_reversed",
            entries=(
                debit(clearing("acme", "btc:BTC"), 6 * COIN),
                credit(custody("btc", "hot", "btc:BTC"), 6 * COIN),
            ),
        )
        try:
            async with house.owner.unit_of_work() as uow:
                await journal.post(
                    uow, posting, posting_id=house.ids.new_id(), at=house.clock.now()
                )
        except InsufficientFunds:
            return 0
        return 6 * COIN

    results = await asyncio.gather(*(order_and_cancel(n) for n in range(20)), reverse())
    taken = results[-1] or 0
    async with house.owner.unit_of_work() as uow:
        rows = await balances.balances(uow)
        report = await balances.trial_balance(uow)
        assert await check_books(uow) == []
    amounts = {row.kind: row.balance_minor for row in rows}
    assert report.is_balanced
    assert amounts[AccountKind.CLEARING] >= 0
    left = amounts[AccountKind.CLEARING] + amounts.get(AccountKind.RESERVED, 0)
    assert left == 10 * COIN - taken


async def test_d76_the_lock_rule_refuses_what_provisional_deposits_cover(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await house.deposit(
        brand="acme", player_id="p1", asset="btc:BTC", amount_minor=COIN, state="provisional"
    )
    short = await house.withdraw(pam_balance="0.99999999")
    exact = await house.withdraw(pam_balance="1")
    assert (short.status, short.json()["state"], short.json()["code"]) == (
        202,
        "rejected",
        "not_final",
    )
    assert exact.json()["state"] == "queued"


async def test_orphaned_deposits_count_as_locked(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await house.deposit(
        brand="acme", player_id="p1", asset="btc:BTC", amount_minor=COIN, state="orphaned"
    )
    reply = await house.withdraw(pam_balance="0.5")
    assert (reply.json()["state"], reply.json()["code"]) == ("rejected", "not_final")


@pytest.mark.parametrize(("mode", "state"), [("shared", "rejected"), ("per_asset", "queued")])
async def test_unfinished_value_in_another_asset_locks_a_shared_balance(
    house: ApiHouse, mode: str, state: str
) -> None:
    await house.rows("UPDATE gateway.brands SET balance_mode = :mode", mode=mode)
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await house.deposit(
        brand="acme", player_id="p1", asset="eth:ETH", amount_minor=1, state="provisional"
    )
    reply = await house.withdraw(pam_balance="5")
    assert reply.json()["state"] == state


async def test_another_players_deposits_lock_nothing(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await house.deposit(
        brand="acme", player_id="p2", asset="btc:BTC", amount_minor=COIN, state="provisional"
    )
    assert (await house.withdraw(player_id="p1")).json()["state"] == "queued"


async def test_an_order_waits_for_the_players_lock_of_a_deposit_that_turns(
    house: ApiHouse,
) -> None:
    """A deposit that becomes provisional under the player's lock is seen by the order."""
    await house.fund("acme", "btc:BTC", 10 * COIN)
    deposit_id = await house.deposit(
        brand="acme", player_id="p1", asset="btc:BTC", amount_minor=COIN, state="pending"
    )
    async with house.owner.unit_of_work() as uow:
        await balances.lock_player(uow, brand="acme", player_id="p1")
        ordering = asyncio.create_task(house.withdraw(pam_balance="0"))
        await uow.execute(
            "UPDATE chain.deposits SET state = 'provisional', version = 2 WHERE id = :id",
            {"id": deposit_id},
        )
    reply = await ordering
    assert (reply.json()["state"], reply.json()["code"]) == ("rejected", "not_final")


async def test_an_amount_under_the_minimum_becomes_a_rejected_object(house: ApiHouse) -> None:
    reply = await house.withdraw(amount="0.00009999")
    assert (reply.status, reply.json()["state"], reply.json()["code"]) == (
        202,
        "rejected",
        "below_minimum",
    )


async def test_valid_until_lies_ahead_and_within_30_days(house: ApiHouse) -> None:
    now = house.clock.now()

    def text(days: int) -> str:
        return (now + timedelta(days=days)).isoformat().replace("+00:00", "Z")

    assert (await house.withdraw(valid_until=text(30))).status == 202
    assert (await house.withdraw(valid_until=text(31))).status == 422
    assert (await house.withdraw(valid_until=text(-1))).status == 422
    assert (await house.withdraw(valid_until="2026-01-02")).status == 422
    default = (await house.withdraw()).json()["valid_until"]
    assert default == "2026-01-08T00:00:00.000000Z"


async def test_the_promise_follows_the_fee_class(house: ApiHouse) -> None:
    promises = [
        (await house.withdraw(fee_class=name)).json()["promise_at"][11:19]
        for name in ("urgent", "normal", "economy")
    ]
    assert promises == ["00:02:00", "00:15:00", "02:00:00"]


async def test_a_cancelled_order_gives_its_reservation_back(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    first = (await house.withdraw(amount="1")).json()
    gone = await house.call("POST", f"/v1/withdrawals/{first['id']}/cancel")
    twice = await house.call("POST", f"/v1/withdrawals/{first['id']}/cancel")
    assert (gone.status, gone.json()["state"]) == (200, "cancelled")
    assert twice.json() == gone.json()
    assert (await house.withdraw(amount="1")).json()["state"] == "queued"


async def test_a33_cancel_after_signing_was_asked_for_is_too_late(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    found = (await house.withdraw()).json()
    await house.rows(
        "UPDATE gateway.withdrawals SET state = 'planned', version = 4, sign_requested_at = :at",
        at=house.clock.now(),
    )
    reply = await house.call("POST", f"/v1/withdrawals/{found['id']}/cancel")
    assert (reply.status, problem(reply)["code"]) == (409, "too_late")


async def test_a_withdrawal_is_found_by_its_request_id_or_404(house: ApiHouse) -> None:
    made = (await house.withdraw(request_id="pam/42")).json()
    found = await house.call("GET", "/v1/withdrawals?request_id=pam%2F42")
    assert found.json() == made
    missing = await house.call("GET", "/v1/withdrawals?request_id=other")
    assert missing.status == 404


async def test_lists_page_with_a_stable_cursor(house: ApiHouse) -> None:
    made = []
    for _ in range(5):
        house.tick(1)  # ids are ordered by the millisecond
        made.append((await house.withdraw()).json()["id"])
    first = (await house.call("GET", "/v1/withdrawals?limit=2")).json()
    house.tick(1)
    await house.withdraw()
    second = (
        await house.call("GET", f"/v1/withdrawals?limit=2&cursor={first['next_cursor']}")
    ).json()
    third = (
        await house.call("GET", f"/v1/withdrawals?limit=2&cursor={second['next_cursor']}")
    ).json()
    seen = [item["id"] for page in (first, second, third) for item in page["items"]]
    assert seen == list(reversed(made))
    assert third["next_cursor"] is None


async def test_filters_narrow_a_list(house: ApiHouse) -> None:
    await house.withdraw(player_id="p1")
    await house.withdraw(player_id="p2", amount="0.00001")
    found = await house.call("GET", "/v1/withdrawals?player_id=p2&state=rejected&asset=btc:BTC")
    assert [item["player_id"] for item in found.json()["items"]] == ["p2"]
    later = await house.call("GET", "/v1/withdrawals?created_after=2026-06-01T00:00:00Z")
    assert later.json()["items"] == []
    assert (await house.call("GET", "/v1/withdrawals?state=nonsense")).status == 422
