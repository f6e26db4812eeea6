"""Each role dies by SIGKILL, and the database goes away, while money moves both ways.

Goal: whatever process ends at whatever line, the supervisor brings it back without a person, and
each deposit is credited once, each withdrawal paid once, each event told once.
"""

import asyncio
import json
import os
import signal
from collections import Counter

import pytest

from gateway.client import ClientProblem
from gateway.sandbox.supervisor import BACKOFF_SECONDS
from tests.support.live import Live

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.node,
    pytest.mark.postgres,
    pytest.mark.slow,
]

STOP_SECONDS = 10 + BACKOFF_SECONDS[-1]  # what a role may take, and its next start
ROLES = ("signer", "watch-btc", "watch-eth", "scheduler", "webhooks", "payouts", "api")


@pytest.mark.parametrize("role", ROLES)
async def test_p01_p02_killed_role_comes_back_and_nothing_is_lost_or_doubled(
    house: Live, role: str
) -> None:
    """P01, P02 and P03 at the level of processes: SIGKILL while both directions are under way."""
    working = await house.begin()
    pid = house.pid(role)
    os.kill(pid, signal.SIGKILL)
    assert await house.replaced(role, pid) != pid
    await working
    await house.assert_all_is_well()


async def test_p35_sigterm_under_load_ends_every_role_cleanly_and_nothing_is_lost(
    house: Live,
) -> None:
    """P35: all roles at once, as an orchestrator does it, while both directions are under way."""
    working = await house.begin()
    pids = {role: house.pid(role) for role in ROLES}
    ended = house.endings()
    async with asyncio.timeout(STOP_SECONDS):
        for pid in pids.values():
            os.kill(pid, signal.SIGTERM)
        for role, pid in pids.items():
            await house.replaced(role, pid)
    assert house.endings() - ended == Counter({f"{role} ended (exit 0)": 1 for role in ROLES})
    await working
    await house.assert_all_is_well()


async def test_p08_database_restart_stops_money_calls_and_needs_nobody(house: Live) -> None:
    """P08: without the database a money call is answered 5xx and nothing of it is kept; when it is
    back, every role goes on by itself."""
    pids = house.stage.deployment.role_pids()
    working = await house.begin()
    await house.stage.deployment.stop_database()
    try:
        with pytest.raises(ClientProblem) as refused:
            await house.tale.brands["acme"].post(
                "/v1/withdrawals",
                {
                    "request_id": "during-outage", "player_id": "payee", "asset": "btc:BTC",
                    "address": await house.tale.world.utxo["btc"].new_address(),
                    "amount": "0.001", "pam_balance": "100",
                },
                idempotency_key="during-outage",
            )  # fmt: skip
    finally:
        await house.stage.deployment.start_database()
    assert getattr(refused.value, "status", None) == 503
    await working
    with pytest.raises(ClientProblem) as unknown:
        await house.tale.brands["acme"].get("/v1/withdrawals", {"request_id": "during-outage"})
    assert unknown.value.status == 404
    await house.assert_all_is_well()
    assert set(house.stage.deployment.role_pids()) == set(pids)


async def test_every_role_logs_json_at_the_configured_level(house: Live) -> None:
    """Whatever the acts before made the roles say, crashes included: JSON, nothing below info."""
    text = (house.stage.deployment.folder / "up.log").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("cage up: ")]
    levels = {json.loads(line)["level"] for line in lines}
    assert levels <= {"info", "warning", "error"}
    spoken = {json.loads(line).get("logger", "signer").partition(".")[0] for line in lines}
    # `config` speaks of a process itself: where its look at the server met the outage, say.
    assert spoken - {"config"} == {"gateway", "watchers", "signer"}
