"""What `client add` and `staff add` accept, before any database is asked."""

import base64
from pathlib import Path

import pytest

from gateway.cli.console import CliError
from gateway.cli.main import main
from gateway.cli.setup import STAFF_SCOPES, new_key_file, read_public_key
from tests.support.clock import SequentialIds

# RFC 8032 7.1, test 1: a public test vector.
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
PUBLIC_PEM = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""
USAGE = 2


@pytest.mark.parametrize("text", [PUBLIC.hex(), base64.b64encode(PUBLIC).decode()])
def test_public_key_is_read_from_hex_and_base64(text: str) -> None:
    assert read_public_key(text) == PUBLIC


def test_public_key_is_read_from_a_pem_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pub"
    path.write_text(PUBLIC_PEM)
    assert read_public_key(str(path)) == PUBLIC


def test_own_key_file_is_not_taken_for_a_public_key(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    new_key_file(path, SequentialIds())
    with pytest.raises(CliError, match="no public key"):
        read_public_key(str(path))


@pytest.mark.parametrize(
    "text", ["", "abc", "zz" * 32, base64.b64encode(PUBLIC[:31]).decode(), "no-such-file.pem"]
)
def test_other_text_is_no_public_key(text: str) -> None:
    with pytest.raises(CliError):
        read_public_key(text)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "cage.toml"
    path.write_text("[brands.acme]\naccount_index = 1\n")
    return str(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--brand", "acme", "--operator"], "either --brand NAME or --operator"),
        ([], "either --brand NAME or --operator"),
        (["--brand", "nobody", "--key", PUBLIC.hex()], "brand nobody is not configured"),
        (["--brand", "acme"], "either --key PUBLICKEY or --new-key FILE"),
        (["--brand", "acme", "--key", PUBLIC.hex(), "--scopes", "everything"],
         "scope everything does not exist"),
        (["--brand", "acme", "--key", PUBLIC.hex(), "--scopes", ","], "at least one scope"),
        (["--brand", "acme", "--key", PUBLIC.hex(), "--key-id", "a b"], "key id a b"),
    ],
)  # fmt: skip
def test_client_add_refuses(
    config: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["client", "add", "--config", config, *options]) == USAGE
    assert message in capsys.readouterr().err


def test_a31_key_that_creates_may_never_approve(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scopes = "withdrawals:write,withdrawals:approve"
    options = ["--brand", "acme", "--key", PUBLIC.hex(), "--scopes", scopes]
    assert main(["client", "add", "--config", config, *options]) == USAGE
    assert "may never approve" in capsys.readouterr().err


def test_staff_with_an_unknown_role_is_refused(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--key", PUBLIC.hex(), "--roles", "king", "--config", config]
    assert main(["staff", "add", "alice", *options]) == USAGE
    assert "role king does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("role", list(STAFF_SCOPES))
def test_no_role_both_creates_and_approves(role: str) -> None:
    assert "withdrawals:write" not in STAFF_SCOPES[role]
