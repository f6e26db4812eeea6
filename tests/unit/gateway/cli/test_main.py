"""The command line: exit codes, hints, and nothing heavy imported before it is needed."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.main import main

FAILED = 1
USAGE = 2

HEAVY = ("sqlalchemy", "asyncpg", "aiohttp", "web3", "pydantic", "cryptography", "alembic")


def config_file(folder: Path, text: str) -> str:
    path = folder / "cage.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gateway.cli.main import main\nassert main(['--help']) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"


def test_help_names_every_command_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in (
        "demo", "up", "api", "watch", "payouts", "webhooks", "signer", "scheduler", "db", "config",
        "keys", "client", "staff", "ledger", "treasury", "withdrawals", "test", "lint", "types",
        "bench",
    ):  # fmt: skip
        assert f" {name} " in shown


def test_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == USAGE
    assert "nonsense" in capsys.readouterr().err


def test_unknown_key_names_the_right_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, "[webhooks]\nallowed_hosts = []\n")
    assert main(["config", "check", "--config", path]) == USAGE
    error = capsys.readouterr().err
    assert "webhooks.allowed_hosts" in error
    assert "hint: use webhooks.allow_hosts" in error


def test_missing_configuration_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "--config", "no-such.toml"]) == USAGE
    assert "no-such.toml does not exist" in capsys.readouterr().err


def test_config_check_answers_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config_file(tmp_path, "[brands.acme]\naccount_index = 1\n")
    assert main(["config", "check", "--config", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["brands"] == ["acme"]


@pytest.mark.parametrize(
    ("livemode", "count", "quorum", "warning"),
    [
        (True, 1, 1, "networks.btc.quorum is 1"),
        (False, 1, 1, None),
        (True, 3, 2, None),
        (False, 4, 2, "2 of 4 nodes is no majority"),
    ],
)
def test_config_check_warns_of_a_quorum_that_is_unwise(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    livemode: bool,
    count: int,
    quorum: int,
    warning: str | None,
) -> None:
    nodes = ", ".join(f'"http://127.0.0.1:{n + 1}"' for n in range(count))
    chain = "main" if livemode else "regtest"
    network = f'[networks.btc]\nchain = "{chain}"\nnodes = [{nodes}]\nquorum = {quorum}\n'
    path = config_file(tmp_path, f"livemode = {str(livemode).lower()}\n{network}")
    assert main(["config", "check", "--config", path, "--json"]) == 0
    told = capsys.readouterr().err
    assert ("warning: " in told) == (warning is not None)
    assert warning is None or warning in told


def test_config_check_refuses_more_agreeing_nodes_than_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '[networks.btc]\nchain = "regtest"\nnodes = ["http://127.0.0.1:1"]\nquorum = 2\n'
    assert main(["config", "check", "--config", config_file(tmp_path, text)]) == USAGE
    assert "quorum 2 of 1 nodes can never agree" in capsys.readouterr().err


def test_n05_config_check_refuses_one_of_several_nodes_on_a_live_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = '"http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"'
    text = f"livemode = true\n[networks.btc]\nnodes = [{nodes}]\n"
    assert main(["config", "check", "--config", config_file(tmp_path, text)]) == USAGE
    told = capsys.readouterr().err
    assert "networks.btc.quorum is 1 of 3 nodes" in told
    assert "set networks.btc.quorum = 2" in told


def test_network_that_is_not_configured_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, '[networks.btc]\nchain = "regtest"\n')
    assert main(["watch", "doge", "--config", path]) == USAGE
    assert "hint: configured: btc" in capsys.readouterr().err


def test_database_that_is_not_configured_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(tmp_path, "")
    assert main(["db", "migrate", "--config", path]) == USAGE
    assert "DATABASE_URL" in capsys.readouterr().err


def test_database_that_is_not_there_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"postgresql://nobody@/none?host={tmp_path}"
    path = config_file(tmp_path, f'[database]\nurl = "{url}"\n')
    assert main(["db", "migrate", "--config", path]) == FAILED
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_up_without_keys_says_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--config", config_file(tmp_path, "")]) == USAGE
    assert "cage keys init" in capsys.readouterr().err


def test_staff_command_without_a_key_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["treasury", "balances"]) == USAGE
    assert "CAGE_STAFF_KEY_ID" in capsys.readouterr().err


def test_staff_command_without_an_api_fails_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = str(tmp_path / "alice.pem")
    assert main(["staff", "key", "--out", key]) == 0
    address = ["--api", "http://127.0.0.1:1", "--key-id", "alice", "--key", key]
    assert main(["ledger", "trial-balance", *address]) == FAILED
    assert "is the API running" in capsys.readouterr().err


def test_key_file_that_others_may_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "alice.pem"
    assert main(["staff", "key", "--out", str(key)]) == 0
    key.chmod(0o644)
    options = ["--key-id", "alice", "--key", str(key)]
    assert main(["withdrawals", "show", "wd_test_1", *options]) == USAGE
    assert "chmod 600" in capsys.readouterr().err


def test_top_up_to_anything_else_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["treasury", "top-up", "inf_test_1", "--as", "clearing:"]) == USAGE
    assert "capital, or clearing:BRAND" in capsys.readouterr().err


def test_staff_key_is_private_and_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "alice.pem"
    assert main(["staff", "key", "--out", str(key), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key_file"] == str(key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    content = key.read_bytes()
    assert main(["staff", "key", "--out", str(key)]) == USAGE
    assert key.read_bytes() == content
