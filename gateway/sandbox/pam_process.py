"""The sample PAM as a process of the demo.

Owns the process and its secret file. It must not look into events: the PAM does, by the public
library of Standard Webhooks.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.sandbox.http import get_json

STOP_TIMEOUT_SECONDS = 10.0


@dataclass(slots=True, kw_only=True)
class PamProcess:
    """A running sample PAM."""

    url: str
    secret_file: Path
    process: asyncio.subprocess.Process

    @property
    def hook_url(self) -> str:
        """Where webhooks go."""
        return f"{self.url}/webhooks"

    def learn(self, secret: str) -> None:
        """One more endpoint's secret, as `POST /v1/webhook_endpoints` showed it once."""
        with self.secret_file.open("a", encoding="ascii") as file:
            file.write(secret + "\n")

    async def stats(self) -> dict[str, Any]:
        """What it counted so far."""
        found: dict[str, Any] = await get_json(f"{self.url}/stats")
        return found

    async def stop(self) -> None:
        """End it by its pid."""
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def start(stack: AsyncExitStack, folder: Path, *, port: int) -> PamProcess:
    """Start it with an empty list of secrets."""
    secret_file = _empty_file(folder)
    with (folder / "pam.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.sandbox.sample_pam", "--port", str(port)),
            *("--secret-file", str(secret_file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    pam = PamProcess(url=f"http://127.0.0.1:{port}", secret_file=secret_file, process=process)
    stack.push_async_callback(pam.stop)
    return pam


def _empty_file(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "secrets"
    file.touch(mode=0o600)
    return file
