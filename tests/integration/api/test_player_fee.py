"""`fee_mode: player` at the door: what is charged, what is refused, what the API shows."""

import json
from decimal import Decimal
from typing import Any

import pytest

from gateway.api.wire import WireContext, render_object
from tests.support.api import ETH_ADDRESS, ApiHouse, problem
from watchers import fees, rates
from watchers.chain import FeeQuote

COIN = 100_000_000
GWEI = 10**9
USDT = {"asset": "eth:USDT", "address": ETH_ADDRESS, "amount": "50"}


async def sample(house: ApiHouse, network: str = "btc", **fields: Any) -> None:
    """A fee quote of now: 20 sat/vB, or 10 + 1 gwei."""
    quotes = {
        "btc": {"rates": {2: 40_000, 6: 20_000, 36: 5_000}, "floor": 1_000, "base_fee": 0},
        "eth": {"rates": {5: 2 * GWEI, 20: GWEI}, "floor": 0, "base_fee": 10 * GWEI},
    }
    quote = FeeQuote(**{**quotes[network], **fields})
    async with house.owner.unit_of_work() as uow:
        await fees.record(uow, network=network, quote=quote, at=house.clock.now())


async def rate(house: ApiHouse, asset: str, text: str) -> None:
    async with house.owner.unit_of_work() as uow:
        await rates.record(
            uow,
            rate_id=house.ids.new_id(),
            asset=asset,
            rate=Decimal(text),
            source="staff",
            as_of=house.clock.now(),
            entered_by="ada",
            approved_by="grace",
            reference=house.registry.policy.reference,
            at=house.clock.now(),
        )


async def order(house: ApiHouse, **fields: Any) -> dict[str, Any]:
    """An accepted one's object."""
    values: dict[str, Any] = {"fee_mode": "player", "max_fee": "0.01", **fields}
    reply = await house.withdraw(**values)
    assert reply.status == 202, reply.body
    return dict(reply.json())


async def test_charge_is_the_payments_share_of_a_batch_at_its_class(house: ApiHouse) -> None:
    """P2WPKH: an output of 31 vB and an input of 68 vB, at 20 sat/vB for `normal`."""
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await sample(house)
    found = await order(house, amount="0.5")
    assert found["state"] == "queued"
    assert (found["fee_charged"], found["fee_charged_minor"]) == ("0.0000198", "1980")
    assert (found["max_fee"], found["max_fee_minor"]) == ("0.01", "1000000")
    assert (found["amount_out"], found["amount_out_minor"]) == ("0.4999802", "49998020")
    assert found["amount_minor"] == "50000000"
    urgent = await order(house, amount="0.5", fee_class="urgent")
    assert urgent["fee_charged_minor"] == str(2 * 1980)
    [hold] = await house.rows("SELECT DISTINCT amount FROM ledger.holds")
    assert int(hold["amount"]) == 50_000_000  # the whole amount is set aside


async def test_gas_is_charged_at_base_fee_and_tip_and_a_token_by_its_rate(house: ApiHouse) -> None:
    """60,000 gas at 11 gwei are 0.00066 ETH: at 2,500 to 1 that is 1.65 USDT, rounded up."""
    await house.fund("acme", "eth:USDT", 10**12)
    await house.fund("acme", "eth:ETH", 10**20)
    await sample(house, "eth")
    native = await order(house, asset="eth:ETH", address=ETH_ADDRESS, amount="1")
    assert native["fee_charged_minor"] == str(21_000 * 11 * GWEI)
    await rate(house, "eth:ETH", "2500")
    await rate(house, "eth:USDT", "1.0001")
    found = await order(house, **USDT, max_fee="2")
    assert (found["state"], found["fee_charged_minor"]) == ("queued", "1649836")


