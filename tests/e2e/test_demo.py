"""`cage demo --json` as a program sees it: CONTRACT 2, read strictly.

The demo plays more than its summary shows. Cases it proves on real nodes: A01 (50 times the same
request), D03 and D04 (reorganisations), D16 (one tx, two players), P02 and P03 (the payout role
killed between signing and broadcast), S01 and S02 (a row forged in the database is refused by the
signer).
"""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.payouts.withdrawals import TRANSITIONS as WITHDRAWAL_STEPS
from gateway.sandbox.provision import Provisioned
from watchers.deposits import DEPOSITS

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.node,
    pytest.mark.postgres,
    pytest.mark.slow,
]

DEMO_SECONDS_MAX = 300.0
NETWORKS = {"btc", "ltc", "eth"}
ROLES = {
    "signer", "watch-btc", "watch-ltc", "watch-eth", "scheduler", "webhooks", "payouts", "api",
}  # fmt: skip
KEYS = {
    "ok", "seconds", "roles", "networks", "deposits", "withdrawals", "webhooks", "trial_balance",
    "reconciliation", "api", "rebalances", "reserves",
}  # fmt: skip
DEPOSIT_KEYS = {"id", "asset", "amount", "txid", "states"}
WITHDRAWAL_KEYS = {"id", "request_id", "asset", "amount", "txids", "batch_size", "states"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One run of the demo."""

    code: int
    out: str
    told: dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(provisioned: Provisioned, node_programs: dict[str, Path]) -> Demo:
    """The demo's exit code and output; its last words when it failed."""
    assert set(node_programs) == {"bitcoind", "litecoind", "anvil"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli.main", "demo", "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **provisioned.environment()},
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEMO_SECONDS_MAX):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()  # it stops its own children
            await process.wait()
    words = err.decode("utf-8", "replace")
    assert process.returncode == 0, words[-4000:]
    text = out.decode("utf-8")
    return Demo(code=process.returncode, out=text, told=json.loads(text))


async def test_stdout_is_one_object_and_nothing_else(demo: Demo) -> None:
    assert demo.out == json.dumps(demo.told) + "\n"
    assert set(demo.told) == KEYS
    assert demo.told["ok"] is True
    assert 0 < demo.told["seconds"] < DEMO_SECONDS_MAX


async def test_every_role_is_its_own_process(demo: Demo) -> None:
    roles = demo.told["roles"]
    assert set(roles) == ROLES
    assert len(set(roles.values())) == len(ROLES)
    assert all(isinstance(pid, int) and pid > 1 for pid in roles.values())


async def test_every_network_names_its_node_and_its_reorgs(demo: Demo) -> None:
    networks = demo.told["networks"]
    assert set(networks) == NETWORKS
    for network in networks.values():
        assert set(network) == {"node", "height", "reorgs"}
        assert network["node"]
        assert network["height"] > 0
    assert networks["btc"]["reorgs"] == 2


async def test_d03_d04_d16_each_deposit_went_a_legal_road_to_its_end(demo: Demo) -> None:
    """D03: the double-spent one is reversed. D04: the orphaned one comes back and is final once.
    D16: one tx makes two deposits."""
    deposits = demo.told["deposits"]
    steps = {(before, after) for (before, _), after in DEPOSITS.transitions.items()}
    for row in deposits:
        assert set(row) == DEPOSIT_KEYS
        assert row["id"].startswith("dep_test_")
        assert Decimal(row["amount"]) > 0
        assert row["states"][0] in {"detected", "pending"}
        assert [pair for pair in pairwise(row["states"]) if pair not in steps] == []
    first = {row["asset"]: row["states"][0] for row in deposits if row["amount"] in ("0.5", "12")}
    assert first == {"btc:BTC": "detected", "ltc:LTC": "detected"}
    assert {row["asset"] for row in deposits} == {"btc:BTC", "ltc:LTC", "eth:ETH", "eth:USDT"}
    ends = [row["states"][-1] for row in deposits]
    assert ends.count("reversed") == 1
    assert ends.count("final") == len(deposits) - 1
    back = next(row for row in deposits if row["amount"] == "0.04")
    assert back["states"][-3:] == ["orphaned", "provisional", "final"]
    assert back["states"].count("final") == 1
    both = [row for row in deposits if row["amount"] in ("0.011", "0.022")]
    assert len(both) == 2
    assert len({row["txid"] for row in both}) == 1
    assert len({row["id"] for row in deposits}) == len(deposits)


