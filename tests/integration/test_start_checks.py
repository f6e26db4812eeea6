"""A process refuses to start where it cannot keep the promises of the house (X03)."""

import pytest
from sqlalchemy import text

from config import selfcheck
from config.database import Database
from config.errors import UnsafeEnvironment

pytestmark = pytest.mark.postgres


async def test_x03_a_good_server_with_the_current_schema_is_accepted(database: Database) -> None:
    async with database.engine.connect() as connection:
        await selfcheck.check_start(connection)


@pytest.mark.parametrize(
    ("setting", "value"), [("synchronous_commit", "off"), ("TimeZone", "Europe/Berlin")]
)
async def test_x03_a_session_that_could_lose_commits_or_time_is_refused(
    database: Database, setting: str, value: str
) -> None:
    async with database.engine.connect() as connection:
        await connection.execute(
            text("SELECT set_config(:name, :value, false)"), {"name": setting, "value": value}
        )
        with pytest.raises(UnsafeEnvironment, match=setting):
            await selfcheck.require_durable_server(connection)


@pytest.mark.parametrize("version", ["0000_older", "9999_newer"])
async def test_x03_another_schema_version_is_refused(database: Database, version: str) -> None:
    async with database.engine.connect() as connection:
        await connection.execute(
            text("UPDATE config.schema_version SET version_num = :version"), {"version": version}
        )
        with pytest.raises(UnsafeEnvironment, match=version):
            await selfcheck.require_schema(connection)


@pytest.mark.parametrize("level", [1, 2])
def test_x02_python_without_assertions_is_refused(level: int) -> None:
    with pytest.raises(UnsafeEnvironment, match="-O"):
        selfcheck.require_assertions(optimize=level)
