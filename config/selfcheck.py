"""Checks at start: a process that cannot keep the promises of the house does not run (CASES X03).

Owns the refusals. Every function raises UnsafeEnvironment with what is wrong and what to do, and
returns nothing when all is well.
"""

import asyncio
import sys

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from config.errors import UnsafeEnvironment
from config.migrate import SchemaMismatch, require_current_schema

QUERY_TIMEOUT_SECONDS = 10.0

# A lost commit is lost money: these server settings are not a matter of taste.
_REQUIRED_SERVER_SETTINGS = {
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "synchronous_commit": ("on", "remote_write", "remote_apply"),
    "server_encoding": ("UTF8",),
    "TimeZone": ("UTC", "Etc/UTC", "GMT"),
}


def require_assertions(*, optimize: int = sys.flags.optimize) -> None:
    """Refuse `python -O`: invariants would be compiled away (HOUSE 11)."""
    if optimize:
        raise UnsafeEnvironment(
            "python runs with -O (or PYTHONOPTIMIZE): checks of invariants would be skipped",
            hint="start without -O and unset PYTHONOPTIMIZE",
        )


async def require_durable_server(connection: AsyncConnection) -> None:
    """Refuse a server that may lose a commit or whose session is not in UTC."""
    async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
        for name, accepted in _REQUIRED_SERVER_SETTINGS.items():
            found = await connection.scalar(text("SELECT current_setting(:name)"), {"name": name})
            if found not in accepted:
                raise UnsafeEnvironment(
                    f"PostgreSQL runs with {name} = {found}",
                    hint=f"set {name} = {accepted[0]} on the server",
                )


async def require_schema(connection: AsyncConnection) -> None:
    """Refuse a database whose schema is older or newer than this program's."""
    try:
        async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
            await require_current_schema(connection)
    except SchemaMismatch as error:
        raise UnsafeEnvironment(str(error), hint="run `cage db migrate`") from error


async def server_seconds(connection: AsyncConnection) -> float:
    """The server's wall clock, in seconds since 1970."""
    async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
        found = await connection.scalar(
            text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)")
        )
    return float(found or 0)


async def check_start(connection: AsyncConnection) -> None:
    """Everything that a role checks before its first unit of work."""
    require_assertions()
    await require_durable_server(connection)
    await require_schema(connection)
