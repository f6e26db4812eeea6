"""Wallets, their events, forecasts and back-tests over the API."""

from typing import Any

import pytest

from config.database import Database, async_url
from gateway.api.wire import WireContext, render_object
from gateway.treasury.watch import TreasuryWatch
from tests.support.api import ApiHouse
from tests.support.databases import TestDatabase
from tests.support.ward import COIN, Ward

pytestmark = pytest.mark.postgres

WEEK = 7 * 24


async def _wallets(house: ApiHouse, key: str = "ada-key") -> dict[tuple[str, str], Any]:
    items = (await house.call("GET", "/v1/wallets", key=key)).json()["items"]
    return {(item["wallet"], item["asset"]): item for item in items}


async def _history(house: ApiHouse, *, weeks: int, busy: int, quiet: int) -> None:
    """Each hour from 12:00 to 18:00 UTC asked for `busy`, every other hour for `quiet`."""
    now = int(house.clock.now().timestamp()) // 3_600
    first = now - weeks * WEEK
    await house.rows(
        "INSERT INTO gateway.flow_hours (network, asset, hour, inflow, demand, outflow) SELECT "
        "'btc', 'btc:BTC', h, 0, CASE WHEN h % 24 BETWEEN 12 AND 17 THEN CAST(:busy AS numeric) "
        "ELSE CAST(:quiet AS numeric) END, 0 FROM generate_series(CAST(:first AS bigint), :last) h",
        busy=busy,
        quiet=quiet,
        first=first,
        last=now - 1,
    )
    await house.rows(
        "INSERT INTO gateway.flow_marks VALUES ('btc', :first, :now)", first=first, now=now
    )


async def test_wallets_name_the_block_and_the_source_of_each_figure(ward: Ward) -> None:
    """Two deposits: one in a block and not final, one final; books and chain differ."""
    addresses = {}
    for player in ("ann", "bob"):
        reply = await ward.house.call(
            "POST", f"/v1/players/{player}/addresses", body={"network": "btc"}
        )
        addresses[player] = reply.json()["address"]
    ward.btc.pay([(addresses["ann"], 2 * COIN)])
    ward.btc.mine(6)
    ward.btc.pay([(addresses["bob"], COIN)])
    ward.btc.mine(1)
    await ward.follow()
    found = await _wallets(ward.house, key="operator-key")
    hot = found["btc/hot", "btc:BTC"]
    tip = await ward.watches["btc"].chain.reader.tip()
    assert (hot["chain"], hot["chain_block"]["source"]) == ("3", "coins")
    assert (hot["chain_block"]["height"], hot["chain_block"]["block_hash"]) == (
        tip.height,
        tip.hash,
    )
    assert (hot["role"], hot["outgoing"], hot["reserved"]) == ("hot", "0", "0")
    assert hot["free"] == hot["ledger"]
    eth = found["eth/hot", "eth:ETH"]
    assert (eth["chain"], eth["chain_block"]["source"]) == ("0", "accounts")
    assert found["eth/hot", "eth:USDT"]["chain"] is None


async def test_the_newest_comparison_stands_for_deposit_wallets_of_account_chains(
    ward: Ward,
) -> None:
    code = "custody:eth/deposit/acme:eth:USDT"
    for height, amount in ((7, 5_000_000), (9, 6_000_000)):
        await ward.house.rows(
            "WITH run AS (INSERT INTO chain.reconciliation_runs (id, network, trigger, state, "
            "height, block_hash, breaks, started_at, finished_at) VALUES (gen_random_uuid(), "
            "'eth', 'cycle', 'clean', :height, :hash, '[]', :at, :at) RETURNING id) "
            "INSERT INTO chain.reconciliation_wallets (run_id, account, chain, books, unposted, "
            "unsettled, difference) SELECT id, :code, :amount, :amount, 0, 0, 0 FROM run",
            height=height,
            hash=f"ab{height}",
            code=code,
            amount=amount,
            at=ward.clock.now(),
        )
        ward.clock.advance(60)
    found = (await _wallets(ward.house, key="operator-key"))["eth/deposit/acme", "eth:USDT"]
    block = found["chain_block"]
    assert (found["chain"], found["brand"], block["source"]) == ("6", "acme", "comparison")
    assert (block["height"], block["age_seconds"]) == (9, 60)


async def test_a_brand_sees_no_wallet_of_the_operator(ward: Ward) -> None:
    assert await _wallets(ward.house, key="acme-key") == {}


