"""The settings tree: sources, refusals, secrets by file."""

from pathlib import Path

import pytest

from config.errors import ConfigError, UnknownKey
from config.settings import DATABASE_ROLES, Settings, load_settings

TOML = """
livemode = false
state_dir = "state"
[database]
url = "postgresql://owner:pw@db.example:5432/cage"
[api]
port = 9000
[networks.btc]
chain = "regtest"
nodes = ["http://user:hunter2@127.0.0.1:18443", { url = "http://127.0.0.1:18444" }]
quorum = 2
[brands.acme]
account_index = 1
[wallets."btc:BTC"]
min = "0.1"
target = "1"
max = "2"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cage.toml"
    path.write_text(TOML)
    return path


def _load(text: str, folder: Path, **environ: str) -> Settings:
    path = folder / "cage.toml"
    path.write_text(text)
    return load_settings(path, environ=environ)


def test_a_file_gives_the_values_and_defaults_fill_the_rest(file: Path) -> None:
    settings = load_settings(file, environ={})
    assert settings.api.port == 9000
    assert settings.api.host == "127.0.0.1"
    assert settings.networks["btc"].nodes[1].url == "http://127.0.0.1:18444"
    assert settings.brands["acme"].balance_mode == "shared"


def test_the_environment_wins_over_the_file(file: Path) -> None:
    settings = load_settings(file, environ={"CAGE_API__PORT": "9001", "CAGE_LOGS__LEVEL": "debug"})
    assert settings.api.port == 9001
    assert settings.logs.level == "debug"
    assert settings.networks["btc"].quorum == 2


def test_the_file_is_found_through_the_environment(file: Path) -> None:
    assert load_settings(environ={"CAGE_CONFIG": str(file)}).api.port == 9000


def test_a_database_url_of_the_platform_is_taken_below_our_own_variable(file: Path) -> None:
    platform = {"DATABASE_URL": "postgresql://a@b/c"}
    assert load_settings(file, environ=platform).owner_url() == "postgresql://a@b/c"
    both = platform | {"CAGE_DATABASE__URL": "postgresql://d@e/f"}
    assert load_settings(file, environ=both).owner_url() == "postgresql://d@e/f"


def test_relative_paths_count_from_the_folder_of_the_file(file: Path) -> None:
    settings = load_settings(file, environ={})
    assert settings.state_dir == file.parent / "state"
    assert settings.path(settings.signer.socket) == file.parent / "state/signer/signer.sock"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("livemod = true", "livemod: unknown key", "livemode"),
        ("[api]\nprot = 1", "api.prot: unknown key", "api.port"),
        ("[networks.btc]\nquorom = 1", "networks.btc.quorom: unknown key", "networks.btc.quorum"),
        ("[networks.btc]\nrpc = 'x'", "networks.btc.rpc: this key is not used", "nodes"),
        ("[webhooks]\nallowed_hosts = []", "webhooks.allowed_hosts", "webhooks.allow_hosts"),
        ("[webhooks]\nzzz = 1", "webhooks.zzz: unknown key", "known here"),
    ],
)
def test_a_wrong_key_is_named_with_the_right_one(
    tmp_path: Path, line: str, message: str, hint: str
) -> None:
    with pytest.raises(UnknownKey) as caught:
        _load(line, tmp_path)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_wrong_variable_is_named_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownKey, match="CAGE_LIVEMOD") as caught:
        _load("", tmp_path, CAGE_LIVEMOD="1")
    assert "livemode" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "[api]\nport = 'x'",
        "[api]\nport = 70000",
        "[networks.BTC]\nchain = 'main'",
        "[networks.btc]\nnodes = ['ftp://host']",
        "[networks.btc]\nnodes = ['http://a']\nquorum = 2",
        "[wallets.'btc:BTC']\nmin = 0.1\ntarget = '1'\nmax = '2'",
        "[wallets.'btc:BTC']\nmin = '1e3'\ntarget = '1'\nmax = '2'",
        "[brands.operator]\naccount_index = 1",
        "[brands.a1]\naccount_index = 1\n[brands.a2]\naccount_index = 1",
        "livemode = true\ntest_clock_offset_seconds = 5",
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        _load(text, tmp_path)


def test_n20_a38_no_credential_is_in_a_repr_or_an_error(tmp_path: Path) -> None:
    good = _load(TOML, tmp_path)
    assert "hunter2" not in repr(good)
    assert "pw@" not in repr(good)
    with pytest.raises(ConfigError) as caught:
        _load("[networks.btc]\nnodes = ['ftp://user:hunter2@host']", tmp_path)
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_a_node_password_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "node.password").write_text("p@ss/word\n")
    text = "[[networks.btc.nodes]]\nurl = 'http://127.0.0.1:1'\nuser = 'u'\npassword_file = '{}'"
    settings = _load(text.format(tmp_path / "node.password"), tmp_path)
    url = settings.networks["btc"].nodes[0].url_with_credentials()
    assert url == "http://u:p%40ss%2Fword@127.0.0.1:1"


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_missing_or_empty_secret_file_is_named_without_content(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "s").write_text(content)
    text = f"[database]\nurl = 'postgresql://o@h/c'\npassword_file = '{tmp_path / 's'}'"
    with pytest.raises(ConfigError, match="secret file"):
        _load(text, tmp_path).owner_url()


def test_a_role_gets_the_owners_server_under_its_own_name_and_password(file: Path) -> None:
    settings = load_settings(file, environ={})
    assert settings.role_url("watchers") == "postgresql://watchers@db.example:5432/cage"
    secrets_folder = settings.state_dir / "secrets"
    secrets_folder.mkdir(parents=True)
    (secrets_folder / "db_watchers.password").write_text("a:b\n")
    assert settings.role_url("watchers") == "postgresql://watchers:a%3Ab@db.example:5432/cage"


@pytest.mark.parametrize("role", DATABASE_ROLES)
def test_a_unix_socket_url_keeps_its_socket_for_every_role(file: Path, role: str) -> None:
    environ = {"CAGE_DATABASE__URL": "postgresql://postgres@/cage?host=/run/pg"}
    settings = load_settings(file, environ=environ)
    found = settings.role_url(role)  # type: ignore[arg-type]  # a member of DATABASE_ROLES
    assert found == f"postgresql://{role}@/cage?host=/run/pg"


def test_a_configured_role_url_is_taken_as_it_is(tmp_path: Path) -> None:
    text = (
        "[database]\nurl = 'postgresql://o@h/c'\n[database.urls]\nscheduler = 'postgresql://x@y/z'"
    )
    assert _load(text, tmp_path).role_url("scheduler") == "postgresql://x@y/z"


def test_a_relative_policy_file_counts_from_the_folder_of_the_file(tmp_path: Path) -> None:
    assert _load("policy_file = 'p.toml'", tmp_path).policy_file == tmp_path / "p.toml"


def test_without_a_database_the_error_says_what_to_set() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={}).owner_url()
    assert "DATABASE_URL" in caught.value.hint
