"""Somebody with the program and a file, and nothing of the house: no configuration, no node."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 60.0


async def asks(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON answer of `cage ... --json`, run in a folder of its own that exists."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli.main", *arguments, "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        out, _ = await process.communicate()
    answer: dict[str, Any] = json.loads(out)
    return process.returncode or 0, answer
