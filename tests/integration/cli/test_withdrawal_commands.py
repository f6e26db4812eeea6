"""`cage withdrawals`: list, show, and the decisions of staff, against a real API."""

import asyncio
import json
from pathlib import Path

import pytest

from config.clock import SystemClock
from config.ids import SystemIds
from gateway.cli.client import load_key
from gateway.client import ApiClient
from tests.support.desk import REFUSED, USAGE, Desk

pytestmark = pytest.mark.postgres

ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # BIP 173


@pytest.fixture
def order(desk: Desk, tmp_path: Path) -> str:
    """The id of an order that waits for clearing."""
    key = tmp_path / "acme.pem"
    config = ("--config", str(tmp_path / "cage.toml"))
    code, out, _ = desk.runs(
        "client", "add", "--brand", "acme", "--new-key", str(key), "--json", *config
    )
    assert code == 0
    key_id = json.loads(out)["key_id"]
    body = {
        "request_id": "r1", "player_id": "p1", "asset": "btc:BTC", "address": ADDRESS,
        "amount": "0.1", "pam_balance": "0", "fee_class": "economy",
    }  # fmt: skip

    async def send() -> str:
        clock = SystemClock()
        client = ApiClient(
            url=desk.risk[1], key_id=key_id, key=load_key(key), clock=clock, ids=SystemIds(clock)
        )
        async with client:
            made = await client.post("/v1/withdrawals", body, idempotency_key="i1")
        assert isinstance(made, dict)
        return str(made["id"])

    return asyncio.run(send())


def test_staff_list_show_expedite_and_decline(desk: Desk, order: str) -> None:
    code, out, _ = desk.runs("withdrawals", "list", "--state", "waiting_liquidity", *desk.risk)
    assert (code, order in out) == (0, True)
    code, out, _ = desk.runs("withdrawals", "list", "--state", "queued", *desk.risk, "--json")
    assert (code, json.loads(out)) == (0, {"items": []})
    code, out, _ = desk.runs("withdrawals", "expedite", order, "--reason", "vip", *desk.risk)
    assert (code, "signed by rita" in out) == (0, True)
    code, out, _ = desk.runs(
        "withdrawals", "decline", order, "--reason", "asked by phone", *desk.risk, "--json"
    )
    assert (code, json.loads(out)["withdrawal"]["state"]) == (0, "declined")
    code, out, _ = desk.runs("withdrawals", "show", order, *desk.supporter)
    assert code == 0
    assert "asked by phone" in out
    assert [word in out for word in ("expedite", "decline", "urgent")] == [True] * 3


def test_what_does_not_fit_is_refused_by_policy(desk: Desk, order: str) -> None:
    code, _, error = desk.runs("withdrawals", "approve", order, *desk.risk)
    assert (code, "wrong_state" in error) == (REFUSED, True)
    for command in (("abort", order), ("reissue", order), ("decline", order, "--dead")):
        assert desk.runs("withdrawals", *command, *desk.risk)[0] == REFUSED
    assert desk.runs("withdrawals", "approve", order, *desk.supporter)[0] == REFUSED
    assert desk.runs("withdrawals", "decline", order, *desk.risk)[0] == USAGE
