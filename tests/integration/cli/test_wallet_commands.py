"""`cage treasury balances` and `forecast` as staff see them."""

import json

import pytest

from config.database import Database, async_url
from tests.support.databases import TestDatabase
from tests.support.desk import REFUSED, USAGE, Desk
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres


def _history(database: TestDatabase, loop_thread: LoopThread) -> None:
    """Ten weeks of 0.5 an hour, up to the last hour that is over."""

    async def write() -> None:
        owner = Database(async_url(database.owner_url))
        async with owner.unit_of_work() as uow:
            await uow.execute(
                "WITH h AS (SELECT CAST(floor(extract(epoch FROM now()) / 3600) AS bigint) AS now) "
                "INSERT INTO gateway.flow_hours (network, asset, hour, inflow, demand, outflow) "
                "SELECT 'btc', 'btc:BTC', hour, 0, 50000000, 0 "
                "FROM h, generate_series(h.now - 1680, h.now - 1) hour"
            )
            await uow.execute(
                "INSERT INTO gateway.flow_marks SELECT 'btc', min(hour), max(hour) + 1 "
                "FROM gateway.flow_hours"
            )
        await owner.close()

    loop_thread.run(write())


def test_balances_show_books_chain_and_the_band(desk: Desk) -> None:
    code, out, _ = desk.runs("treasury", "balances", *desk.treasurer)
    assert code == 0
    assert out.splitlines()[1].split() == [
        "btc/hot", "btc:BTC", "0", "-", "0", "0", "0", "0", "low", "(1", "to", "10)",
    ]  # fmt: skip
    code, out, _ = desk.runs("treasury", "balances", "--network", "ltc", *desk.treasurer, "--json")
    assert (code, json.loads(out)) == (0, {"items": []})


def test_a_forecast_is_a_table_and_one_sentence_of_advice(
    desk: Desk, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    _history(test_database, loop_thread)
    code, out, _ = desk.runs(
        "treasury", "forecast", "--asset", "btc:BTC", "--hours", "4", *desk.treasurer
    )
    lines = [line.split()[:7] for line in out.splitlines()]
    assert code == 0
    assert ["btc:BTC", "withdrawals", "asked", "2", "2", "2", "hour_of_week"] in lines
    # Empty, target 5 and 12 h of 0.5: never above the maximum of 10.
    assert out.splitlines()[-1].startswith("below_min: move 10 btc:BTC cold -> hot before ")


def test_without_history_the_forecast_says_so(desk: Desk) -> None:
    code, out, _ = desk.runs("treasury", "forecast", *desk.treasurer)
    assert code == 0
    assert "btc:BTC: too little history (0 h) for a forecast" in out.splitlines()
    code, out, _ = desk.runs("treasury", "forecast", *desk.treasurer, "--json")
    assert json.loads(out)["items"][0]["demand"]["basis"] == "none"


def test_a_backtest_tells_whether_the_forecast_is_better_than_a_naive_one(
    desk: Desk, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    _history(test_database, loop_thread)
    words = ("treasury", "forecast", "--asset", "btc:BTC", "--hours", "4", "--backtest")
    code, out, _ = desk.runs(*words, *desk.treasurer)
    assert code == 0
    assert out.splitlines()[0].startswith("1344 forecasts of btc:BTC demand for 4 h")
    # A flat past: both hold everything, and neither is better.
    assert out.splitlines()[-1].split() == ["p99", "100.0", "%", "0", "0", "NOT", "better"]


def test_a_forecast_of_nothing_in_particular_cannot_be_tested_and_support_sees_none(
    desk: Desk,
) -> None:
    code, _, error = desk.runs("treasury", "forecast", "--backtest", *desk.treasurer)
    assert (code, error.splitlines()[0]) == (USAGE, "cage: a back-test is of one asset")
    code, _, _ = desk.runs("treasury", "forecast", *desk.supporter)
    assert code == REFUSED
