"""Random walks of the deposit road on bitcoind: whatever happened, the books are the chain's.

`./cage test --walks 300` makes more of them; `--seed` says where they begin.
"""

from pathlib import Path

import pytest
import uvloop

from gateway.sandbox.postgres import EmbeddedPostgres
from tests.simulation.runs import run_walks

pytestmark = [pytest.mark.postgres, pytest.mark.node, pytest.mark.slow]


def test_walks_on_bitcoind_end_with_the_books_of_the_chain(
    walks: int,
    seed: int,
    postgres: EmbeddedPostgres,
    node_programs: dict[str, Path],
    session_folder: Path,
) -> None:
    """Two watchers, three nodes of which one may lie, kills and cuts, reorgs to depth four."""
    uvloop.run(  # the loop of the role
        run_walks(
            "bitcoind",
            walks=walks,
            seed=seed,
            postgres=postgres,
            programs=node_programs,
            folder=session_folder / "walks",
        )
    )
