"""`db migrate`, `client add` and `staff add` on a real database, run as a person runs them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.migrate import head_revision
from gateway.cli.main import main
from tests.support.databases import TestDatabase, recreate, recreate_at
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres

# RFC 8032 7.1, test 1: a public test vector.
PUBLIC_HEX = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
FAILED = 1
USAGE = 2
REFUSED = 3


class Person:
    """Runs commands against one configuration and reads their JSON answers."""

    def __init__(
        self, folder: Path, database: TestDatabase, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._path = folder / "cage.toml"
        self._url = database.owner_url
        self._capsys = capsys

    def configure(self, *, account_index: int = 1, mode: str = "shared") -> None:
        self._path.write_text(
            f'[database]\nurl = "{self._url}"\n'
            f'[brands.acme]\naccount_index = {account_index}\nbalance_mode = "{mode}"\n'
        )

    def runs(self, *arguments: str) -> tuple[int, dict[str, str], str]:
        code = main([*arguments, "--config", str(self._path), "--json"])
        output = self._capsys.readouterr()
        return code, json.loads(output.out) if output.out else {}, output.err


@pytest.fixture
def person(
    tmp_path: Path, test_database: TestDatabase, capsys: pytest.CaptureFixture[str]
) -> Person:
    person = Person(tmp_path, test_database, capsys)
    person.configure()
    return person


def read(database: TestDatabase, thread: LoopThread, query: str) -> list[tuple[object, ...]]:
    import asyncpg

    async def fetch() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(database.owner_url, timeout=10)
        try:
            return [tuple(row) for row in await connection.fetch(query, timeout=10)]
        finally:
            await connection.close(timeout=10)

    return thread.run(fetch())


def test_migrate_twice_copies_the_brands_once(
    person: Person, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    assert person.runs("db", "migrate")[0] == 0
    person.configure(mode="per_asset")
    code, answer, _ = person.runs("db", "migrate")
    assert (code, answer["schema"]) == (0, head_revision())
    rows = read(
        test_database, loop_thread, "SELECT id, account_index, balance_mode FROM gateway.brands"
    )
    assert rows == [("acme", 1, "per_asset")]


def test_migrate_tells_how_far_it_is_where_there_may_be_rows(
    person: Person, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    """Not of a new database, nor where nothing is to be done."""
    loop_thread.run(recreate(test_database))
    assert person.runs("db", "migrate")[2] == ""
    assert person.runs("db", "migrate")[2] == ""
    loop_thread.run(recreate_at(test_database, "0048"))

    code, answer, told = person.runs("db", "migrate")

    assert (code, answer["schema"]) == (0, head_revision())
    first, second, *_, last = told.splitlines()
    steps = len(told.splitlines()) - 1
    assert first == (
        f"cage: schema 0048: {steps} steps to {head_revision()}, which stand together or not"
    )
    assert second == f"cage: schema 0049 is done, {steps - 1} to go"
    assert last == f"cage: schema {head_revision()} is done, 0 to go"


def test_an_old_month_is_detached_once_and_a_young_one_never(
    person: Person, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    person.runs("db", "migrate")
    made = "SELECT config.make_months('ledger.events', '2024-05-01 00:00+00', 0)"
    assert read(test_database, loop_thread, made) == [(1,)]
    code, answer, _ = person.runs("db", "detach", "2024-05")
    assert (code, list(answer["detached"])) == (0, ["ledger.events_202405"])
    code, answer, _ = person.runs("db", "detach", "2024-05")
    assert (code, list(answer["detached"])) == (0, [])
    code, _, error = person.runs("db", "detach", f"{datetime.now(UTC):%Y-%m}")
    assert code == REFUSED
    assert "may be detached from" in error
    assert person.runs("db", "detach", "2024-13")[0] == USAGE
    told = "SELECT left(actor, 5), subject FROM gateway.audit WHERE action = 'month.detached'"
    assert read(test_database, loop_thread, told) == [("host:", "ledger.events_202405")]


def test_a_month_of_a_busy_table_is_left_with_what_to_do(
    person: Person, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    """Somebody writes for longer than is waited for."""
    import asyncpg

    person.runs("db", "migrate")

    async def write() -> asyncpg.Connection:
        connection = await asyncpg.connect(test_database.owner_url, timeout=10)
        await connection.execute("BEGIN", timeout=10)
        await connection.execute("LOCK TABLE gateway.deliveries IN ROW EXCLUSIVE MODE", timeout=10)
        return connection

    writing = loop_thread.run(write())
    try:
        code, _, error = person.runs("db", "detach", "2024-05")
    finally:
        loop_thread.run(writing.close(timeout=10))
    assert code == FAILED
    assert "gateway.deliveries_202405 is busy" in error
    assert "run the command again" in error
    assert person.runs("db", "detach", "2024-05")[0] == 0


def test_account_index_of_a_brand_never_changes(
    person: Person, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    person.runs("db", "migrate")
    person.configure(account_index=2, mode="per_asset")
    code, _, error = person.runs("db", "migrate")
    assert code == USAGE
    assert "set brands.acme.account_index = 1" in error
    rows = read(
        test_database, loop_thread, "SELECT account_index, balance_mode FROM gateway.brands"
    )
    assert rows == [(1, "shared")]


def test_client_is_registered_and_the_trust_command_is_printed(
    person: Person, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    person.runs("db", "migrate")
    code, answer, _ = person.runs("client", "add", "--brand", "acme", "--key", PUBLIC_HEX)
    assert code == 0
    assert answer["trust_command"].startswith(f"cage signer trust --keyid {answer['key_id']} ")
    rows = read(
        test_database, loop_thread, "SELECT key_id, kind, brand, public_key FROM gateway.clients"
    )
    assert rows == [(answer["key_id"], "client", "acme", bytes.fromhex(PUBLIC_HEX))]


def test_key_id_that_is_taken_is_refused(person: Person) -> None:
    person.runs("db", "migrate")
    add = ("client", "add", "--brand", "acme", "--key", PUBLIC_HEX, "--key-id", "casino-1")
    assert person.runs(*add)[0] == 0
    code, _, error = person.runs(*add)
    assert code == FAILED
    assert "casino-1 is taken" in error


def test_client_before_the_migration_of_its_brand_is_told_so(person: Person) -> None:
    code, _, error = person.runs("client", "add", "--brand", "acme", "--key", PUBLIC_HEX)
    assert code == FAILED
    assert "cage db migrate" in error


def test_staff_gets_the_scopes_of_the_roles(
    person: Person, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    person.runs("db", "migrate")
    add = ("staff", "add", "Alice Example", "--key", PUBLIC_HEX, "--roles", "treasury,auditor")
    code, answer, _ = person.runs(*add)
    assert code == 0
    assert answer["key_id"].startswith("alice-example-")
    [(kind, who, roles, scopes)] = read(
        test_database, loop_thread, "SELECT kind, person, roles, scopes FROM gateway.clients"
    )
    assert (kind, who, roles) == ("staff", "Alice Example", ["treasury", "auditor"])
    assert isinstance(scopes, list)
    assert {"treasury:write", "audit:read"} <= set(scopes)
    assert len(scopes) == len(set(scopes))
