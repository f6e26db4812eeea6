"""The API role as its own process."""

import asyncio
import json
import sys
from pathlib import Path

from gateway.sandbox.nodes import free_port
from tests.support.databases import TestDatabase

TIMEOUT_SECONDS = 30.0


async def test_the_api_role_starts_serves_and_stops_on_sigterm(
    test_database: TestDatabase, tmp_path: Path
) -> None:
    """`python -m gateway api` as its own process, under its own database role."""
    port = free_port()  # the authority must be known before the start
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
