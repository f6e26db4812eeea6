"""A complete test deployment in one folder: configuration, keys, principals, roles under `cage up`.

Used by the demo, the drills and the end-to-end tests. It does what an operator does, in the same
order and with the same commands; it never touches a key of the vault.
"""

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from config.assets import load_assets
from config.chains import load_chains
from config.clock import Clock
from config.settings import Settings, load_settings
from gateway.cli.staff_api import API_VARIABLE, KEY_FILE_VARIABLE, KEY_ID_VARIABLE
from gateway.sandbox.cold_desk import ColdWallet
from gateway.sandbox.demo_config import (
    BRANDS,
    DEMO_PACE,
    DemoPorts,
    Pace,
    cage_toml,
    signer_toml,
)
from gateway.sandbox.postgres import EmbeddedPostgres, ensure_database, start_postgres

COMMAND_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 30.0
STAFF = {"alice": "treasury,finance,auditor", "bob": "treasury,finance,auditor"}
"""Two people, because capital and trust need two (CONTRACT 1 and 3)."""
CLIENT_SCOPES = (
    "addresses:write,deposits:read,withdrawals:read,withdrawals:write,webhooks:write,ledger:read"
)
_TRUST_CAPS = {
    "btc": "btc:BTC=5000000000:50000000000",
    "ltc": "ltc:LTC=50000000000:500000000000",
    "eth": "eth:ETH=500000000000000000000:5000000000000000000000",
    "usdt": "eth:USDT=1000000000000:10000000000000",
}


class DeploymentFailed(RuntimeError):
    """A set-up command or a role failed; the message has its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A key of the deployment: the id that the gateway knows and the PEM file of its owner."""

    key_id: str
    key_file: Path


