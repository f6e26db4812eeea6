"""Fixtures of every test: one PostgreSQL and one node of each kind per session.

A node that cannot be had fails the tests that need it; nothing is skipped (HOUSE 12).
"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy.ext.asyncio import AsyncEngine

from config.database import Database, async_url
from gateway.sandbox.nodes import Anvil, Bitcoind, DevNode, Litecoind, UtxoNode
from gateway.sandbox.postgres import EmbeddedPostgres, start_postgres
from gateway.sandbox.provision import NODES, TOKEN_TOOL, Provisioned, provision
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase, clone, drop, make_template
from tests.support.hosting import LoopThread

# No example is judged by the clock: the machine may be busy.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

DEFAULT_SEED = 20260101
WALKS = 30
ROUNDS = 20
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 8 << 30  # a worker's server takes some hundred megabytes, its log two at most
COUNTED_WALKS = 30  # from here on a run must have seen everything


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=DEFAULT_SEED, help="seed of every random choice in the tests"
    )
    parser.addoption(
        "--walks", type=int, default=WALKS, help="random walks per node (tests/simulation)"
    )
    parser.addoption(
        "--rounds", type=int, default=ROUNDS, help="rounds of a hundred requests at once (the API)"
    )
    parser.addoption(
        "--sweep",
        choices=("none", "some", "all"),
        default="none",
        help="kill at some or at all messages of the deposit road (tests/faults)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = str(config.getoption("--seed"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs many walks, or a sweep, is left out without them; pytest tells how many tests."""
    wanted = {
        "walks": config.getoption("--walks") >= COUNTED_WALKS,
        "sweep": config.getoption("--sweep") != "none",
    }
    left_out = [
        item
        for item in items
        if (mark := item.get_closest_marker("campaign")) and not wanted[mark.args[0]]
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('--seed')} (repeat with ./cage test --seed N)"


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of this run."""
    value: int = pytestconfig.getoption("--seed")
    return value


@pytest.fixture
def clock() -> ManualClock:
    """Time that only the test moves."""
    return ManualClock()


@pytest.fixture
def ids(clock: ManualClock, seed: int) -> SequentialIds:
    """The same ids in every run."""
    return SequentialIds(clock, seed=seed)


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """The event loop of everything that outlives one test."""
    with LoopThread() as thread:
        yield thread


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder with a short name: a Unix socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="cage"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def quick_folder(session_folder: Path) -> Iterator[Path]:
    """Where the server's files are: in memory, where the machine has so much of it.

    Each test copies and removes some 850 files, and a disk is told to keep every one of them. The
    server and its settings are those of production; nothing here cuts the power.
    """
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_BYTES_MIN:
        yield session_folder
        return
    folder = Path(tempfile.mkdtemp(prefix="cage", dir=MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(quick_folder: Path, loop_thread: LoopThread) -> Iterator[EmbeddedPostgres]:
    """The real server with a migrated template database."""
    server = start_postgres(quick_folder / "pg")
    try:
        loop_thread.run(make_template(server))
        yield server
    finally:
        server.stop()


@pytest.fixture
def test_database(postgres: EmbeddedPostgres, loop_thread: LoopThread) -> Iterator[TestDatabase]:
    """A migrated database that only this test uses."""
    database = loop_thread.run(clone(postgres))
    yield database
    loop_thread.run(drop(database))


@pytest.fixture
def database_url(test_database: TestDatabase) -> str:
    """The owner's URL of this test's database."""
    return test_database.owner_url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """This test's database under its owner."""
    opened = Database(async_url(database_url))
    yield opened
    await opened.close()


@pytest.fixture
def engine(database: Database) -> AsyncEngine:
    """The engine of this test's database."""
    return database.engine


@pytest.fixture(scope="session")
def provisioned() -> Provisioned:
    """Every node program, fetched when it is not there yet."""
    return provision(NODES, progress=lambda line: None)


@pytest.fixture(scope="session")
def token_tool() -> Path:
    """SoftHSM's tool, whose module stands for a hardware token. A missing one fails the test."""
    found = provision((TOKEN_TOOL,), progress=lambda line: None)
    if found.missing:
        pytest.fail(str(found.missing[TOKEN_TOOL]))
    return found.programs[TOKEN_TOOL]


@pytest.fixture(scope="session")
def node_programs(provisioned: Provisioned) -> dict[str, Path]:
    """Node name to program. A missing node fails the test."""
    if provisioned.missing:
        pytest.fail("; ".join(str(error) for error in provisioned.missing.values()))
    return provisioned.programs


def _hosted(node: DevNode, thread: LoopThread) -> Iterator[None]:
    thread.run(node.start())
    try:
        if isinstance(node, UtxoNode):
            thread.run(node.ensure_funds())
        yield
    finally:
        thread.run(node.stop())


@pytest.fixture(scope="session")
def bitcoind_process(
    node_programs: dict[str, Path], session_folder: Path, loop_thread: LoopThread
) -> Iterator[Bitcoind]:
    """bitcoind for the session; its wallet has mature coins."""
    node = Bitcoind(node_programs["bitcoind"], session_folder / "bitcoind")
    for _ in _hosted(node, loop_thread):
        yield node


@pytest.fixture(scope="session")
def litecoind_process(
    node_programs: dict[str, Path], session_folder: Path, loop_thread: LoopThread
) -> Iterator[Litecoind]:
    """litecoind for the session; its wallet has mature coins."""
    node = Litecoind(node_programs["litecoind"], session_folder / "litecoind")
    for _ in _hosted(node, loop_thread):
        yield node


@pytest.fixture(scope="session")
def anvil_process(
    node_programs: dict[str, Path], session_folder: Path, loop_thread: LoopThread
) -> Iterator[Anvil]:
    """anvil for the session."""
    node = Anvil(node_programs["anvil"], session_folder / "anvil")
    for _ in _hosted(node, loop_thread):
        yield node


@pytest.fixture
async def bitcoind(bitcoind_process: Bitcoind) -> AsyncIterator[Bitcoind]:
    """The session's bitcoind in this test's event loop. The chain is shared: count from its tip."""
    async with bitcoind_process.connected() as node:
        yield node


@pytest.fixture
async def litecoind(litecoind_process: Litecoind) -> AsyncIterator[Litecoind]:
    """The session's litecoind in this test's event loop. The chain is shared."""
    async with litecoind_process.connected() as node:
        yield node


@pytest.fixture
async def anvil(anvil_process: Anvil) -> AsyncIterator[Anvil]:
    """The session's anvil in this test's event loop, at the beginning of its chain before and
    after."""
    async with anvil_process.connected() as node:
        await node.reset()
        snapshot = await node.snapshot()
        yield node
        await node.revert(snapshot)
