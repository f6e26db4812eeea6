"""`POST /v1/withdrawals/check`: what an order would come to, with nothing stored (W7)."""

from collections.abc import Sequence
from typing import Any

import pytest

from ledger import journal
from ledger.accounts import capital, clearing, custody
from ledger.journal import Posting, credit, debit
from tests.support.api import BTC_ADDRESS, ETH_ADDRESS, ApiHouse, problem
from watchers import fees, switches
from watchers.chain import FeeQuote
from watchers.switches import Action

COIN = 100_000_000
TABLES = (
    "gateway.withdrawals", "gateway.withdrawal_requests", "gateway.nonces", "gateway.idempotency",
    "gateway.withdrawal_limits", "ledger.events", "ledger.holds", "ledger.players",
    "ledger.postings",
)  # fmt: skip


async def ask(house: ApiHouse, *, key: str = "acme-key", **fields: Any) -> dict[str, Any]:
    """The dry run of a good order; None leaves a field out."""
    reply = await house.call("POST", "/v1/withdrawals/check", body=body(**fields), key=key)
    assert reply.status == 200, reply.body
    return dict(reply.json())


def body(**fields: Any) -> dict[str, Any]:
    values = {
        "player_id": "p1",
        "asset": "btc:BTC",
        "address": BTC_ADDRESS,
        "amount": "0.1",
        "pam_balance": "0",
        **fields,
    }
    return {name: value for name, value in values.items() if value is not None}


async def sample(house: ApiHouse) -> None:
    quote = FeeQuote(rates={2: 40_000, 6: 20_000}, floor=1_000, base_fee=0)
    async with house.owner.unit_of_work() as uow:
        await fees.record(uow, network="btc", quote=quote, at=house.clock.now())


async def invest(house: ApiHouse, amount_minor: int) -> None:
    """Capital that pays for fees."""
    posting = Posting(
        reference="test:capital",
        kind="inflow_assigned",
        entries=(
            debit(custody("btc", "hot", "btc:BTC"), amount_minor),
            credit(capital("btc:BTC"), amount_minor),
        ),
    )
    async with house.owner.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=house.ids.new_id(), at=house.clock.now())


async def stop(house: ApiHouse, scope: str, action: Action) -> None:
    async with house.owner.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope=scope,
            action=action,
            reason="test",
            actor="test",
            ids=house.ids,
            at=house.clock.now(),
        )


async def counts(house: ApiHouse) -> Sequence[int]:
    found = [await house.rows(f"SELECT count(*) AS n FROM {table}") for table in TABLES]
    return [rows[0]["n"] for rows in found]