async def test_a_crossing_is_told_in_asset_units_and_measured(
    house: ApiHouse, test_database: TestDatabase
) -> None:
    role = Database(
        async_url(test_database.role_url("gateway_payouts")), pool_size=2, application_name="test"
    )
    try:
        watch = TreasuryWatch(
            "btc", house.registry, database=role, clock=house.clock, ids=house.ids
        )
        assert await watch.look()
    finally:
        await role.close()
    [row] = await house.rows("SELECT * FROM ledger.events WHERE type = 'wallet.low'")
    context = WireContext(assets=house.registry.assets, livemode=False)
    told = render_object(row["object_kind"], row["snapshot"], context=context)
    assert (told["wallet"], told["state"], told["amount"], told["min"], told["target_minor"]) == (
        "btc/hot", "low", "0", "0.5", "100000000",
    )  # fmt: skip
    metrics = (await house.call("GET", "/metrics")).body.decode()
    labels = 'asset="btc:BTC",network="btc",role="hot"'
    assert f'cage_wallet_band{{{labels},state="low"}} 1.0' in metrics
    assert f'cage_wallet_band{{{labels},state="inside"}} 0.0' in metrics


async def test_a_forecast_says_what_it_is_made_of_and_gives_advice(house: ApiHouse) -> None:
    """At midnight: 0.01 an hour until noon; the wallet has 0.55 of at least 0.5."""
    await house.fund("acme", "btc:BTC", 55 * COIN // 100)
    await _history(house, weeks=8, busy=COIN // 10, quiet=COIN // 100)
    reply = await house.call("GET", "/v1/forecasts?asset=btc:BTC&hours=8", key="ada-key")
    [item] = reply.json()["items"]
    assert (item["demand"]["basis"], item["demand"]["samples"]) == ("hour_of_week", 38)
    assert (item["demand"]["p50"], item["demand"]["p99_minor"]) == ("0.08", str(8 * COIN // 100))
    assert item["history_hours"] == 8 * WEEK
    assert (item["inflow"]["p90"], item["free"]) == ("0", "0.55")
    advice = item["advice"]
    assert (advice["direction"], advice["reason"]) == ("cold_to_hot", "forecast")
    assert advice["before"] == "2026-01-01T05:00:00.000000Z"
    assert advice["text"].startswith("forecast: move ")


async def test_without_history_a_forecast_says_nothing(house: ApiHouse) -> None:
    items = (await house.call("GET", "/v1/forecasts", key="ada-key")).json()["items"]
    assert {item["asset"] for item in items} == set(house.registry.assets)
    assert {item["demand"]["basis"] for item in items} == {"none"}
    assert {item["demand"]["p50"] for item in items} == {None}


async def test_a_backtest_tells_coverage_and_loss_beside_the_naive_forecast(
    house: ApiHouse,
) -> None:
    await _history(house, weeks=12, busy=COIN, quiet=0)
    target = "/v1/forecasts/backtest?asset=btc:BTC&hours=6"
    found = (await house.call("GET", target, key="ada-key")).json()
    assert (found["forecasts"], found["skipped"], found["flow"]) == (8 * WEEK, 0, "demand")
    p50, p90, p99 = found["quantiles"]
    assert p50["coverage_permille"] >= 500
    assert p90["coverage_permille"] >= 900
    for row in (p50, p90, p99):
        assert int(row["loss_minor"]) < int(row["naive_loss_minor"])
    other = (await house.call("GET", f"{target}&flow=inflow", key="ada-key")).json()
    assert {row["loss"] for row in other["quantiles"]} == {"0"}


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v1/forecasts?hours=0", 422, "invalid"),
        ("/v1/forecasts?hours=169", 422, "invalid"),
        ("/v1/forecasts?hours=1e3", 422, "invalid"),
        ("/v1/forecasts?asset=btc:XYZ", 422, "unknown_asset"),
        ("/v1/forecasts/backtest", 422, "required"),
        ("/v1/forecasts/backtest?asset=btc:BTC&flow=tide", 422, "invalid_query"),
        ("/v1/forecasts?brand=acme", 403, "operator_only"),
    ],
)
async def test_a_question_that_has_no_answer_is_refused(
    house: ApiHouse, target: str, status: int, code: str
) -> None:
    reply = await house.call("GET", target, key="ada-key")
    assert (reply.status, reply.json()["code"]) == (status, code)


async def test_forecasts_are_no_business_of_clients(house: ApiHouse) -> None:
    assert (await house.call("GET", "/v1/forecasts")).status == 403
