"""`cage up`: every role as its own process on one machine, started, watched and started again.

Owns the processes that it starts, the embedded PostgreSQL when the configuration names none, and
the status file (role -> pid). It must not do the work of a role, and it ends only its own children,
by pid.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from config.clock import Clock, SystemClock
from config.logs import configure_logs
from config.settings import Settings, load_settings
from gateway.cli.console import USAGE, CliError, note
from gateway.cli.setup import migrate_database
from gateway.sandbox.postgres import (
    EmbeddedPostgres,
    PostgresUnavailable,
    ensure_database,
    start_postgres,
)

DATABASE_NAME = "cage"
BACKOFF_SECONDS = (0.3, 0.6, 1.2, 2.5, 5.0, 10.0)  # the last one goes on
STEADY_SECONDS = 30.0  # a role that lived this long starts its backoff anew
READY_SECONDS = 60.0
POLL_SECONDS = 0.1
STOP_SECONDS = 10.0  # from SIGTERM to SIGKILL, per role
CONNECT_TIMEOUT_SECONDS = 2.0


class RoleProcess:
    """One role: its command, its process, and how often it was started again."""

    def __init__(
        self, name: str, command: Sequence[str], *, environ: Mapping[str, str], clock: Clock
    ) -> None:
        self.name = name
        self.restarts = 0
        self._command = (sys.executable, *command)
        self._environ = dict(environ)
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._is_stopping = False
        self.changed = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The pid of the running process, None between two runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def run(self) -> None:
        """Keep the role running until `stop`."""
        failures = 0
        while True:
            started_seconds = self._clock.monotonic_seconds()
            async with self._starting:
                if self._is_stopping:
                    return
                process = self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=self._environ,
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C reaches us alone: the roles end in our order
                )
            self.changed.set()
            code = await process.wait()
            self.changed.set()
            if self._is_stopping:
                return
            lived_seconds = self._clock.monotonic_seconds() - started_seconds
            failures = 0 if lived_seconds >= STEADY_SECONDS else failures + 1
            delay_seconds = BACKOFF_SECONDS[min(max(failures, 1), len(BACKOFF_SECONDS)) - 1]
            note(f"cage up: {self.name} ended ({_ending(code)}), again in {delay_seconds:g} s")
            self.restarts += 1
            await self._clock.sleep(delay_seconds)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is not enough; a second call does nothing."""
        self._is_stopping = True
        async with self._starting:  # one that is being started now would be left behind
            process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            note(f"cage up: {self.name} did not end within {STOP_SECONDS:g} s: killed")
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


class Supervisor:
    """All roles of one deployment. They start in the order given and end in the order reversed."""

    def __init__(
        self, roles: Sequence[RoleProcess], *, settings: Settings, status_file: Path, clock: Clock
    ) -> None:
        self._roles = tuple(roles)
        self._settings = settings
        self._status_file = status_file
        self._clock = clock
        self._is_ready = False

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`; the status file follows every change and is removed at the end."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                *(group.create_task(role.run()) for role in self._roles),
                *(group.create_task(self._follow(role)) for role in self._roles),
                group.create_task(self._announce()),
            ]
            await stop.wait()
            note("cage up: stopping")
            for role in reversed(self._roles):
                await role.stop()
            for task in tasks:
                task.cancel()
        self._status_file.unlink(missing_ok=True)

    async def _follow(self, role: RoleProcess) -> None:
        while True:
            await role.changed.wait()
            role.changed.clear()
            self._write_status()

    async def _announce(self) -> None:
        """Say once that the API answers and the signer listens."""
        api = self._settings.api
        deadline_seconds = self._clock.monotonic_seconds() + READY_SECONDS
        socket = self._settings.path(self._settings.signer.socket)
        while not (await _answers_tcp(api.host, api.port) and await _answers_unix(socket)):
            if self._clock.monotonic_seconds() > deadline_seconds:
                note(
                    f"cage up: not ready after {READY_SECONDS:g} s; see the roles' own lines above"
                )
                return
            await self._clock.sleep(POLL_SECONDS)
        self._is_ready = True
        self._write_status()
        note(f"cage up: ready, http://{api.host}:{api.port}")

    def _write_status(self) -> None:
        """Replace the file whole: a reader never sees half of it."""
        api = self._settings.api
        status = {
            "pid": os.getpid(),
            "ready": self._is_ready,
            "api": f"http://{api.host}:{api.port}",
            "roles": {role.name: role.pid for role in self._roles if role.pid is not None},
            "restarts": {role.name: role.restarts for role in self._roles},
        }
        draft = self._status_file.with_name(f".{self._status_file.name}.{os.getpid()}")
        draft.write_text(json.dumps(status, indent=1) + "\n", encoding="utf-8")
        draft.replace(self._status_file)


async def _answers_tcp(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _answers_unix(path: Path) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_unix_connection(str(path))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def role_commands(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Role name -> arguments of the interpreter, in the order of starting."""
    signer_folder = settings.path(settings.signer.socket).parent
    commands: dict[str, tuple[str, ...]] = {}
    commands["signer"] = ("-m", "signer", "run", "--dir", str(signer_folder))
    for network in settings.enabled_networks():
        commands[f"watch-{network}"] = ("-m", "watchers", network)
    for role in ("scheduler", "webhooks", "payouts", "api"):
        commands[role] = ("-m", "gateway", role)
    return commands


def require_keys(settings: Settings) -> None:
    """Raise CliError with the next command when a key file is missing."""
    folder = settings.path(settings.signer.socket).parent
    if not (folder / "signer.toml").exists():
        raise CliError(
            f"the signer has no configuration: {folder / 'signer.toml'}",
            hint="write it as docs/SIGNER.md shows, then run `cage keys init`",
            code=USAGE,
        )
    xpubs = settings.path(settings.keys.xpubs_file)
    if not xpubs.exists():
        raise CliError(
            f"there are no public keys to watch: {xpubs}",
            hint=f"cage keys init, then cage keys export-xpubs --out {xpubs}",
            code=USAGE,
        )


def run_up(settings: Settings, *, config: Path | None, status_file: Path | None = None) -> int:
    """Run everything until SIGTERM or SIGINT; the exit code. Raises CliError or ConfigError."""
    require_keys(settings)
    configure_logs(level=settings.logs.level)
    environ = dict(os.environ)
    if config is not None:
        environ["CAGE_CONFIG"] = str(config.resolve())
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    status = status_file or settings.state_dir / "status.json"
    try:
        return asyncio.run(_up(settings, config=config, environ=environ, status_file=status))
    except PostgresUnavailable as error:
        raise CliError(str(error)) from error


async def _up(
    settings: Settings, *, config: Path | None, environ: dict[str, str], status_file: Path
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    postgres: EmbeddedPostgres | None = None
    try:
        if settings.database.url is None:
            note("cage up: starting the embedded PostgreSQL")
            postgres = await asyncio.to_thread(start_postgres, settings.state_dir / "postgres")
            environ["DATABASE_URL"] = await ensure_database(postgres, DATABASE_NAME)
            settings = load_settings(config, environ=environ)
        await migrate_database(settings)
        note(
            "cage up: all roles run under one OS user here, so the isolation of the signer is "
            "nominal; give it a user and a host of its own for real money"
        )
        clock = SystemClock()
        roles = [
            RoleProcess(name, command, environ=environ, clock=clock)
            for name, command in role_commands(settings).items()
        ]
        supervisor = Supervisor(roles, settings=settings, status_file=status_file, clock=clock)
        await supervisor.run(stop)
    finally:
        if postgres is not None:
            await asyncio.to_thread(postgres.stop)
    return 0
