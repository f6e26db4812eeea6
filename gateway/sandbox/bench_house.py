"""What the benchmarks of roles share: a deployment's files, role processes, signing clients.

The roles are the real processes, started as `cage up` starts them. The keys are made here for one
run, on a test network, and must never hold anything of value.
"""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.clock import Clock, SystemClock
from config.ids import Ids, SystemIds
from config.migrate import migrate
from gateway.client import ApiClient, SignedRequest
from gateway.sandbox.bench_api_store import furnish
from gateway.sandbox.demo_config import CHAIN_VARIANTS
from gateway.sandbox.http import is_up
from gateway.sandbox.nodes import free_port
from gateway.sandbox.postgres import EmbeddedPostgres, ensure_database

BRAND = "bench"
KEY_ID = "bench-key"
SCOPES = ("addresses:write", "withdrawals:write", "deposits:read", "webhooks:write")
CLIENTS = 64  # connections at once, as the workers of a casino that pays out in the evening
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05


class BenchFailed(RuntimeError):
    """A benchmark could not run; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchHouse:
    """A migrated, furnished database and the files of its roles."""

    url: str
    config: Path
    api_port: int
    clock: Clock
    ids: Ids
    key: Ed25519PrivateKey

    @asynccontextmanager
    async def role(self, name: str) -> AsyncIterator[None]:
        """One role of the gateway as its own process."""
        async with process("-m", "gateway", name, "--config", str(self.config)):
            if name == "api":
                await wait_up(f"http://127.0.0.1:{self.api_port}/health/live", self.clock)
            yield

    def client(self, port: int) -> ApiClient:
        """A signing client for a port; what it signs is valid at the API."""
        return ApiClient(
            url=f"http://127.0.0.1:{port}",
            key_id=KEY_ID,
            key=self.key,
            authority=f"127.0.0.1:{self.api_port}",
            clock=self.clock,
            ids=self.ids,
        )


@asynccontextmanager
async def bench_house(
    server: EmbeddedPostgres,
    name: str,
    *,
    pool_rows: int,
    network: str = "btc",
    node_url: str = "http://127.0.0.1:1",
) -> AsyncIterator[BenchHouse]:
    """A deployment in the database `name` of the bench's server; only a watcher needs a node."""
    clock = SystemClock()
    ids = SystemIds(clock)
    url = await ensure_database(server, name)
    await migrate(url)
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    await furnish(
        url,
        brand=BRAND,
        key_id=KEY_ID,
        public_key=key.public_key().public_bytes_raw(),
        scopes=SCOPES,
        pool_rows=pool_rows,
        at=clock.now(),
    )
    port = free_port()
    with TemporaryDirectory(prefix="cagebench") as folder:
        config = Path(folder) / "cage.toml"
        config.write_text(_toml(url, port, network, node_url), encoding="utf-8")
        yield BenchHouse(url=url, config=config, api_port=port, clock=clock, ids=ids, key=key)


def _toml(url: str, port: int, network: str, node_url: str) -> str:
    return f"""# Written by the bench: a test network.
livemode = false
state_dir = "state"

[database]
url = "{url}"

[logs]
level = "warning"

[api]
port = {port}
authorities = ["127.0.0.1:{port}"]
rate_per_second = 1000000
rate_burst = 1000000

[webhooks]
allow_hosts = ["127.0.0.1"]

[brands.{BRAND}]
account_index = 1

[networks.{network}]
chain = "{CHAIN_VARIANTS[network]}"
nodes = ["{node_url}"]
"""


async def wait_up(url: str, clock: Clock) -> None:
    """Wait for a 2xx. Raises BenchFailed after START_SECONDS_MAX."""
    until_seconds = clock.monotonic_seconds() + START_SECONDS_MAX
    while not await is_up(url):
        if clock.monotonic_seconds() > until_seconds:
            raise BenchFailed(f"{url} did not answer within {START_SECONDS_MAX:g} s")
        await clock.sleep(POLL_SECONDS)


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process for as long as the block lasts; its errors go to our stderr."""
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


async def drive(house: BenchHouse, port: int, requests: Sequence[SignedRequest]) -> float:
    """Send signed requests from CLIENTS connections at once; answers per second.

    Raises BenchFailed for an answer that is an error.
    """
    waiting = iter(requests)

    async def one(client: ApiClient) -> None:
        for request in waiting:
            reply = await client.send(request)
            if reply.status >= 300:
                raise BenchFailed(f"answered {reply.status}: {reply.body[:300]!r}")

    async with house.client(port) as client:
        start_seconds = house.clock.monotonic_seconds()
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(one(client))
        return len(requests) / (house.clock.monotonic_seconds() - start_seconds)


async def pace(
    house: BenchHouse, port: int, requests: Sequence[SignedRequest], *, per_second: float
) -> list[float]:
    """Send signed requests at even moments, answered or not; seconds from each one's moment, so
    that a server which falls behind is not spared. Raises BenchFailed as `drive`."""

    async def one(client: ApiClient, due_seconds: float, request: SignedRequest) -> float:
        await house.clock.sleep(due_seconds - house.clock.monotonic_seconds())
        reply = await client.send(request)
        if reply.status >= 300:
            raise BenchFailed(f"answered {reply.status}: {reply.body[:300]!r}")
        return house.clock.monotonic_seconds() - due_seconds

    async with house.client(port) as client:
        start_seconds = house.clock.monotonic_seconds()
        async with asyncio.TaskGroup() as group:
            runs = [
                group.create_task(one(client, start_seconds + number / per_second, request))
                for number, request in enumerate(requests)
            ]
        return [run.result() for run in runs]


def p99(seconds: Sequence[float]) -> float:
    """What 99 of 100 stay below or at."""
    return sorted(seconds)[-(-len(seconds) * 99 // 100) - 1]
