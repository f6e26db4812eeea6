"""Proof that the walks bite: each planted bug is seen by one of a few walks (CASES c.7)."""

import sys
from pathlib import Path

import pytest
import uvloop

from gateway.sandbox.postgres import EmbeddedPostgres
from tests.simulation.campaign import Campaign, WalkFailed, campaign
from tests.simulation.mutants import MUTANTS
from tests.simulation.walk import MakeFollower

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.node,
    pytest.mark.slow,
    pytest.mark.campaign("walks"),
]

MUTANT_WALKS = 12


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_seen_by_some_walk(
    name: str,
    seed: int,
    postgres: EmbeddedPostgres,
    node_programs: dict[str, Path],
    session_folder: Path,
) -> None:
    """A walk of the mutant fails; the true follower passes them all."""

    async def seen() -> str | None:
        async with campaign(
            "bitcoind", postgres=postgres, programs=node_programs, folder=session_folder / name
        ) as opened:
            for number in range(MUTANT_WALKS):
                told = await _seen_by(opened, seed + number, MUTANTS[name])
                if told is not None:
                    return told
        return None

    told = uvloop.run(seen())
    sys.stdout.write(f"\n{name}: {told}")
    assert told is not None


async def _seen_by(opened: Campaign, seed: int, make_follower: MakeFollower) -> str | None:
    """What the walk found; a mutant that does not run at all is no finding and raised."""
    try:
        await opened.walk(seed, make_follower=make_follower)
    except WalkFailed as failed:
        if isinstance(failed.__cause__, TypeError | AttributeError | NameError):
            raise
        return str(failed)
    return None
