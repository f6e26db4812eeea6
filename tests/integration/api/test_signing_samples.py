"""The signing samples for integrators, each run against the real API where its runtime is here.

A runtime that this machine lacks is named in the test's id: its sample is read only.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config.clock import SystemClock
from gateway.sandbox.nodes import free_port
from tests.support.api import ApiHouse, api_house, vector_key
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.postgres

SAMPLES = Path(__file__).resolve().parents[3] / "docs" / "integration" / "samples"
TIMEOUT_SECONDS = 120.0  # a Go or Java source file is compiled first


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How a sample is run. `has_equals`: an option and its value are one argument."""

    name: str
    command: tuple[str, ...]
    file: str
    has_equals: bool = False

    @property
    def runtime(self) -> str | None:
        """Where the runtime is, or None."""
        return shutil.which(self.command[0])

    def arguments(self, options: dict[str, str], *names: str) -> list[str]:
        """The whole command: options before the names, which every language takes."""
        found: list[str] = [*self.command, str(SAMPLES / self.file)]
        for name, value in options.items():
            found += [f"--{name}={value}"] if self.has_equals else [f"--{name}", value]
        return [*found, *names]


LANGUAGES = (
    Language(name="python", command=(sys.executable,), file="../sign_request.py"),
    Language(name="node", command=("node",), file="sign_request.mjs"),
    Language(name="php", command=("php",), file="sign_request.php", has_equals=True),
    Language(name="go", command=("go", "run"), file="sign_request.go"),
    Language(name="java", command=("java",), file="SignRequest.java"),
)
HERE = [language for language in LANGUAGES if language.runtime]


def named(language: Language) -> str:
    """The id of a test that only reads."""
    return language.name if language in HERE else f"{language.name}-not-on-this-machine"


@dataclass(slots=True, kw_only=True)
class Bench:
    """The API at the real time, which is all that a sample knows, and its client's key file."""

    house: ApiHouse
    key_file: Path
    folder: Path

    async def run(
        self, language: Language, *names: str, **options: str
    ) -> tuple[int, dict[str, object]]:
        """Exit code and the answer's JSON."""
        given = {
            "url": self.house.url,
            "key-id": "acme-key",
            "key-file": str(self.key_file),
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        behind = SystemClock().now() - self.house.clock.now()
        self.house.clock.advance(behind.total_seconds())  # the runs before took their time
        process = await asyncio.create_subprocess_exec(
            *language.arguments(given, *names),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "GOCACHE": str(self.folder / "go"), "GO111MODULE": "off"},
        )
        async with asyncio.timeout(TIMEOUT_SECONDS):
            out, error = await process.communicate()
        assert process.returncode in (0, 1), error
        answer: dict[str, object] = json.loads(out)
        return process.returncode, answer


@pytest.fixture
async def bench(
    test_database: TestDatabase, tmp_path: Path, ids: SequentialIds
) -> AsyncIterator[Bench]:
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(
        vector_key("acme-key").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    clock = ManualClock(SystemClock().now())
    async with api_house(test_database, tmp_path, clock=clock, ids=ids, port=free_port()) as house:
        yield Bench(house=house, key_file=key_file, folder=tmp_path)


@pytest.mark.parametrize("language", HERE, ids=lambda language: language.name)
async def test_h7_a_sample_signs_what_the_api_accepts(bench: Bench, language: Language) -> None:
    """A body with another alphabet, a query, and a payment of which a repeat is a repeat."""
    code, made = await bench.run(
        language, "POST", "/v1/players/player-1/addresses", body='{"network": "btc"}'
    )
    assert (code, made["player_id"]) == (0, "player-1")
    code, shown = await bench.run(language, "GET", "/v1/deposits?limit=2&player_id=player-1")
    assert (code, shown) == (0, {"items": [], "next_cursor": None})
    order = json.dumps(
        {
            "request_id": "42",
            "player_id": "player-1",
            "asset": "btc:BTC",
            "address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
            "amount": "0.05",
            "pam_balance": "0.2",
            "metadata": {"note": "Überweisung ✓"},
        },
        ensure_ascii=False,
    )
    twice = [
        await bench.run(
            language, "POST", "/v1/withdrawals", body=order, idempotency_key="payout-42"
        )
        for _ in range(2)
    ]
    assert twice[0] == twice[1]
    assert (twice[0][0], twice[0][1]["request_id"]) == (0, "42")


@pytest.mark.parametrize("language", HERE, ids=lambda language: language.name)
async def test_h7_a_sample_says_no_with_its_exit_code(bench: Bench, language: Language) -> None:
    code, problem = await bench.run(language, "GET", "/v1/deposits/dep_test_0")
    assert (code, problem["code"]) == (1, "not_found")
    code, problem = await bench.run(language, "GET", "/v1/assets", key_id="nobody")
    assert (code, problem["code"]) == (1, "unauthenticated")


@pytest.mark.parametrize("language", LANGUAGES, ids=named)
def test_every_sample_covers_what_must_be_covered_and_is_in_the_pages_table(
    language: Language,
) -> None:
    """Read only: all that is known of a sample whose runtime is not here."""
    text = (SAMPLES / language.file).read_text("utf-8")
    covered = ("@method", "@authority", "@path", "@query", "idempotency-key", "ed25519", "nonce")
    for word in covered:
        assert word in text.replace("ED25519", "ed25519"), word
    page = (SAMPLES / "README.md").read_text("utf-8")
    assert f"[{language.file}]({language.file})" in page
    assert language.name == "python" or f"`{language.command[0]}` is found" in page
