"""Staff commands against a real API on loopback: tables, JSON, exit codes, keys of people."""

import json
import socket
import subprocess
import sys
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
from tests.support.databases import TestDatabase
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres

ROOT = Path(__file__).resolve().parents[3]
FAILED = 1
REFUSED = 3


@dataclass
class Desk:
    """A running API and the options of two people's keys."""

    treasurer: list[str]
    supporter: list[str]

    def runs(self, *arguments: str) -> tuple[int, str, str]:
        """One command as its own process: exit code, stdout, stderr."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli.main", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr


def hire(
    person: str, roles: str, *, config: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Options of a new person's key."""
    key = str(config.with_name(f"{person}.pem"))
    assert main(["staff", "key", "--out", key, "--json"]) == 0
    public = json.loads(capsys.readouterr().out)["public_key"]
    add = ["staff", "add", person, "--key", public, "--roles", roles]
    assert main([*add, "--config", str(config), "--json"]) == 0
    key_id = json.loads(capsys.readouterr().out)["key_id"]
    return ["--api", url, "--key-id", key_id, "--key", key]


@pytest.fixture
def desk(
    tmp_path: Path,
    test_database: TestDatabase,
    loop_thread: LoopThread,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Desk]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "cage.toml"
    path.write_text(
        f'[database]\nurl = "{test_database.owner_url}"\n[api]\nport = {port}\n'
        '[networks.btc]\nchain = "regtest"\n[brands.acme]\naccount_index = 1\n'
        '[wallets."btc:BTC"]\nmin = "1"\ntarget = "5"\nmax = "10"\n'
    )
    assert main(["db", "migrate", "--config", str(path)]) == 0
    capsys.readouterr()
    url = f"http://127.0.0.1:{port}"
    desk = Desk(
        treasurer=hire("alice", "treasury,finance", config=path, url=url, capsys=capsys),
        supporter=hire("carol", "support", config=path, url=url, capsys=capsys),
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
    yield desk
    loop_thread.run(stop(server, database))


def test_trial_balance_of_new_books_is_balanced(desk: Desk) -> None:
    code, out, _ = desk.runs("ledger", "trial-balance", *desk.treasurer)
    assert (code, out.splitlines()[-1]) == (0, "balanced")
    code, out, _ = desk.runs("ledger", "trial-balance", *desk.treasurer, "--json")
    assert (code, json.loads(out)["balanced"]) == (0, True)


def test_plan_shows_the_hot_wallet_against_its_band(desk: Desk) -> None:
    code, out, _ = desk.runs("treasury", "plan", *desk.treasurer)
    assert code == 0
    assert out.splitlines()[1].split() == ["btc:BTC", "0", "1", "5", "10", "low"]
    assert out.splitlines()[-1] == "outside their band: btc:BTC"


def test_balances_and_inflows_answer_json(desk: Desk) -> None:
    code, out, _ = desk.runs("treasury", "balances", *desk.treasurer, "--json")
    assert (code, json.loads(out)["items"][0]["wallet"]) == (0, "btc/hot")
    code, out, _ = desk.runs("treasury", "inflows", *desk.treasurer, "--json")
    assert (code, json.loads(out)) == (0, {"items": []})


def test_withdrawal_that_does_not_exist_fails(desk: Desk) -> None:
    code, _, error = desk.runs("withdrawals", "show", f"wd_test_{'0' * 32}", *desk.supporter)
    assert (code, error) == (FAILED, "cage: There is no such resource. (not_found)\n")


def test_person_without_the_scope_is_refused(desk: Desk) -> None:
    top_up = ("treasury", "top-up", f"inf_test_{'0' * 32}", "--as", "capital")
    code, _, error = desk.runs(*top_up, *desk.supporter)
    assert code == REFUSED
    assert "has not the scope" in error


def test_key_that_is_not_registered_is_told_nothing_but_a_hint(desk: Desk) -> None:
    mixed = [*desk.treasurer[:4], "--key", desk.supporter[5]]
    code, _, error = desk.runs("ledger", "trial-balance", *mixed)
    assert code == FAILED
    assert "unauthenticated" in error
    assert "cage staff add" in error


def test_a_first_rate_waits_for_a_second_person_and_is_not_everybodys_to_set(desk: Desk) -> None:
    code, out, _ = desk.runs("treasury", "rates", "set", "btc:BTC", "64250.5", *desk.treasurer)
    assert (code, "a second person now runs the same command" in out) == (0, True)
    code, out, _ = desk.runs("treasury", "rates", "list", "--json", *desk.treasurer)
    assert (code, json.loads(out)) == (0, {"items": []})
    code, _, err = desk.runs("treasury", "rates", "set", "btc:BTC", "1", *desk.supporter)
    assert (code, "missing_scope" in err) == (REFUSED, True)
    code, _, err = desk.runs("treasury", "rates", "set", "btc:BTC", "1e5", *desk.treasurer)
    assert (code, "invalid_request" in err) == (REFUSED, True)
