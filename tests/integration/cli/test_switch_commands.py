"""`cage treasury switch`, `approvals` and `alarms` as their own processes against a real API."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.clock import SystemClock
from config.database import Database, async_url
from config.ids import SystemIds
from config.registry import load_registry
from config.settings import load_settings
from gateway.api.role import ApiServer, build_services, endpoints
from gateway.cli.main import main
from tests.integration.cli.test_staff_commands import REFUSED, Desk, hire
from tests.support.databases import TestDatabase
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres

USAGE = 2


@dataclass
class Office(Desk):
    """A desk with the key of a second person."""

    risk: list[str]


@pytest.fixture
def office(
    tmp_path: Path,
    test_database: TestDatabase,
    loop_thread: LoopThread,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Office]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "cage.toml"
    path.write_text(
        f'[database]\nurl = "{test_database.owner_url}"\n[api]\nport = {port}\n'
        '[networks.btc]\nchain = "regtest"\n[brands.acme]\naccount_index = 1\n'
    )
    assert main(["db", "migrate", "--config", str(path)]) == 0
    capsys.readouterr()
    url = f"http://127.0.0.1:{port}"
    office = Office(
        treasurer=hire("alice", "treasury", config=path, url=url, capsys=capsys),
        supporter=hire("carol", "support", config=path, url=url, capsys=capsys),
        risk=hire("rita", "risk", config=path, url=url, capsys=capsys),
    )
    settings = load_settings(path, environ={})
    clock = SystemClock()

    async def start() -> tuple[ApiServer, Database]:
        database = Database(async_url(test_database.role_url("gateway_api")))
        services = build_services(
            settings=settings,
            registry=load_registry(settings),
            database=database,
            clock=clock,
            ids=SystemIds(clock),
        )
        server = ApiServer(services, endpoints())
        await server.start()
        return server, database

    async def stop(server: ApiServer, database: Database) -> None:
        await server.stop()
        await database.close()

    server, database = loop_thread.run(start())
    yield office
    loop_thread.run(stop(server, database))


def test_one_person_stops_and_two_start_by_the_same_command(office: Office) -> None:
    stop = ("treasury", "switch", "network:btc", "all", "stop", "--reason", "drill")
    start = ("treasury", "switch", "network:btc", "all", "start", "--reason", "over")
    assert office.runs("treasury", "switch", *office.risk)[1] == "nothing is stopped\n"
    assert office.runs(*stop, "--dry-run", *office.treasurer)[1] == (
        "network:btc all is running; it would be stopped at once\n"
    )
    assert office.runs(*stop, *office.treasurer)[:2] == (0, "network:btc all is stopped\n")
    assert "alice: drill" in office.runs("treasury", "switch", *office.risk)[1]
    assert "start proposed as apr_test_" in office.runs(*start, *office.treasurer)[1]
    assert office.runs(*start, "--dry-run", *office.risk)[1] == (
        "network:btc all is stopped; alice proposed to start it, you would agree\n"
    )
    code, out, _ = office.runs(*start, *office.risk, "--json")
    found = json.loads(out)
    assert (code, found["switch"]["state"], found["switch"]["approved_by"]) == (
        0,
        "running",
        "rita",
    )


def test_the_second_person_agrees_to_the_approval(office: Office) -> None:
    office.runs(
        "treasury", "switch", "network:btc", "sign", "stop", "--reason", "drill", *office.risk
    )
    office.runs(
        "treasury", "switch", "network:btc", "sign", "start", "--reason", "over", *office.risk
    )
    _, out, _ = office.runs("treasury", "approvals", *office.treasurer, "--json")
    [waiting] = json.loads(out)["items"]
    code, _, error = office.runs("treasury", "approvals", waiting["id"], *office.risk)
    assert (code, "same_person" in error) == (REFUSED, True)
    code, out, _ = office.runs("treasury", "approvals", waiting["id"], *office.treasurer, "--json")
    assert (code, json.loads(out)["state"]) == (0, "done")
    assert office.runs("treasury", "switch", *office.risk)[1] == "nothing is stopped\n"


def test_an_open_alarm_tells_of_the_stop_and_is_not_cleared_away(office: Office) -> None:
    office.runs(
        "treasury",
        "switch",
        "network:btc",
        "credit",
        "stop",
        "--reason",
        "drill",
        *office.treasurer,
    )
    _, out, _ = office.runs("treasury", "alarms", *office.treasurer, "--json")
    [alarm] = json.loads(out)["items"]
    assert alarm["detail"] == "network:btc credit: drill (alice)"
    code, _, error = office.runs("treasury", "alarms", alarm["id"], *office.treasurer)
    assert (code, "holds_work" in error) == (REFUSED, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("network:btc",),
        ("network:btc", "all", "close", "--reason", "x"),
        ("network:btc", "everything", "stop", "--reason", "x"),
        ("network:btc", "all", "stop"),
    ],
)
def test_half_a_command_is_a_question_of_usage(office: Office, arguments: tuple[str, ...]) -> None:
    code, _, error = office.runs("treasury", "switch", *arguments, *office.treasurer)
    assert (code, error.startswith("cage: ")) == (USAGE, True)


def test_support_stops_nothing(office: Office) -> None:
    stop = ("treasury", "switch", "network:btc", "all", "stop", "--reason", "drill")
    assert office.runs(*stop, *office.supporter)[0] == REFUSED
