"""The embedded PostgreSQL: durable, found again, one database per name."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from gateway.sandbox.postgres import EmbeddedPostgres, ensure_database, start_postgres
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.postgres


async def _setting(url: str, name: str) -> str:
    connection = await asyncpg.connect(url, timeout=30)
    try:
        value: str = await connection.fetchval("SELECT current_setting($1)", name, timeout=30)
        return value
    finally:
        await connection.close(timeout=30)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("TimeZone", "UTC"),
        ("max_connections", "200"),
    ],
)
async def test_x03_the_server_is_as_durable_as_in_production(
    postgres: EmbeddedPostgres, name: str, value: str
) -> None:
    assert await _setting(postgres.url(), name) == value


async def test_a_database_is_made_once(postgres: EmbeddedPostgres) -> None:
    first = await ensure_database(postgres, "made_once")
    assert await ensure_database(postgres, "made_once") == first
    assert await _setting(first, "server_encoding") == "UTF8"


async def test_a_stopped_server_starts_again_with_its_data(session_folder: Path) -> None:
    server = start_postgres(session_folder / "again")
    await ensure_database(server, "kept")
    server.stop()
    server.stop()
    again = start_postgres(session_folder / "again")
    try:
        connection = await asyncpg.connect(again.url("kept"), timeout=30)
        await connection.close(timeout=30)
    finally:
        again.stop()


async def test_two_servers_start_and_stop_at_once_in_one_process(session_folder: Path) -> None:
    folders = [session_folder / f"at-once-{number}" for number in range(2)]
    servers = await asyncio.gather(
        *(asyncio.to_thread(start_postgres, folder / "pg") for folder in folders)
    )
    try:
        for server in servers:
            assert await _setting(server.url(), "fsync") == "on"
        assert len({server.socket_dir for server in servers}) == 2
    finally:
        await asyncio.gather(*(asyncio.to_thread(server.stop) for server in servers))


async def test_a_running_server_is_found_not_started_twice(postgres: EmbeddedPostgres) -> None:
    assert start_postgres(postgres.data_dir).url() == postgres.url()


async def test_each_test_has_a_database_of_its_own(
    test_database: TestDatabase, postgres: EmbeddedPostgres
) -> None:
    connection = await asyncpg.connect(test_database.role_url("watchers"), timeout=30)
    try:
        name = await connection.fetchval("SELECT current_database()", timeout=30)
        role = await connection.fetchval("SELECT current_user", timeout=30)
    finally:
        await connection.close(timeout=30)
    assert (name, role) == (test_database.name, "watchers")
