"""Commands of people as their own processes, and the keys that they sign with."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
FAILED = 1
USAGE = 2
REFUSED = 3


@dataclass
class Desk:
    """A running API and the options of four people's keys."""

    treasurer: list[str]
    supporter: list[str]
    risk: list[str]
    admin: list[str]

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
