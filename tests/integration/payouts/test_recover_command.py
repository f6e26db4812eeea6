"""`cage recover` as its own process: what it says, in words and JSON, and how it ends (P09)."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from config.clock import SystemClock
from config.database import Database
from tests.conformance.conftest import open_world
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts
from tests.support.restores import backups, dump
from tests.support.signing import socket_signer
from tests.support.simchain import TOKEN_CONTRACT
from watchers import inflows

pytestmark = [pytest.mark.postgres, pytest.mark.node]

END_SECONDS = 60.0
DONE, FAILED, USAGE = 0, 1, 2

CONFIG = """
state_dir = "{folder}/state"
[database]
url = "{database}"
[networks.eth]
chain = "dev"
nodes = ["{node}"]
[assets."eth:USDT"]
contract = "{contract}"
[brands.acme]
account_index = 1
[brands.bravo]
account_index = 2
[signer]
socket = "{socket}"
"""


async def recover(config: Path, *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli.main", "recover", "--config", str(config), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(END_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def as_json(config: Path) -> tuple[int, list[dict[str, Any]]]:
    """(exit code, the recoveries that it tells)."""
    code, out, _ = await recover(config, "--json")
    found: dict[str, list[dict[str, Any]]] = json.loads(out)
    assert set(found) == {"recoveries"}
    return code, found["recoveries"]


async def test_p09_the_command_imports_tells_what_is_left_over_and_is_safe_to_repeat(
    request: pytest.FixtureRequest,
    database: Database,
    payouts_role: Database,
    test_database: TestDatabase,
    ids: SequentialIds,
    session_folder: Path,
) -> None:
    folder = session_folder / "recover-command"
    folder.mkdir()
    async with open_world("anvil", request) as world, backups() as take_back:
        house = await Payouts.start(
            "eth", database=database, role=payouts_role, clock=ManualClock(SystemClock().now()),
            ids=ids, folder=folder, world=world,
        )  # fmt: skip
        await house.fund("eth:ETH", "1")
        lane = await house.cycle()
        await dump(test_database, folder / "backup")
        await house.fund("eth:ETH", "2", into="acme")
        paid = await house.row(await house.request("0.25"))
        await house.cycle(lane, times=2)
        paid = await house.row(paid)
        back = await take_back(house, test_database, folder / "backup")
        async with socket_signer(back) as (socket, _):
            config = folder / "cage.toml"
            config.write_text(
                CONFIG.format(
                    folder=folder, database=test_database.owner_url, socket=socket,
                    node=request.getfixturevalue("anvil_process").url, contract=TOKEN_CONTRACT,
                ),
                encoding="utf-8",
            )  # fmt: skip
            code, out, _ = await recover(config)  # payouts has not looked yet
            assert (code, out) == (DONE, "no network is in recovery\n")
            code, _, err = await recover(config, "--network", "doge")
            assert (code, "doge is not configured" in err) == (USAGE, True)
            await back.cycle()

            for _ in range(2):  # the clearing that paid it is not in these books yet
                code, [row] = await as_json(config)
                assert (code, row["network"], row["state"]) == (FAILED, "eth", "imported")
                [case] = row["left_over"]
                assert case["txid"] == paid.txid
                assert case["requests"] == [["acme", paid.request_id]]
            await back.follow()
            await book_inflows(back)
            code, out, _ = await recover(config)
            assert (code, "eth: 1 signatures imported" in out) == (DONE, True)
            assert f"cage recover --confirm {row['id']} --reason WHY" in out
            code, [row] = await as_json(config)
            assert (code, row["imported"], row["left_over"]) == (DONE, 1, [])
        code, _, err = await recover(config)  # nobody at the socket
        assert (code, "eth: SignerUnavailable" in err) == (FAILED, True)
        code, _, err = await recover(config, "--confirm", str(row["id"]))
        assert (code, "a reason is required" in err) == (USAGE, True)


async def book_inflows(house: Payouts) -> None:
    """People assign again what the backup did not know."""
    async with house.database.unit_of_work() as uow:
        for inflow in await inflows.find(
            uow, network=house.network, state=inflows.InflowState.BOOKED
        ):
            await inflows.assign(
                uow, inflow_id=inflow.id, target="clearing", brand="acme", ids=house.ids,
                at=house.clock.now(),
            )  # fmt: skip
