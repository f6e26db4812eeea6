"""The API served on loopback for commands, and the keys of four people who call it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.clock import SystemClock
from config.database import Database, async_url
from config.ids import SystemIds
from config.registry import load_registry
from config.settings import load_settings
from gateway.api.role import ApiServer, build_services, endpoints
from gateway.cli.main import main
from gateway.payouts import recovery_store
from gateway.payouts.recovery_store import GENESIS_HASH
from gateway.sandbox.nodes import free_port
from tests.support.databases import TestDatabase
from tests.support.desk import Desk, hire
from tests.support.hosting import LoopThread


@pytest.fixture
def more_networks() -> str:
    """Settings of networks beside bitcoin; a module that needs one overrides this."""
    return ""


@pytest.fixture
def desk(
    tmp_path: Path,
    test_database: TestDatabase,
    loop_thread: LoopThread,
    capsys: pytest.CaptureFixture[str],
    more_networks: str,
) -> Iterator[Desk]:
    port = free_port()
    path = tmp_path / "cage.toml"
    path.write_text(
        f'[database]\nurl = "{test_database.owner_url}"\n[api]\nport = {port}\n'
        f'[networks.btc]\nchain = "regtest"\n{more_networks}[brands.acme]\naccount_index = 1\n'
        '[wallets."btc:BTC"]\nmin = "1"\ntarget = "5"\nmax = "10"\n'
    )
    assert main(["db", "migrate", "--config", str(path)]) == 0
    capsys.readouterr()
    url = f"http://127.0.0.1:{port}"
    desk = Desk(
        treasurer=hire("alice", "treasury,finance", config=path, url=url, capsys=capsys),
        supporter=hire("carol", "support", config=path, url=url, capsys=capsys),
        risk=hire("rita", "risk", config=path, url=url, capsys=capsys),
        admin=hire("otto", "admin", config=path, url=url, capsys=capsys),
    )
    settings = load_settings(path, environ={})
    clock = SystemClock()

    async def start() -> tuple[ApiServer, Database]:
        owner = Database(async_url(test_database.owner_url))
        async with owner.unit_of_work() as uow:  # what payouts writes at its first start
            await recovery_store.move_place(
                uow, "btc", sequence=0, entry_hash=GENESIS_HASH, at=clock.now()
            )
        await owner.close()
        database = Database(async_url(test_database.role_url("gateway_api")))
        services = build_services(
            settings=settings,
            registry=load_registry(settings),
            database=database,
            clock=clock,
            ids=SystemIds(clock),
        )
        server = ApiServer(services, endpoints())
        await server.start()
        return server, database

    async def stop(server: ApiServer, database: Database) -> None:
        await server.stop()
        await database.close()

    server, database = loop_thread.run(start())
    yield desk
    loop_thread.run(stop(server, database))