async def test_charge_stays_what_it_was_when_fees_change(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await sample(house)
    first = await order(house, request_id="same", idempotency_key="a")
    house.tick(30)
    await sample(house, rates={6: 90_000})
    again = await order(house, request_id="same", idempotency_key="b")
    assert again == first
    assert (await order(house))["fee_charged_minor"] == str(99 * 90)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"max_fee": "0.00001979"}, "fee_above_max_fee"),
        ({"max_fee": "0"}, "fee_above_max_fee"),
        ({"amount": "0.00011979"}, "below_minimum_after_fee"),
        ({"amount": "0.00009999"}, "below_minimum"),
        ({**USDT, "max_fee": "5"}, "fees_unknown"),
    ],
)
async def test_what_the_fee_forbids_becomes_a_rejected_object(
    house: ApiHouse, fields: dict[str, str], code: str
) -> None:
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await sample(house)
    found = await order(house, **{"max_fee": "0.00005", **fields})
    assert (found["state"], found["code"]) == ("rejected", code)
    assert await house.rows("SELECT id FROM ledger.holds") == []


async def test_the_last_output_that_is_not_below_the_minimum_is_taken(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await sample(house)
    found = await order(house, amount="0.0001198", max_fee="0.00001980")
    assert (found["state"], found["amount_out"]) == ("queued", "0.0001")


async def test_an_old_quote_or_rate_is_none(house: ApiHouse) -> None:
    await sample(house, "eth")
    await rate(house, "eth:ETH", "2500")
    assert (await order(house, **USDT, max_fee="2"))["code"] == "rate_unknown"
    await rate(house, "eth:USDT", "1")
    assert (await order(house, **USDT, max_fee="2"))["state"] == "waiting_liquidity"
    house.tick(3_601)
    assert (await order(house, **USDT, max_fee="2"))["code"] == "fees_unknown"
    await sample(house, "eth")
    assert (await order(house, **USDT, max_fee="2"))["code"] == "rate_unknown"


async def test_a_chain_above_the_fee_cap_is_not_guessed_at(house: ApiHouse) -> None:
    await sample(house, floor=301_000)
    assert (await order(house))["code"] == "network_fee_too_high"
    await sample(house, "eth", base_fee=10**12)
    found = await order(house, asset="eth:ETH", address=ETH_ADDRESS, amount="1")
    assert found["code"] == "network_fee_too_high"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"max_fee": None}, "required"),
        ({"max_fee": "0.1"}, "too_high"),
        ({"max_fee": "-1"}, "invalid_amount"),
        ({"max_fee": "1e-5"}, "invalid_amount"),
        ({"max_fee": "0.000000001"}, "invalid_amount"),
        ({"fee_mode": "brand"}, "not_allowed"),
        ({"fee_mode": None}, "not_allowed"),
    ],
)
async def test_a13_a_malformed_max_fee_stores_nothing(
    house: ApiHouse, fields: dict[str, Any], code: str
) -> None:
    await sample(house)
    values: dict[str, Any] = {"fee_mode": "player", "max_fee": "0.01", **fields}
    reply = await house.withdraw(**values)
    found = problem(reply)
    assert (reply.status, found["errors"][0]["field"]) == (422, "max_fee")
    assert found["errors"][0]["code"] == code
    assert await house.rows("SELECT id FROM gateway.withdrawals") == []


async def test_where_the_brand_pays_nothing_is_charged(house: ApiHouse) -> None:
    found = (await house.withdraw()).json()
    assert [found[name] for name in ("max_fee", "fee_charged", "amount_out")] == [None, None, "0.1"]


async def test_events_and_statement_tell_the_charge(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", 10 * COIN)
    await sample(house)
    made = await order(house, amount="0.5")
    [event] = await house.rows(
        "SELECT snapshot FROM ledger.events WHERE type = 'withdrawal.queued'"
    )
    snapshot = event["snapshot"]
    fields = json.loads(snapshot) if isinstance(snapshot, str) else snapshot
    context = WireContext(assets=house.registry.assets, livemode=False)
    assert render_object("withdrawal", fields, context=context) == made
    house.tick(120)
    [line] = (await house.call("GET", "/v1/players/p1/statement?from=2025-12-31T00:00:00Z")).json()[
        "items"
    ]
    assert (line["withdrawal_id"], line["amount"]) == (made["id"], "0.5")
    assert (line["fee_charged"], line["fee_charged_minor"]) == ("0.0000198", "1980")
