"""`cage up` starts a role again when it dies, and ends its roles in order, by their own pids."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from config.clock import SystemClock
from config.settings import load_settings
from gateway.cli.console import CliError
from gateway.sandbox.supervisor import RoleProcess, Supervisor, require_keys, role_commands

DEADLINE_SECONDS = 30
IDLE = "import signal; signal.pause()"


def role(name: str, code: str) -> RoleProcess:
    return RoleProcess(name, ("-c", code), environ=dict(os.environ), clock=SystemClock())


async def next_pid(process: RoleProcess, *, other_than: int | None = None) -> int:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while process.pid is None or process.pid == other_than:
            process.changed.clear()
            await process.changed.wait()
        return process.pid


async def test_p01_role_that_is_killed_starts_again() -> None:
    idle = role("idle", IDLE)
    running = asyncio.create_task(idle.run())
    first = await next_pid(idle)
    os.kill(first, signal.SIGKILL)
    second = await next_pid(idle, other_than=first)
    await idle.stop()
    await running
    assert second != first
    assert (idle.restarts, idle.pid) == (1, None)


async def test_role_that_is_stopped_stays_down() -> None:
    idle = role("idle", IDLE)
    running = asyncio.create_task(idle.run())
    await next_pid(idle)
    await idle.stop()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await running
    assert idle.restarts == 0


async def test_a_role_that_is_stopped_while_it_starts_is_not_left_behind() -> None:
    """The stop comes between the decision to start it and its process."""
    idle = role("idle", IDLE)
    running = asyncio.create_task(idle.run())
    stopping = asyncio.create_task(idle.stop())  # runs when the first one waits for its process
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await stopping
            await running
        assert idle.pid is None
    finally:
        if idle.pid is not None:
            os.kill(idle.pid, signal.SIGKILL)


async def test_roles_end_in_the_reverse_order_and_the_status_file_goes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import signal, sys\n"
        "def end(*_):\n"
        f"    open({str(log)!r}, 'a').write(sys.argv[1] + '\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"open({str(tmp_path)!r} + '/' + sys.argv[1] + '.up', 'w').close()\n"
        "while True: signal.pause()\n"
    )
    roles = [
        RoleProcess(name, ("-c", code, name), environ=dict(os.environ), clock=SystemClock())
        for name in ("signer", "api")
    ]
    settings = load_settings(environ={"CAGE_STATE_DIR": str(tmp_path), "CAGE_API__PORT": "1"})
    status_file = tmp_path / "status.json"
    supervisor = Supervisor(roles, settings=settings, status_file=status_file, clock=SystemClock())
    stop = asyncio.Event()
    running = asyncio.create_task(supervisor.run(stop))
    async with asyncio.timeout(DEADLINE_SECONDS):
        wanted = [tmp_path / "signer.up", tmp_path / "api.up", status_file]
        while not all(file.exists() for file in wanted):
            await asyncio.to_thread(os.stat, tmp_path)
    status = json.loads(status_file.read_text())
    assert status["roles"] == {process.name: process.pid for process in roles}
    stop.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await running
    assert log.read_text().split() == ["api", "signer"]
    assert not status_file.exists()


def test_every_network_has_its_own_watcher(tmp_path: Path) -> None:
    networks = '{"btc": {"chain": "regtest"}, "eth": {"chain": "dev"}}'
    settings = load_settings(environ={"CAGE_STATE_DIR": str(tmp_path), "CAGE_NETWORKS": networks})
    commands = role_commands(settings)
    assert list(commands) == [
        "signer", "watch-btc", "watch-eth", "scheduler", "webhooks", "payouts", "api",
    ]  # fmt: skip
    assert commands["watch-eth"] == ("-m", "watchers", "eth")


def test_missing_keys_are_named_with_the_next_command(tmp_path: Path) -> None:
    settings = load_settings(environ={"CAGE_STATE_DIR": str(tmp_path)})
    with pytest.raises(CliError, match=r"signer\.toml"):
        require_keys(settings)
    (tmp_path / "signer").mkdir()
    (tmp_path / "signer" / "signer.toml").touch()
    with pytest.raises(CliError, match="no public keys") as caught:
        require_keys(settings)
    assert "cage keys export-xpubs" in caught.value.hint
