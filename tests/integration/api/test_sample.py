"""The signing sample for integrators works as printed."""

import asyncio
import json
import socket
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config.clock import SystemClock
from tests.support.api import api_house, vector_key
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase

SAMPLE = Path(__file__).resolve().parents[3] / "docs" / "integration" / "sign_request.py"
TIMEOUT_SECONDS = 30.0


def free_port() -> int:
    """A port that was free a moment ago: the authority must be known before the start."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_the_api_role_starts_serves_and_stops_on_sigterm(
    test_database: TestDatabase, tmp_path: Path
) -> None:
    """`python -m gateway api` as its own process, under its own database role."""
    port = free_port()
    config = tmp_path / "cage.toml"
    config.write_text(
        f"""
        state_dir = "{tmp_path}"
        [database]
        url = "{test_database.owner_url}"
        [api]
        port = {port}
        [networks.btc]
        chain = "regtest"
        """
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", "api", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert process.stderr is not None
        first = json.loads(await process.stderr.readline())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        status = await reader.readline()
        writer.close()
        process.terminate()
        await process.wait()
    assert first["event"] == "api.listening"
    assert b" 200 " in status
    assert process.returncode == 0


async def test_the_python_sample_signs_a_request_that_is_accepted(
    test_database: TestDatabase, tmp_path: Path, ids: SequentialIds
) -> None:
    """The sample knows only the real time: the API of this test starts at that moment."""
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(
        vector_key("acme-key").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    clock = ManualClock(SystemClock().now())
    async with api_house(test_database, tmp_path, clock=clock, ids=ids, port=free_port()) as house:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SAMPLE),
            *("--url", house.url, "--key-id", "acme-key", "--key-file", str(key_file)),
            *("POST", "/v1/players/player-1/addresses", "--body", '{"network": "btc"}'),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(TIMEOUT_SECONDS):
            out, error = await process.communicate()
    assert process.returncode == 0, error
    assert json.loads(out)["player_id"] == "player-1"
