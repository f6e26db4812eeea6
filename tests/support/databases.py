"""One migrated template per session, one clone of it per test."""

from dataclasses import dataclass
from itertools import count

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from config.database import async_url
from config.migrate import MIGRATIONS_FOLDER, migrate
from config.settings import DatabaseRole
from gateway.sandbox.postgres import EmbeddedPostgres, ensure_database

TEMPLATE = "cage_template"
TIMEOUT_SECONDS = 60.0
_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDatabase:
    """A database of one test. `owner_url` may do everything; `role_url` what a process may."""

    __test__ = False

    server: EmbeddedPostgres
    name: str

    @property
    def owner_url(self) -> str:
        """URL of the owner, as `cage db migrate` uses it."""
        return self.server.url(self.name)

    def role_url(self, role: DatabaseRole) -> str:
        """URL of one process role."""
        return self.server.url(self.name, user=role)


async def make_template(server: EmbeddedPostgres) -> None:
    """Create and migrate the template."""
    await migrate(await ensure_database(server, TEMPLATE))


async def clone(
    server: EmbeddedPostgres, *, template: str = TEMPLATE, is_durable: bool = True
) -> TestDatabase:
    """A fresh copy of a template; nobody may be connected to it.

    Not durable: a COMMIT waits for no disk. Only a crash of the server would tell the difference.
    """
    name = f"test_{next(_numbers)}"
    await _run(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    if not is_durable:
        await _run(server, f"ALTER DATABASE {name} SET synchronous_commit = off")
    return TestDatabase(server=server, name=name)


async def drop(database: TestDatabase) -> None:
    """Remove a clone, whoever is still connected."""
    await _run(database.server, f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")


async def recreate(database: TestDatabase) -> None:
    """An empty database in the place of a clone, whoever is still connected."""
    await drop(database)
    await _run(database.server, f"CREATE DATABASE {database.name} TEMPLATE template0")


async def recreate_at(database: TestDatabase, revision: str) -> None:
    """The same with the schema of an older release."""
    await recreate(database)
    engine = create_async_engine(async_url(database.owner_url))
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("CREATE SCHEMA config")
            await connection.run_sync(_upgrade, revision)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def _run(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url(), timeout=TIMEOUT_SECONDS)
    try:
        await connection.execute(statement, timeout=TIMEOUT_SECONDS)
    finally:
        await connection.close(timeout=TIMEOUT_SECONDS)
