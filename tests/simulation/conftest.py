"""How many walks there are, and how a test plays them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from gateway.sandbox.postgres import EmbeddedPostgres
from tests.simulation.runs import run_walks


@pytest.fixture
def walks(pytestconfig: pytest.Config) -> int:
    """How many walks on each node."""
    count: int = pytestconfig.getoption("--walks")
    return count


@pytest.fixture
def walk_on(
    walks: int,
    seed: int,
    postgres: EmbeddedPostgres,
    node_programs: dict[str, Path],
    session_folder: Path,
) -> Callable[[str], None]:
    """Plays the walks on a node: two watchers, three nodes of which one may lie, kills and cuts,
    reorgs to depth four."""

    def play(backend: str) -> None:
        uvloop.run(  # the loop of the role
            run_walks(
                backend,
                walks=walks,
                seed=seed,
                postgres=postgres,
                programs=node_programs,
                folder=session_folder / "walks",
            )
        )

    return play
