"""What casinos report of their players' balances, for proofs of reserves."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.api import problem
from tests.support.databases import TestDatabase
from tests.support.proofs import Bench, open_bench
from tests.support.ward import Ward

pytestmark = pytest.mark.postgres


@pytest.fixture
async def bench(ward: Ward, test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Bench]:
    """The ward with a payout process that makes proofs."""
    async with open_bench(ward, test_database.role_url("gateway_payouts"), tmp_path) as opened:
        yield opened


async def test_a_report_is_kept_as_it_was_signed_and_a_later_one_stands(bench: Bench) -> None:
    house = bench.ward.house
    older, newer = "2025-12-31T00:00:00+00:00", "2026-01-01T00:00:00+00:00"
    assert (await bench.report(("anna", "btc:BTC", "2"), as_of=newer)).json()["applied"] == 1
    assert (await bench.report(("anna", "btc:BTC", "9"), as_of=older)).json()["applied"] == 0
    assert (await bench.report(("anna", "btc:BTC", "0"), as_of=newer)).json()["applied"] == 1
    [row] = await house.rows("SELECT amount, as_of FROM gateway.player_balances")
    assert (row["amount"], row["as_of"].isoformat()) == (0, newer)
    kept = await house.rows("SELECT body, key_id, signature_input FROM gateway.balance_reports")
    told = {json.loads(bytes(row["body"]))["items"][0]["balance"] for row in kept}
    assert (len(kept), told) == (3, {"0", "2", "9"})
    assert {row["key_id"] for row in kept} == {"acme-reports"}


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([("anna", "btc:BTC", "1"), ("anna", "btc:BTC", "2")], "items"),
        ([("anna", "btc:BTC", "-1")], "items[0].balance"),
        ([("anna", "btc:BTC", "1e5")], "items[0].balance"),
        ([("anna", "btc:BTC", "0.000000001")], "items[0].balance"),
        ([("anna", "btc:DOGE", "1")], "items[0].asset"),
        # More than a tree can sum: one casino's word would fail everybody's proof.
        ([("anna", "btc:BTC", "4" + "0" * 30)], "items[0].balance"),
    ],
)
async def test_a_report_that_cannot_be_is_refused_whole(
    bench: Bench, items: list[tuple[str, str, str]], field: str
) -> None:
    reply = await bench.report(*items)
    assert problem(reply)["status"] == 422
    assert reply.json()["errors"][0]["field"] == field
    assert await bench.ward.house.rows("SELECT 1 FROM gateway.player_balances") == []


async def test_a_report_from_the_future_or_of_a_stranger_is_refused(bench: Bench) -> None:
    ahead = (bench.ward.clock.now() + timedelta(minutes=5)).isoformat()
    assert problem(await bench.report(("anna", "btc:BTC", "1"), as_of=ahead))["status"] == 422
    without = await bench.report(("anna", "btc:BTC", "1"), key="acme-key")
    assert problem(without)["status"] == 403
    assert (
        problem(await bench.report(("anna", "btc:BTC", "1"), key="operator-key"))["status"] == 403
    )
