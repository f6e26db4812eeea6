"""Random walks of the deposit road on real nodes: whatever happened, the books are the chain's.

`./cage test --walks 300` makes more of them; `--seed` says where they begin.
"""

import sys
from pathlib import Path

import pytest
import uvloop

from config.clock import SystemClock
from gateway.sandbox.postgres import EmbeddedPostgres
from tests.conftest import COUNTED_WALKS
from tests.simulation.campaign import BACKENDS, Campaign, WalkFailed, campaign
from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import Act
from tests.simulation.walk import MakeFollower

pytestmark = [pytest.mark.postgres, pytest.mark.node, pytest.mark.slow]

MUTANT_WALKS = 12
SELDOM = 3  # what must happen at least this often in a whole run of walks


@pytest.fixture
def walks(pytestconfig: pytest.Config) -> int:
    """How many walks on each node."""
    count: int = pytestconfig.getoption("--walks")
    return count


@pytest.mark.parametrize("backend", BACKENDS)
def test_walks_end_with_the_books_of_the_chain(
    backend: str,
    walks: int,
    seed: int,
    postgres: EmbeddedPostgres,
    node_programs: dict[str, Path],
    session_folder: Path,
) -> None:
    """Two watchers, three nodes of which one may lie, kills and cuts, reorgs to depth four."""

    async def run() -> tuple[Campaign, float]:
        clock = SystemClock()
        async with campaign(
            backend, postgres=postgres, programs=node_programs, folder=session_folder / "walks"
        ) as opened:
            began_seconds = clock.monotonic_seconds()
            for number in range(walks):
                await opened.walk(seed + number)
            return opened, clock.monotonic_seconds() - began_seconds

    opened, took_seconds = uvloop.run(run())  # the loop of the role, twice as quick as the default
    sys.stdout.write(_told(opened, walks=walks, seed=seed, seconds=took_seconds))
    if walks >= COUNTED_WALKS:
        assert _missing(opened) == []


def _missing(opened: Campaign) -> list[str]:
    """What a run of this length must have seen, or it shows nothing."""
    wanted = {act.value: 1 for act in Act if opened.arena.can_replace or act is not Act.REPLACE}
    wanted |= {
        "died": SELDOM,
        "fenced": SELDOM,
        "waited for nodes": SELDOM,
        "liars caught": SELDOM,
        "cut: before": 1,
        "cut: after": 1,
        "provisional>orphaned": SELDOM,
        "final>orphaned": SELDOM,
        "orphaned>reversed": SELDOM,
        "detected>replaced": 1,
        "pending>below_minimum": SELDOM,
    }
    return [
        f"{name}: {opened.tally[name]} of {least}"
        for name, least in wanted.items()
        if opened.tally[name] < least
    ]


def _told(opened: Campaign, *, walks: int, seed: int, seconds: float) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in sorted(opened.tally.items()))
    return f"\n{opened.backend}: {walks} walks from seed {seed} in {seconds:.0f} s: {counts}"


@pytest.mark.campaign("walks")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_seen_by_some_walk(
    name: str,
    seed: int,
    postgres: EmbeddedPostgres,
    node_programs: dict[str, Path],
    session_folder: Path,
) -> None:
    """Each mutant's own walk fails; the true follower passes them all above."""

    async def is_seen() -> bool:
        async with campaign(
            "bitcoind", postgres=postgres, programs=node_programs, folder=session_folder / name
        ) as opened:
            for number in range(MUTANT_WALKS):
                if not await _passes(opened, seed + number, MUTANTS[name]):
                    return True
        return False

    assert uvloop.run(is_seen())


async def _passes(opened: Campaign, seed: int, make_follower: MakeFollower) -> bool:
    try:
        await opened.walk(seed, make_follower=make_follower)
    except WalkFailed:
        return False
    return True