async def test_an_order_that_would_go_at_once_tells_fee_and_time(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await invest(house, COIN)
    await sample(house)
    found = await ask(house)
    assert found["would_be"] == {"state": "queued", "code": None}
    assert found["waits_for"] == []
    assert found["network_fee_estimate"] == {
        "asset": "btc:BTC", "amount": "0.0000198", "amount_minor": "1980",
    }  # fmt: skip
    assert (found["fee_charged"], found["amount_out"]) == (None, "0.1")
    assert found["eta"] == {"sent": {"p50_seconds": 35, "p90_seconds": 900}, "completed": None}
    assert found["promise_at"] == "2026-01-01T00:15:00.000000Z"


async def test_nothing_is_stored_and_the_same_signed_call_is_answered_again(
    house: ApiHouse,
) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await sample(house)
    before = await counts(house)
    await ask(house, request_id="r1")
    async with house.client() as client:
        signed = client.signer.sign("POST", "/v1/withdrawals/check", body=b"{}")
        replies = [await client.send(signed) for _ in range(2)]
    assert [reply.status for reply in replies] == [422, 422]
    assert await counts(house) == before
    made = (await house.withdraw(request_id="r1")).json()
    assert made["state"] == "queued"  # its request_id stayed free


@pytest.mark.parametrize(
    ("fields", "state", "code", "waits_for"),
    [
        ({"amount": "0.00009999"}, "rejected", "below_minimum", []),
        ({"amount": "5"}, "waiting_liquidity", "clearing", ["clearing"]),
        ({"fee_mode": "player", "max_fee": "0.00001"}, "rejected", "fee_above_max_fee", []),
        ({"asset": "eth:ETH", "address": ETH_ADDRESS}, "waiting_liquidity", "clearing", None),
        ({"player_id": "late"}, "rejected", "not_final", []),
    ],
)
async def test_the_verdict_is_that_of_the_order_itself(
    house: ApiHouse,
    fields: dict[str, Any],
    state: str,
    code: str,
    waits_for: list[str] | None,
) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await invest(house, COIN)
    await sample(house)
    await house.deposit(
        brand="acme", player_id="late", asset="btc:BTC", amount_minor=5, state="provisional"
    )
    found = await ask(house, **fields)
    assert found["would_be"] == {"state": state, "code": code}
    assert found["eta"] is None
    if waits_for is not None:
        assert found["waits_for"] == waits_for
    made = (await house.withdraw(**fields)).json()
    assert (made["state"], made["code"]) == (state, code)


async def test_the_players_fee_is_told_before_it_is_charged(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await sample(house)
    fields = {"fee_mode": "player", "max_fee": "0.001"}
    told = await ask(house, **fields)
    made = (await house.withdraw(**fields)).json()
    for name in ("fee_charged", "fee_charged_minor", "amount_out", "amount_out_minor", "fee_mode"):
        assert told[name] == made[name]
    assert told["fee_charged"] == "0.0000198"


async def test_what_payouts_would_wait_for_is_named(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    assert (await ask(house))["waits_for"] == ["fees"]
    await sample(house)
    found = await ask(house)
    assert (found["waits_for"], found["eta"]) == (["fee_capital"], None)
    await stop(house, "network:btc", Action.SIGN)
    assert (await ask(house))["waits_for"] == ["switch", "fee_capital"]


async def test_the_hot_wallet_is_short_when_the_coins_are_elsewhere(house: ApiHouse) -> None:
    """Clearing is the brand's claim, the hot wallet what can be paid: here the coins are cold."""
    await invest(house, COIN)
    await sample(house)
    posting = Posting(
        reference="test:cold",
        kind="deposit_final",
        entries=(
            debit(custody("btc", "cold", "btc:BTC"), 5 * COIN),
            credit(clearing("acme", "btc:BTC"), 5 * COIN),
        ),
    )
    async with house.owner.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=house.ids.new_id(), at=house.clock.now())
    found = await ask(house, amount="2")
    assert found["would_be"]["state"] == "queued"
    assert (found["waits_for"], found["eta"]) == (["hot_wallet"], None)


async def test_time_is_told_by_what_was_sent_before(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await invest(house, COIN)
    for number in range(20):
        made = (await house.withdraw(amount="0.01", player_id=f"p{number}")).json()
        await house.rows(
            "UPDATE gateway.withdrawals SET state = 'sent', version = version + 1,"
            " state_at = accepted_at + make_interval(secs => :seconds) WHERE request_id = :id",
            seconds=10 * (number + 1),
            id=made["request_id"],
        )
    await house.rows(
        "INSERT INTO chain.cursors (network, height, hash, updated_at)"
        " VALUES ('btc', 200, 'h', :at)",
        at=house.clock.now(),
    )
    await sample(house)
    eta = (await ask(house))["eta"]
    assert eta["sent"] == {"p50_seconds": 100, "p90_seconds": 180}
    assert eta["completed"]["p90_seconds"] > eta["completed"]["p50_seconds"] > 180


async def test_a29_a_check_sees_the_callers_brand_only(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await sample(house)
    found = await ask(house, key="bravo-key")
    assert (found["brand"], found["would_be"]["code"]) == ("bravo", "clearing")


async def test_a28_a_check_takes_a_scope_of_withdrawals_and_no_more(house: ApiHouse) -> None:
    await sample(house)
    await house.add_key("reader", scopes=("withdrawals:read",))
    assert (await ask(house, key="reader"))["would_be"]["code"] == "clearing"
    await house.add_key("other", scopes=("deposits:read",))
    reply = await house.call("POST", "/v1/withdrawals/check", body=body(), key="other")
    assert reply.status == 403


async def test_a_malformed_check_and_stopped_orders_are_told_as_of_the_order(
    house: ApiHouse,
) -> None:
    reply = await house.call("POST", "/v1/withdrawals/check", body=body(amount="-1"))
    assert (reply.status, problem(reply)["errors"][0]["field"]) == (422, "amount")
    await stop(house, "asset:btc:BTC", Action.ACCEPT)
    reply = await house.call("POST", "/v1/withdrawals/check", body=body())
    assert (reply.status, problem(reply)["code"]) == (503, "accept_stopped")