async def test_a01_p02_p03_each_withdrawal_is_paid_once(demo: Demo) -> None:
    """A01: `repeat-1` was asked 50 times. P02, P03: `killed-1` lost its payout role between
    signing and broadcast. Five BTC withdrawals share one tx."""
    withdrawals = demo.told["withdrawals"]
    steps = {(before, after) for (before, _), after in WITHDRAWAL_STEPS.items()}
    for row in withdrawals:
        assert set(row) == WITHDRAWAL_KEYS
        assert row["id"].startswith("wd_test_")
        assert row["states"][0] == "received"
        assert [pair for pair in pairwise(row["states"]) if pair not in steps] == []
    by_request = {row["request_id"]: row for row in withdrawals}
    assert len(by_request) == len(withdrawals)
    assert set(by_request) == {
        *(f"batch-{number}" for number in range(5)), "repeat-1", "eth-1", "killed-1", "forged-1",
        "stuck-1",
    }  # fmt: skip
    batch = [row for row in withdrawals if row["batch_size"] == 5]
    assert len(batch) == 5
    assert len({row["txids"][0] for row in batch}) == 1
    for row in withdrawals:
        if row["request_id"] != "forged-1":
            assert len(row["txids"]) == 1
            assert row["states"].count("completed") == 1
            assert row["states"][-1] == "completed"


async def test_p16_the_payout_that_a_rush_left_stuck_was_bumped(demo: Demo) -> None:
    """It was told as sent under each of its txids, and completed once."""
    (stuck,) = [row for row in demo.told["withdrawals"] if row["request_id"] == "stuck-1"]
    assert stuck["states"].count("sent") >= 2
    assert stuck["states"].count("completed") == 1


async def test_s01_s02_forged_row_is_refused_by_the_signer(demo: Demo) -> None:
    """S01 and S02: the row's address was changed in the database; nothing was signed for it."""
    (forged,) = [row for row in demo.told["withdrawals"] if row["request_id"] == "forged-1"]
    assert forged["states"][-1] == "on_hold"
    assert forged["txids"] == []
    assert not {"signed", "broadcasting", "sent"} & set(forged["states"])


async def test_webhooks_arrived_and_verified(demo: Demo) -> None:
    hooks = demo.told["webhooks"]
    assert set(hooks) == {"delivered", "bad_signatures", "pending"}
    assert (hooks["bad_signatures"], hooks["pending"]) == (0, 0)
    told = sum(len(r["states"]) for r in demo.told["deposits"] + demo.told["withdrawals"])
    assert hooks["delivered"] >= told  # one event per state change


async def test_books_balance_and_agree_with_the_chains(demo: Demo) -> None:
    assert demo.told["trial_balance"] == {"balanced": True}
    assert demo.told["reconciliation"] == {"breaks": []}


async def test_summary_names_the_demo_client(demo: Demo) -> None:
    api = demo.told["api"]
    assert set(api) == {"url", "key_id", "key_file"}
    assert api["url"].startswith("http://127.0.0.1:")
    assert api["key_file"].endswith(".pem")


async def test_value_went_to_cold_and_back_and_the_reserves_are_proven(demo: Demo) -> None:
    """Out by two people and a pinned address, back by a file that its owner signed."""
    away, back = demo.told["rebalances"]
    assert (away["direction"], back["direction"]) == ("hot_to_cold", "cold_to_hot")
    assert {row["asset"] for row in (away, back)} == {"btc:BTC"}
    assert {row["state"] for row in (away, back)} == {"done"}
    assert len({row["txid"] for row in (away, back)} - {None}) == 2
    assert demo.told["reserves"] == {"verified": True, "covered": True}
