"""Brings a database to this program's schema, forward only, and tells which version it has.

Owns the migration run; the SQL is in config/migrations/sql/. A start on another version is refused
by `require_current_schema` (X03, P36).
"""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from config.database import async_url
from config.errors import UnsafeEnvironment
from config.settings import DATABASE_ROLES

MIGRATIONS_FOLDER = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x6361_6765  # advisory lock id, "cage": two `db migrate` at once wait in line

Tell = Callable[[str], None]
"""Hears of each step: one that moves many rows takes long."""


class SchemaMismatch(RuntimeError):
    """The database's schema is not this program's."""


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER))
    return config


def head_revision() -> str:
    """The newest schema version that this program knows."""
    head = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    if head is None:
        raise SchemaMismatch("no migrations are installed with this program")
    return head


def _nobody(text: str) -> None:
    """Hears nothing."""


def _upgrade(connection: Connection, before: str | None, tell: Tell) -> None:
    config = _alembic_config()
    config.attributes["connection"] = connection
    if before is not None:  # a new database takes a moment
        script = ScriptDirectory.from_config(config)
        config.attributes["told"] = _teller(script, before, tell)
    command.upgrade(config, "head")


def _teller(script: ScriptDirectory, before: str, tell: Tell) -> Tell:
    """Tells how many steps are ahead; what it returns is told of each that is done."""
    newest_first = [item.revision for item in script.walk_revisions()]
    known = before in newest_first
    ahead = set(newest_first[: newest_first.index(before)]) if known else set[str]()
    if ahead:
        tell(f"schema {before}: {len(ahead)} steps to {max(ahead)}, which stand together or not")

    def done(revision: str) -> None:
        ahead.discard(revision)
        tell(f"schema {revision} is done, {len(ahead)} to go")

    return done


async def migrate(url: str, *, tell: Tell = _nobody) -> str:
    """Upgrade the database at `url` (its owner's) to the head; returns the version. Idempotent.

    All of it is one transaction. `tell` hears how far it is, unless the database is new. Raises
    UnsafeEnvironment where roles of another version still work in it (P36).
    """
    engine = create_async_engine(async_url(url))
    try:
        async with engine.begin() as connection:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:id)"), {"id": MIGRATION_LOCK}
            )
            await connection.execute(text("CREATE SCHEMA IF NOT EXISTS config"))
            await _require_nobody_works(connection)
            await connection.run_sync(_upgrade, await _revision(connection), tell)
    finally:
        await engine.dispose()
    return head_revision()


async def _require_nobody_works(connection: AsyncConnection) -> None:
    """Old programs must not write into a new schema: they end first.

    The version is locked before anybody looks: who starts meanwhile waits, and reads the new one.
    """
    if await _revision(connection) is None:
        return
    await connection.execute(text("LOCK TABLE config.schema_version IN ACCESS EXCLUSIVE MODE"))
    if await _revision(connection) == head_revision():
        return
    rows = await connection.execute(
        text(
            "SELECT DISTINCT usename FROM pg_stat_activity "
            "WHERE datname = current_database() AND usename = ANY(:roles) ORDER BY usename"
        ),
        {"roles": list(DATABASE_ROLES)},
    )
    if running := [row.usename for row in rows]:
        raise UnsafeEnvironment(
            f"roles of the old version still work in this database: {', '.join(running)}",
            hint="stop them, then run `cage db migrate` again",
        )


async def _revision(connection: AsyncConnection) -> str | None:
    """The version that the database has; None before the first migration."""
    if await connection.scalar(text("SELECT to_regclass('config.schema_version')")) is None:
        return None
    found: str | None = await connection.scalar(
        text("SELECT version_num FROM config.schema_version")
    )
    return found


async def require_current_schema(connection: AsyncConnection) -> None:
    """Raise SchemaMismatch unless the database is at exactly this program's version."""
    found = await connection.scalar(text("SELECT version_num FROM config.schema_version"))
    wanted = head_revision()
    if found != wanted:
        raise SchemaMismatch(
            f"the database has schema {found}, this program needs {wanted}: "
            "run `cage db migrate`, or start the newer program"
        )