class Deployment:
    """Folder, configuration, principals and the supervisor process of one deployment."""

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self.folder = folder
        self.config_file = folder / "cage.toml"
        self.clients: dict[str, Principal] = {}
        self.staff: dict[str, Principal] = {}
        self.postgres: EmbeddedPostgres | None = None
        self.ports: DemoPorts | None = None
        self._clock = clock
        self._supervisor: asyncio.subprocess.Process | None = None
        self._toml: Callable[..., str] | None = None
        self._cold: Sequence[ColdWallet] = ()

    @property
    def settings(self) -> Settings:
        """The configuration as the roles read it."""
        return load_settings(self.config_file, environ=self._environment())

    @property
    def api_url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self._ports().api}"

    @property
    def api_port(self) -> int:
        """The port of that address."""
        return self._ports().api

    def _ports(self) -> DemoPorts:
        if self.ports is None:
            raise DeploymentFailed("the deployment is not configured yet")
        return self.ports

    async def stop_database(self) -> None:
        """Stop PostgreSQL under the running roles, as an outage does."""
        if self.postgres is not None:
            await asyncio.to_thread(self.postgres.stop)

    async def start_database(self) -> EmbeddedPostgres:
        """Start it, or start it again on the same socket. An interruption waits until the server
        is there, or nobody would stop it."""
        start = asyncio.create_task(asyncio.to_thread(start_postgres, self.folder / "pg"))
        try:
            self.postgres = await asyncio.shield(start)
        except asyncio.CancelledError:
            self.postgres = await start
            raise
        return self.postgres

    async def start_role(self, *arguments: str) -> asyncio.subprocess.Process:
        """One more role process beside those of the supervisor, such as `watch btc`.

        The caller ends it. Its log is `extra.log`.
        """
        return await self.spawn(
            "extra", *_program("cage", *arguments, "--config", str(self.config_file))
        )

    async def spawn(self, name: str, *command: str) -> asyncio.subprocess.Process:
        """One process with the deployment's environment; the caller ends it. Its log is NAME.log,
        and it gets no Ctrl-C of ours."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CAGE_")}
        kept.pop("DATABASE_URL", None)
        if self.postgres is not None:
            kept["DATABASE_URL"] = self.postgres.url("cage")
        return kept

    async def configure(
        self,
        *,
        nodes: Mapping[str, Sequence[str]],
        usdt_contract: str | None,
        ports: DemoPorts,
        pool: tuple[int, int],
        pace: Pace = DEMO_PACE,
        hot_lanes: int = 1,
        cold: Sequence[ColdWallet] = (),
        deploy: Callable[[str, str], Awaitable[object]] | None = None,
    ) -> None:
        """Write both configurations, make keys, start PostgreSQL, migrate, register people.

        `deploy` sends a transaction (to, data) on `eth` that creates the collector of these keys,
        which both configurations name from then on.
        """
        self._cold = cold
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = ports
        self._toml = partial(
            cage_toml,
            usdt_contract=usdt_contract,
            ports=ports,
            pool_low=pool[0],
            pool_high=pool[1],
            pace=pace,
            hot_lanes=hot_lanes,
            cold=cold,
        )
        self._write(self.config_file, self._toml(nodes=nodes))
        await ensure_database(await self.start_database(), "cage")
        await asyncio.gather(self._make_keys(), self._run("cage", "db", "migrate"))
        if deploy is not None:
            await self._pin_collector(deploy, nodes)
        await self._register()

    async def _pin_collector(
        self,
        deploy: Callable[[str, str], Awaitable[object]],
        nodes: Mapping[str, Sequence[str]],
    ) -> None:
        assert self._toml is not None
        found = (await self._signer("keys-collector"))["eth"]
        await deploy(found["to"], found["data"])
        self._toml = partial(self._toml, collector=found["collector"])
        self._write(self.config_file, self._toml(nodes=nodes))
        self._write_signer()

    def role_url(self, role: str) -> str:
        """How a role of the database reaches the embedded server."""
        if self.postgres is None:
            raise DeploymentFailed("the database does not run")
        return self.postgres.url("cage", user=role)

    def variant(
        self,
        name: str,
        *,
        nodes: Mapping[str, Sequence[str]],
        url_of: tuple[str, str],
        socket: Path,
        api_port: int | None = None,
    ) -> Path:
        """A configuration for one process that reaches the same house by other doors: its nodes,
        the database URL of its role (role, URL) and the signer's socket."""
        if self._toml is None:
            raise DeploymentFailed("the deployment is not configured yet")
        file = self.folder / f"{name}.toml"
        role, url = url_of
        doors = f'\n[database.urls]\n{role} = "{url}"\n\n[signer]\nsocket = "{socket}"\n'
        self._write(file, self._toml(nodes=nodes, api_port=api_port) + doors)
        return file

    def _write(self, file: Path, text: str) -> None:
        file.touch(mode=0o600)  # node credentials
        file.write_text(text, encoding="utf-8")

    def _write_signer(self) -> None:
        settings, anchor = self.settings, self.folder / "anchor"
        chains = load_chains(settings)
        text = signer_toml(
            authority=f"127.0.0.1:{self._ports().api}",
            chains=chains,
            assets=load_assets(settings, chains),
            anchor=anchor / "signer.anchor",
        )
        (self.vault_folder / "signer.toml").write_text(text, encoding="utf-8")

    async def _make_keys(self) -> None:
        settings = self.settings
        self.vault_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / "anchor").mkdir(exist_ok=True, mode=0o700)
        self._write_signer()
        await self._signer("keys-init", "--cheap", "--generate-passphrase")
        xpubs = settings.path(settings.keys.xpubs_file)
        xpubs.parent.mkdir(parents=True, exist_ok=True)
        accounts = str(max(BRANDS.values()))
        await self._signer("keys-export-xpubs", "--accounts", accounts, "--out", str(xpubs))

    @property
    def vault_folder(self) -> Path:
        """The signer's own folder."""
        return self.folder / "state" / "signer"

    async def _register(self) -> None:
        keys = self.folder / "keys"
        for person, roles in STAFF.items():
            file = keys / f"{person}.pem"
            made = await self._run("cage", "staff", "key", "--out", str(file), "--json")
            public = made["public_key"]
            added = await self._run(
                "cage", "staff", "add", person, "--key", public, "--roles", roles, "--json"
            )
            self.staff[person] = Principal(key_id=added["key_id"], key_file=file)
        for brand in BRANDS:
            file = keys / f"{brand}.pem"
            added = await self._run(
                *("cage", "client", "add", "--brand", brand, "--scopes", CLIENT_SCOPES),
                *("--new-key", str(file), "--json"),
            )
            self.clients[brand] = Principal(key_id=added["key_id"], key_file=file)
            (keys / f"{brand}.pub").write_text(added["public_key"], encoding="ascii")

    async def trust(self) -> None:
        """Tell the running signer which people, client keys and cold addresses to trust."""
        keys = self.folder / "keys"
        people = [f"--staff={name}={principal.key_file}" for name, principal in self.staff.items()]
        await self._signer("staff-add", *people)
        signed = [
            f"--staff-key={name}={principal.key_file}" for name, principal in self.staff.items()
        ]
        networks = self.settings.enabled_networks()
        caps = [f"--cap={cap}" for cap in _TRUST_CAPS.values() if cap.partition(":")[0] in networks]
        for brand, principal in self.clients.items():
            public = (keys / f"{brand}.pub").read_text("ascii")
            await self._signer(
                "trust",
                *("--keyid", principal.key_id, "--public-key", public, "--brand", brand),
                *caps,
                *signed,
            )
        for wallet in self._cold:
            await self._signer("pin", wallet.network, wallet.address, *signed)

    def staff_files(self) -> dict[str, Path]:
        """A file for each person that makes a shell's staff commands theirs (`. FILE`)."""
        files = {}
        for name, principal in self.staff.items():
            files[name] = self.folder / f"{name}.env"
            words = {
                API_VARIABLE: self.api_url,
                KEY_ID_VARIABLE: principal.key_id,
                KEY_FILE_VARIABLE: str(principal.key_file),
            }
            text = "".join(f"export {key}={shlex.quote(word)}\n" for key, word in words.items())
            self._write(files[name], text)
        return files

    async def start(self) -> None:
        """Start `cage up`; returns when the process runs, not when the roles are ready."""
        log = (self.folder / "up.log").open("ab")
        try:
            self._supervisor = await asyncio.create_subprocess_exec(
                *_program("cage", "up", "--config", str(self.config_file)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        finally:
            log.close()

    def has_died(self) -> bool:
        """Whether `cage up` ended by itself."""
        return self._supervisor is not None and self._supervisor.returncode is not None

    def log_tail(self, lines: int = 20) -> str:
        """The supervisor's last words."""
        path = self.folder / "up.log"
        text = path.read_text("utf-8", errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def role_pids(self) -> dict[str, int]:
        """Role -> pid, as the supervisor last wrote them."""
        path = self.folder / "state" / "status.json"
        if not path.exists():
            return {}
        roles: dict[str, Any] = json.loads(path.read_text("utf-8")).get("roles", {})
        return {
            name: int(role["pid"] if isinstance(role, dict) else role)
            for name, role in roles.items()
        }

    async def stop(self) -> None:
        """End the roles by their supervisor, then PostgreSQL; a second call does nothing."""
        process, self._supervisor = self._supervisor, None
        if process is not None and process.returncode is None:
            os.kill(process.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        postgres, self.postgres = self.postgres, None
        if postgres is not None:
            await asyncio.to_thread(postgres.stop)

    async def _signer(self, command: str, *arguments: str) -> Any:
        return await self._run("signer", command, "--dir", str(self.vault_folder), *arguments)

    async def _run(self, program: str, *arguments: str) -> Any:
        """One command to its end; its JSON answer when it printed one."""
        extra: tuple[str, ...] = ()
        if program == "cage" and arguments[:2] != ("staff", "key"):
            extra = ("--config", str(self.config_file))
        process = await asyncio.create_subprocess_exec(
            *_program(program, *arguments, *extra),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(),
        )
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:  # interrupted: nothing of ours stays behind
                process.kill()
                await process.wait()
        if process.returncode != 0:
            words = " ".join((program, *arguments[:2]))
            tail = err.decode("utf-8", "replace").strip().splitlines()[-3:]
            raise DeploymentFailed(f"{words} failed ({process.returncode}): {' | '.join(tail)}")
        text = out.decode("utf-8").strip()
        return json.loads(text) if text.startswith("{") else text


def _program(program: str, *arguments: str) -> tuple[str, ...]:
    module = {"cage": "gateway.cli.main", "signer": "signer"}[program]
    return (sys.executable, "-m", module, *arguments)
